"""Re-ranking by global descriptors alone: the neighbourhoods within a shortlist.

Both methods look at a query and its shortlist as one set of n = M + 1 images and at the inner products of all
pairs. They know nothing of images outside the shortlist.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ilias_fast.rerank.methods import DiffusionOptions, KReciprocalOptions

if TYPE_CHECKING:
    from ilias_fast.store import GlobalStore

__all__ = ["diffusion", "k_reciprocal", "score_neighbourhoods"]

Matrix = NDArray[np.float64]


def _order(similarities: Matrix) -> NDArray[np.int64]:
    """Images by similarity to each image, best first, itself always first, ties by position; int64 [n, n]."""
    ranked = similarities.copy()
    np.fill_diagonal(ranked, np.inf)
    return np.argsort(-ranked, axis=1, kind="stable")


def k_reciprocal(similarities: Matrix, k1: int, k2: int) -> NDArray[np.float64]:
    """1 minus the Jaccard distance of k-reciprocal encodings to the first image, in [0, 1].

    Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017,
    equations 2 to 11: the reciprocal neighbours of an image, joined by those of their own whose half-sized
    sets overlap by two thirds, weighted by exp(-distance), averaged over k2 neighbours.

    Args:
        similarities: float64 [n, n], symmetric, of unit vectors; the first image is the query.
        k1: Size of the neighbourhoods.
        k2: Neighbours averaged over.

    Returns:
        float64 [n], 1 for an image with the query's own encoding.

    Complexity: O(n^2 log n + n k1^2) time, O(n^2) memory.
    """
    n = len(similarities)
    order = _order(similarities)

    def reciprocal(k: int) -> NDArray[np.bool_]:
        near = np.zeros((n, n), bool)
        np.put_along_axis(near, order[:, : k + 1], True, axis=1)
        return near & near.T

    full, half = reciprocal(k1), reciprocal(max(1, round(k1 / 2)))
    # Candidate c's half-sized set joins p's set if more than two thirds of it are in p's set already.
    sizes = half.sum(axis=1)
    overlap = full.astype(np.float32) @ half.T.astype(np.float32)
    joined = full & (overlap > 2 / 3 * sizes)
    expanded = full | (joined.astype(np.float32) @ half.astype(np.float32) > 0)
    # exp(-d), d the squared distance 2 - 2 s of unit vectors, normalised as in the published code.
    distances = np.maximum(2 - 2 * similarities, 0)
    distances /= np.maximum(distances.max(axis=1, keepdims=True), 1e-12)
    encodings = np.where(expanded, np.exp(-distances), 0.0)
    encodings /= encodings.sum(axis=1, keepdims=True)
    if k2 > 1:
        encodings = _averaged(encodings, order, k2)
    shared = np.minimum(encodings[0], encodings).sum(axis=1)
    return np.asarray(shared / (2 - shared))


def _averaged(encodings: Matrix, order: NDArray[np.int64], k2: int) -> Matrix:
    total = encodings[order[:, 0]]
    for place in range(1, min(k2, len(encodings))):
        total += encodings[order[:, place]]
    total /= min(k2, len(encodings))
    return total


def diffusion(similarities: Matrix, k: int, alpha: float, gamma: float) -> NDArray[np.float64]:
    """Diffusion of the query's score over the graph of mutual nearest neighbours.

    f = (I - alpha S)^-1 y with S = D^-1/2 A D^-1/2, A_ij = max(s_ij, 0)^gamma where i and j are among each
    other's k nearest, y the query (Zhou et al., "Ranking on data manifolds", NIPS 2003).

    Args:
        similarities: float64 [n, n], symmetric; the first image is the query.
        k: Neighbours of an image, itself not counted.
        alpha: Share of the score that flows on.
        gamma: Exponent of the similarities.

    Returns:
        float64 [n], 0 where no path leads from the query.

    Complexity: O(c^3) for the c images that a path joins with the query, O(n^2 log n) for the graph.
    """
    n = len(similarities)
    near = np.zeros((n, n), bool)
    np.put_along_axis(near, _order(similarities)[:, : k + 1], True, axis=1)
    affinity = np.where(near & near.T, np.maximum(similarities, 0) ** gamma, 0.0)
    np.fill_diagonal(affinity, 0)
    # Only what a path joins with the query gets any score.
    reached = np.zeros(n, bool)
    reached[0] = True
    edge = reached
    while edge.any():
        edge = (affinity[edge] > 0).any(axis=0) & ~reached
        reached |= edge
    inside = np.flatnonzero(reached)
    graph = affinity[np.ix_(inside, inside)]
    degree = graph.sum(axis=1)
    scale = np.where(degree > 0, degree, 1.0) ** -0.5
    system = np.eye(len(inside)) - alpha * (scale[:, None] * graph * scale)
    start = np.zeros(len(inside))
    start[0] = 1.0
    scores = np.zeros(n)
    scores[inside] = np.linalg.solve(system, start)
    return scores


def score_neighbourhoods(
    queries: GlobalStore,
    database: GlobalStore,
    query_rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    options: KReciprocalOptions | DiffusionOptions,
    threads: int,
    progress: Callable[[int], object] | None,
) -> NDArray[np.float32]:
    """Score the shortlists of a run, float32 [len(rows)].

    Args:
        queries: Global descriptors of the queries.
        database: Global descriptors of the database.
        query_rows: int64 [Q], rows of the queries.
        offsets: int64 [Q + 1], the part of `rows` that belongs to each query.
        rows: Database rows.
        options: Which method, and its options.
        threads: Queries at the same time.
        progress: Called with the pairs done.
    """
    scores = np.empty(len(rows), np.float32)

    def one(number: int) -> int:
        part = slice(int(offsets[number]), int(offsets[number + 1]))
        if part.start == part.stop:
            return 0
        vectors = np.concatenate([queries.rows(query_rows[number : number + 1]), database.rows(rows[part])])
        unit = vectors.astype(np.float64)
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
        similarities = unit @ unit.T
        if isinstance(options, KReciprocalOptions):
            found = k_reciprocal(similarities, options.k1, options.k2)
        else:
            found = diffusion(similarities, options.k, options.alpha, options.gamma)
        scores[part] = found[1:]
        return part.stop - part.start

    pool = ThreadPoolExecutor(threads, thread_name_prefix="ilias-fast-rerank")
    done = 0
    try:
        for count in pool.map(one, range(len(query_rows))):
            done += count
            if progress is not None:
                progress(done)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return scores
