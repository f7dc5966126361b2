"""Stores and feature files as one sequence of rows that is searched once, front to back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ilias_fast._core import Ids
from ilias_fast.kernels import TopK
from ilias_fast.run.checks import as_ids
from ilias_fast.search.accumulating import Accumulator, accumulator
from ilias_fast.search.backends import Cpu
from ilias_fast.search.sequence import DescriptorAdapter, StoreSequence, adapted, masks_of, shifted
from ilias_fast.store import FeatureFiles, GlobalStore, is_selected

__all__ = ["FileSequence"]

_MOST_NAMES = 1 << 20
"""How many ids are kept until those of rows that nobody found are dropped."""


class FileSequence:
    """Stores and feature files as one sequence of rows.

    Memory: a block of the files, and the ids of about a million rows and of those found.
    """

    def __init__(
        self,
        parts: Sequence[GlobalStore | FeatureFiles],
        selected: Collection[str] | None,
        adapter: DescriptorAdapter | None,
        threads: int | None,
    ):
        self.parts = parts
        self.selected = selected
        self.adapter = adapter
        self.threads = threads
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        self._names = _Names()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def topk(self, queries: NDArray[np.float32], k: int, progress: Callable[[int], object] | None) -> TopK:
        """Search all rows."""
        scan = accumulator(Cpu(), queries, k, self.threads)
        for start, part in zip(self._starts.tolist(), self.parts, strict=False):
            report = None if progress is None else shifted(progress, start)
            if isinstance(part, FeatureFiles):
                self._add_files(scan, start, part, report)
            else:
                masks = masks_of([part], self.selected)
                store = StoreSequence([part], masks, self.adapter, Cpu(), self.threads)
                store.add_to(scan, 0, len(store), queries.shape[1], report)
        if progress is not None:
            progress(len(self))
        return scan.found()

    def _add_files(
        self, scan: Accumulator, start: int, part: FeatureFiles, progress: Callable[[int], object] | None
    ) -> None:
        for first, ids, vectors in part.blocks():
            mask = None
            if self.selected is not None:
                mask = np.fromiter((is_selected(name, self.selected) for name in ids), np.bool_, len(ids))
            rows = vectors if self.adapter is None else adapted(self.adapter, vectors, start + first)
            scan.add(rows, mask, None)
            self._names.add(start + first, ids)
            if self._names.pending > _MOST_NAMES:
                self._names.keep(scan.found().indices)
            if progress is not None:
                progress(first + len(ids))

    def id_of(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the ids of rows that were found."""
        names = np.empty(len(rows), object)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for owner in np.unique(owners).tolist():
            here, part = np.flatnonzero(owners == owner), self.parts[owner]
            if isinstance(part, FeatureFiles):
                names[here] = self._names.take(rows[here])
            else:
                names[here] = part.id_of(rows[here] - self._starts[owner])
        found: list[str] = names.tolist()
        return found


class _Names:
    """The ids of rows that may have been found."""

    def __init__(self) -> None:
        self.pending = 0
        self._parts: list[tuple[NDArray[np.int64], Ids]] = []

    def add(self, start: int, ids: Sequence[str]) -> None:
        """Add consecutive rows."""
        self._parts.append((np.arange(start, start + len(ids), dtype=np.int64), as_ids(ids)))
        self.pending += len(ids)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drop all but these rows."""
        wanted = np.intersect1d(np.concatenate([there for there, _ in self._parts]), rows)
        self._parts = [(wanted, Ids(self.take(wanted)))]
        self.pending = 0

    def take(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the ids of rows, which must be there."""
        names = np.empty(len(rows), object)
        for there, ids in self._parts:
            if len(there):
                places = np.minimum(np.searchsorted(there, rows), len(there) - 1)
                here = np.flatnonzero(there[places] == rows)
                names[here] = ids.take(places[here])
        found: list[str] = names.tolist()
        return found
