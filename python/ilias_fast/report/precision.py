"""Precision against recall, averaged over queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["RECALLS", "interpolated_precision"]

RECALLS: NDArray[np.float64] = np.linspace(0, 1, 51)


def interpolated_precision(ranks: NDArray[np.int64], positives: int) -> NDArray[np.float64]:
    """Return float64 [51], for each recall of `RECALLS` the best precision at that recall or beyond.

    As trec_eval interpolates; 0 beyond the recall that the list reaches.

    Args:
        ranks: int64 [p], ranks (from 1) of the positives found, ascending.
        positives: How many there are in all, at least 1.
    """
    hits = np.arange(1, len(ranks) + 1)
    best = np.maximum.accumulate((hits / ranks)[::-1])[::-1]
    # The first hit whose recall reaches the one asked for; recalls are ratios of whole numbers.
    first = np.searchsorted(hits, np.ceil(RECALLS * positives - 1e-9).clip(1), side="left")
    return np.append(best, 0.0)[first]
