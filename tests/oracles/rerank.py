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


def apply_homography(model: NDArray[np.float64], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a homography puts points; not a number behind the camera."""
    mapped = np.column_stack([xy, np.ones(len(xy))]) @ model.T
    mapped[mapped[:, 2] <= 0] = np.nan
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def direct_linear_transform(
    query_xy: NDArray[np.float64], database_xy: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The homography of the smallest algebraic error on normalised coordinates, by a singular value."""
    normalised, transforms = [], []
    for xy in (query_xy, database_xy):
        mean = weights @ xy / weights.sum()
        scale = np.sqrt(2 * weights.sum() / (weights @ ((xy - mean) ** 2).sum(axis=1)))
        normalised.append((xy - mean) * scale)
        transforms.append(np.array([[scale, 0, -scale * mean[0]], [0, scale, -scale * mean[1]], [0, 0, 1]]))
    rows = []
    for (x, y), (u, v), weight in zip(*normalised, np.sqrt(weights), strict=True):
        rows.append(weight * np.array([x, y, 1, 0, 0, 0, -u * x, -u * y, -u]))
        rows.append(weight * np.array([0, 0, 0, x, y, 1, -v * x, -v * y, -v]))
    found = np.linalg.svd(np.array(rows), full_matrices=True)[2][-1].reshape(3, 3)
    model = np.linalg.inv(transforms[1]) @ (found * np.sign(found[2, 2])) @ transforms[0]
    return np.asarray(model / abs(model[2, 2]))


def refine_homography(
    affine: NDArray[np.float64],
    query_xy: NDArray[np.float32],
    database_xy: NDArray[np.float32],
    threshold: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The best homography met on the way from an affine map, and its inliers."""
    q, d = query_xy.astype(np.float64), database_xy.astype(np.float64)

    def squares(model: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(((apply_homography(model, q) - d) ** 2).sum(axis=1))

    def quality(model: NDArray[np.float64]) -> tuple[int, float]:
        share = 1 - squares(model) / threshold**2
        return int((share >= 0).sum()), float(share[share > 0].sum())

    best = current = np.vstack([affine, [0, 0, 1]])
    for radius in (4, 3, 2.5, 2, 1.6, 1.3, 1.15, 1.05, 0, 0, 0):
        share = 1 - squares(current) / ((radius or 1) * threshold) ** 2
        near = share >= 0
        depth = q[near] @ current[2, :2] + current[2, 2]
        current = direct_linear_transform(q[near], d[near], (share[near] if radius else 1) / depth**2)
        if quality(current) > quality(best):
            best = current
    return best, squares(best) <= threshold**2
