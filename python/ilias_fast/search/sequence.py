"""Stores as one sequence of rows, some left out, optionally adapted while they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast.errors import NonFiniteError, ParameterError
from ilias_fast.kernels import TopK
from ilias_fast.search.backends import Backend
from ilias_fast.search.ranking import empty, merge
from ilias_fast.search.resuming import Checkpoint
from ilias_fast.store import GlobalStore, check_compatible, is_selected

__all__ = ["DescriptorAdapter", "StoreSequence", "checked_stores", "masks_of"]

_ADAPTED_BYTES = 64 << 20
"""Size of the float32 blocks in which a database is adapted."""


class DescriptorAdapter(Protocol):
    """What `search` needs of an adaptation; `ilias_fast.adapt.LinearAdapter` is one."""

    def apply(self, vectors: ArrayLike) -> NDArray[Any]:
        """Map float32 [m, d] to float32 [m, d'], row by row.

        Args:
            vectors: float32 [m, d].
        """
        ...


def checked_stores(database: GlobalStore | Sequence[GlobalStore], force: bool) -> list[GlobalStore]:
    """Return the stores of a database, which must be comparable."""
    stores = list(database) if isinstance(database, Sequence) else [database]
    for store in stores:
        if not isinstance(store, GlobalStore):
            raise ParameterError(f"database: expected global stores, found {store!r}")
    if not stores:
        raise ParameterError("database: expected at least one store, found none")
    for store in stores[1:]:
        check_compatible(stores[0], store, force=force)
    return stores


def masks_of(
    stores: Sequence[GlobalStore], selected: Collection[str] | None
) -> list[NDArray[np.bool_] | None]:
    """Return which rows of each store a selection keeps."""
    if selected is None:
        return [None] * len(stores)
    return [
        np.fromiter((is_selected(name, selected) for name in store.ids), np.bool_, len(store))
        for store in stores
    ]


class StoreSequence:
    """Stores as one sequence of rows."""

    def __init__(
        self,
        stores: Sequence[GlobalStore],
        masks: Sequence[NDArray[np.bool_] | None],
        adapter: DescriptorAdapter | None,
        backend: Backend,
        threads: int | None,
    ):
        self.stores = stores
        self.starts = np.concatenate([[0], np.cumsum([len(store) for store in stores])]).astype(np.int64)
        self.masks = masks
        self.adapter = adapter
        self.backend = backend
        self.threads = threads

    def __len__(self) -> int:
        return int(self.starts[-1])

    def topk(
        self,
        queries: NDArray[np.float32],
        k: int,
        progress: Callable[[int], object] | None,
        resume: Checkpoint | None = None,
    ) -> TopK:
        """Search all rows."""
        best, done = empty(len(queries)), 0
        if resume is not None and (state := resume.load()) is not None:
            done, best = state
        for end, start, part in self._parts(queries, k, progress, done, resume is not None):
            best = merge(best, TopK(part.scores, part.indices + start), k)
            if resume is not None:
                resume.save(end, best, last=end == len(self))
        if progress is not None:
            progress(len(self))
        return best

    def fingerprint(self, queries: NDArray[np.float32], k: int) -> str:
        """Return a name for everything the answer depends on."""
        digest = hashlib.sha256(f"1 {k} {queries.shape}".encode())
        digest.update(queries.tobytes())
        for store, mask in zip(self.stores, self.masks, strict=True):
            digest.update(f"{store.checksum} {len(store)}".encode())
            digest.update(b"all" if mask is None else np.packbits(mask).tobytes())
        if self.adapter is not None:
            probe = np.eye(min(self.stores[0].dim, 64), self.stores[0].dim, dtype=np.float32)
            digest.update(self.adapt(np.concatenate([probe, -probe])).tobytes())
            digest.update(str(getattr(self.adapter, "fingerprint", "")).encode())
        return digest.hexdigest()

    def _parts(
        self,
        queries: NDArray[np.float32],
        k: int,
        progress: Callable[[int], object] | None,
        done: int,
        by_shard: bool,
    ) -> Iterator[tuple[int, int, TopK]]:
        """Yield (row after the last, first row, its best rows) for consecutive parts from row `done` on."""
        for store, start, mask in zip(self.stores, self.starts.tolist(), self.masks, strict=False):
            if start + len(store) <= done:
                continue
            if self.adapter is None and not by_shard:
                found = self.backend.topk(queries, store, k, mask, self.threads, _shifted(progress, start))
                yield start + len(store), start, found
                continue
            for first, vectors in store.shards():
                rows = len(vectors)
                if self.adapter is not None:
                    rows = max(1, _ADAPTED_BYTES // (4 * max(vectors.shape[1], queries.shape[1], 1)))
                for at in range(0, len(vectors), rows):
                    row, block = start + first + at, vectors[at : at + rows]
                    if row + len(block) <= done:
                        continue
                    part = None if mask is None else mask[first + at : first + at + len(block)]
                    report = _shifted(progress, row)
                    if self.adapter is None:
                        found = self.backend.topk(queries, block, k, part, self.threads, report)
                    else:
                        adapted = self.adapt(block, row)
                        found = TopK(*_core.topk_float32(queries, adapted, k, part, self.threads, report))
                    yield row + len(block), row, found

    def adapt(self, vectors: NDArray[Any], first: int | None = None) -> NDArray[np.float32]:
        """Return vectors as float32, adapted if there is an adapter."""
        wide = vectors.astype(np.float32)
        if self.adapter is None:
            return wide
        if first is not None and not np.isfinite(wide).all():
            row, column = np.argwhere(~np.isfinite(wide))[0].tolist()
            raise NonFiniteError(
                f"database: row {first + row}, column {column} is {wide[row, column]}; all values must be "
                f"finite (drop or repair the row)"
            )
        return _arrays.float32_rows("adapted vectors", self.adapter.apply(wide))

    def _split(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[GlobalStore, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (store, positions in `rows`, rows of the store) for each store that occurs."""
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for owner in np.unique(owners).tolist():
            positions = np.flatnonzero(owners == owner)
            yield self.stores[owner], positions, rows[positions] - self.starts[owner]

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows of the sequence as stored, float32 [m, d]."""
        vectors = np.empty((len(rows), self.stores[0].dim), np.float32)
        for store, positions, local in self._split(rows):
            vectors[positions] = store.rows(local)
        return vectors

    def id_of(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the ids of rows of the sequence."""
        names = np.empty(len(rows), object)
        for store, positions, local in self._split(rows):
            names[positions] = store.id_of(local)
        return names.tolist()

    def rows_of(self, ids: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (positions in `ids`, rows) of those that are there, of each store in turn."""
        positions, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for store, start in zip(self.stores, self.starts.tolist(), strict=False):
            there = np.flatnonzero(store.contains(ids))
            positions.append(there)
            rows.append(store.find([ids[at] for at in there.tolist()]) + start)
        return np.concatenate(positions), np.concatenate(rows)


def _shifted(progress: Callable[[int], object] | None, start: int) -> Callable[[int], object] | None:
    return None if progress is None else lambda done: progress(start + done)
