"""Whitening: PCA whitening (PCAw), learned without labels, and supervised whitening (Lw).

PCAw: with mean m and covariance Sigma = V Lambda V^T of the training vectors, P = Lambda^(-1/2) V^T and a
vector becomes y = P[:dim] (x - m), then y / (||y|| + 1e-6) (Jegou and Chum, "Negative evidences and
co-occurences in image retrieval", ECCV 2012; the formulas are those of cirtorch, with a symmetric
eigensolver).

That is `PcaWhitening.fit(vectors, shrinkage=0, subtract_mean=True)`. It needs many training vectors:
whitening divides by the spread of each direction, and with few vectors the spread of the weak directions is
noise. In the limit, n vectors whitened at dimension n - 1 are all equidistant. The defaults differ in two
ways, both measured (VLAD of 8,192 dimensions, whitening fitted on the database only; A: 74 photographs, 8
queries, mean of three codebooks; B: 1,100 synthetic images, 150 queries, 512 dimensions):

| mAP | A | B |
|---|---|---|
| not whitened | 88.6 | 88.7 |
| as published | 50.8 | 91.1 |
| with shrinkage | 85.3 | 92.6 |
| with shrinkage, mean not subtracted (default) | 91.1 | 92.8 |

`shrinkage` adds a multiple of the mean eigenvalue to each eigenvalue. Its default, D / (8 n), falls with
the number of vectors per dimension, the Marchenko-Pastur ratio that governs the noise. The mean is not
subtracted because images with few local descriptors, whose VLAD is mostly zero, would all become -m and
turn into hubs; the common direction is still damped, as the strongest of the directions.

No whitening helps where the vectors it is fitted on do not span the database: 100 of the 1,100 images of B
give 46. Fit on all of a small database, or on some thousands of a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._files import StrPath
from ilias_fast.adapt.adapter import VectorAdapter, require_tensor
from ilias_fast.adapt.blocks import Blocks, Moments, Vectors, moments
from ilias_fast.errors import FileFormatError, ParameterError, ShapeError

__all__ = ["PcaWhitening", "SupervisedWhitening", "Whitening"]

_RANK_TOLERANCE = 1e-10  # of the largest eigenvalue: below it, a direction is rounding noise
_PAIRS = 4096
_FLAT = 1e-14  # of the squared mean: a spread that is rounding

_Self = TypeVar("_Self", bound="Whitening")


class Whitening(VectorAdapter):
    """A projection of centred vectors, y = P (x - m), then y / (||y|| + 1e-6).

    Attributes:
        mean: float32 [D], subtracted first; zeros when fitted without.
        projection: float32 [dim, D], strongest direction first.

    Examples:
        >>> import numpy as np
        >>> train = np.random.default_rng(0).standard_normal((100, 4))
        >>> isinstance(PcaWhitening.fit(train), Whitening)
        True
        >>> PcaWhitening.fit(train).mean.tolist()
        [0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, mean: NDArray[np.float32], projection: NDArray[np.float32]) -> None:
        self.mean = mean
        self.projection = projection

    @property
    def input_dim(self) -> int:
        """Dimension of the descriptors it takes."""
        return int(self.projection.shape[1])

    @property
    def output_dim(self) -> int:
        """Dimension of the descriptors it returns."""
        return int(self.projection.shape[0])

    def _layer(self) -> _core.Layer:
        mean = self.mean if self.mean.any() else None
        return _core.Layer(self.projection, None, mean, None, (1e-6, 0.0))

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Return `mean` and `projection`."""
        return {"mean": self.mean, "projection": self.projection}

    @classmethod
    def load(cls: type[_Self], path: StrPath) -> _Self:
        """Read a whitening that `save` wrote, or one of cirtorch.

        Args:
            path: A safetensors file, or a `.pth` with tensors `m` [D, 1] and `P` [dim, D].

        Raises:
            StorageError: The file is missing or cannot be read.
            FileFormatError: It is damaged, or holds something else.
            MissingExtraError: A `.pth` is to be read and torch is not installed.
        """
        path = Path(path)
        if path.suffix not in (".pth", ".pt"):
            return super().load(path)
        state = read_checkpoint(path)
        if set(state) != {"m", "P"}:
            found = ", ".join(sorted(state)) or "nothing"
            raise FileFormatError(f"{path}: expected tensors m and P of a whitening, found {found}")
        try:
            tensors = {
                "mean": state["m"].float().numpy().reshape(-1),
                "projection": state["P"].float().numpy(),
            }
            return cls._build(tensors, {})
        except (TypeError, RuntimeError, FileFormatError) as cause:
            raise FileFormatError(f"{path}: {cause}") from cause


class PcaWhitening(Whitening):
    """PCA whitening, fitted by `PcaWhitening.fit` or loaded by `PcaWhitening.load`.

    Attributes:
        mean: float32 [D], subtracted first; zeros when fitted without.
        projection: float32 [dim, D], Lambda^(-1/2) V^T, strongest direction first.
        samples: Number of vectors it was fitted on.
        shrinkage: The multiple of the mean eigenvalue added to each.

    Examples:
        >>> import numpy as np
        >>> train = np.random.default_rng(0).standard_normal((500, 8)) * np.arange(1, 9)
        >>> whitening = PcaWhitening.fit(train, 4)
        >>> white = whitening.apply(train)
        >>> white.shape, bool(np.allclose(np.linalg.norm(white, axis=1), 1, atol=1e-4))
        ((500, 4), True)
    """

    kind = "pca-whitening"

    def __init__(
        self, mean: NDArray[np.float32], projection: NDArray[np.float32], samples: int, shrinkage: float
    ) -> None:
        super().__init__(mean, projection)
        self.samples = samples
        self.shrinkage = shrinkage

    @classmethod
    def fit(
        cls,
        vectors: Vectors,
        dim: int | None = None,
        *,
        shrinkage: float | None = None,
        subtract_mean: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> PcaWhitening:
        """Learn the whitening.

        Args:
            vectors: float [n, D], one descriptor a row, n at least 2, or a store of them.
            dim: Output dimension wanted; None for as many as the data supports.
            shrinkage: This multiple of the mean eigenvalue (over the directions of non-zero variance) is
                added to each eigenvalue, at least 0; None for D / (8 n).
            subtract_mean: Centre the vectors, in training and when applying.
            progress: Called with (vectors done, vectors in all).

        Returns:
            A whitening whose `output_dim` is the smaller of `dim` and the rank of the data.

        Raises:
            ShapeError: Fewer than two vectors.
            NonFiniteError: A value is NaN or infinite.
            ParameterError: `dim` is below 1, `shrinkage` is negative, or all vectors are equal.

        Complexity: one pass, O(n D min(n, D) + min(n, D)^3), memory for D x D numbers and a block; when
        n < D, the n vectors are held and their Gram matrix is used.
        """
        blocks = Blocks("vectors", vectors, at_least=2)
        dim = None if dim is None else _arrays.at_least_one("dim", dim)
        count, width = blocks.count, blocks.dim
        added = width / (8 * count) if shrinkage is None else _arrays.real("shrinkage", shrinkage)
        if not 0 <= added < float("inf"):
            raise ParameterError(f"shrinkage: expected a finite number of at least 0, found {shrinkage}")
        mean, centred = np.zeros(width), np.empty((0, width))
        if count < width:
            # X X^T / n has the non-zero eigenvalues l of X^T X / n, and v = X^T u / sqrt(n l).
            rows = np.concatenate(list(blocks))
            mean = rows.mean(axis=0, dtype=np.float64) if subtract_mean else mean
            centred = rows - mean
            values, vectors_ = np.linalg.eigh(centred @ centred.T / count)
        else:
            seen = moments(blocks, progress=progress)
            mean = seen.mean if subtract_mean else mean
            values, vectors_ = np.linalg.eigh(seen.about(mean))
        values, vectors_ = values[::-1], vectors_[:, ::-1]
        rank = int(np.count_nonzero(values > _RANK_TOLERANCE * max(values[0], 0.0)))
        if rank == 0 or values[0] < _FLAT * float(mean @ mean):
            what = "equal" if subtract_mean else "zero"
            raise ParameterError(f"vectors: all {count} are {what}, there is no direction to whiten")
        kept = rank if dim is None else min(dim, rank)
        directions = vectors_[:, :kept].T
        if count < width:
            directions = directions @ centred / np.sqrt(count * values[:kept, None])
        spread = np.sqrt(values[:kept] + added * values[:rank].mean())
        projection = signed(directions) / spread[:, None]
        return cls(mean.astype(np.float32), _float32(projection), count, added)

    def parameters(self) -> dict[str, object]:
        """Return dimensions, samples and shrinkage."""
        return {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "samples": self.samples,
            "shrinkage": self.shrinkage,
        }

    @classmethod
    def _build(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> PcaWhitening:
        mean, projection = _pair(tensors)
        return cls(mean, projection, int(parameters.get("samples", 0)), float(parameters.get("shrinkage", 0)))


class SupervisedWhitening(Whitening):
    """Whitening by pairs of images that match (Lw), fitted by `SupervisedWhitening.fit`.

    With d = x_q - x_p over pairs and S the mean of d d^T, the differences within pairs are made white first:
    S + alpha I = L L^T and A = L^-1, with alpha 0, then 1e-10 and ten times more until it can be factored.
    Then all vectors are rotated onto their principal directions V in that space: P = V^T A. The mean is that
    of the queries (Mikolajczyk and Matas, "Improving descriptors for fast tree matching by optimal linear
    projection", ICCV 2007; the formulas are those of cirtorch, with a symmetric eigensolver).

    Attributes:
        mean: float32 [D], the mean of the queries.
        projection: float32 [dim, D], V^T A, strongest direction first.
        pairs: Number of pairs it was fitted on.
        loading: The alpha that was needed.

    Examples:
        >>> import numpy as np
        >>> train = np.random.default_rng(0).standard_normal((200, 8))
        >>> queries, positives = np.arange(100), np.arange(100, 200)  # rows that show the same
        >>> whitening = SupervisedWhitening.fit(train, queries, positives, 4)
        >>> whitening.pairs, whitening.apply(train).shape
        (100, (200, 4))
    """

    kind = "supervised-whitening"

    def __init__(
        self, mean: NDArray[np.float32], projection: NDArray[np.float32], pairs: int, loading: float
    ) -> None:
        super().__init__(mean, projection)
        self.pairs = pairs
        self.loading = loading

    @classmethod
    def fit(
        cls,
        vectors: Vectors,
        queries: ArrayLike,
        positives: ArrayLike,
        dim: int | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> SupervisedWhitening:
        """Learn the whitening.

        Args:
            vectors: float [n, D], one descriptor a row, or a store of them.
            queries: int [m], the row of the query of each pair.
            positives: int [m], the row of an image that shows the same.
            dim: Output dimension; None for D.
            progress: Called with (vectors done, vectors in all).

        Raises:
            ShapeError: Fewer than two vectors, no pairs, or not as many positives as queries.
            NonFiniteError: A value is NaN or infinite.
            ParameterError: A row does not exist, `dim` is below 1 or above D, or all pairs are of equal
                vectors.

        Complexity: one pass over the vectors and one over the pairs, O((n + m) D^2 + D^3), memory for D x D
        numbers and a block.
        """
        blocks = Blocks("vectors", vectors, at_least=2)
        rows = [
            _rows_of(name, side, blocks.count)
            for name, side in (("queries", queries), ("positives", positives))
        ]
        if len(rows[0]) != len(rows[1]) or not len(rows[0]):
            raise ShapeError(
                f"queries, positives: expected as many rows of each, at least one, "
                f"found {len(rows[0])} and {len(rows[1])}"
            )
        width = blocks.dim
        dim = width if dim is None else _arrays.at_least_one("dim", dim)
        if dim > width:
            raise ParameterError(f"dim: expected at most the dimension {width} of the vectors, found {dim}")
        differences, total = np.zeros((width, width)), np.zeros(width)
        for start in range(0, len(rows[0]), _PAIRS):
            query, positive = (_gathered(blocks, side[start : start + _PAIRS]) for side in rows)
            difference = query.astype(np.float64) - positive
            differences += difference.T @ difference
            total += query.sum(axis=0, dtype=np.float64)
        mean = total / len(rows[0])
        inverse, loading = _inverse_root(differences / len(rows[0]))
        seen: Moments = moments(blocks, progress=progress)
        _, directions = np.linalg.eigh(inverse @ seen.about(mean) @ inverse.T)
        projection = signed(directions[:, ::-1].T[:dim]) @ inverse
        return cls(mean.astype(np.float32), _float32(projection), len(rows[0]), loading)

    def parameters(self) -> dict[str, object]:
        """Return dimensions, pairs and loading."""
        return {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "pairs": self.pairs,
            "loading": self.loading,
        }

    @classmethod
    def _build(
        cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]
    ) -> SupervisedWhitening:
        mean, projection = _pair(tensors)
        return cls(mean, projection, int(parameters.get("pairs", 0)), float(parameters.get("loading", 0)))


def signed(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return directions [m, D] whose largest component is positive.

    An eigenvector's sign is the solver's whim; fixed so that equal data give equal files.
    """
    largest = np.abs(directions).argmax(axis=1)
    signs = np.where(directions[np.arange(len(directions)), largest] < 0, -1.0, 1.0)
    return directions * signs[:, None]


def _inverse_root(spread: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the inverse of the Cholesky factor of a matrix, and what had to be added to its diagonal."""
    if not spread.any():
        raise ParameterError("queries, positives: all pairs are of equal vectors, there is nothing to learn")
    loading = 0.0
    while True:
        try:
            factor = np.linalg.cholesky(spread + loading * np.eye(len(spread)))
            return np.linalg.inv(factor), loading
        except np.linalg.LinAlgError:
            loading = 1e-10 if loading == 0 else loading * 10


def _rows_of(name: str, rows: ArrayLike, count: int) -> NDArray[np.int64]:
    found: NDArray[np.int64] = _arrays.vector(name, rows, "iu", np.int64, "m")
    if len(found) and not 0 <= found.min() <= found.max() < count:
        raise ParameterError(
            f"{name}: expected rows from 0 to {count - 1}, found {found.min()} to {found.max()}"
        )
    return found


def _gathered(blocks: Blocks, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    unique, places = np.unique(rows, return_inverse=True)
    return blocks.rows(unique)[places]


def _pair(tensors: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    projection = require_tensor(tensors, "projection", (None, None))
    if 0 in projection.shape:
        raise FileFormatError(
            f"projection: expected at least one row and column, found {list(projection.shape)}"
        )
    return require_tensor(tensors, "mean", (projection.shape[1],)), projection


def _float32(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(matrix, dtype=np.float32)
