"""Slow, obvious NumPy versions of the re-ranking kernels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def distances(query: NDArray[np.uint8], database: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Hamming distances, int64 [m, n]."""
    bits = np.unpackbits(query[:, None] ^ database[None], axis=2)
    return np.asarray(bits.sum(axis=2, dtype=np.int64))


def match(
    query: NDArray[np.uint8],
    database: NDArray[np.uint8],
    max_distance: int,
    *,
    ratio: float = 1.0,
    mutual: bool = False,
) -> list[tuple[int, int, int]]:
    """Tentative correspondences (query, database, distance)."""
    table = distances(query, database)
    found = []
    for i, row in enumerate(table):
        if len(row) == 0:
            continue
        j = int(row.argmin())
        others = np.delete(row, j)
        keep = row[j] <= max_distance
        keep &= ratio >= 1 or len(others) == 0 or row[j] <= ratio * others.min()
        keep &= not mutual or int(table[:, j].argmin()) == i
        if keep:
            found.append((i, j, int(row[j])))
    return found


def chamfer(
    query: NDArray[np.uint8], codes: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Chamfer similarities; every term of the sum is a multiple of 2 / bits, summed as integers."""
    bits = 8 * query.shape[1]
    scores = np.zeros(len(offsets) - 1, np.float32)
    for image, (start, stop) in enumerate(pairwise(offsets)):
        if stop > start and len(query):
            nearest = distances(query, codes[start:stop]).min(axis=1)
            scores[image] = np.float32(int((bits - 2 * nearest).sum()) / bits)
    return scores


def chamfer_float(
    query: NDArray[np.float32], rows: NDArray[np.float16], offsets: NDArray[np.int64], direction: str
) -> NDArray[np.float64]:
    """Chamfer similarities of float descriptors, in float64."""
    scores = np.zeros(len(offsets) - 1)
    for image, (start, stop) in enumerate(pairwise(offsets)):
        table = query.astype(np.float64) @ rows[start:stop].T.astype(np.float64)
        if table.size:
            forward, backward = table.max(axis=1), table.max(axis=0)
            both = (forward.mean() + backward.mean()) / 2
            scores[image] = {"query": forward.sum(), "database": backward.sum(), "symmetric": both}[direction]
    return scores


def inliers(
    model: NDArray[np.float64],
    query_xy: NDArray[np.float32],
    database_xy: NDArray[np.float32],
    threshold: float,
) -> NDArray[np.bool_]:
    """Which correspondences a model explains."""
    mapped = query_xy.astype(np.float64) @ model[:, :2].T + model[:, 2]
    return np.asarray(np.linalg.norm(mapped - database_xy, axis=1) <= threshold)
