"""Stores as one sequence of rows, some left out, optionally adapted while they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._core import Ids
from ilias_fast.errors import NonFiniteError, ParameterError
from ilias_fast.kernels import TopK
from ilias_fast.search.accumulating import Accumulator, Runs, accumulator
from ilias_fast.search.backends import Backend
from ilias_fast.search.resuming import Checkpoint
from ilias_fast.store import GlobalStore, check_compatible, is_selected

__all__ = [
    "DescriptorAdapter",
    "StoreSequence",
    "adapted",
    "checked_stores",
    "masks_of",
    "shifted",
]

_ADAPTED_BYTES = 64 << 20
"""Size of the float32 blocks in which a database is adapted."""

_SAVED_BYTES = 256 << 20
"""Size of the parts after which the state of a search is saved."""


class DescriptorAdapter(Protocol):
    """What `search` needs of an adaptation; `ilias_fast.adapt.LinearAdapter` is one.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> class Halved:
        ...     def apply(self, vectors):
        ...         return vectors / 2
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> adapter: DescriptorAdapter = Halved()
        >>> run = search((["q.jpg"], [[1.0, 0.0]]), GlobalStore.open("vectors"), adapter=adapter)
        >>> run["q.jpg"].scores.tolist()
        [0.25]
    """

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
        kept = [mask for mask in masks if mask is not None]
        self.mask = np.concatenate(kept) if kept else None
        self._store_runs = [
            start + np.array([first for first, _ in store.shards()], np.int64)
            for store, start in zip(stores, self.starts.tolist(), strict=False)
        ]
        self._run_starts = np.concatenate([*self._store_runs, self.starts[-1:]])
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
        state = None if resume is None else resume.load()
        done = 0 if state is None else state[0]
        scan = accumulator(self.backend, queries, k, self.threads, state)
        for start, end in self._pieces(resume is not None):
            if end <= done:
                continue
            self.add_to(
                scan, start, end, queries.shape[1], None if progress is None else shifted(progress, start)
            )
            if resume is not None:
                resume.save(end, scan.found(), last=end == len(self))
        if progress is not None:
            progress(len(self))
        return scan.found()

    def _pieces(self, saved: bool) -> list[tuple[int, int]]:
        """Return the ranges of rows that are searched at once: all, or what a kill may cost."""
        if not saved:
            return [(0, len(self))]
        ends = [end for end in self._run_starts[1:].tolist() if end]
        most = max(1, _SAVED_BYTES // max(1, 2 * self.stores[0].dim))
        pieces, start = [], 0
        for end, following in zip(ends, [*ends[1:], None], strict=True):
            if following is None or following - start > most:
                pieces.append((start, end))
                start = end
        return pieces

    def _runs(self, start: int, end: int) -> list[Runs]:
        """Return the runs of rows from `start` to `end`, which lie between runs."""
        parts = []
        for store, starts in zip(self.stores, self._store_runs, strict=True):
            there = np.flatnonzero((starts >= start) & (starts < end))
            if len(there):
                parts.append((store, int(there[0]), int(there[-1]) + 1))
        return parts

    def add_to(
        self,
        scan: Accumulator,
        start: int,
        end: int,
        columns: int,
        progress: Callable[[int], object] | None,
    ) -> None:
        """Search rows from `start` to `end`, which lie between runs; `columns` are those of the queries."""
        if (adapter := self.adapter) is None:
            scan.add_runs(
                self._runs(start, end), None if self.mask is None else self.mask[start:end], progress
            )
            return
        row = start
        for store, first, stop in self._runs(start, end):
            for _, vectors in list(store.shards())[first:stop]:
                step = max(1, _ADAPTED_BYTES // (4 * max(vectors.shape[1], columns, 1)))
                for at in range(0, len(vectors), step):
                    block = vectors[at : at + step]
                    mask = None if self.mask is None else self.mask[row : row + len(block)]
                    report = None if progress is None else shifted(progress, row - start)
                    scan.add(adapted(adapter, block, row), mask, report)
                    row += len(block)

    def fingerprint(self, queries: NDArray[np.float32], k: int) -> str:
        """Return a name for everything the answer depends on."""
        digest = hashlib.sha256(f"1 {k} {queries.shape}".encode())
        digest.update(queries.tobytes())
        for store in self.stores:
            digest.update(f"{store.checksum} {len(store)}".encode())
        digest.update(b"all" if self.mask is None else np.packbits(self.mask).tobytes())
        if self.adapter is not None:
            probe = np.eye(min(self.stores[0].dim, 64), self.stores[0].dim, dtype=np.float32)
            digest.update(self.adapt(np.concatenate([probe, -probe])).tobytes())
            digest.update(str(getattr(self.adapter, "fingerprint", "")).encode())
        return digest.hexdigest()

    def adapt(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        """Return vectors as float32, adapted if there is an adapter."""
        return vectors.astype(np.float32) if self.adapter is None else adapted(self.adapter, vectors)

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

    def id_of(self, rows: NDArray[np.int64]) -> Ids:
        """Return the ids of rows of the sequence."""
        return _core.ids_of_stores([store._core_store for store in self.stores], rows)

    def rows_of(self, ids: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (positions in `ids`, rows) of those that are there, of each store in turn."""
        positions, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for store, start in zip(self.stores, self.starts.tolist(), strict=False):
            there = np.flatnonzero(store.contains(ids))
            positions.append(there)
            rows.append(store.find([ids[at] for at in there.tolist()]) + start)
        return np.concatenate(positions), np.concatenate(rows)


def adapted(
    adapter: DescriptorAdapter, vectors: NDArray[Any], first: int | None = None
) -> NDArray[np.float32]:
    """Return adapted vectors, float32 [m, d']; those of a database, from row `first` on, must be finite."""
    wide = vectors.astype(np.float32)
    if first is not None and not np.isfinite(wide).all():
        row, column = np.argwhere(~np.isfinite(wide))[0].tolist()
        raise NonFiniteError(
            f"database: row {first + row}, column {column} is {wide[row, column]}; all values must be "
            f"finite (drop or repair the row)"
        )
    return _arrays.float32_rows("adapted vectors", adapter.apply(wide))


def shifted(progress: Callable[[int], object], start: int) -> Callable[[int], object]:
    """Return a callback for a part that starts at row `start`."""
    return lambda done: progress(start + done)
