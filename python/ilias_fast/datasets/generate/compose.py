"""Putting sprites into scenes: the view of an object, its pixels, its shadow, small things around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilias_fast.datasets.generate.drawing import Colour, Image, Mask, Point, cv, ellipse_points, mix
from ilias_fast.datasets.generate.motifs import Motif, draw_motif, make_motif
from ilias_fast.datasets.generate.palettes import METALS, PALETTES
from ilias_fast.datasets.generate.sprites import Sprite

__all__ = ["Patch", "View", "bounds", "paste", "project", "render", "scatter_bits", "view_matrix"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class View:
    """How an object is seen: turned in the plane by `angle`, tilted about both axes (radians)."""

    angle: float
    tilt_x: float = 0.0
    tilt_y: float = 0.0


def view_matrix(sprite: Sprite, view: View, centre: Point, scale: float) -> NDArray[np.float64]:
    """Homography [3, 3] from sprite pixels to image pixels.

    The sprite is a plane seen by a pinhole camera three half-diagonals away, its middle at `centre`, one
    sprite pixel about `scale` image pixels.
    """
    width, height = sprite.size
    half = np.hypot(width, height) / 2
    to_plane = np.array([[1 / half, 0, -width / 2 / half], [0, 1 / half, -height / 2 / half], [0, 0, 1]])
    c, s = np.cos(view.angle), np.sin(view.angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    cx, sx, cy, sy = np.cos(view.tilt_x), np.sin(view.tilt_x), np.cos(view.tilt_y), np.sin(view.tilt_y)
    tilt = np.array([[cy, 0, 0], [sx * sy, cx, 0], [-cx * sy / 3, sx / 3, 1]])
    to_image = np.array([[scale * half, 0, centre[0]], [0, scale * half, centre[1]], [0, 0, 1]])
    matrix: NDArray[np.float64] = to_image @ tilt @ turn @ to_plane
    return matrix


def project(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map [n, 2] points through a homography."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    flat: NDArray[np.float64] = mapped[:, :2] / mapped[:, 2:]
    return flat


def bounds(points: NDArray[np.float64]) -> Box:
    """Smallest upright box x0, y0, x1, y1 around points."""
    x0, y0 = points.min(axis=0)
    x1, y1 = points.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


@dataclass(frozen=True)
class Patch:
    """A rendered object: premultiplied RGBA pixels and where their upper left corner goes."""

    rgba: Image
    x: int
    y: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the image the patch covers."""
        height, width = self.rgba.shape[:2]
        return slice(self.y, self.y + height), slice(self.x, self.x + width)

    @property
    def coverage(self) -> Mask:
        """The alpha channel."""
        alpha: Mask = self.rgba[..., 3]
        return alpha


def render(sprite: Sprite, matrix: NDArray[np.float64], width: int, height: int, margin: int) -> Patch | None:
    """Draw a sprite as a patch of a width x height image, with `margin` pixels around for its shadow.

    Returns None when nothing of it falls into the image.
    """
    box = bounds(project(matrix, sprite.outline))
    x0, y0 = max(0, int(box[0]) - margin), max(0, int(box[1]) - margin)
    x1, y1 = min(width, int(box[2]) + margin + 2), min(height, int(box[3]) + margin + 2)
    if x1 - x0 < 3 or y1 - y0 < 3:
        return None
    across = max(box[2] - box[0], box[3] - box[1]) / max(sprite.size)
    k = int(np.clip(np.floor(np.log2(1 / max(across, 1e-6)) + 0.25), 0, len(sprite.levels) - 1))
    shift = np.array([[1, 0, -x0 - 0.5], [0, 1, -y0 - 0.5], [0, 0, 1]])
    grow = np.array([[2.0**k, 0, 2.0 ** (k - 1)], [0, 2.0**k, 2.0 ** (k - 1)], [0, 0, 1]])
    rgba = cv().warpPerspective(
        sprite.levels[k], shift @ matrix @ grow, (x1 - x0, y1 - y0), flags=cv().INTER_LINEAR
    )
    return Patch(rgba, x0, y0)


def paste(
    image: Image, patch: Patch, *, shadow: float = 0.45, reach: int = 4, offset: tuple[int, int] = (2, 3)
) -> None:
    """Lay a patch over the image, darkening the ground around it first."""
    view = image[patch.window]
    alpha = patch.coverage
    if shadow > 0:
        size = 2 * reach + 1
        dark = cv().blur(alpha, (size, size), borderType=cv().BORDER_CONSTANT)
        dx, dy = offset
        moved = np.zeros_like(dark)
        moved[dy:, dx:] = dark[: dark.shape[0] - dy, : dark.shape[1] - dx]
        keep = 255 - cv().multiply(moved, shadow)
        cv().multiply(view, cv().merge([keep, keep, keep]), view, scale=1 / 255)
    rest = 255 - alpha
    under = cv().multiply(view, cv().merge([rest, rest, rest]), scale=1 / 255)
    cv().add(under, np.ascontiguousarray(patch.rgba[..., :3]), view)


def _round(x: float, y: float, rx: float, ry: float) -> NDArray[np.float64]:
    return ellipse_points((x, y), (rx, ry), n=16)


def _box(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float64]:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


_BITS: tuple[Motif, ...] = (
    [
        (_box(-1, -0.12, 0.7, 0.12), 0),
        (_box(-1, -0.04, 0.7, 0.04), 1),
        (np.array([(0.7, -0.12), (1, 0), (0.7, 0.12)]), 1),
        (_box(-1, -0.12, -0.85, 0.12), 2),
    ],
    [
        (_round(0, 0, 0.6, 0.6), 0),
        (_round(0, 0, 0.45, 0.45), 1),
        *((_round(x, y, 0.09, 0.09), 2) for x in (-0.15, 0.15) for y in (-0.15, 0.15)),
    ],
    [
        (_box(-0.9, -0.45, 0.9, 0.45), 0),
        *((_round(x, y, 0.16, 0.16), 1) for x in (-0.65, -0.22, 0.22, 0.65) for y in (-0.22, 0.22)),
    ],
    [
        (_box(-0.5, -0.5, 0.5, 0.5), 0),
        *(
            (_round(x, y, 0.1, 0.1), 2)
            for x, y in ((-0.27, -0.27), (0.27, 0.27), (0, 0), (-0.27, 0.27), (0.27, -0.27))
        ),
    ],
    [
        (ellipse_points((0, 0), (0.62, 0.62), n=18) * np.tile([[1.0], [0.88]], (9, 1)), 0),
        (_round(0, 0, 0.44, 0.44), 1),
        (_round(-0.08, -0.08, 0.2, 0.2), 0),
    ],
    [
        (np.array([(-1, -0.4), (-0.5, 0), (-1, 0.4)]), 1),
        (np.array([(1, -0.4), (0.5, 0), (1, 0.4)]), 1),
        (_round(0, 0, 0.58, 0.4), 0),
        (_box(-0.2, -0.38, -0.08, 0.38), 2),
        (_box(0.08, -0.38, 0.2, 0.38), 2),
    ],
    [
        (_box(-0.8, -0.55, 0.8, 0.55), 0),
        (_box(-0.6, -0.35, 0.3, -0.25), 2),
        (_box(-0.6, -0.1, 0.5, 0.0), 2),
        (_box(-0.6, 0.15, 0.1, 0.25), 2),
    ],
    [
        (_round(0, 0, 0.55, 0.55), 2),
        (_round(-0.04, -0.04, 0.5, 0.5), 0),
        (_round(-0.18, -0.2, 0.16, 0.12), 1),
    ],
)
"""Pencil, button, brick, die, bottle cap, sweet, paper slip, ball."""


def scatter_bits(
    image: Image, rng: np.random.Generator, number: int, radius: tuple[float, float] = (9.0, 24.0)
) -> NDArray[np.float64]:
    """Strew small everyday things over an image; return their centres [number, 2]."""
    height, width = image.shape[:2]
    metals = [tones[1] for tones in METALS.values()]
    centres = rng.uniform((0, 0), (width, height), (number, 2))
    for centre in centres:
        kind = int(rng.integers(len(_BITS) + 1))
        motif = make_motif("leaf", rng) if kind == len(_BITS) else _BITS[kind]
        palette = PALETTES[int(rng.integers(len(PALETTES)))]
        main: Colour = palette.three[int(rng.integers(3))]
        if kind == 4 and rng.random() < 0.5:
            main = metals[int(rng.integers(len(metals)))]
        size, angle = rng.uniform(*radius), rng.uniform(0, 2 * np.pi)
        y, x = min(height - 1, int(centre[1])), min(width - 1, int(centre[0]))
        r, g, b = (int(channel * 0.45) for channel in image[y, x])
        draw_motif(image, motif, centre + np.array([2.0, 3.0]), size, ((r, g, b),) * 3, angle=angle)
        draw_motif(
            image, motif, centre, size, (main, mix(main, palette.paper, 0.6), palette.ink), angle=angle
        )
    return centres
