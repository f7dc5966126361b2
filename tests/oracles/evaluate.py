"""ILIAS evaluation, slow and obvious: scikit-learn and dictionaries, step by step as the protocol says it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from sklearn.metrics import average_precision_score


def average_precision(
    ids: Sequence[str],
    scores: Sequence[float],
    positives: Collection[str],
    k: int,
    excluded: Collection[str] = (),
) -> tuple[float, float]:
    """Return AP@k and the official oracle, both in [0, 1].

    Remove the excluded ids, sort by score, cut at k, score the cut list with scikit-learn, and rescale from
    the positives in the list to min(k, positives).
    """
    kept = [(name, score) for name, score in zip(ids, scores, strict=True) if name not in excluded]
    kept.sort(key=lambda entry: -entry[1])
    kept = kept[:k]
    wanted = set(positives) - set(excluded)
    relevant = np.array([name in wanted for name, _ in kept], dtype=bool)
    if not relevant.any():
        return 0.0, 0.0
    ap = average_precision_score(relevant, [score for _, score in kept])
    return ap * relevant.sum() / min(k, len(wanted)), relevant.mean() * k / len(wanted)


def in_group(values: Mapping[str, float], low: float, high: float) -> set[str]:
    """Return the ids whose value lies in the half-open interval."""
    return {name for name, value in values.items() if low <= value < high}


def group_mean(
    run: Mapping[str, Mapping[str, float]],
    positives_of: Mapping[str, Collection[str]],
    group: Collection[str],
    k: int,
) -> float | None:
    """Return the mean AP, in percent, over the queries that have a positive in the group."""
    aps = []
    for query, found in run.items():
        excluded = set(positives_of[query]) - set(group)
        if set(positives_of[query]) - excluded:
            aps.append(
                average_precision(list(found), list(found.values()), positives_of[query], k, excluded)[0]
            )
    return 100 * float(np.mean(aps)) if aps else None
