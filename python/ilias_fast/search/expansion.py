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


def expanded(
    queries: NDArray[np.float32], database: StoreSequence, neighbours: TopK, alpha: float, mode: Mode
) -> NDArray[np.float32]:
    """Return the expanded queries, of unit norm; neighbours with index -1 add nothing."""
    count = neighbours.indices.shape[1]
    sums = queries.astype(np.float64)
    block = max(1, 16384 // max(count, 1))
    for start in range(0, len(queries) if count else 0, block):  # without neighbours nothing is added
        rows = slice(start, start + block)
        there = neighbours.indices[rows] >= 0
        similarities = np.where(there, neighbours.scores[rows].astype(np.float64), 0.0)
        vectors = database.gather(np.maximum(neighbours.indices[rows], 0).reshape(-1))
        if mode == "official":
            weighted = database.adapt(similarities.reshape(-1, 1).astype(np.float32) * vectors)
            terms = weighted.astype(np.float64).reshape(*similarities.shape, -1)
        else:
            terms = database.adapt(vectors).astype(np.float64).reshape(*similarities.shape, -1)
            with np.errstate(over="ignore", invalid="ignore"):  # the norms below tell
                terms *= (np.maximum(similarities, 0.0) ** alpha)[..., None]
        terms[~there] = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            sums[rows] += terms.sum(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise NonFiniteError(
            f"queries: row {int(np.argmin(np.isfinite(norms)))} exceeds float64 when it is expanded with "
            f"alpha {alpha} (use a smaller alpha, or descriptors of unit length)"
        )
    unit: NDArray[np.float64] = sums / np.maximum(norms, _TINY)
    return unit.astype(np.float32)
