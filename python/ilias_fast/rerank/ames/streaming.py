"""AMES over the shortlists of a run: encodings made once an image, kept within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast._extras import require
from ilias_fast.errors import IncompatibleStoreError
from ilias_fast.rerank.ames.checkpoint import load_ames
from ilias_fast.rerank.ames.network import Ames, EncodedImage
from ilias_fast.rerank.methods import AmesOptions

if TYPE_CHECKING:
    from ilias_fast.store import LocalStore

__all__ = ["AmesScorer"]

_CPU_BATCH = 4  # pairs at a time
_CHUNK = 64  # images encoded before they are scored; bounds what is not in the cache


class AmesScorer:
    """Scores queries of one store against images of another; keeps encodings from query to query."""

    def __init__(self, queries: LocalStore, database: LocalStore, options: AmesOptions) -> None:
        self.network = load_ames(
            options.checkpoint, heads=options.heads, dtype=options.dtype, device=options.device
        )
        self._options = options
        self._queries, self._database = queries, database
        self._kept: OrderedDict[int, EncodedImage] = OrderedDict()
        self._bytes = 0
        for name, store in (("queries", queries), ("database", database)):
            check_descriptors_fit(name, store, self.network)

    def score(
        self,
        query_rows: NDArray[np.int64],
        offsets: NDArray[np.int64],
        rows: NDArray[np.int64],
        threads: int | None,
        progress: Callable[[int], object] | None,
    ) -> NDArray[np.float32]:
        """Return the logits of all pairs, float32 [len(rows)].

        Args:
            query_rows: int64 [Q], rows of the queries.
            offsets: int64 [Q + 1], the part of `rows` that belongs to each query.
            rows: Database rows.
            threads: Threads of torch; None leaves them as they are.
            progress: Called with the pairs done.
        """
        scores = np.empty(len(rows), np.float32)
        batch = self._options.batch or (_CPU_BATCH if self.network.device.type == "cpu" else _CHUNK)
        with _threads(threads):
            for number, query_row in enumerate(query_rows.tolist()):
                start, stop = int(offsets[number]), int(offsets[number + 1])
                if start == stop:
                    continue
                descriptors = descriptors_of(self._queries, query_row, self._options.query_descriptors)
                query = self.network.encode(descriptors)
                for first in range(start, stop, _CHUNK):
                    part = slice(first, min(first + _CHUNK, stop))
                    images = self._encoded(rows[part].tolist())
                    scores[part] = self.network.score(query, images, batch=batch)
                    if progress is not None:
                        progress(part.stop)
        return scores

    def _encoded(self, rows: list[int]) -> list[EncodedImage]:
        missing = [row for row in dict.fromkeys(rows) if row not in self._kept]
        most = self._options.database_descriptors
        fresh = self.network.encode_images(
            [descriptors_of(self._database, row, most) for row in missing], database=True
        )
        for row, image in zip(missing, fresh, strict=True):
            self._kept[row] = image
            self._bytes += image.nbytes
        for row in rows:
            self._kept.move_to_end(row)
        images = [self._kept[row] for row in rows]
        while self._bytes > self._options.cache_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return images


def check_descriptors_fit(name: str, store: LocalStore, network: Ames) -> None:
    """Refuse a store whose descriptors the network cannot take.

    Args:
        name: What the store is, for the message.
        store: The store.
        network: The network.

    Raises:
        IncompatibleStoreError: Codes for a float network, or other bits or dimensions than it takes.
    """
    found = f"{store!r}"
    if not network.binary and store.bits:
        raise IncompatibleStoreError(
            f"{name}: expected float descriptors of dimension {network.local_dim} (the network is the float "
            f"variant), found binary codes in {found}; take the checkpoint of the binary variant"
        )
    if store.bits and store.bits != network.dim:
        raise IncompatibleStoreError(
            f"{name}: expected codes of {network.dim} bits, as the network takes, "
            f"found {store.bits} in {found}"
        )
    dim = int(getattr(store, "dim", 0))
    if not store.bits and dim != network.local_dim:
        raise IncompatibleStoreError(
            f"{name}: expected descriptors of dimension {network.local_dim}, as the network takes, "
            f"found {dim} in {found}"
        )


def descriptors_of(store: LocalStore, row: int, most: int | None) -> ArrayLike:
    """Return an image's first descriptors: packed codes, or float16 vectors where the store has them.

    Args:
        store: The store.
        row: The image.
        most: How many at most; None for all.
    """
    image = store.image(row)
    vectors = getattr(image, "descriptors", None)  # None where the store keeps codes
    found: ArrayLike = (image.codes if vectors is None else vectors)[:most]
    return found


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Give torch so many threads inside the block."""
    torch = require("torch", "run AMES")
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)
