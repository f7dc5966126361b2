"""Local scores of every query and every image of its shortlist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays, _core
from ilias_fast.errors import IncompatibleStoreError, ParameterError
from ilias_fast.rerank.options import ChamferOptions, Method, SpatialOptions
from ilias_fast.run import Run

if TYPE_CHECKING:
    from ilias_fast.store import LocalStore

__all__ = ["LocalScores", "rerank"]

Progress = Callable[[int, int], object]


@dataclass(frozen=True, eq=False, repr=False)
class LocalScores:
    """Raw local scores of a run's entries, from which any number of ensembles can be made.

    Every array has one row for each entry of the run, in its order (see `Run.offsets`).

    Attributes:
        run: The run whose entries were scored.
        method: "chamfer" or "spatial".
        options: The options used.
        shortlist: How many images of each query were scored.
        scores: float32 [total], NaN beyond the shortlist.
        inliers: int32 [total], inliers of the model, -1 beyond the shortlist; None for Chamfer.
        tentative: int32 [total], tentative correspondences, -1 beyond the shortlist; None for Chamfer.
        models: float64 [total, 2, 3], the affine map from query to database positions, both in units of their
            image's longer side; NaN without a model; None for Chamfer.
    """

    run: Run
    method: Method
    options: ChamferOptions | SpatialOptions
    shortlist: int
    scores: NDArray[np.float32]
    inliers: NDArray[np.int32] | None = None
    tentative: NDArray[np.int32] | None = None
    models: NDArray[np.float64] | None = None

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Return which entries lie within the shortlists, bool [total]."""
        return _within(self.run, self.shortlist)

    def __repr__(self) -> str:
        return f"LocalScores({self.method}, {len(self.run)} queries, shortlist {self.shortlist})"


def _within(run: Run, shortlist: int) -> NDArray[np.bool_]:
    lengths = np.diff(run.offsets)
    rank = np.arange(len(run.indices)) - np.repeat(run.offsets[:-1], lengths)
    return np.asarray(rank < shortlist)


def _options(
    method: Method, options: ChamferOptions | SpatialOptions | None
) -> ChamferOptions | SpatialOptions:
    kinds: dict[str, type[ChamferOptions] | type[SpatialOptions]] = {
        "chamfer": ChamferOptions,
        "spatial": SpatialOptions,
    }
    if method not in kinds:
        raise ParameterError(f"method: expected one of {sorted(kinds)}, found {method!r}")
    kind = kinds[method]
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise ParameterError(
            f"options: expected {kind.__name__} for {method!r}, found {type(options).__name__}"
        )
    return options


def _handle(name: str, store: Any) -> _core.Store:
    handle = getattr(store, "_core_store", None)
    if not isinstance(handle, _core.Store):
        raise IncompatibleStoreError(f"{name}: expected a LocalStore, found {type(store).__name__}")
    return handle


def rerank(
    run: Run,
    queries: LocalStore,
    database: LocalStore,
    *,
    method: Literal["chamfer", "spatial"] = "spatial",
    shortlist: int = 1000,
    options: ChamferOptions | SpatialOptions | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LocalScores:
    """Score the first images of every query by their local descriptors.

    Nothing is re-ordered yet: `ensemble` combines the scores with those of the run, for any weights.

    Args:
        run: What to re-rank.
        queries: Local descriptors of the run's queries.
        database: Local descriptors of the shortlisted images.
        method: "chamfer" (asymmetric Chamfer similarity) or "spatial" (spatial verification).
        shortlist: How many images of each query are scored; shorter lists are scored whole.
        options: `ChamferOptions` or `SpatialOptions`; None for the defaults.
        threads: Number of threads; None for all cores. Never changes the scores.
        progress: Called now and then with (pairs finished, pairs in all).

    Returns:
        The raw scores, NaN beyond the shortlist.

    Raises:
        UnknownIdError: A query or a shortlisted image is not in its store; the message names it.
        IncompatibleStoreError: The stores are not local stores with codes of the same length.
        NonFiniteError: A keypoint position of a tentative correspondence is NaN or infinite.
        ParameterError: `shortlist` is negative, the method unknown or the options of another method.

    Complexity: O(pairs * query descriptors * database descriptors) bit operations.
    """
    chosen = _options(method, options)
    shortlist = _arrays.count("shortlist", shortlist)
    if shortlist < 0:
        raise ParameterError(f"shortlist: expected 0 or more, found {shortlist}")
    query_store, database_store = _handle("queries", queries), _handle("database", database)
    scored = _within(run, shortlist)
    query_rows = np.asarray(queries.find(list(run.query_ids)), np.int64)
    # Only names that are needed are looked up, each once.
    unique, position = np.unique(run.indices[scored], return_inverse=True)
    found = np.asarray(database.find([run.database_ids[row] for row in unique.tolist()]), np.int64)
    rows = np.ascontiguousarray(found[position.reshape(-1)])
    lengths = np.minimum(np.diff(run.offsets), shortlist)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    total = len(rows)
    report = None if progress is None else lambda done: progress(done, total)
    descriptors = (chosen.query_descriptors, chosen.database_descriptors)
    scores = np.full(len(run.indices), np.nan, np.float32)
    if isinstance(chosen, ChamferOptions):
        scores[scored] = _core.rerank_chamfer(
            query_store, database_store, query_rows, offsets, rows, descriptors, threads, report
        )
        return LocalScores(run, method, chosen, shortlist, scores)
    values, inlier_counts, tentative_counts, maps = _core.rerank_spatial(
        query_store,
        database_store,
        query_rows,
        offsets,
        rows,
        chosen.core_fields(),
        descriptors,
        threads,
        report,
    )
    inliers, tentative = (np.full(len(scores), -1, np.int32) for _ in range(2))
    models = np.full((len(scores), 2, 3), np.nan)
    scores[scored], inliers[scored], tentative[scored] = values, inlier_counts, tentative_counts
    models[scored] = maps.reshape(-1, 2, 3)
    return LocalScores(run, method, chosen, shortlist, scores, inliers, tentative, models)
