"""Which pairs of a run are compared, by what, and how far that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _core, cpu
from ilias_fast.errors import IncompatibleStoreError, UnknownIdError
from ilias_fast.rerank.methods import AmesOptions, DiffusionOptions, KReciprocalOptions, Options
from ilias_fast.rerank.options import ChamferOptions, SpatialOptions
from ilias_fast.rerank.resuming import Columns
from ilias_fast.rerank.scores import LocalScores, within
from ilias_fast.run import Run

__all__ = ["Plan", "Progress", "Scorer", "Work", "check_kind", "scorer_of", "spatial_columns"]

Progress = Callable[[int, int], object]
_NAMED = 3

Scorer = Callable[
    [NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Callable[[int], object] | None], Columns
]


class Plan:
    """Which rows are compared: the shortlists of a run, every one in the order of the store's rows."""

    def __init__(self, run: Run, queries: Any, database: Any, shortlist: int) -> None:
        self._run, self._shortlist = run, shortlist
        scored = within(run, shortlist)
        lengths = np.minimum(np.diff(run.offsets), shortlist)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # A query without results needs no descriptors.
        needed = np.flatnonzero(lengths > 0)
        self._query_rows = np.full(len(run), -1, np.int64)
        names = [run.query_ids[number] for number in needed.tolist()]
        self._query_rows[needed] = _found("queries", queries, names, "of the run")
        # Only names that are needed are looked up, each once.
        unique, position = np.unique(run.indices[scored], return_inverse=True)
        names = [run.database_ids[row] for row in unique.tolist()]
        rows = _found("database", database, names, "of the shortlists")[position.reshape(-1)]
        # Neighbours in the map are read one after the other: a page is touched once a query.
        owner = np.repeat(np.arange(len(run)), lengths)
        order = np.lexsort((rows, owner))
        self._rows = np.ascontiguousarray(rows[order])
        self._entries = np.flatnonzero(scored)[order]

    @property
    def total(self) -> int:
        """Pairs in all."""
        return len(self._rows)

    def score(
        self, scorer: Scorer, first: int, last: int, progress: Callable[[int], object] | None
    ) -> Columns:
        """Score the queries from `first` to before `last`."""
        start, stop = int(self.offsets[first]), int(self.offsets[last])
        offsets = self.offsets[first : last + 1] - start
        full = np.flatnonzero(np.diff(offsets) > 0)
        query_rows = self._query_rows[first:last][full]
        kept = np.concatenate([offsets[:1], offsets[1:][full]])
        return scorer(query_rows, np.ascontiguousarray(kept), self._rows[start:stop], progress)

    def scattered(self, columns: Columns, method: str, options: Options) -> LocalScores:
        """Put the columns where the run has their entries."""
        total = len(self._run.indices)
        spread: dict[str, NDArray[Any]] = {}
        for name, column in columns.items():
            empty = -1 if column.dtype == np.int32 else np.nan
            spread[name] = np.full((total, *column.shape[1:]), empty, column.dtype)
            spread[name][self._entries] = column
        if not columns:
            spread["scores"] = np.full(total, np.nan, np.float32)
        return LocalScores(self._run, method, options, self._shortlist, **spread)


class Work:
    """The scoring of queries one after the other, and how far it is."""

    def __init__(self, plan: Plan, scorer: Scorer, progress: Progress | None) -> None:
        self._plan, self._scorer, self._progress, self._done = plan, scorer, progress, 0

    def score(self, first: int, last: int) -> Columns:
        """Score the queries from `first` to before `last`."""
        before, progress, total = self._done, self._progress, self._plan.total
        report = None if progress is None else lambda finished: progress(before + finished, total)
        columns = self._plan.score(self._scorer, first, last, report)
        self._pass(first, last)
        return columns

    def skip(self, first: int, last: int) -> None:
        """Pass over queries whose scores are there."""
        self._pass(first, last)
        if self._progress is not None:
            self._progress(self._done, self._plan.total)

    def _pass(self, first: int, last: int) -> None:
        self._done += int(self._plan.offsets[last] - self._plan.offsets[first])


def _found(name: str, store: Any, ids: list[str], whose: str) -> NDArray[np.int64]:
    """Return the rows of ids, or name those that are missing."""
    there = store.contains(ids) if ids else np.empty(0, bool)
    if not there.all():
        missing = [id_ for id_, known in zip(ids, there, strict=True) if not known]
        shown = ", ".join(map(repr, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
        raise UnknownIdError(
            f"{name}: {store.path} lacks {len(missing)} of the {len(ids)} images {whose}: {shown}; "
            f"extract them, or take the store the run was made of"
        )
    return np.asarray(store.find(ids), np.int64)


def scorer_of(queries: Any, database: Any, options: Options, threads: int | None) -> Scorer:
    """Return what scores rows of these stores."""
    if isinstance(options, (KReciprocalOptions, DiffusionOptions)):
        from ilias_fast.rerank.neighbours import score_neighbourhoods

        def neighbourhoods(query_rows: Any, offsets: Any, rows: Any, progress: Any) -> Columns:
            workers = cpu.threads(threads)
            return {
                "scores": score_neighbourhoods(
                    queries, database, query_rows, offsets, rows, options, workers, progress
                )
            }

        return neighbourhoods
    if isinstance(options, AmesOptions):
        from ilias_fast.rerank.ames.streaming import AmesScorer

        network = AmesScorer(queries, database, options)

        def ames(query_rows: Any, offsets: Any, rows: Any, progress: Any) -> Columns:
            return {"scores": network.score(query_rows, offsets, rows, threads, progress)}

        return ames
    stores = queries._core_store, database._core_store
    descriptors = (options.query_descriptors, options.database_descriptors)

    def compiled(query_rows: Any, offsets: Any, rows: Any, progress: Any) -> Columns:
        if isinstance(options, ChamferOptions):
            scores = _core.rerank_chamfer(*stores, query_rows, offsets, rows, descriptors, threads, progress)
            return {"scores": scores}
        found = _core.rerank_spatial(
            *stores, query_rows, offsets, rows, options.core_fields(), descriptors, threads, progress
        )
        return spatial_columns(found, options)

    return compiled


def spatial_columns(found: tuple[NDArray[Any], ...], options: SpatialOptions) -> Columns:
    """Name the columns of spatial verification."""
    columns: Columns = dict(zip(("scores", "inliers", "tentative", "models"), found, strict=True))
    columns["models"] = columns["models"].reshape(-1, 3 if options.model == "homography" else 2, 3)
    return columns


def check_kind(name: str, store: Any, kind: str) -> None:
    """Refuse what is no store of that kind."""
    handle = getattr(store, "_core_store", None)
    if not isinstance(handle, _core.Store) or handle.kind != kind:
        raise IncompatibleStoreError(
            f"{name}: expected a {kind.capitalize()}Store, found {type(store).__name__}"
        )
