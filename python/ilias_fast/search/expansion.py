"""Alpha query expansion, as in the paper and as published."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ilias_fast.errors import NonFiniteError
from ilias_fast.kernels import TopK
from ilias_fast.search.sequence import StoreSequence

__all__ = ["Mode", "expanded"]

Mode = Literal["paper", "official"]

_TINY = 1e-12
"""Smallest norm a vector is divided by (as in the official code): zero vectors stay zero."""

_TOGETHER = 1 << 14
"""Neighbours that are in memory at a time."""


def expanded(
    queries: NDArray[np.float32], database: StoreSequence, neighbours: TopK, alpha: float, mode: Mode
) -> NDArray[np.float32]:
    """Return the expanded queries, of unit norm; neighbours with index -1 add nothing."""
    count = neighbours.indices.shape[1]
    sums = queries.astype(np.float64)
    block = max(1, _TOGETHER // max(count, 1))
    for start in range(0, len(queries) if count else 0, block):  # without neighbours nothing is added
        for first in range(0, count, _TOGETHER):
            part = slice(start, start + block), slice(first, first + _TOGETHER)
            indices, scores = neighbours.indices[part], neighbours.scores[part]
            with np.errstate(over="ignore", invalid="ignore"):  # the norms below tell
                sums[part[0]] += _terms(database, indices, scores, alpha, mode).sum(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise NonFiniteError(
            f"queries: row {int(np.argmin(np.isfinite(norms)))} exceeds float64 when it is expanded with "
            f"alpha {alpha} (use a smaller alpha, or descriptors of unit length)"
        )
    unit: NDArray[np.float64] = sums / np.maximum(norms, _TINY)
    return unit.astype(np.float32)


def _terms(
    database: StoreSequence, indices: NDArray[np.int64], scores: NDArray[np.float32], alpha: float, mode: Mode
) -> NDArray[np.float64]:
    """Return the weighted neighbours of some queries, float64 [q, n, d]; zeros for index -1."""
    there = indices >= 0
    similarities = np.where(there, scores.astype(np.float64), 0.0)
    vectors = database.gather(np.maximum(indices, 0).reshape(-1))
    if mode == "official":
        weighted = database.adapt(similarities.reshape(-1, 1).astype(np.float32) * vectors)
        terms = weighted.astype(np.float64).reshape(*similarities.shape, -1)
    else:
        terms = database.adapt(vectors).astype(np.float64).reshape(*similarities.shape, -1)
        terms *= (np.maximum(similarities, 0.0) ** alpha)[..., None]
    terms[~there] = 0.0
    return terms
