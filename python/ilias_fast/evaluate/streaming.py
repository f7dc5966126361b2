"""mAP against the number of distractors, in one pass over the stores and without a ranking.

The scores of the positives are computed first. Then every distractor is compared with them: float32 products
with a proven bound on their error decide nearly all comparisons, and the few scores within the bound are
computed canonically (as `ilias_fast.kernels.topk` does), so the counts are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._counting import MapCounter
from ilias_fast._files import StrPath
from ilias_fast.datasets import Dataset
from ilias_fast.errors import ParameterError, UnknownIdError
from ilias_fast.kernels import topk
from ilias_fast.store import GlobalStore, check_compatible

__all__ = ["DistractorCurve", "RandomSubsets", "distractor_curve"]

_CELL = 65_536
"""Distractors of a cell of `RandomSubsets`, and of a block that is scored at once."""

_SCORES = 1 << 24
"""Scores held at once, at most: 64 MiB."""


class RandomSubsets:
    """Random subsets of N distractors, each of the same size, that need no list of their members.

    Cells of 65,536 distractors get their share by the hypergeometric law, and draw it from a generator of
    their own: uniform over all subsets of the size, and the same on any machine that has the seed.

    Args:
        total: N.
        size: Members of each subset, at most N.
        count: Number of subsets.
        seed: Of the draw.

    Raises:
        ParameterError: A number is negative, or the size is above N.

    Examples:
        >>> subsets = RandomSubsets(total=1000, size=100, count=3, seed=7)
        >>> subsets.members(0, 1000).sum(axis=1).tolist()
        [100, 100, 100]
    """

    def __init__(self, total: int, size: int, count: int, seed: int = 0) -> None:
        self.total = _arrays.at_least("total", total, 0)
        self.size = _arrays.at_least("size", size, 0)
        self.count = _arrays.at_least("count", count, 0)
        self._seed = _arrays.at_least("seed", seed, 0)
        if self.size > self.total:
            raise ParameterError(f"size: expected at most {total}, the number of distractors, found {size}")
        cells = np.full(-(-self.total // _CELL), _CELL)
        if self.total % _CELL:
            cells[-1] = self.total % _CELL
        self._shares = [
            np.random.default_rng([self._seed, subset]).multivariate_hypergeometric(
                cells, self.size, method="marginals"
            )
            for subset in range(self.count)
        ]

    def members(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return bool [count, stop - start]: which distractors of a range belong to each subset.

        Args:
            start: The first distractor.
            stop: One past the last.
        """
        found = np.zeros((self.count, stop - start), np.bool_)
        for cell in range(start // _CELL, -(-stop // _CELL)):
            low, high = cell * _CELL, min((cell + 1) * _CELL, self.total)
            for subset, shares in enumerate(self._shares):
                generator = np.random.default_rng([self._seed, subset, cell])
                drawn = low + generator.choice(high - low, int(shares[cell]), replace=False)
                found[subset, drawn[(drawn >= start) & (drawn < stop)] - start] = True
        return found


@dataclass(frozen=True, eq=False)
class DistractorCurve:
    """mAP@k against the number of distractors, in percent.

    Attributes:
        k: The cut.
        queries: The queries, in the order of the columns.
        distractors: int64 [m], numbers of distractors: prefixes of the database.
        aps: float64 [m, Q].
        subset_size: Distractors of each random subset.
        subset_aps: float64 [s, Q], AP@k in each random subset.

    Examples:
        >>> import numpy as np
        >>> none = np.empty((0, 1))
        >>> aps = np.array([[100.0], [50.0]])
        >>> curve = DistractorCurve(1000, ("mug/query/0.jpg",), np.array([0, 10]), aps, 0, none)
        >>> curve.maps.tolist(), curve.to_dict()["distractors"]
        ([100.0, 50.0], [0, 10])
    """

    k: int
    queries: tuple[str, ...]
    distractors: NDArray[np.int64]
    aps: NDArray[np.float64]
    subset_size: int
    subset_aps: NDArray[np.float64]

    @property
    def maps(self) -> NDArray[np.float64]:
        """float64 [m]: mAP@k at each number of distractors."""
        return np.asarray(self.aps.mean(axis=1))

    @property
    def subset_maps(self) -> NDArray[np.float64]:
        """float64 [s]: mAP@k in each random subset."""
        return np.asarray(self.subset_aps.mean(axis=1))

    @property
    def subset_mean_std(self) -> tuple[float, float]:
        """Mean and sample standard deviation over the subsets, NaN where there are too few."""
        values = self.subset_maps
        mean = float(values.mean()) if len(values) else float("nan")
        return mean, float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    def to_dict(self) -> dict[str, object]:
        """Return everything but the per-query values as plain JSON values."""
        return {
            "k": self.k,
            "unit": "percent",
            "queries": len(self.queries),
            "distractors": self.distractors.tolist(),
            "map": self.maps.tolist(),
            "subset_size": self.subset_size,
            "subset_map": self.subset_maps.tolist(),
        }


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
        ParameterError: A number is out of its range, or `state` is of another pass.
        FileFormatError, StorageError: `state` cannot be read or written.

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
    stores = list(distractors)
    for store in (positives, *stores):
        check_compatible(queries, store, force=force)
    total = sum(len(store) for store in stores)
    if prefixes is None:
        prefixes = [0, *(10**power for power in range(1, 12) if 10**power < total), total]
    drawn = RandomSubsets(total, subset_size, subsets, seed) if subsets else None
    names = tuple(queries.ids)
    vectors = queries.rows(np.arange(len(queries))).astype(np.float32)
    scores, own = _positive_scores(dataset, names, vectors, positives, threads)
    counter = MapCounter(
        [row[mine] for row, mine in zip(scores, own, strict=True)], prefixes=prefixes, subsets=subsets
    )
    counter.add_always(scores, own=own, threads=threads)
    if state is not None and Path(state).exists():
        counter = _resumed(counter, MapCounter.load(state))
    _stream(counter, vectors, stores, drawn, total, state, threads, progress)
    found = counter.result(k)
    return DistractorCurve(
        k,
        names,
        found.prefixes,
        found.prefix_aps * 100,
        subset_size if subsets else 0,
        found.subset_aps * 100,
    )


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


def _resumed(fresh: MapCounter, saved: MapCounter) -> MapCounter:
    """Return the saved counter if it is of the same pass (it holds what `fresh` counted already)."""
    if not fresh.is_like(saved):
        raise ParameterError(
            "state: the file holds counts of other queries, positives, prefixes or subsets; remove it, or "
            "choose another"
        )
    return saved


def _stream(
    counter: MapCounter,
    vectors: NDArray[np.float32],
    stores: Sequence[GlobalStore],
    drawn: RandomSubsets | None,
    total: int,
    state: StrPath | None,
    threads: int | None,
    progress: Callable[[int, int], object] | None,
) -> None:
    rows = max(1, min(_CELL, _SCORES // max(len(vectors), 1)))
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    start, since_saved = 0, 0
    for store in stores:
        for _, shard in store.shards():
            for at in range(0, len(shard), rows):
                block = shard[at : at + rows]
                first, stop = start, start + len(block)
                start = stop
                if stop <= counter.resume_at:
                    continue
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
                    progress(stop, total)
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
