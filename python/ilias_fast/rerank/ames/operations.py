"""Linear layers and attention of AMES, by the fastest kernel of the device.

On a CPU, oneDNN's linear layers reach twice what torch's own do (`_onednn`), and attention in bfloat16, one
pair at a time, keeps the matrix of weights in the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ilias_fast._extras import require
from ilias_fast._onednn import linear_layer

if TYPE_CHECKING:
    import torch

__all__ = ["Linear", "Norm", "attend", "linear", "normalise", "split", "split_heads"]


class Linear(NamedTuple):
    """y = x W^T + b: weight [out, in], bias [out]."""

    weight: torch.Tensor
    bias: torch.Tensor


class Norm(NamedTuple):
    """Layer normalisation over the last dimension: weight and bias [d]."""

    weight: torch.Tensor
    bias: torch.Tensor


def linear(x: torch.Tensor, layer: Linear, *, relu: bool = False) -> torch.Tensor:
    """Apply a linear layer to [..., in], and ReLU if asked for."""
    library = require("torch", "run AMES")
    fast = linear_layer("run AMES") if x.device.type == "cpu" else None
    if fast is not None and x.dtype in (library.float32, library.bfloat16):
        return fast(x, layer.weight, layer.bias, relu)
    done: torch.Tensor = library.nn.functional.linear(x, layer.weight, layer.bias)
    return done.relu_() if relu else done


def normalise(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Layer normalisation with epsilon 1e-5."""
    library = require("torch", "run AMES")
    done: torch.Tensor = library.nn.functional.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, 1e-5)
    return done


def split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """View [..., d] as [..., heads, d / heads]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """View [g, n, d] as [g, heads, n, d / heads]."""
    return split(x, heads).transpose(1, 2)


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scaled dot-product attention; queries are scaled already.

    Args:
        queries: [g, n, d].
        keys: [g, m, d].
        values: [g, m, d].
        heads: Attention heads.
        mask: bool [g, m], True where a key counts; None if all do.

    Returns:
        [g, n, d].
    """
    library = require("torch", "run AMES")
    q, k, v = (split_heads(x, heads) for x in (queries, keys, values))
    where = None if mask is None else mask[:, None, None, :]
    if queries.device.type != "cpu" or queries.dtype != library.bfloat16 or queries.shape[1] == 1:
        found = library.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=where, scale=1.0)
        done: torch.Tensor = found.transpose(1, 2).flatten(2)
        return done
    # bfloat16 on a CPU: two oneDNN products a pair beat torch's fused kernel by a factor of three.
    result = queries.new_empty(queries.shape)
    for pair in range(len(q)):
        scores = q[pair] @ k[pair].transpose(1, 2)
        if where is not None:
            scores = scores.masked_fill_(~where[pair], -library.inf)
        weights = library.softmax(scores, -1)
        result[pair] = (weights @ v[pair]).transpose(0, 1).flatten(1)
    return result
