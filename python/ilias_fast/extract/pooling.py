"""Pooling of a network's features into one descriptor. Inputs are torch tensors, batch first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ilias_fast.errors import ParameterError

if TYPE_CHECKING:
    import torch

__all__ = ["POOLINGS", "gap", "gem", "mac", "pooling"]


def gap(features: torch.Tensor) -> torch.Tensor:
    """Average over positions; [B, positions, C] -> [B, C]."""
    return features.mean(dim=1)


def mac(features: torch.Tensor) -> torch.Tensor:
    """Take the maximum over positions; [B, positions, C] -> [B, C]."""
    return features.amax(dim=1)


def gem(features: torch.Tensor, *, power: float = 3.0, floor: float = 1e-6) -> torch.Tensor:
    """Generalised mean over positions (Radenovic et al., TPAMI 2019); [B, positions, C] -> [B, C].

    A channel with negative values is shifted to start at zero and its pooled value shifted back. (The
    published extraction code shifts the wrong way, which amplifies negative values; for non-negative
    features both are plain GeM.)
    """
    lowest = features.amin(dim=1, keepdim=True).clamp(max=0)
    mean = (features - lowest).clamp(min=floor).pow(power).mean(dim=1)
    return mean.pow(1 / power) + lowest.squeeze(1)


POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gap": gap, "gem": gem, "mac": mac}
"""Poolings over positions, by their names in the benchmark."""


def pooling(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a pooling over positions by name.

    Raises:
        ParameterError: There is no such pooling.
    """
    try:
        return POOLINGS[name]
    except KeyError:
        known = ", ".join(["head", "cls", *POOLINGS])
        raise ParameterError(f"pooling: expected one of {known}, found {name!r}") from None
