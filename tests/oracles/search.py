"""Slow, obvious exact search: `math.fsum` a pair, full sort."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def score(query: NDArray[np.float32], row: NDArray[Any]) -> np.float32:
    """The exact inner product, rounded to float64, then to float32; -0.0 becomes 0.0."""
    with np.errstate(over="ignore"):
        rounded = np.float32(math.fsum(float(q) * float(x) for q, x in zip(query, row, strict=True)))
    return rounded + np.float32(0)


def topk(
    queries: NDArray[np.float32], database: NDArray[Any], k: int, selected: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rows = np.arange(len(database)) if selected is None else np.flatnonzero(selected)
    k = min(k, len(rows))
    scores = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    for q, query in enumerate(queries):
        values = np.array([score(query, database[row]) for row in rows], np.float32)
        order = np.lexsort((rows, -values))[:k]
        scores[q], indices[q] = values[order], rows[order]
    return scores, indices


def hamming_topk(
    queries: NDArray[np.uint8], database: NDArray[np.uint8], k: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    bits = np.unpackbits(queries, axis=1)[:, None] != np.unpackbits(database, axis=1)[None]
    distances = bits.sum(axis=2).astype(np.int32)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order.astype(np.int64)
