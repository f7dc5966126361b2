"""Slow, obvious k-reciprocal re-ranking and diffusion over one set of images, the first being the query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def ranking(similarities: Matrix, i: int) -> list[int]:
    """Images by similarity to image i, itself first, ties by position."""
    others = [j for j in range(len(similarities)) if j != i]
    return [i, *sorted(others, key=lambda j: (-similarities[i, j], j))]


def reciprocal(similarities: Matrix, i: int, k: int) -> set[int]:
    """Those among the k nearest of i that have i among their own."""
    near = set(ranking(similarities, i)[: k + 1])
    return {j for j in near if i in ranking(similarities, j)[: k + 1]}


def k_reciprocal(similarities: Matrix, k1: int, k2: int) -> Matrix:
    """1 minus the Jaccard distance of each image to the first, as in the published code."""
    n = len(similarities)
    distances = np.maximum(2 - 2 * similarities, 0)
    weights = np.zeros((n, n))
    for i in range(n):
        kept = reciprocal(similarities, i, k1)
        expanded = set(kept)
        for candidate in kept:
            half = reciprocal(similarities, candidate, max(1, round(k1 / 2)))
            if len(half & kept) > 2 / 3 * len(half):
                expanded |= half
        for j in expanded:
            weights[i, j] = np.exp(-distances[i, j] / max(distances[i].max(), 1e-12))
        weights[i] /= weights[i].sum()
    mean = np.array([weights[ranking(similarities, i)[:k2]].mean(axis=0) for i in range(n)])
    scores = []
    for i in range(n):
        smaller = sum(min(a, b) for a, b in zip(mean[0], mean[i], strict=True))
        scores.append(smaller / (2 - smaller))
    return np.array(scores)


def diffusion(similarities: Matrix, k: int, alpha: float, gamma: float) -> Matrix:
    """Sum of the series f = sum (alpha S)^t y, until it no longer changes."""
    n = len(similarities)
    affinity = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            mutual = j in ranking(similarities, i)[: k + 1] and i in ranking(similarities, j)[: k + 1]
            if i != j and mutual:
                affinity[i, j] = max(similarities[i, j], 0) ** gamma
    degree = affinity.sum(axis=1)
    step = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if affinity[i, j] > 0:
                step[i, j] = affinity[i, j] / np.sqrt(degree[i] * degree[j])
    term = np.zeros(n)
    term[0] = 1.0
    total = np.zeros(n)
    while term.max() > 1e-18:
        total += term
        term = alpha * step @ term
    return total
