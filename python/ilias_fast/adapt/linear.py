"""The benchmark's linear adaptation layer: y = (W x + b) / ||W x + b||."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._extras import require
from ilias_fast._files import StrPath, written
from ilias_fast._tensors import read_tensors
from ilias_fast.adapt.adapter import VectorAdapter, require_tensor
from ilias_fast.errors import FileFormatError, NonFiniteError, ShapeError

__all__ = ["LinearAdapter"]


class LinearAdapter(VectorAdapter):
    """A linear layer followed by L2 normalisation, applied to queries and database alike.

    A row for which W x + b is zero stays zero.

    Args:
        weight: float [D_out, D_in].
        bias: float [D_out].
        training: How it was trained, for provenance; JSON types.

    Raises:
        ShapeError: The shapes do not fit each other.
        NonFiniteError: A value is NaN or infinite.

    Examples:
        >>> layer = LinearAdapter([[3.0, 0.0], [0.0, 4.0]], [0.0, 0.0])
        >>> print(layer.apply([[1.0, 1.0]]))
        [[0.6 0.8]]
    """

    kind = "linear"

    def __init__(
        self, weight: ArrayLike, bias: ArrayLike, training: Mapping[str, object] | None = None
    ) -> None:
        self.training: dict[str, object] = dict(training or {})
        self.weight: NDArray[np.float32] = _arrays.float32_rows("weight", weight, "D_out, D_in")
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
        parameters: dict[str, Any] = {}
        if path.suffix in (".pth", ".pt"):
            state = read_checkpoint(path)
            try:
                if any(value.is_complex() for value in state.values()):
                    raise TypeError("found complex ones")
                tensors = {name: value.detach().float().numpy() for name, value in state.items()}
            except (TypeError, RuntimeError) as cause:  # sparse, on another device
                raise FileFormatError(f"{path}: expected dense tensors of real numbers ({cause})") from cause
        else:
            tensors, metadata = read_tensors(path)
            try:
                parameters = dict(json.loads(metadata.get("ilias_fast.parameters", "{}")))
            except (ValueError, TypeError) as cause:
                raise FileFormatError(f"{path}: damaged parameters ({cause})") from cause
        if set(tensors) != {"layer.weight", "layer.bias"}:
            found = ", ".join(sorted(tensors)) or "none"
            raise FileFormatError(f"{path}: expected the tensors layer.weight and layer.bias, found {found}")
        try:
            return cls._build(tensors, parameters)
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

    def _layer(self) -> _core.Layer:
        return _core.Layer(self.weight, self.bias, None, None, (0.0, 1e-12))

    def export(self, path: StrPath) -> None:
        """Write the layer as the official code reads it: a torch checkpoint of its state dict.

        Args:
            path: The file (`.pth`); replaced if it exists.

        Raises:
            StorageError: The file cannot be written.
            MissingExtraError: torch is not installed.
        """
        torch = require("torch", "write checkpoints")
        state = {name: torch.from_numpy(tensor.copy()) for name, tensor in self.tensors().items()}
        with written(Path(path)) as file:
            torch.save(state, file)

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Return `layer.weight` and `layer.bias`, the official names."""
        return {"layer.weight": self.weight, "layer.bias": self.bias}

    def parameters(self) -> dict[str, object]:
        """Return the dimensions, and how the layer was trained."""
        own: dict[str, object] = {"input_dim": self.input_dim, "output_dim": self.output_dim}
        return {**own, "training": self.training} if self.training else own

    @classmethod
    def _build(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> LinearAdapter:
        weight = require_tensor(tensors, "layer.weight", (None, None))
        bias = require_tensor(tensors, "layer.bias", (weight.shape[0],))
        return cls(weight, bias, dict(parameters.get("training") or {}))
