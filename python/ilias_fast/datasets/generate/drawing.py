"""Drawing primitives on uint8 RGB images [H, W, 3]: shapes, text, patterns, soft noise, relief.

Everything is a pure function of its arguments and of the generator passed in, so the same seed draws the same
pixels on any number of threads. Coordinates are (x, y) in pixels, y downwards, sub-pixel where it matters.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast._extras import require

__all__ = [
    "PATTERNS",
    "Colour",
    "Image",
    "Mask",
    "Point",
    "cv",
    "disc",
    "ellipse_points",
    "fractal",
    "gradient",
    "lay",
    "mix",
    "paragraph",
    "pattern",
    "rectangle",
    "relief",
    "ring",
    "rounded_mask",
    "shade",
    "shape",
    "stroke",
    "text",
    "text_on_circle",
]

Colour = tuple[int, int, int]
Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Point = Sequence[float] | NDArray[Any]
"""x, y."""

_SUBPIXEL = 4  # fractional bits of the coordinates given to OpenCV


@functools.cache
def cv() -> ModuleType:
    """OpenCV, imported when the first picture is drawn."""
    return require("cv2", "draw the demo benchmark")


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours; `share` of the second."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(first, second, strict=True))
    return (r, g, b)


def _fixed(points: ArrayLike) -> NDArray[np.int32]:
    return np.rint(np.asarray(points, dtype=np.float64) * (1 << _SUBPIXEL)).astype(np.int32)


def shape(image: Image, points: ArrayLike, colour: Colour | int) -> None:
    """Fill a polygon given by its [n, 2] corners."""
    cv().fillPoly(image, [_fixed(points)], colour, cv().LINE_AA, _SUBPIXEL)


def stroke(
    image: Image, points: ArrayLike, colour: Colour | int, width: int = 1, closed: bool = False
) -> None:
    """Draw a line through [n, 2] points."""
    cv().polylines(image, [_fixed(points)], closed, colour, max(1, width), cv().LINE_AA, _SUBPIXEL)


def disc(image: Image, centre: Point, radius: float, colour: Colour | int) -> None:
    """Fill a circle."""
    x, y = _fixed(centre).tolist()
    cv().circle(image, (x, y), round(radius * (1 << _SUBPIXEL)), colour, -1, cv().LINE_AA, _SUBPIXEL)


def ring(image: Image, centre: Point, radius: float, colour: Colour | int, width: int = 2) -> None:
    """Draw a circle's outline."""
    x, y = _fixed(centre).tolist()
    cv().circle(
        image, (x, y), round(radius * (1 << _SUBPIXEL)), colour, max(1, width), cv().LINE_AA, _SUBPIXEL
    )


def rectangle(image: Image, box: Sequence[float], colour: Colour | int, width: int = -1) -> None:
    """Fill (or outline, with a positive `width`) the rectangle x0, y0, x1, y1."""
    x0, y0, x1, y1 = (round(v) for v in box)
    cv().rectangle(image, (x0, y0), (x1, y1), colour, width)


def ellipse_points(
    centre: Point,
    radii: Point,
    angle: float = 0.0,
    n: int = 28,
    start: float = 0.0,
    stop: float = 1.0,
) -> NDArray[np.float64]:
    """Corners [n, 2] of an ellipse, or of the arc from `start` to `stop` turns."""
    t = np.linspace(2 * np.pi * start, 2 * np.pi * stop, n, endpoint=stop - start < 1.0)
    x, y = radii[0] * np.cos(t), radii[1] * np.sin(t)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], axis=1)


def rounded_mask(height: int, width: int, box: Sequence[float], radius: float) -> Mask:
    """Coverage 0..255 of a rectangle with rounded corners."""
    x0, y0, x1, y1 = box
    corners = [
        (x1 - radius, y1 - radius),
        (x0 + radius, y1 - radius),
        (x0 + radius, y0 + radius),
        (x1 - radius, y0 + radius),
    ]
    points = [
        ellipse_points(corner, (radius, radius), n=10, start=quarter / 4, stop=quarter / 4 + 0.25)
        for quarter, corner in enumerate(corners)
    ]
    mask = np.zeros((height, width), np.uint8)
    shape(mask, np.concatenate(points), 255)
    return mask


_FONTS = ("DUPLEX", "TRIPLEX", "COMPLEX", "SIMPLEX", "SCRIPT_COMPLEX")


def text(
    image: Image,
    words: str,
    centre: Point,
    width: float,
    colour: Colour | int,
    *,
    font: int = 0,
    weight: float = 1.0,
    height: float = 1e9,
) -> float:
    """Write one line centred at a point, as large as `width` x `height` allows; return its height."""
    face = getattr(cv(), f"FONT_HERSHEY_{_FONTS[font % len(_FONTS)]}")
    (w0, h0), _ = cv().getTextSize(words, face, 1.0, 1)
    scale = min(width / max(w0, 1), height / max(h0, 1))
    thickness = max(1, round(scale * 1.6 * weight))
    (wide, high), _ = cv().getTextSize(words, face, scale, thickness)  # heavier strokes may widen the letters
    scale *= min(1.0, width / max(wide, 1), height / max(high, 1))
    (w0, h0), _ = cv().getTextSize(words, face, 1.0, thickness)
    origin = (round(centre[0] - w0 * scale / 2), round(centre[1] + h0 * scale / 2))
    cv().putText(image, words, origin, face, scale, colour, thickness, cv().LINE_AA)
    return float(h0 * scale)


def text_on_circle(
    image: Image,
    words: str,
    centre: Point,
    radius: float,
    size: float,
    colour: int,
    *,
    below: bool = False,
) -> None:
    """Write letters along a circle on a single-channel image, over the top or (`below`) under the bottom."""
    step = size * 0.95 / radius
    for i, letter in enumerate(words):
        if letter == " ":
            continue
        offset = (i - (len(words) - 1) / 2) * step
        angle = np.pi / 2 - offset if below else -np.pi / 2 + offset
        side = int(size * 1.8)
        tile = np.zeros((side, side), np.uint8)
        text(tile, letter, (side / 2, side / 2), size, colour, height=size * 0.8, weight=1.6)
        turn = -np.degrees(angle) + 90 if below else -np.degrees(angle) - 90
        matrix = cv().getRotationMatrix2D((side / 2, side / 2), turn, 1.0)
        tile = cv().warpAffine(tile, matrix, (side, side))
        x = int(centre[0] + radius * np.cos(angle) - side / 2)
        y = int(centre[1] + radius * np.sin(angle) - side / 2)
        if x < 0 or y < 0 or x + side > image.shape[1] or y + side > image.shape[0]:
            continue
        view = image[y : y + side, x : x + side]
        np.maximum(view, tile, out=view)


def paragraph(image: Image, words: Sequence[str], box: Sequence[float], lines: int, colour: Colour) -> None:
    """Fill a box with `lines` lines of small print."""
    x0, y0, x1, y1 = box
    pitch = (y1 - y0) / lines
    per_line = max(1, -(-len(words) // lines))
    for i in range(lines):
        line = " ".join(words[i * per_line : (i + 1) * per_line])
        if line:
            text(
                image,
                line,
                ((x0 + x1) / 2, y0 + pitch * (i + 0.5)),
                x1 - x0,
                colour,
                font=3,
                height=pitch * 0.62,
            )


def lay(image: Image, part: Image, x: float, y: float) -> None:
    """Copy a smaller picture into an image, its upper left corner at x, y; it must fit."""
    height, width = part.shape[:2]
    image[int(y) : int(y) + height, int(x) : int(x) + width] = part


def gradient(height: int, width: int, top: Colour, bottom: Colour, angle: float = np.pi / 2) -> Image:
    """Blend two colours across the image along a direction (downwards by default)."""
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    share = np.clip((x + y) / np.float32(abs(np.cos(angle)) + abs(np.sin(angle))) + 0.5, 0, 1)[..., None]
    first = np.asarray(top, np.float32)
    return (first + share * (np.asarray(bottom, np.float32) - first)).astype(np.uint8)


def fractal(
    rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 4, stretch: float = 1.0
) -> NDArray[np.float32]:
    """Smooth noise [H, W] of unit range about 0: octaves of interpolated random grids.

    `cell` is the size in pixels of the coarsest blobs, `stretch` widens them horizontally (wood grain).
    """
    total = np.zeros((height, width), np.float32)
    amplitude, norm = 1.0, 0.0
    for _ in range(octaves):
        rows = int(np.ceil(height / cell)) + 2
        columns = int(np.ceil(width / (cell * stretch))) + 2
        grid = rng.random((rows, columns), dtype=np.float32) - np.float32(0.5)
        total += np.float32(amplitude) * cv().resize(grid, (width, height), interpolation=cv().INTER_CUBIC)
        norm += amplitude
        amplitude *= 0.55
        cell = max(cell / 2, 1.5)
    return total / np.float32(norm)


def shade(image: Image, factor: NDArray[np.float32]) -> Image:
    """Multiply every pixel by a [H, W] factor, saturating."""
    three = cv().merge([factor, factor, factor])
    shaded: Image = cv().multiply(image, three, dtype=cv().CV_8U)
    return shaded


def relief(height: NDArray[np.float32] | Mask, depth: float, blur: float = 1.0) -> NDArray[np.float32]:
    """Brightness factor of a surface lit from the upper left, from its height map."""
    smooth = cv().GaussianBlur(height.astype(np.float32), (0, 0), blur)
    slope = cv().Sobel(smooth, cv().CV_32F, 1, 0) + cv().Sobel(smooth, cv().CV_32F, 0, 1)
    factor: NDArray[np.float32] = np.clip(1.0 + np.float32(depth) * slope, 0.35, 1.75).astype(np.float32)
    return factor


PATTERNS = (
    "stripes",
    "diagonals",
    "dots",
    "checks",
    "zigzags",
    "triangles",
    "scales",
    "diamonds",
    "gingham",
    "rings",
)


def pattern(kind: str, height: int, width: int, cell: float, colours: Sequence[Colour]) -> Image:
    """Repeat a motif of `cell` pixels over an image, in up to three colours; kinds are in `PATTERNS`."""
    x = np.arange(width, dtype=np.float32)[None, :] / np.float32(cell)
    y = np.arange(height, dtype=np.float32)[:, None] / np.float32(cell)
    u, v = x - np.floor(x), y - np.floor(y)
    odd = (np.floor(x) + np.floor(y)) % 2
    if kind == "stripes":
        labels = np.where(u < 0.5, 0, np.where(u < 0.65, 2, 1)) + 0 * y
    elif kind == "diagonals":
        d = (x + y) % 1.0
        labels = np.where(d < 0.5, 0, np.where(d < 0.62, 2, 1))
    elif kind == "dots":
        r = np.hypot(u - 0.5, v - 0.5)
        labels = np.where(r < 0.3, 1 + odd, 0)
    elif kind == "checks":
        labels = odd + np.where(np.maximum(abs(u - 0.5), abs(v - 0.5)) < 0.16, 2 - odd, 0)
    elif kind == "zigzags":
        d = (y + abs(u - 0.5)) % 1.0
        labels = np.where(d < 0.4, 0, np.where(d < 0.8, 1, 2))
    elif kind == "triangles":
        labels = np.where(abs(u - 0.5) * 2 < v, 1 + odd, 0)
    elif kind == "scales":
        shifted = (x + 0.5 * (np.floor(2 * y) % 2)) % 1.0
        r = np.hypot(shifted - 0.5, (2 * y) % 1.0 * 0.5)
        labels = np.where(r < 0.3, 0, np.where(r < 0.45, 1, 2))
    elif kind == "diamonds":
        r = abs(u - 0.5) + abs(v - 0.5)
        labels = np.where(r < 0.22, 2, np.where(r < 0.42, 1, 0))
    elif kind == "gingham":
        labels = (u < 0.5).astype(np.int64) + (v < 0.5)
    else:
        r = np.hypot(u - 0.5, v - 0.5)
        labels = np.where((r * 5).astype(np.int64) % 2 == 1, 1 + odd, 0)
    table = np.asarray([colours[i % len(colours)] for i in range(3)], np.uint8)
    drawn: Image = cv().GaussianBlur(table[labels.astype(np.intp) % 3], (3, 3), 0)
    return drawn
