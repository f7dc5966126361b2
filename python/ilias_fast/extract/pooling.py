"""Pooling of a network's features into one descriptor. Inputs are torch tensors, batch first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ilias_fast import _arrays

if TYPE_CHECKING:
    import torch

__all__ = ["POOLINGS", "REGIONAL", "gap", "gem", "grid_of", "mac", "pool"]


def gap(features: torch.Tensor) -> torch.Tensor:
    """Average over positions; [B, positions, C] -> [B, C]."""
    return features.mean(dim=1)


def mac(features: torch.Tensor) -> torch.Tensor:
    """Take the maximum over positions; [B, positions, C] -> [B, C]."""
    return features.amax(dim=1)


def gem(
    features: torch.Tensor, *, power: float = 3.0, floor: float = 1e-6, official: bool = False
) -> torch.Tensor:
    """Generalised mean over positions (Radenovic et al., TPAMI 2019); [B, positions, C] -> [B, C].

    A channel with negative values is shifted to start at zero and its pooled value shifted back. For
    non-negative features this is plain GeM.

    Args:
        features: float [B, positions, C].
        power: Of the mean.
        floor: Values are at least this.
        official: Shift the other way, as the published extraction code does, which amplifies negative values.
    """
    lowest = features.amin(dim=1, keepdim=True).clamp(max=0)
    if official:
        lowest = -lowest
    mean = (features - lowest).clamp(min=floor).pow(power).mean(dim=1)
    return mean.pow(1 / power) + lowest.squeeze(1)


POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gap": gap, "gem": gem, "mac": mac}
"""Poolings over positions, by their names in the benchmark."""

REGIONAL = ("spoc", "spoc-centre", "rmac", "rgem", "crow")
"""Poolings that need the grid of the positions (`extract.regions`)."""


def pool(name: str, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pool the features of a batch of images.

    Args:
        name: One of `POOLINGS` or `REGIONAL`.
        features: float [B, positions, C], row by row.
        size: Height and width of the images, in pixels.

    Raises:
        ParameterError: There is no such pooling.
    """
    _arrays.choice("pooling", name, (*POOLINGS, *REGIONAL))
    if name in POOLINGS:
        return POOLINGS[name](features)
    from ilias_fast.extract import regions

    count, positions, channels = features.shape
    maps = features.transpose(1, 2).reshape(count, channels, *grid_of(positions, size))
    if name.startswith("spoc"):
        return regions.spoc(maps, centre_prior=name == "spoc-centre")
    chosen: Callable[[torch.Tensor], torch.Tensor] = getattr(regions, name)
    return chosen(maps)


def grid_of(positions: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of the positions of an image: the factors nearest to its shape.

    Args:
        positions: How many.
        size: Height and width of the image.
    """
    height, width = size
    factors = [rows for rows in range(1, positions + 1) if positions % rows == 0]
    rows = min(factors, key=lambda rows: abs(math.log(rows * rows * width / (positions * height))))
    return rows, positions // rows
