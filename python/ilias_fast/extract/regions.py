"""Poolings that look at where a feature is: R-MAC and R-GeM, SPoC's centre prior, CroW.

Inputs are torch feature maps [B, C, h, w], outputs [B, C], not normalised; CroW and the regions are meant for
features after a ReLU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ilias_fast._extras import require
from ilias_fast.errors import ParameterError, ShapeError
from ilias_fast.extract.pooling import gem, mac

if TYPE_CHECKING:
    import torch

__all__ = ["crow", "region_grid", "rgem", "rmac", "spoc"]

_OVERLAP = 0.4
_UNIT = 1e-6  # added to a region's norm
_LEVELS = 3


def spoc(maps: torch.Tensor, *, centre_prior: bool = False) -> torch.Tensor:
    """Sum-pooled convolutional features (Babenko and Lempitsky, ICCV 2015).

    Args:
        maps: float [B, C, h, w].
        centre_prior: Weight positions by exp(-d^2 / (2 sigma^2)), d the distance from the centre and sigma a
            third of the distance from the centre to the nearest border, and sum; else the mean.
    """
    if not centre_prior:
        return maps.mean(dim=(2, 3))
    library = require("torch", "pool features")
    height, width = maps.shape[2:]
    rows, columns = (library.arange(side, device=maps.device) - (side - 1) / 2 for side in (height, width))
    sigma = min(height, width) / 2 / 3
    weights = library.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / (2 * sigma**2)).to(maps.dtype)
    pooled: torch.Tensor = (maps * weights).sum(dim=(2, 3))
    return pooled


def crow(maps: torch.Tensor, *, floor: float = 1e-6) -> torch.Tensor:
    """Cross-dimensional weighting (Kalantidis et al., ECCV Workshops 2016), a = b = 2.

    Args:
        maps: float [B, C, h, w], not negative.
        floor: The epsilon of the channel weights.
    """
    spread = maps.sum(dim=1, keepdim=True).clamp(min=0)
    norm = spread.pow(2).sum(dim=(2, 3), keepdim=True).sqrt().clamp(min=1e-12)
    spatial = (spread / norm).sqrt()
    share = (maps != 0).float().mean(dim=(2, 3))
    channels = ((maps.shape[1] * floor + share.sum(dim=1, keepdim=True)) / (floor + share)).log()
    pooled: torch.Tensor = (maps * spatial).sum(dim=(2, 3)) * channels
    return pooled


def rmac(maps: torch.Tensor, *, levels: int = _LEVELS, official: bool = False) -> torch.Tensor:
    """Regional maximum activations (Tolias et al., ICLR 2016): the sum of the unit maxima of regions.

    Args:
        maps: float [B, C, h, w].
        levels: Scales of regions.
        official: As the published extraction code has it: regions are not normalised, the whole map takes the
            place of the first level, and square maps get one more region along the height.

    Raises:
        ParameterError: `levels` is below 1.
    """
    return _regional(maps, mac, levels, official)


def rgem(
    maps: torch.Tensor, *, levels: int = _LEVELS, power: float = 3.0, official: bool = False
) -> torch.Tensor:
    """R-MAC with the generalised mean of each region in place of the maximum.

    Args:
        maps: float [B, C, h, w].
        levels: Scales of regions.
        power: Of the mean.
        official: As in `rmac`, and with the published generalised mean (`gem`).

    Raises:
        ParameterError: `levels` is below 1.
    """
    return _regional(maps, lambda region: gem(region, power=power, official=official), levels, official)


def region_grid(
    height: int, width: int, levels: int, *, official: bool = False
) -> list[tuple[int, int, int]]:
    """Return the square regions of a map, (top, left, side), level by level.

    On the long side so many regions are added that neighbours of the first level overlap by about 40%.

    Args:
        height: Of the map.
        width: Of the map.
        levels: Scales.
        official: No regions at the first level, and one more along the height of square maps.

    Raises:
        ShapeError: The map is empty.
    """
    if min(height, width) < 1:
        raise ShapeError(f"maps: expected at least one position, found {height} x {width}")
    short, long = min(height, width), max(height, width)
    steps = [(long - short) / (count - 1) for count in range(2, 8)]
    overlaps = [abs((short**2 - short * step) / short**2 - _OVERLAP) for step in steps]
    more = overlaps.index(min(overlaps)) + 1
    down = more if height > width or (official and height == width) else 0
    across = more if width > height else 0
    regions = []
    for level in range(2 if official else 1, levels + 1):
        side = 2 * short // (level + 1)
        if side == 0:
            continue
        half = side // 2 - 1
        starts = []
        for extent, count in ((height, level + down), (width, level + across)):
            step = (extent - side) / (count - 1) if count > 1 else 0.0
            starts.append([int((half + place * step) // 1) - half for place in range(count)])
        regions += [(top, left, side) for top in starts[0] for left in starts[1]]
    return regions


def _regional(
    maps: torch.Tensor, pool: Callable[[torch.Tensor], torch.Tensor], levels: int, official: bool
) -> torch.Tensor:
    if levels < 1:
        raise ParameterError(f"levels: expected at least 1, found {levels}")

    def pooled(region: torch.Tensor) -> torch.Tensor:
        vector = pool(region.flatten(2).transpose(1, 2))
        return vector if official else vector / (vector.norm(dim=1, keepdim=True) + _UNIT)

    total = pooled(maps)
    for top, left, side in region_grid(maps.shape[2], maps.shape[3], levels, official=official):
        total = total + pooled(maps[:, :, top : top + side, left : left + side])
    return total
