"""Scores of every query and every image of its shortlist, by any method."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilias_fast import _arrays, _core
from ilias_fast._files import StrPath, read_bytes
from ilias_fast.errors import ParameterError
from ilias_fast.rerank.methods import (
    AmesOptions,
    DiffusionOptions,
    KReciprocalOptions,
    Method,
    Options,
    known_method,
    options_for,
)
from ilias_fast.rerank.options import ChamferOptions, SpatialOptions
from ilias_fast.rerank.pairs import Plan, Progress, Work, check_kind, scorer_of, spatial_columns
from ilias_fast.rerank.resuming import Columns, Parts
from ilias_fast.rerank.scores import LocalScores, describe, refuse_others, restored, write_columns
from ilias_fast.run import Run

if TYPE_CHECKING:
    from ilias_fast.store import GlobalStore, LocalStore

__all__ = ["rerank", "rerank_both"]


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
    check_kind("queries", queries, kind)
    check_kind("database", database, kind)
    plan = Plan(run, queries, database, shortlist)
    work = Work(plan, scorer_of(queries, database, chosen, threads), progress)
    if keep is None:
        return plan.scattered(work.score(0, len(run)), method, chosen)
    path = _kept_path(keep)
    about = {**describe(run, method, chosen, shortlist), "stores": [queries.checksum, database.checksum]}
    if isinstance(chosen, AmesOptions):
        about["network"] = hashlib.sha256(read_bytes(Path(chosen.checkpoint))).hexdigest()
    if path.exists():
        loaded, made_of = restored(path, run)
        refuse_others(path, made_of, about, path)
        work.skip(0, len(run))
        return loaded
    parts = Parts(path, about)
    found = plan.scattered(parts.complete(len(run), work.score, work.skip), method, chosen)
    write_columns(path, about, found.columns())
    parts.remove()
    return found


def rerank_both(
    run: Run,
    queries: LocalStore,
    database: LocalStore,
    *,
    shortlist: int = 1000,
    chamfer: ChamferOptions | None = None,
    spatial: SpatialOptions | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[LocalScores, LocalScores]:
    """Score by Chamfer similarity and by spatial verification, in one pass over the descriptors.

    Both look for the nearest database descriptor of every query descriptor. The scores are those of two calls
    of `rerank`, bit for bit. Two passes are made after all where Chamfer similarity takes descriptors that
    verification does not: more of a query's, or another number of a database image's.

    Args:
        run: What to re-rank.
        queries: Local descriptors of the run's queries.
        database: The same of the shortlisted images.
        shortlist: How many images of each query are scored, M; shorter lists are scored whole.
        chamfer: Options of Chamfer similarity; None for the defaults.
        spatial: Options of spatial verification; None for the defaults.
        threads: Number of threads; None for all cores. Never changes the scores.
        progress: Called now and then with (pairs finished, pairs in all); a pair counts once a pass.

    Returns:
        The raw scores of Chamfer similarity and those of spatial verification.

    Raises:
        UnknownIdError: A query or a shortlisted image is not in its store; the message names it.
        IncompatibleStoreError: The stores are not of local binary descriptors of equal length.
        NonFiniteError: A keypoint position of a tentative correspondence is NaN or infinite.
        ParameterError: `shortlist` is negative, or options are of another method.

    Complexity: O(pairs * query descriptors * database descriptors) bit operations.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.run import Run
        >>> from ilias_fast.store import LocalStore
        >>> rng = np.random.default_rng(0)
        >>> codes, xy = rng.integers(0, 256, (20, 16), np.uint8), rng.random((20, 2), np.float32)
        >>> with LocalStore.create("images", bits=128) as writer:
        ...     writer.append_arrays(["a.jpg"], [0, 20], codes, xy, size=[[400, 300]])
        >>> store = LocalStore.open("images")
        >>> both = rerank_both(Run.from_dict({"a.jpg": {"a.jpg": 1.0}}), store, store)
        >>> [local.method for local in both], both[0].scores.tolist(), both[1].inliers.tolist()
        (['chamfer', 'spatial'], [20.0], [20])
    """
    options_for("chamfer", chamfer)
    options_for("spatial", spatial)
    sums, verified = chamfer or ChamferOptions(), spatial or SpatialOptions()
    if not _shared(sums, verified):
        report = progress and _twice(progress)
        passes: tuple[tuple[Method, Options, int], ...] = (("chamfer", sums, 0), ("spatial", verified, 1))
        first, second = (
            rerank(
                run,
                queries,
                database,
                method=method,
                shortlist=shortlist,
                options=options,
                threads=threads,
                progress=report and report(number),
            )
            for method, options, number in passes
        )
        return first, second
    shortlist = _arrays.at_least("shortlist", shortlist, 0)
    threads = _arrays.threads(threads)
    check_kind("queries", queries, "local")
    check_kind("database", database, "local")
    plan = Plan(run, queries, database, shortlist)

    def scorer(query_rows: Any, offsets: Any, rows: Any, report: Any) -> Columns:
        stores = queries._core_store, database._core_store
        descriptors = verified.query_descriptors, verified.database_descriptors
        similarities, found = _core.rerank_both(
            *stores,
            query_rows,
            offsets,
            rows,
            verified.core_fields(),
            descriptors,
            sums.query_descriptors,
            threads,
            report,
        )
        return {"similarities": similarities, **spatial_columns(found, verified)}

    columns = Work(plan, scorer, progress).score(0, len(run))
    similarities = columns.pop("similarities")
    return (
        plan.scattered({"scores": similarities}, "chamfer", sums),
        plan.scattered(columns, "spatial", verified),
    )


def _shared(chamfer: ChamferOptions, spatial: SpatialOptions) -> bool:
    """Return whether the descriptors of Chamfer similarity are among those of verification."""
    asked, there = chamfer.query_descriptors, spatial.query_descriptors
    among = there is None or (asked is not None and asked <= there)
    return among and chamfer.database_descriptors == spatial.database_descriptors


def _twice(progress: Progress) -> Callable[[int], Progress]:
    """Return the progress of each of two passes as that of both."""
    return lambda number: lambda done, total: progress(number * total + done, 2 * total)


def _kept_path(keep: StrPath) -> Path:
    path = Path(keep)
    if path.suffix != ".npz":
        raise ParameterError(f"keep: expected a file name ending in .npz, found {path.name!r}")
    return path
