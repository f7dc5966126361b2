"""Scores of every query and every image of its shortlist, by any method."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays, _core, cpu
from ilias_fast._files import StrPath, read_bytes
from ilias_fast.errors import IncompatibleStoreError, ParameterError, UnknownIdError
from ilias_fast.rerank.methods import (
    AmesOptions,
    DiffusionOptions,
    KReciprocalOptions,
    Method,
    Options,
    known_method,
    options_for,
)
from ilias_fast.rerank.options import ChamferOptions
from ilias_fast.rerank.resuming import Columns, Parts
from ilias_fast.rerank.scores import LocalScores, describe, refuse_others, restored, within, write_columns
from ilias_fast.run import Run

if TYPE_CHECKING:
    from ilias_fast.store import GlobalStore, LocalStore

__all__ = ["rerank"]

Progress = Callable[[int, int], object]
_NAMED = 3


def rerank(
    run: Run,
    queries: LocalStore | GlobalStore,
    database: LocalStore | GlobalStore,
    *,
    method: Method = "spatial",
    shortlist: int = 1000,
    options: Options | None = None,
    keep: StrPath | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LocalScores:
    """Score the first images of every query by what they look like, in more detail than the search did.

    Nothing is re-ordered yet: `ensemble` combines the scores with those of the run, for any weights.

    Args:
        run: What to re-rank.
        queries: Local descriptors of the run's queries; global ones for "k-reciprocal" and "diffusion".
        database: The same of the shortlisted images.
        method: "spatial" (spatial verification), "chamfer" (asymmetric Chamfer similarity), "ames" (a
            transformer over both images' descriptors), "k-reciprocal" or "diffusion" (neighbourhoods of
            global descriptors within the shortlist).
        shortlist: How many images of each query are scored, M; shorter lists are scored whole.
        options: `SpatialOptions`, `ChamferOptions`, `AmesOptions`, `KReciprocalOptions` or
            `DiffusionOptions`; None for the defaults (AMES needs the path of a checkpoint).
        keep: An `.npz` file for the scores. Parts are written beside it as they are finished, a call that was
            interrupted goes on with them, and one that was finished returns what is in the file. Scores that
            `LocalScores.save` wrote are taken without a look at the stores, of which they say nothing.
        threads: Number of threads; None for all cores. Never changes the scores of the first two methods, and
            those of the others by rounding only.
        progress: Called now and then with (pairs finished, pairs in all).

    Returns:
        The raw scores, NaN beyond the shortlist.

    Raises:
        UnknownIdError: A query or a shortlisted image is not in its store; the message names it.
        IncompatibleStoreError: The stores are not of the kind or the descriptors the method needs, or `keep`
            holds the scores of other stores, other options or another network.
        NonFiniteError: A keypoint position of a tentative correspondence is NaN or infinite.
        ParameterError: `shortlist` is negative, the method unknown or the options of another method.
        FileFormatError: `keep` or the checkpoint is damaged.
        StorageError: `keep` cannot be written.

    Complexity: O(pairs * query descriptors * database descriptors) bit operations for codes.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.run import Run
        >>> from ilias_fast.store import LocalStore
        >>> rng = np.random.default_rng(0)
        >>> codes, xy = rng.integers(0, 256, (40, 16), np.uint8), rng.random((40, 2), np.float32)
        >>> with LocalStore.create("queries", bits=128) as writer:
        ...     writer.append_arrays(["q.jpg"], [0, 20], codes[:20], xy[:20], size=[[400, 300]])
        >>> with LocalStore.create("database", bits=128) as writer:
        ...     size = [[400, 300], [400, 300]]
        ...     writer.append_arrays(["same.jpg", "other.jpg"], [0, 20, 40], codes, xy, size=size)
        >>> run = Run.from_dict({"q.jpg": {"other.jpg": 0.5, "same.jpg": 0.4}})
        >>> local = rerank(run, LocalStore.open("queries"), LocalStore.open("database"))
        >>> local.inliers.tolist(), ensemble(run, local)["q.jpg"].ids
        ([0, 20], ['same.jpg', 'other.jpg'])
    """
    known_method(method)
    chosen = options_for(method, options)
    shortlist = _arrays.at_least("shortlist", shortlist, 0)
    threads = _arrays.threads(threads)
    kind = "global" if isinstance(chosen, (KReciprocalOptions, DiffusionOptions)) else "local"
    _check_kind("queries", queries, kind)
    _check_kind("database", database, kind)
    plan = _Plan(run, queries, database, shortlist, method)
    scorer = _scorer(queries, database, chosen, threads)
    done, total = 0, plan.total

    def score(first: int, last: int) -> Columns:
        nonlocal done
        before = done
        report = None if progress is None else lambda finished: progress(before + finished, total)
        columns = plan.score(scorer, first, last, report)
        done += int(plan.offsets[last] - plan.offsets[first])
        return columns

    def skipped(first: int, last: int) -> None:
        nonlocal done
        done += int(plan.offsets[last] - plan.offsets[first])
        if progress is not None:
            progress(done, total)

    if keep is None:
        return plan.scattered(score(0, len(run)), chosen)
    path = _kept_path(keep)
    about = {**describe(run, method, chosen, shortlist), "stores": [queries.checksum, database.checksum]}
    if isinstance(chosen, AmesOptions):
        about["network"] = hashlib.sha256(read_bytes(Path(chosen.checkpoint))).hexdigest()
    if path.exists():
        loaded, made_of = restored(path, run)
        refuse_others(path, made_of, about, path)
        skipped(0, len(run))
        return loaded
    parts = Parts(path, about)
    found = plan.scattered(parts.complete(len(run), score, skipped), chosen)
    write_columns(path, about, found.columns())
    parts.remove()
    return found


def _kept_path(keep: StrPath) -> Path:
    path = Path(keep)
    if path.suffix != ".npz":
        raise ParameterError(f"keep: expected a file name ending in .npz, found {path.name!r}")
    return path


def _check_kind(name: str, store: Any, kind: str) -> None:
    handle = getattr(store, "_core_store", None)
    if not isinstance(handle, _core.Store) or handle.kind != kind:
        raise IncompatibleStoreError(
            f"{name}: expected a {kind.capitalize()}Store, found {type(store).__name__}"
        )


Scorer = Callable[
    [NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Callable[[int], object] | None], Columns
]


class _Plan:
    """Which rows are compared: the shortlists of a run, every one in the order of the store's rows."""

    def __init__(self, run: Run, queries: Any, database: Any, shortlist: int, method: str) -> None:
        self._run, self._shortlist, self._method = run, shortlist, method
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

    def scattered(self, columns: Columns, options: Options) -> LocalScores:
        """Put the columns where the run has their entries."""
        total = len(self._run.indices)
        spread: dict[str, NDArray[Any]] = {}
        for name, column in columns.items():
            empty = -1 if column.dtype == np.int32 else np.nan
            spread[name] = np.full((total, *column.shape[1:]), empty, column.dtype)
            spread[name][self._entries] = column
        if not columns:
            spread["scores"] = np.full(total, np.nan, np.float32)
        return LocalScores(self._run, self._method, options, self._shortlist, **spread)


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


def _scorer(queries: Any, database: Any, options: Options, threads: int | None) -> Scorer:
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
        names = ("scores", "inliers", "tentative", "models")
        found = _core.rerank_spatial(
            *stores, query_rows, offsets, rows, options.core_fields(), descriptors, threads, progress
        )
        columns: Columns = dict(zip(names, found, strict=True))
        columns["models"] = columns["models"].reshape(-1, 3 if options.model == "homography" else 2, 3)
        return columns

    return compiled
