"""ITQ binarisation: descriptors to packed binary codes.

Training (Gong and Lazebnik, "Iterative quantization", CVPR 2011): centre, project on the strongest principal
directions, then alternate B = sign(V R) and the rotation R that maximises tr(B^T V R): with the SVD
B^T V = U S W^T that is R = W U^T (the orthogonal Procrustes problem). The helper published with AMES uses the
transposed right factor and does not reach the optimum.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.adapt.adapter import Adapter, finite_rows, require_tensor
from ilias_fast.errors import FileFormatError, ParameterError
from ilias_fast.store.formats.npz import read_npz

__all__ = ["Itq"]

_BLOCK = 65536


class Itq(Adapter):
    """A binarisation u = x / ||x||, bit = ((u - mean) W >= 0), fitted by `Itq.fit` or loaded by `Itq.load`.

    AMES binarises without a mean. That suits descriptors centred at the origin; RootSIFT values are all
    positive, most of their signs would be constant, so by default the mean is subtracted.

    Attributes:
        mean: float32 [D], subtracted after normalisation; zeros when fitted with `subtract_mean=False`.
        projection: float32 [D, bits], the W above: principal directions times rotation.
        error: Mean squared quantisation error per training vector, in the rotated space.
    """

    kind = "itq"

    def __init__(self, mean: NDArray[np.float32], projection: NDArray[np.float32], error: float) -> None:
        self.mean = mean
        self.projection = projection
        self.error = error

    @classmethod
    def fit(
        cls,
        vectors: ArrayLike,
        bits: int = 128,
        *,
        iterations: int = 50,
        seed: int = 0,
        subtract_mean: bool = True,
    ) -> Itq:
        """Learn the binarisation.

        Args:
            vectors: float [n, D], n at least 2, D at least `bits`; normalised to unit length first.
            bits: Code length, a multiple of 8.
            iterations: Alternations of codes and rotation, at least 1.
            seed: Of the initial random rotation.
            subtract_mean: Subtract the training mean when applying, too.

        Raises:
            ShapeError: Fewer than two vectors.
            NonFiniteError: A value is NaN or infinite.
            ParameterError: `bits` is not a positive multiple of 8 or exceeds D, or `iterations` is below 1.
        """
        rows = _normalised(finite_rows("vectors", vectors, at_least=2)).astype(np.float64)
        width = rows.shape[1]
        if bits < 8 or bits % 8 or bits > width:
            raise ParameterError(
                f"bits: expected a multiple of 8 from 8 to the dimension {width}, found {bits}"
            )
        iterations = _arrays.at_least_one("iterations", iterations)
        mean = rows.mean(axis=0)
        centred = rows - mean
        _, directions = np.linalg.eigh(centred.T @ centred)
        directions = directions[:, ::-1][:, :bits]
        # Scaled to unit mean square, so that the error compares with the unit of the codes.
        projected = centred @ directions
        projected /= max(float(np.sqrt(np.mean(projected**2))), 1e-30)
        rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))
        for _ in range(iterations):
            codes = np.where(projected @ rotation >= 0, 1.0, -1.0)
            left, _, right = np.linalg.svd(codes.T @ projected)
            rotation = right.T @ left.T
        rotated = projected @ rotation
        error = float(np.sum((np.where(rotated >= 0, 1.0, -1.0) - rotated) ** 2) / len(rows))
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

    def apply(self, vectors: ArrayLike) -> NDArray[np.uint8]:
        """Binarise descriptors.

        Args:
            vectors: float [n, D]; normalised here, so any scale will do.

        Returns:
            uint8 [n, bits / 8]: bit j of a code is the most significant first, 1 where the value is >= 0.

        Raises:
            ShapeError: Another dimension than the binarisation was fitted for.
        """
        rows = self._rows(vectors)
        result = np.empty((rows.shape[0], self.bits // 8), np.uint8)
        for start in range(0, rows.shape[0], _BLOCK):
            unit = _normalised(rows[start : start + _BLOCK])
            result[start : start + _BLOCK] = np.packbits((unit - self.mean) @ self.projection >= 0, axis=1)
        return result

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


def _normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.maximum(
        np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12)
    )
    return unit
