"""A published AMES checkpoint, read without executing it, with every name and shape checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ilias_fast import _arrays
from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._files import StrPath
from ilias_fast.errors import FileFormatError, ParameterError
from ilias_fast.rerank.ames.network import Ames

if TYPE_CHECKING:
    import torch

__all__ = ["expected_shapes", "load_ames"]

Shape = tuple[int, ...]


def load_ames(path: StrPath, *, heads: int = 2, dtype: str = "float32", device: str = "cpu") -> Ames:
    """Load a published checkpoint: a `.pt` with the key `state`, or a bare state dict.

    Dimensions, number of layers and the variant (float or binary) follow from the tensors; only the number of
    attention heads does not.

    Args:
        path: The checkpoint; nothing in it is executed.
        heads: Attention heads (2 in all published networks).
        dtype: What the network computes in: "float32", "bfloat16" or "float16" (see `docs/rerank.md` for
            the error of each).
        device: Where it computes: "cpu", or a CUDA device such as "cuda:0".

    Raises:
        FileFormatError: The file is damaged, or a tensor is missing, unknown or of another shape; the message
            names the tensor and both shapes.
        ParameterError: `heads` does not divide the model's dimension, or dtype or device is unknown.
        StorageError: The file is missing or cannot be read.
        MissingExtraError: torch is not installed.
    """
    path = Path(path)
    state = read_checkpoint(path)
    heads = _arrays.at_least_one("heads", heads)
    _check(path, state)
    dim = len(state["mtc_token"])
    if dim % heads:
        raise ParameterError(f"heads: expected a divisor of the model's dimension {dim}, found {heads}")
    return Ames(state, heads=heads, dtype=dtype, device=device)


def expected_shapes(
    local_dim: int, dim: int, layers: int, feedforward: int, *, binary: bool
) -> dict[str, Shape]:
    """Return the names and shapes of a network's tensors.

    Args:
        local_dim: Dimension of the local descriptors.
        dim: Dimension of the model.
        layers: Number of layers.
        feedforward: Hidden units of a layer's feed-forward part.
        binary: Whether the network takes binarised descriptors.
    """
    remap: dict[str, Shape] = (
        {"0.W": (local_dim, dim), "1.weight": (dim, dim), "1.bias": (dim,), "2.weight": (dim,)}
        if binary
        else {"0.weight": (dim, local_dim), "0.bias": (dim,), "1.weight": (dim,)}
    )
    remap["2.bias" if binary else "1.bias"] = (dim,)
    shapes: dict[str, Shape] = {"mtc_token": (dim,)}
    shapes.update({f"remap_local.{name}": shape for name, shape in remap.items()})
    for layer in range(layers):
        part = f"decoder.layers.{layer}"
        for attention in ("self_attn", "cross_attn"):
            shapes[f"{part}.{attention}.in_proj_weight"] = (3 * dim, dim)
            shapes[f"{part}.{attention}.in_proj_bias"] = (3 * dim,)
            shapes[f"{part}.{attention}.out_proj.weight"] = (dim, dim)
            shapes[f"{part}.{attention}.out_proj.bias"] = (dim,)
        shapes[f"{part}.linear1.weight"] = (feedforward, dim)
        shapes[f"{part}.linear1.bias"] = (feedforward,)
        shapes[f"{part}.linear2.weight"] = (dim, feedforward)
        shapes[f"{part}.linear2.bias"] = (dim,)
        for norm in ("norm1", "norm2", "norm3"):
            shapes[f"{part}.{norm}.weight"] = shapes[f"{part}.{norm}.bias"] = (dim,)
    return {**shapes, "classifier.weight": (1, dim), "classifier.bias": (1,)}


def _check(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Compare the tensors with those of the network that their own sizes describe."""
    if "decoder.norm.weight" in state:
        raise FileFormatError(
            f"{path}: expected a post-norm network, as all published ones, found decoder.norm.weight, "
            f"which only networks trained with normalize_before have"
        )

    def shape(name: str, dimensions: int) -> Shape:
        if name not in state:
            raise FileFormatError(f"{path}: expected an AMES network, found no tensor {name!r}")
        found = tuple(state[name].shape)
        if len(found) != dimensions or 0 in found:
            expected = ", ".join("n" * dimensions)
            raise FileFormatError(f"{path}: {name}: expected shape [{expected}], found {list(found)}")
        return found

    (dim,) = shape("mtc_token", 1)
    binary = "remap_local.0.W" in state
    local_dim = shape("remap_local.0.W", 2)[0] if binary else shape("remap_local.0.weight", 2)[1]
    layers = 1 + max(
        (
            int(name.split(".")[2])
            for name in state
            if name.startswith("decoder.layers.") and name.split(".")[2].isdecimal()
        ),
        default=0,
    )
    feedforward = shape("decoder.layers.0.linear1.weight", 2)[0]
    expected = expected_shapes(local_dim, dim, min(layers, 1000), feedforward, binary=binary)
    for name, wanted in expected.items():
        found = shape(name, len(wanted))
        if found != wanted:
            raise FileFormatError(f"{path}: {name}: expected shape {list(wanted)}, found {list(found)}")
        if not state[name].is_floating_point():
            raise FileFormatError(f"{path}: {name}: expected floating point, found {state[name].dtype}")
        if not bool(state[name].isfinite().all()):
            raise FileFormatError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
    unknown = sorted(set(state) - set(expected))
    if unknown:
        raise FileFormatError(f"{path}: expected {len(expected)} tensors, found the unknown {unknown[0]!r}")
