"""Average precision of rankings, with and without the ranking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ilias_fast import _arrays, _core
from ilias_fast._counting import MapCounter, StreamedMap
from ilias_fast.errors import ParameterError, ShapeError
from ilias_fast.kernels.progress import Progress

__all__ = ["MapCounter", "StreamedMap", "average_precision", "streaming_map"]


def average_precision(
    scores: ArrayLike,
    relevant: ArrayLike,
    *,
    positives: int,
    k: int,
    threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Compute AP@k with the official ILIAS semantics.

    Results are sorted by score, descending; among equal scores the earlier one comes first, which matters
    only at the cut at k. Equal scores inside the cut form one block whose precision is taken at its end:
    AP = sum over blocks of d * tp / n, divided by min(k, positives).

    Args:
        scores: float32 or float64 [n], finite.
        relevant: bool [n].
        positives: Number of positives in the database (found or not), at least the number in the list.
        k: Cut, at least 1.
        threads: Number of threads; None for all cores. Fewer than a million results take one.
        progress: Called now and then with the number of results counted so far, once they are sorted.

    Returns:
        AP in [0, 1]; 0.0 without positives.

    Raises:
        ShapeError: The arrays differ in length.
        NonFiniteError: A score is NaN or infinite.
        ParameterError: k or threads is below 1, or positives is below the number of relevant results.

    Complexity: O(n log n), O(n) if the scores are sorted already.

    Examples:
        >>> round(average_precision([0.9, 0.8, 0.7], [True, False, True], positives=2, k=10), 4)
        0.8333
    """
    values = _arrays.vector("scores", scores, "fiu", np.float64)
    flags = _arrays.vector("relevant", relevant, "b", np.bool_)
    return _core.average_precision(
        values,
        flags,
        _arrays.count("positives", positives),
        _arrays.count("k", k),
        _arrays.threads(threads),
        progress,
    )


def streaming_map(
    positive_scores: Sequence[ArrayLike],
    blocks: Iterable[ArrayLike],
    *,
    prefixes: Sequence[int] = (),
    subsets: Sequence[ArrayLike] = (),
    k: int = 1000,
    threads: int | None = None,
    progress: Progress | None = None,
) -> StreamedMap:
    """Compute mAP@k for prefixes and subsets of a database from blocks of scores, without a ranking.

    Equal to `average_precision` of the whole list, ties included, with the positives in front of the
    distractors. Memory is O(positives x (prefixes + subsets)) beside one block. `MapCounter` is the same in
    steps: it can be saved, resumed and merged.

    Args:
        positive_scores: For each of Q queries, float32 [p], the scores of its positives.
        blocks: float32 [Q, n] each, scores of consecutive distractors.
        prefixes: Numbers of distractors to evaluate at.
        subsets: For each random subset, bool [N], whether each of the N distractors belongs to it.
        k: The cut, at least 1.
        threads: Number of threads; None for all cores.
        progress: Called after each block with the number of distractors counted so far.

    Returns:
        `StreamedMap(prefixes int64 [m], prefix_aps float64 [m, Q], subset_aps float64 [s, Q])`, in [0, 1].

    Raises:
        ShapeError: A block has not Q rows, or a subset not N entries.
        NonFiniteError: A score is NaN or infinite.
        ParameterError: k is below 1, or a prefix is larger than N.

    Complexity: O(scores x positives of a query) at worst, at memory speed where most scores lie below them.

    Examples:
        >>> import numpy as np
        >>> scores = np.array([[0.95, 0.7, 0.1]], np.float32)
        >>> curve = streaming_map([[0.9, 0.8]], [scores[:, :2], scores[:, 2:]], prefixes=[0, 3])
        >>> curve.prefix_map.round(3).tolist()
        [1.0, 0.583]
    """
    if progress is not None and not callable(progress):
        raise ParameterError(f"progress: expected a function, or None, found {progress!r}")
    counter = MapCounter(positive_scores, prefixes=prefixes, subsets=len(subsets))
    chosen = [_arrays.vector(f"subsets[{s}]", subset, "b", np.bool_, "N") for s, subset in enumerate(subsets)]
    first = 0
    for block in blocks:
        scores = _arrays.float32_rows("blocks", block, "Q, n")
        stop = first + scores.shape[1]
        members = np.array([subset[first:stop] for subset in chosen]) if chosen else None
        counter.add(scores, first, members=members, threads=threads)
        first = stop
        if progress is not None:
            progress(first)
    for number, subset in enumerate(chosen):
        if len(subset) != first:
            raise ShapeError(
                f"subsets[{number}]: expected {first} entries, one a distractor, found {len(subset)}"
            )
    return counter.result(k)
