"""ITQ binarisation: descriptors to packed binary codes.

Training (Gong and Lazebnik, "Iterative quantization", CVPR 2011): centre, project on the strongest principal
directions, then alternate B = sign(V R) and the rotation R that maximises tr(B^T V R): with the SVD
B^T V = U S W^T that is R = W U^T (the orthogonal Procrustes problem). The helper published with AMES uses the
transposed right factor and does not reach the optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._files import StrPath
from ilias_fast.adapt.adapter import MatrixAdapter, require_tensor
from ilias_fast.adapt.blocks import Blocks, Vectors, moments
from ilias_fast.errors import FileFormatError, ParameterError
from ilias_fast.store.formats.npz import read_npz

__all__ = ["Itq"]

_SAMPLE = 200_000
_FLAT = 1e-7  # spread of unit vectors below which all are equal but for rounding


class Itq(MatrixAdapter):
    """A binarisation u = x / ||x||, bit = ((u - mean) W >= 0), fitted by `Itq.fit` or loaded by `Itq.load`.

    AMES binarises without a mean. That suits descriptors centred at the origin; RootSIFT values are all
    positive, most of their signs would be constant, so by default the mean is subtracted.

    Attributes:
        mean: float32 [D], subtracted after normalisation; zeros when fitted with `subtract_mean=False`.
        projection: float32 [D, bits], the W above: principal directions times rotation.
        error: Mean squared quantisation error per training vector, in the rotated space.

    Examples:
        >>> import numpy as np
        >>> descriptors = np.random.default_rng(0).standard_normal((200, 32))
        >>> itq = Itq.fit(descriptors, 16, iterations=5)
        >>> itq.apply(descriptors).shape, itq.apply(descriptors).dtype
        ((200, 2), dtype('uint8'))
    """

    kind = "itq"

    def __init__(self, mean: NDArray[np.float32], projection: NDArray[np.float32], error: float) -> None:
        self.mean = mean
        self.projection = projection
        self.error = error

    @classmethod
    def fit(
        cls,
        vectors: Vectors,
        bits: int = 128,
        *,
        iterations: int = 50,
        seed: int = 0,
        subtract_mean: bool = True,
        sample: int = _SAMPLE,
        progress: Callable[[int, int], object] | None = None,
    ) -> Itq:
        """Learn the binarisation.

        Mean and principal directions are those of all vectors, in one pass; the rotation is learnt from a
        sample of them. So memory holds D x D numbers and the sample.

        Args:
            vectors: float [n, D], n at least 2, D at least `bits`, or a store of them (global, or local with
                float16 descriptors); normalised to unit length first.
            bits: Code length, a multiple of 8.
            iterations: Alternations of codes and rotation, at least 1.
            seed: Of the initial random rotation, and of the sample.
            subtract_mean: Subtract the training mean when applying, too.
            sample: Vectors that the rotation is learnt from, at most; at least 2.
            progress: Called with (vectors done, vectors in all).

        Raises:
            ShapeError: Fewer than two vectors.
            NonFiniteError: A value is NaN or infinite.
            ParameterError: `bits` is not a positive multiple of 8 or exceeds D, or `iterations` is below 1,
                or all vectors have the same direction.
        """
        blocks = Blocks("vectors", vectors, at_least=2)
        width = blocks.dim
        if bits < 8 or bits % 8 or bits > width:
            raise ParameterError(
                f"bits: expected a multiple of 8 from 8 to the dimension {width}, found {bits}"
            )
        iterations = _arrays.at_least_one("iterations", iterations)
        sample, seed = _arrays.at_least("sample", sample, 2), _arrays.at_least("seed", seed, 0)
        seen = moments(blocks, prepare=_normalised, progress=progress)
        mean = seen.mean
        _, directions = np.linalg.eigh(seen.about(mean))
        directions = directions[:, ::-1][:, :bits]
        projected = (_normalised(blocks.sample(sample, seed)) - mean) @ directions
        size = float(np.sqrt(np.mean(projected**2)))
        if size < _FLAT:
            raise ParameterError(
                f"vectors: all {blocks.count} have the same direction, nothing can be learnt"
            )
        # Scaled to unit mean square, so that the error compares with the unit of the codes.
        projected /= size
        rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))
        for _ in range(iterations):
            codes = np.where(projected @ rotation >= 0, 1.0, -1.0)
            left, _, right = np.linalg.svd(codes.T @ projected)
            rotation = right.T @ left.T
        rotated = projected @ rotation
        error = float(np.sum((np.where(rotated >= 0, 1.0, -1.0) - rotated) ** 2) / len(rotated))
        shift = mean if subtract_mean else np.zeros_like(mean)
        projection = np.ascontiguousarray(directions @ rotation, dtype=np.float32)
        return cls(shift.astype(np.float32), projection, error)

    @classmethod
    def load(cls, path: StrPath) -> Itq:
        """Read a binarisation that `save` wrote, or a published projection.

        Args:
            path: A safetensors file, or a `.npz` with an array `proj`, float [D, bits], as AMES uses it:
                codes are the signs of `x @ proj`, without a mean.

        Raises:
            StorageError: The file is missing or cannot be read.
            FileFormatError: It is damaged, or holds something else.
        """
        file = Path(path)
        if file.suffix != ".npz":
            return super().load(file)
        projection = read_npz(file, "proj")
        try:
            projection = require_tensor({"proj": projection}, "proj", (None, None))
            return cls._build(
                {"projection": projection, "mean": np.zeros(projection.shape[0], np.float32)}, {"error": 0.0}
            )
        except FileFormatError as cause:
            raise FileFormatError(f"{file}: {cause}") from cause

    @property
    def input_dim(self) -> int:
        """Dimension of the descriptors it takes."""
        return int(self.projection.shape[0])

    @property
    def bits(self) -> int:
        """Code length."""
        return int(self.projection.shape[1])

    def _layer(self) -> _core.Layer:
        weight = np.ascontiguousarray(self.projection.T)
        return _core.Layer(weight, None, self.mean if self.mean.any() else None, (0.0, 1e-12), None)

    def apply(self, vectors: ArrayLike, *, threads: SupportsIndex | None = None) -> NDArray[np.uint8]:
        """Binarise descriptors.

        Args:
            vectors: float [n, D]; normalised here, so any scale will do.
            threads: Number of threads; None for all cores.

        Returns:
            uint8 [n, bits / 8]: bit j of a code is the most significant first, 1 where the value is >= 0.

        Raises:
            ShapeError: Another dimension than the binarisation was fitted for.
            NonFiniteError: A value is NaN or infinite.
        """
        rows = self._rows(vectors)
        return self._packed.signs(rows, self._threads(len(rows), self.bits, threads))

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Return `mean` and `projection`."""
        return {"mean": self.mean, "projection": self.projection}

    def parameters(self) -> dict[str, object]:
        """Return dimensions and the training error."""
        return {"input_dim": self.input_dim, "bits": self.bits, "error": self.error}

    @classmethod
    def _build(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Itq:
        projection = require_tensor(tensors, "projection", (None, None))
        if not projection.shape[1] or projection.shape[1] % 8:
            raise FileFormatError(f"projection: expected a multiple of 8 bits, found {projection.shape[1]}")
        return cls(
            require_tensor(tensors, "mean", (projection.shape[0],)), projection, float(parameters["error"])
        )


def _normalised(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit
