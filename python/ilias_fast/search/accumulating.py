"""What a search has found so far, while it goes over the parts of a database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _core
from ilias_fast.kernels import TopK
from ilias_fast.search.backends import Backend, Cpu
from ilias_fast.search.ranking import empty, merge
from ilias_fast.store import GlobalStore

__all__ = ["Accumulator", "Runs", "accumulator"]

Progress = Callable[[int], object]
Runs = tuple[GlobalStore, int, int]
"""A store, and the first and one past the last of its runs of rows."""


class Accumulator(Protocol):
    """The best rows of the parts added so far, numbered on from the first part."""

    def add(self, rows: NDArray[Any], selected: NDArray[np.bool_] | None, progress: Progress | None) -> None:
        """Search float16 or float32 rows [m, d]."""
        ...

    def add_runs(
        self, parts: Sequence[Runs], selected: NDArray[np.bool_] | None, progress: Progress | None
    ) -> None:
        """Search runs of rows of stores, one after the other."""
        ...

    def found(self) -> TopK:
        """Return the best so far."""
        ...


def accumulator(
    backend: Backend,
    queries: NDArray[np.float32],
    k: int,
    threads: int | None,
    state: tuple[int, TopK] | None = None,
) -> Accumulator:
    """Start a search, or go on with one.

    Args:
        backend: Who screens float16 rows.
        queries: float32 [Q, d].
        k: How many results per query.
        threads: Number of threads; None for all.
        state: How many rows were searched before, and what was found in them.
    """
    if type(backend) is Cpu:
        return _InTheCore(queries, k, threads, state)
    return _OneByOne(backend, queries, k, threads, state)


class _InTheCore:
    """One selection for all parts: the best rows of the earlier ones spare the later ones work."""

    def __init__(
        self, queries: NDArray[np.float32], k: int, threads: int | None, state: tuple[int, TopK] | None
    ):
        before = None if state is None else (state[0], state[1].scores, state[1].indices)
        self._search = _core.RunningSearch(queries, k, before)
        self._threads = threads

    def add(self, rows: NDArray[Any], selected: NDArray[np.bool_] | None, progress: Progress | None) -> None:
        add = self._search.add_float32 if rows.dtype == np.float32 else self._search.add
        add(rows, selected, self._threads, progress)

    def add_runs(
        self, parts: Sequence[Runs], selected: NDArray[np.bool_] | None, progress: Progress | None
    ) -> None:
        runs = [(store._core_store, first, stop) for store, first, stop in parts]
        self._search.add_stores(runs, selected, self._threads, progress)

    def found(self) -> TopK:
        return TopK(*self._search.found())


class _OneByOne:
    """Each part gives its best rows, which are merged."""

    def __init__(
        self,
        backend: Backend,
        queries: NDArray[np.float32],
        k: int,
        threads: int | None,
        state: tuple[int, TopK] | None,
    ):
        self._backend, self._queries, self._k, self._threads = backend, queries, k, threads
        self._rows, self._best = (0, empty(len(queries))) if state is None else state

    def add(self, rows: NDArray[Any], selected: NDArray[np.bool_] | None, progress: Progress | None) -> None:
        if rows.dtype == np.float32:
            found = _core.topk_float32(self._queries, rows, self._k, selected, self._threads, progress)
            self._merge(TopK(*found), len(rows))
        else:
            self._search(rows, len(rows), selected, progress)

    def add_runs(
        self, parts: Sequence[Runs], selected: NDArray[np.bool_] | None, progress: Progress | None
    ) -> None:
        done = 0
        for store, first, stop in parts:
            runs = list(store.shards())
            whole = (first, stop) == (0, len(runs))
            for part in [store] if whole else [vectors for _, vectors in runs[first:stop]]:
                kept = None if selected is None else selected[done : done + len(part)]
                self._search(part, len(part), kept, _shifted(progress, done))
                done += len(part)

    def _search(
        self,
        part: NDArray[Any] | GlobalStore,
        rows: int,
        selected: NDArray[np.bool_] | None,
        progress: Progress | None,
    ) -> None:
        found = self._backend.topk(self._queries, part, self._k, selected, self._threads, progress)
        self._merge(found, rows)

    def _merge(self, found: TopK, rows: int) -> None:
        self._best = merge(self._best, TopK(found.scores, found.indices + self._rows), self._k)
        self._rows += rows

    def found(self) -> TopK:
        return self._best


def _shifted(progress: Progress | None, start: int) -> Progress | None:
    return None if progress is None else lambda done: progress(start + done)
