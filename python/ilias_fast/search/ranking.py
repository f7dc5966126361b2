"""Ranked lists of several parts of a database become one; some rows are left out, some queries want fewer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ilias_fast.kernels import TopK

__all__ = ["Wanted", "empty", "merge"]


def empty(queries: int) -> TopK:
    """Return no results for `queries` queries."""
    return TopK(np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64))


def merge(best: TopK, part: TopK, k: int) -> TopK:
    """Return the best k of two lists a query; rows of `part` come after all those of `best`."""
    if not best.scores.shape[1]:
        return TopK(part.scores[:, :k], part.indices[:, :k])
    scores = np.concatenate([best.scores, part.scores], axis=1)
    # Both are in order, and stable sorting keeps equal scores in the order of the rows.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    indices = np.concatenate([best.indices, part.indices], axis=1)
    return TopK(np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1))


class Wanted:
    """How many results each query wants, and which rows it does not."""

    def __init__(self, k: NDArray[np.int64], excluded: Sequence[NDArray[np.int64]] | None):
        self.k = k
        self.excluded = excluded
        most = 0 if excluded is None else max((len(rows) for rows in excluded), default=0)
        self.depth = int(k.max(initial=1)) + most
        """As deep a list holds what is wanted, whichever of its rows are excluded."""

    def select(self, found: TopK) -> TopK:
        """Drop excluded rows and what a query has not asked for; -1 and -inf fill the gaps at the end."""
        if self.excluded is None and (self.k >= found.scores.shape[1]).all():
            return found
        kept = np.ones(found.indices.shape, np.bool_)
        if self.excluded is not None:
            for query, rows in enumerate(self.excluded):
                if len(rows):
                    kept[query] = ~np.isin(found.indices[query], rows)
        kept &= np.cumsum(kept, axis=1) <= self.k[:, None]
        width = int(kept.sum(axis=1).max(initial=0))
        order = np.argsort(~kept, axis=1, kind="stable")[:, :width]
        there = np.take_along_axis(kept, order, axis=1)
        return TopK(
            np.where(there, np.take_along_axis(found.scores, order, axis=1), np.float32(-np.inf)),
            np.where(there, np.take_along_axis(found.indices, order, axis=1), -1),
        )
