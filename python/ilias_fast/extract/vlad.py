"""VLAD: local descriptors aggregated over a codebook into one global descriptor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast.errors import ShapeError

__all__ = ["assign", "kmeans", "vlad"]

_BLOCK = 16384


def assign(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest centre of each point; int64 [n]. The lowest index wins among equally near ones.

    Args:
        points: float32 [n, d].
        centres: float32 [k, d].
    """
    nearest = np.empty(points.shape[0], np.int64)
    half_norms = 0.5 * np.einsum("kd,kd->k", centres, centres)
    for start in range(0, points.shape[0], _BLOCK):
        block = points[start : start + _BLOCK]
        nearest[start : start + _BLOCK] = np.argmax(block @ centres.T - half_norms, axis=1)
    return nearest


def kmeans(
    points: NDArray[np.float32], clusters: int, *, iterations: int = 25, seed: int = 0
) -> NDArray[np.float32]:
    """Learn `clusters` centres by k-means++ and Lloyd's iterations.

    Args:
        points: float32 [n, d], n at least `clusters`.
        clusters: k, at least 1.
        iterations: At most; it stops when no point changes its centre.
        seed: Of the choice of the first centres.

    Returns:
        float32 [k, d]. A centre that loses all its points takes the point farthest from its own centre.

    Raises:
        ShapeError: There are fewer points than clusters.
        ParameterError: `clusters` is below 1.
    """
    clusters = _arrays.at_least_one("clusters", clusters)
    if points.shape[0] < clusters:
        raise ShapeError(
            f"expected at least {clusters} local descriptors to learn {clusters} words from, "
            f"found {points.shape[0]}; use more or larger images, or fewer words"
        )
    generator = np.random.default_rng(seed)
    centres = _spread(points, clusters, generator)
    nearest = assign(points, centres)
    for _ in range(iterations):
        counts = np.bincount(nearest, minlength=clusters)
        filled = counts > 0
        sums = _sums(points, nearest, clusters)[filled]
        centres = centres.copy()
        centres[filled] = sums / counts[filled, None]
        if not filled.all():
            distance = np.einsum("nd,nd->n", residual := points - centres[nearest], residual)
            centres[~filled] = points[np.argsort(-distance, kind="stable")[: np.count_nonzero(~filled)]]
        moved = assign(points, centres)
        if np.array_equal(moved, nearest):
            break
        nearest = moved
    return centres


def _sums(points: NDArray[np.float32], nearest: NDArray[np.int64], clusters: int) -> NDArray[np.float64]:
    """Sum the points of each centre, as products with one-hot rows: far quicker than indexed additions."""
    sums = np.zeros((clusters, points.shape[1]))
    for start in range(0, points.shape[0], _BLOCK):
        block = points[start : start + _BLOCK]
        one_hot = np.zeros((block.shape[0], clusters), np.float32)
        one_hot[np.arange(block.shape[0]), nearest[start : start + _BLOCK]] = 1
        sums += one_hot.T @ block
    return sums


def _spread(
    points: NDArray[np.float32], clusters: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Choose first centres far from each other (k-means++, Arthur and Vassilvitskii 2007)."""
    chosen = [int(generator.integers(points.shape[0]))]
    norms = np.einsum("nd,nd->n", points, points)
    distance = np.full(points.shape[0], np.inf)
    for _ in range(clusters - 1):
        last = points[chosen[-1]]
        distance = np.minimum(distance, np.maximum(norms - 2 * (points @ last) + last @ last, 0.0))
        distance[chosen[-1]] = 0.0
        total = distance.sum(dtype=np.float64)
        if total > 0:
            chosen.append(int(generator.choice(points.shape[0], p=distance / total)))
        else:  # fewer distinct points than clusters
            chosen.append(int(generator.integers(points.shape[0])))
    return points[chosen].copy()


def vlad(
    descriptors: NDArray[np.float32], centres: NDArray[np.float32], *, power: float
) -> NDArray[np.float32]:
    """Aggregate the local descriptors of an image.

    Each descriptor adds its unit-length residual to its nearest centre's block (residual normalisation,
    Delhumeau et al., "Revisiting the VLAD image representation", ACM MM 2013); then come the signed power of
    each value, the L2 norm of each block (intra-normalisation, Arandjelovic and Zisserman, "All about VLAD",
    CVPR 2013) and the L2 norm of the whole.

    Args:
        descriptors: float32 [m, d].
        centres: float32 [k, d].
        power: Exponent in (0, 1].

    Returns:
        float32 [k * d] of unit length, or all zero if m = 0.
    """
    clusters, width = centres.shape
    blocks = np.zeros((clusters, width), np.float32)
    if descriptors.shape[0]:
        nearest = assign(descriptors, centres)
        residuals = descriptors - centres[nearest]
        residuals /= np.maximum(np.linalg.norm(residuals, axis=1, keepdims=True), np.float32(1e-12))
        order = np.argsort(nearest, kind="stable")
        words, starts = np.unique(nearest[order], return_index=True)
        blocks[words] = np.add.reduceat(residuals[order], starts, axis=0)
        if power != 1:
            blocks = np.sign(blocks) * np.abs(blocks) ** np.float32(power)
        blocks /= np.maximum(np.linalg.norm(blocks, axis=1, keepdims=True), np.float32(1e-12))
    whole: NDArray[np.float32] = blocks.ravel()
    whole /= max(np.float32(np.linalg.norm(whole)), np.float32(1e-12))
    return whole
