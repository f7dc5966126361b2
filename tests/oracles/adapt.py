"""Whitening and ITQ written straight from their definitions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pca_whiten(
    train: NDArray[np.float64],
    vectors: NDArray[np.float64],
    dim: int,
    shrinkage: float,
    subtract_mean: bool,
) -> NDArray[np.float64]:
    """Whiten through the full covariance matrix."""
    mean = train.mean(axis=0) if subtract_mean else np.zeros(train.shape[1])
    covariance = (train - mean).T @ (train - mean) / len(train)
    values, directions = np.linalg.eigh((covariance + covariance.T) / 2)
    order = np.argsort(-values)
    values, directions = values[order], directions[:, order]
    rank = int(np.sum(values > 1e-10 * values[0]))
    projection = np.diag((values[:dim] + shrinkage * values[:rank].mean()) ** -0.5) @ directions[:, :dim].T
    result = (vectors - mean) @ projection.T
    return result / (np.linalg.norm(result, axis=1, keepdims=True) + 1e-6)


def supervised_whiten(
    train: NDArray[np.float64],
    queries: list[int],
    positives: list[int],
    vectors: NDArray[np.float64],
    dim: int,
) -> NDArray[np.float64]:
    """Whiten by pairs, with columns as vectors and matrices as cirtorch has them."""
    x = train.T
    mean = x[:, queries].mean(axis=1, keepdims=True)
    difference = x[:, queries] - x[:, positives]
    spread = difference @ difference.T / difference.shape[1]
    loading = 0.0
    while True:
        try:
            factor = np.linalg.cholesky(spread + loading * np.eye(len(spread)))
            break
        except np.linalg.LinAlgError:
            loading = 1e-10 if loading == 0 else 10 * loading
    root = np.linalg.inv(factor)
    y = root @ (x - mean)
    values, directions = np.linalg.eigh(y @ y.T)
    projection = directions[:, np.argsort(-values)].T @ root
    result = projection[:dim] @ (vectors.T - mean)
    return (result / (np.linalg.norm(result, axis=0, keepdims=True) + 1e-6)).T


def quantisation_error(centred: NDArray[np.float64], projection: NDArray[np.float64]) -> float:
    """Return the squared distance of projected vectors, at unit mean square, from their signs, per vector."""
    projected = centred @ projection
    projected /= np.sqrt(np.mean(projected**2))
    codes = np.where(projected >= 0, 1.0, -1.0)
    return float(((codes - projected) ** 2).sum() / len(centred))


def pack(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Pack values >= 0 bit by bit, most significant first."""
    codes = np.zeros((values.shape[0], values.shape[1] // 8), np.uint8)
    for row in range(values.shape[0]):
        for bit in range(values.shape[1]):
            if values[row, bit] >= 0:
                codes[row, bit // 8] |= 128 >> (bit % 8)
    return codes
