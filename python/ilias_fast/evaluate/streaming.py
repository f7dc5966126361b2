"""mAP against the number of distractors, in one pass over the stores and without a ranking.

The scores of the positives are computed first. Then every distractor is compared with them: float32 products
with a proven bound on their error decide nearly all comparisons, and the few scores within the bound are
computed canonically (as `ilias_fast.kernels.topk` does), so the counts are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._counting import MapCounter
from ilias_fast._files import StrPath, is_file
from ilias_fast.datasets import Dataset
from ilias_fast.errors import ParameterError, UnknownIdError
from ilias_fast.evaluate.curves import DistractorCurve, RandomSubsets
from ilias_fast.kernels import topk
from ilias_fast.store import GlobalStore, check_compatible

__all__ = ["count_distractors", "distractor_curve"]

_BLOCK = 65_536
"""Distractors scored at once, at most."""

_SCORES = 1 << 24
"""Scores held at once, at most: 64 MiB."""


def distractor_curve(
    dataset: Dataset,
    queries: GlobalStore,
    positives: GlobalStore,
    distractors: Sequence[GlobalStore],
    *,
    prefixes: Sequence[int] | None = None,
    subsets: int = 0,
    subset_size: int = 5_000_000,
    seed: int = 0,
    k: int = 1000,
    first: int = 0,
    total: int | None = None,
    counted: Sequence[StrPath] = (),
    state: StrPath | None = None,
    force: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> DistractorCurve:
    """Evaluate a growing database, and random subsets of it, in one pass.

    Args:
        dataset: The ground truth.
        queries: Descriptors of the queries to evaluate.
        positives: Descriptors of the positives, all of these queries; they are in every database.
        distractors: Descriptors of the distractors, in order. Ids are not looked at.
        prefixes: Numbers of distractors; None for 0, the powers of ten, and all.
        subsets: Number of random subsets.
        subset_size: Distractors of each; the protocol of the ILIAS paper draws 5 million three times.
        seed: Of the subsets.
        k: The cut, at least 1.
        first: Number of the first of `distractors`, if others were counted elsewhere.
        total: Distractors in all; None for `first` and those of `distractors`.
        counted: Files of `count_distractors`, by this or other machines, that count the rest.
        state: A file that keeps the counts: a pass that was interrupted goes on where it stopped.
        force: Compare stores whose provenance contradicts.
        threads: Number of threads; None for all cores.
        progress: Called with (distractors done, distractors in all).

    Returns:
        The curve, in percent. Each point equals `evaluate` of the ranking, but for equal scores that
        straddle the cut at k: there a query's positives come first.

    Raises:
        UnknownIdError: A query is not in the dataset, or one of its positives not in `positives`.
        IncompatibleStoreError: The stores do not match.
        ParameterError: A number is out of its range, `state` or `counted` are of another pass, or
            distractors are counted twice or never.
        FileFormatError, StorageError: `state` or `counted` cannot be read or written.

    Memory: O(positives x (prefixes + subsets)) and a block of 64 MiB of scores, of any number of distractors.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.store import GlobalStore
        >>> for name, ids, rows in (
        ...     ("queries", ["mug/query/0.jpg"], [[1.0, 0.0]]),
        ...     ("positives", ["mug/pos/0.jpg"], [[0.8, 0.6]]),
        ...     ("distractors", ["1.jpg", "2.jpg"], [[0.0, 1.0], [0.96, 0.28]]),
        ... ):
        ...     with GlobalStore.create(name, dim=2) as writer:
        ...         writer.append(ids, rows)
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg", "2.jpg")
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> stores = [GlobalStore.open(name) for name in ("queries", "positives", "distractors")]
        >>> curve = distractor_curve(dataset, *stores[:2], stores[2:], prefixes=[0, 1, 2])
        >>> curve.maps.tolist()
        [100.0, 100.0, 50.0]
    """
    counter = count_distractors(
        dataset,
        queries,
        positives,
        distractors,
        prefixes=prefixes,
        subsets=subsets,
        subset_size=subset_size,
        seed=seed,
        first=first,
        total=total,
        counted=counted,
        state=state,
        force=force,
        threads=threads,
        progress=progress,
    )
    found = counter.result(k)
    return DistractorCurve(
        k,
        tuple(queries.ids),
        found.prefixes,
        found.prefix_aps * 100,
        subset_size if subsets else 0,
        found.subset_aps * 100,
    )


def count_distractors(
    dataset: Dataset,
    queries: GlobalStore,
    positives: GlobalStore,
    distractors: Sequence[GlobalStore],
    *,
    prefixes: Sequence[int] | None = None,
    subsets: int = 0,
    subset_size: int = 5_000_000,
    seed: int = 0,
    first: int = 0,
    total: int | None = None,
    counted: Sequence[StrPath] = (),
    state: StrPath | None = None,
    force: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> MapCounter:
    """Count one machine's share of the distractors for `distractor_curve`.

    Every machine gets the same queries, positives, prefixes, subsets, seed and total, and its own
    distractors with the number of the first; `state` is what it hands over. Scores are canonical, so machines
    of different CPU levels agree.

    Args:
        dataset: See `distractor_curve`, as all that follow.
        queries: Descriptors of the queries.
        positives: Descriptors of the positives.
        distractors: Descriptors of this machine's distractors, in order.
        prefixes: Numbers of distractors.
        subsets: Number of random subsets.
        subset_size: Distractors of each.
        seed: Of the subsets.
        first: Number of the first of `distractors`.
        total: Distractors in all.
        counted: Files to take over.
        state: A file that keeps the counts.
        force: Compare stores whose provenance contradicts.
        threads: Number of threads; None for all cores.
        progress: Called with (distractors done, distractors in all), of this machine.

    Raises:
        UnknownIdError, IncompatibleStoreError, ParameterError, FileFormatError, StorageError: See
            `distractor_curve`.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.store import GlobalStore
        >>> rows = {"mug/query/0.jpg": [1.0, 0.0], "mug/pos/0.jpg": [0.8, 0.6], "1.jpg": [0.96, 0.28]}
        >>> for name, row in rows.items():
        ...     with GlobalStore.create(name.replace("/", "-"), dim=2) as writer:
        ...         writer.append([name], [row])
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> queries, positives, ours = (GlobalStore.open(name.replace("/", "-")) for name in rows)
        >>> counter = count_distractors(dataset, queries, positives, [ours], total=1, state="ours.counts")
        >>> Path("ours.counts").exists()
        True
    """
    stores = list(distractors)
    for store in (positives, *stores):
        check_compatible(queries, store, force=force)
    first = _arrays.at_least("first", first, 0)
    stop = first + sum(len(store) for store in stores)
    total = stop if total is None else _arrays.at_least("total", total, 0)
    if stop > total:
        raise ParameterError(f"total: expected at least {stop}, the last of `distractors`, found {total}")
    if prefixes is None:
        prefixes = [0, *(10**power for power in range(1, 12) if 10**power < total), total]
    drawn = RandomSubsets(total, subset_size, subsets, seed) if subsets else None
    vectors = queries.rows(np.arange(len(queries))).astype(np.float32)
    scores, own = _positive_scores(dataset, tuple(queries.ids), vectors, positives, threads)
    about = f"{total} distractors" + (f", subsets of {subset_size}, seed {seed}" if subsets else "")
    counter = MapCounter(
        [row[mine] for row, mine in zip(scores, own, strict=True)],
        prefixes=prefixes,
        subsets=subsets,
        about=about,
    )
    counter.add_always(scores, own=own, threads=threads)
    if state is not None and is_file(state):
        _take_over(counter, state)
    _stream(counter, vectors, stores, drawn, first, state, threads, progress)
    for path in counted:
        _take_over(counter, path)
    return counter


def _positive_scores(
    dataset: Dataset,
    names: Sequence[str],
    vectors: NDArray[np.float32],
    positives: GlobalStore,
    threads: int | None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the canonical scores [Q, P] of all positives, and which are the query's own."""
    row_of = {name: row for row, name in enumerate(positives.ids)}
    own = np.zeros((len(names), len(positives)), np.bool_)
    for query, name in enumerate(names):
        wanted = dataset.positives_of(name)
        missing = sorted(wanted - row_of.keys())
        if missing:
            raise UnknownIdError(
                f"{len(missing)} positives of {name!r} are not in the store of positives: {missing[0]!r}"
            )
        own[query, [row_of[positive] for positive in wanted]] = True
    ranked = topk(vectors, positives, max(len(positives), 1), threads=threads)
    scores = np.empty(own.shape, np.float32)
    np.put_along_axis(scores, ranked.indices, ranked.scores, axis=1)
    return scores, own


def _take_over(counter: MapCounter, path: StrPath) -> None:
    """Merge the counts of a file; an error names it."""
    saved = MapCounter.load(path)
    if not counter.is_like(saved):
        raise ParameterError(
            f"{path}: holds counts of other queries, positives, prefixes, subsets, seed or total; remove it, "
            f"or choose another"
        )
    try:
        counter.merge(saved)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error


def _stream(
    counter: MapCounter,
    vectors: NDArray[np.float32],
    stores: Sequence[GlobalStore],
    drawn: RandomSubsets | None,
    begin: int,
    state: StrPath | None,
    threads: int | None,
    progress: Callable[[int, int], object] | None,
) -> None:
    rows = max(1, min(_BLOCK, _SCORES // max(len(vectors), 1)))
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    total = sum(len(store) for store in stores)
    start, since_saved = begin, 0
    for store in stores:
        for _, shard in store.shards():
            for at in range(0, len(shard), rows):
                block = shard[at : at + rows]
                first, stop = start, start + len(block)
                start = stop
                there = counter.counted_from(first)
                if stop <= there:
                    continue
                block, first = block[there - first :], there
                wide = block.astype(np.float32)
                longest = float(np.sqrt(np.einsum("ij,ij->i", wide, wide, dtype=np.float64).max(initial=0.0)))
                margin = _margin(vectors.shape[1], lengths, longest)
                counter.add_approximate(
                    vectors @ wide.T,
                    first,
                    margin,
                    partial(_canonical, vectors, block, threads),
                    members=None if drawn is None else drawn.members(first, stop),
                    threads=threads,
                )
                since_saved += len(block) * len(vectors)
                if state is not None and since_saved >= 64 * _SCORES:
                    counter.save(state)
                    since_saved = 0
                if progress is not None:
                    progress(stop - begin, total)
    if state is not None:
        counter.save(state)


def _margin(dim: int, lengths: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    """Bound |float32 product - canonical score|, in any order of summation, fused or not.

    gamma_d |q| |x| with gamma_d = d u / (1 - d u), u = 2^-24, by Cauchy-Schwarz; one u more for rounding
    the canonical score; d times the smallest normal number for what underflows or is flushed.
    """
    unit = 2.0**-24
    gamma = dim * unit / (1 - dim * unit)
    return (gamma + 2 * unit) * lengths * longest * 1.001 + dim * 1.2e-38


def _canonical(
    vectors: NDArray[np.float32],
    block: NDArray[np.float16],
    threads: int | None,
    queries: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the canonical scores of some pairs; the pairs of a query follow each other."""
    scores = np.empty(len(queries), np.float32)
    starts = np.flatnonzero(np.append(True, queries[1:] != queries[:-1]))
    for begin, end in zip(starts, [*starts[1:], len(queries)], strict=True):
        query = int(queries[begin])
        found = topk(vectors[query : query + 1], block[columns[begin:end]], int(end - begin), threads=threads)
        scores[begin + found.indices[0]] = found.scores[0]
    return scores
