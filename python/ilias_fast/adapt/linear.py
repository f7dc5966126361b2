"""The benchmark's linear adaptation layer: y = (W x + b) / ||W x + b||."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._files import StrPath
from ilias_fast._tensors import read_tensors
from ilias_fast.adapt.adapter import Adapter, require_tensor
from ilias_fast.errors import FileFormatError, NonFiniteError, ShapeError

__all__ = ["LinearAdapter"]

_BLOCK = 8192


class LinearAdapter(Adapter):
    """A linear layer followed by L2 normalisation, applied to queries and database alike.

    Args:
        weight: float [D_out, D_in].
        bias: float [D_out].

    Raises:
        ShapeError: The shapes do not fit each other.
        NonFiniteError: A value is NaN or infinite.
    """

    kind = "linear"

    def __init__(self, weight: ArrayLike, bias: ArrayLike) -> None:
        self.weight = _arrays.float32_rows("weight", weight, "D_out, D_in")
        self.bias: NDArray[np.float32] = _arrays.vector("bias", bias, "fiu", np.float32, "D_out")
        if self.bias.shape[0] != self.weight.shape[0] or 0 in self.weight.shape:
            raise ShapeError(
                f"expected weight [D_out, D_in] and bias [D_out], "
                f"found {list(self.weight.shape)} and {list(self.bias.shape)}"
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise NonFiniteError("weight and bias: expected finite values, found NaN or an infinity")

    @classmethod
    def load(cls, path: StrPath) -> LinearAdapter:
        """Read a layer: an official `.pth` checkpoint, or a safetensors file.

        A checkpoint is a state dict with `layer.weight` [D_out, D_in] and `layer.bias` [D_out]. It is read
        without executing any code in it, and needs the extra `torch`; a safetensors file (`save`) needs none.

        Args:
            path: The file; `.pth` and `.pt` are checkpoints, anything else is safetensors.

        Raises:
            StorageError: The file is missing or cannot be read.
            FileFormatError: It is damaged, or holds something else than a linear adaptation layer.
            MissingExtraError: A checkpoint is to be read and torch is not installed.
        """
        path = Path(path)
        if path.suffix in (".pth", ".pt"):
            state = read_checkpoint(path)
            try:
                if any(value.is_complex() for value in state.values()):
                    raise TypeError("found complex ones")
                tensors = {name: value.detach().float().numpy() for name, value in state.items()}
            except (TypeError, RuntimeError) as cause:  # sparse, on another device
                raise FileFormatError(f"{path}: expected dense tensors of real numbers ({cause})") from cause
        else:
            tensors, _ = read_tensors(path)
        if set(tensors) != {"layer.weight", "layer.bias"}:
            found = ", ".join(sorted(tensors)) or "none"
            raise FileFormatError(f"{path}: expected the tensors layer.weight and layer.bias, found {found}")
        try:
            return cls._build(tensors, {})
        except FileFormatError as cause:
            raise FileFormatError(f"{path}: {cause}") from cause

    @property
    def input_dim(self) -> int:
        """Dimension of the descriptors it takes."""
        return int(self.weight.shape[1])

    @property
    def output_dim(self) -> int:
        """Dimension of the descriptors it returns."""
        return int(self.weight.shape[0])

    def apply(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Adapt descriptors.

        Args:
            vectors: float [n, D_in].

        Returns:
            float32 [n, D_out] of unit length; zero where W x + b is zero.

        Raises:
            ShapeError: Another dimension than the layer's.
        """
        rows = self._rows(vectors)
        result = np.empty((rows.shape[0], self.output_dim), np.float32)
        for start in range(0, rows.shape[0], _BLOCK):
            block = result[start : start + _BLOCK]
            np.matmul(rows[start : start + _BLOCK], self.weight.T, out=block)
            block += self.bias
            block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), np.float32(1e-12))
        return result

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Return `layer.weight` and `layer.bias`, the official names."""
        return {"layer.weight": self.weight, "layer.bias": self.bias}

    def parameters(self) -> dict[str, object]:
        """Return the dimensions."""
        return {"input_dim": self.input_dim, "output_dim": self.output_dim}

    @classmethod
    def _build(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> LinearAdapter:  # noqa: ARG003
        weight = require_tensor(tensors, "layer.weight", (None, None))
        return cls(weight, require_tensor(tensors, "layer.bias", (weight.shape[0],)))
