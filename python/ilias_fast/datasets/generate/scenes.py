"""Backgrounds for the photographs: plain ones for queries, busy ones for the database.

A scene is an image and the centres of its segments (planks, tiles, windows, leaves ...), which the clutter
number of a positive counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ilias_fast.datasets.generate import words
from ilias_fast.datasets.generate.drawing import (
    PATTERNS,
    Colour,
    Image,
    cv,
    disc,
    ellipse_points,
    fractal,
    gradient,
    mix,
    pattern,
    rectangle,
    relief,
    shade,
    shape,
    stroke,
    text,
)
from ilias_fast.datasets.generate.palettes import PALETTES

__all__ = ["SCENES", "Scene", "busy_scene", "plain_scene"]


@dataclass(frozen=True)
class Scene:
    """A background [H, W, 3] and the centres [n, 2] of what can be told apart in it."""

    image: Image
    segments: NDArray[np.float64]


def _scene(image: Image, segments: list[tuple[float, float]]) -> Scene:
    return Scene(image, np.asarray(segments, np.float64).reshape(-1, 2))


def _tone(rng: np.random.Generator, *choices: Colour) -> Colour:
    base = choices[int(rng.integers(len(choices)))]
    r, g, b = (int(np.clip(channel + rng.integers(-14, 15), 0, 255)) for channel in base)
    return (r, g, b)


def _any_colour(rng: np.random.Generator) -> Colour:
    return PALETTES[int(rng.integers(len(PALETTES)))].colours[int(rng.integers(5))]


def _filled(height: int, width: int, colour: Colour) -> Image:
    image = np.empty((height, width, 3), np.uint8)
    image[:] = colour
    return image


def _wood(rng: np.random.Generator, h: int, w: int) -> Scene:
    base = _tone(rng, (150, 104, 62), (190, 150, 104), (96, 64, 44), (208, 186, 152), (120, 116, 110))
    image = _filled(h, w, base)
    upright = rng.random() < 0.5
    side, length = (w, h) if upright else (h, w)
    n = int(rng.integers(4, 9))
    edges = np.linspace(0, side, n + 1) + np.append(rng.uniform(-6, 6, n), 0)
    factor = np.ones((side, length), np.float32)
    segments = []
    for a, b in pairwise(edges):
        i, j = max(0, int(a)), int(b)
        grain = fractal(rng, max(2, j - i), length, 18, 3, 9.0)
        rings = np.sin(grain * rng.uniform(14, 26)) * 0.07
        factor[i:j] = rng.uniform(0.82, 1.12) * (1 + rings[: j - i] + 0.12 * grain[: j - i])
        factor[i : i + 2] *= 0.45
        cut = int(rng.uniform(0.1, 0.9) * length)
        factor[i:j, cut : cut + 2] *= 0.6
        for at in (cut / 2, (cut + length) / 2):
            centre = ((a + b) / 2, at)
            segments.append(centre if upright else (centre[1], centre[0]))
    return _scene(shade(image, np.ascontiguousarray(factor.T) if upright else factor), segments)


def _stone(rng: np.random.Generator, h: int, w: int) -> Scene:
    base = _tone(rng, (158, 154, 148), (196, 190, 182), (110, 112, 118), (178, 164, 146))
    noise = fractal(rng, h, w, 90, 6)
    veins = np.abs(fractal(rng, h, w, 140, 4))
    factor = 1 + 0.5 * noise - 0.35 * np.exp(-((veins / 0.012) ** 2))
    return _scene(shade(_filled(h, w, base), factor.astype(np.float32)), [])


def _fabric(rng: np.random.Generator, h: int, w: int) -> Scene:
    palette = PALETTES[int(rng.integers(len(PALETTES)))]
    first, second, third = palette.three
    soft = [mix(colour, palette.paper, rng.uniform(0.2, 0.6)) for colour in (first, second, third)]
    kind = PATTERNS[int(rng.integers(len(PATTERNS)))]
    cell = float(rng.uniform(24, 70))
    image = pattern(kind, h, w, cell, soft)
    folds = 1 + 0.4 * fractal(rng, h, w, 260, 2) + 0.12 * fractal(rng, h, w, 3, 1)
    segments = [(x, y) for x in np.arange(cell, w, 2 * cell) for y in np.arange(cell, h, 2 * cell)]
    return _scene(shade(image, folds.astype(np.float32)), segments[:24])


def _foliage(rng: np.random.Generator, h: int, w: int) -> Scene:
    image = shade(_filled(h, w, (34, 52, 30)), 1 + fractal(rng, h, w, 60, 4))
    lush = _tone(rng, (60, 110, 46), (92, 130, 50), (44, 96, 70), (150, 120, 50))
    segments = []
    n = int(rng.integers(130, 220))
    xs, ys = rng.uniform(-20, w + 20, n), rng.uniform(-20, h + 20, n)
    sizes, turns, tints = rng.uniform(18, 46, n), rng.uniform(0, 2 * np.pi, n), rng.uniform(-0.4, 0.45, n)
    t = np.linspace(0, np.pi, 7)
    blade = np.concatenate(
        [np.stack([np.cos(t), 0.34 * np.sin(t)], 1), np.stack([-np.cos(t), -0.34 * np.sin(t)], 1)]
    )
    for i in range(n):
        c, s = np.cos(turns[i]) * sizes[i], np.sin(turns[i]) * sizes[i]
        colour = (
            mix(lush, (16, 30, 16), -tints[i])
            if tints[i] < 0
            else mix(lush, (214, 226, 140), tints[i] * i / n)
        )
        centre = np.array([xs[i], ys[i]])
        shape(image, blade @ np.array([[c, s], [-s, c]]) + centre, colour)
        rib = np.array([c, s])
        stroke(image, [centre - rib * 0.9, centre + rib * 0.9], mix(colour, (230, 240, 190), 0.25))
        if i > n * 0.75:
            segments.append((xs[i], ys[i]))
    return _scene(image, segments)


def _tiles(rng: np.random.Generator, h: int, w: int) -> Scene:
    base, grout = _any_colour(rng), _tone(rng, (206, 202, 196), (120, 118, 114), (240, 238, 232))
    other = mix(base, _any_colour(rng), 0.5)
    size = float(rng.uniform(48, 110))
    image = _filled(h, w, grout)
    offset = rng.uniform(0, size, 2)
    brick = rng.random() < 0.4
    segments = []
    for row in range(-1, int(h / size) + 2):
        for column in range(-1, int(w / size) + 2):
            x = column * size + offset[0] - size + (size / 2 if brick and row % 2 else 0)
            y = row * size + offset[1] - size
            colour = mix(
                mix(base, other, float((row + column) % 2)), (255, 255, 255), float(rng.uniform(0, 0.14))
            )
            rectangle(image, (x + 2, y + 2, x + size - 2, y + size - 2), colour)
            segments.append((x + size / 2, y + size / 2))
    grey = cv().cvtColor(image, cv().COLOR_RGB2GRAY)
    factor = relief(grey, 0.0014, 1.0) * (1 + 0.16 * fractal(rng, h, w, 50, 4))
    return _scene(shade(image, factor), segments)


def _bokeh(rng: np.random.Generator, h: int, w: int) -> Scene:
    image = gradient(h, w, _any_colour(rng), _any_colour(rng), rng.uniform(0, 2 * np.pi))
    for _ in range(int(rng.integers(14, 34))):
        at, r = (rng.uniform(0, w), rng.uniform(0, h)), rng.uniform(12, 52)
        halo = image.copy()
        disc(halo, at, r, mix(_any_colour(rng), (255, 240, 210), 0.4))
        image = cv().addWeighted(image, 0.6, halo, 0.4, 0)
    return _scene(cv().GaussianBlur(image, (0, 0), float(rng.uniform(4, 9))), [])


def _facade(rng: np.random.Generator, h: int, w: int) -> Scene:
    wall = _tone(rng, (196, 176, 148), (170, 96, 76), (206, 204, 200), (148, 160, 170), (222, 196, 130))
    image = shade(_filled(h, w, wall), 1 + 0.3 * fractal(rng, h, w, 40, 5))
    columns, rows = int(rng.integers(3, 7)), int(rng.integers(2, 6))
    dw, dh = w / columns, h / rows
    frame = _tone(rng, (244, 240, 232), (70, 52, 42), (52, 76, 84))
    arch, awning = rng.random() < 0.35, rng.random() < 0.35
    segments = []
    for row in range(rows):
        rectangle(image, (0, row * dh, w, row * dh + 4), mix(wall, (255, 255, 255), 0.3))
        for column in range(columns):
            x, y = column * dw + dw * 0.22, row * dh + dh * 0.24
            ww, wh = dw * 0.56, dh * 0.6
            glass = mix((52, 70, 92), (186, 206, 222), float(rng.random()))
            if arch:
                disc(image, (x + ww / 2, y + 2), ww / 2 + 3, frame)
                disc(image, (x + ww / 2, y + 2), ww / 2 - 2, glass)
            rectangle(image, (x - 4, y - 4, x + ww + 4, y + wh + 4), frame)
            rectangle(image, (x, y, x + ww, y + wh), glass)
            if rng.random() < 0.5:
                rectangle(
                    image, (x, y, x + ww * rng.uniform(0.2, 0.5), y + wh), mix(_any_colour(rng), glass, 0.4)
                )
            rectangle(image, (x + ww / 2 - 2, y, x + ww / 2 + 2, y + wh), frame)
            rectangle(image, (x, y + wh * 0.4, x + ww, y + wh * 0.4 + 3), frame)
            rectangle(image, (x - 8, y + wh + 4, x + ww + 8, y + wh + 10), mix(frame, (60, 60, 60), 0.25))
            if awning:
                strip = pattern(
                    "stripes",
                    max(6, int(dh * 0.14)),
                    max(8, int(ww + 12)),
                    ww / 5,
                    (_any_colour(rng), (246, 244, 238), (246, 244, 238)),
                )
                top, left = int(y) - 8, int(x) - 6
                view = image[max(0, top) : top + strip.shape[0], max(0, left) : left + strip.shape[1]]
                view[:] = strip[: view.shape[0], : view.shape[1]]
            segments += [(x + ww * 0.25, y + wh * 0.5), (x + ww * 0.75, y + wh * 0.5)]
    return _scene(image, segments)


def _shelf(rng: np.random.Generator, h: int, w: int) -> Scene:
    board = _tone(rng, (122, 82, 50), (226, 222, 214), (70, 54, 46))
    image = _filled(h, w, mix(board, (20, 16, 12), 0.6))
    rows = int(rng.integers(2, 4))
    pitch = h / rows
    segments = []
    for row in range(rows):
        floor = (row + 1) * pitch - 12
        x = rng.uniform(-20, 4)
        while x < w:
            thick, tall = rng.uniform(14, 40), pitch * rng.uniform(0.6, 0.88)
            colour = _any_colour(rng)
            rectangle(image, (x, floor - tall, x + thick, floor), colour)
            rectangle(image, (x, floor - tall, x + 2, floor), mix(colour, (0, 0, 0), 0.45))
            for share in (0.12, 0.86):
                rectangle(
                    image,
                    (x + 3, floor - tall * share, x + thick - 2, floor - tall * share + 4),
                    mix(colour, (250, 240, 200), 0.7),
                )
            if thick > 22:
                label = np.zeros((int(thick * 0.5), int(tall * 0.6), 3), np.uint8)
                label[:] = colour
                text(
                    label,
                    " ".join(words.title(rng)),
                    (label.shape[1] / 2, label.shape[0] / 2),
                    label.shape[1] * 0.95,
                    mix(colour, (255, 250, 230), 0.8),
                    height=label.shape[0] * 0.6,
                )
                turned = np.ascontiguousarray(label[::-1].transpose(1, 0, 2)[:, ::-1])
                y0, x0 = int(floor - tall * 0.78), int(x + thick * 0.25)
                if x0 >= 0 and y0 >= 0:
                    view = image[y0 : y0 + turned.shape[0], x0 : x0 + turned.shape[1]]
                    view[:] = turned[: view.shape[0], : view.shape[1]]
            segments.append((x + thick / 2, floor - tall / 2))
            x += thick + (rng.uniform(10, 50) if rng.random() < 0.12 else 0.5)
        rectangle(image, (0, floor, w, floor + 12), board)
        rectangle(image, (0, floor + 9, w, floor + 12), mix(board, (0, 0, 0), 0.4))
    return _scene(shade(image, 1 + 0.18 * fractal(rng, h, w, 120, 4)), segments)


def _gravel(rng: np.random.Generator, h: int, w: int) -> Scene:
    base = _tone(rng, (128, 120, 108), (176, 158, 130), (96, 98, 104))
    image = shade(_filled(h, w, mix(base, (30, 26, 22), 0.5)), 1 + 0.6 * fractal(rng, h, w, 8, 3))
    n = int(rng.integers(160, 300))
    segments = []
    for i in range(n):
        at = (rng.uniform(0, w), rng.uniform(0, h))
        r = rng.uniform(6, 16) if i < n * 0.9 else rng.uniform(16, 30)
        colour = mix(
            base, (246, 240, 228) if rng.random() < 0.5 else (60, 54, 50), float(rng.uniform(0, 0.6))
        )
        outline = ellipse_points((0, 0), (r, r * rng.uniform(0.6, 1)), rng.uniform(0, 3), 11)
        shape(image, outline + np.add(at, (2, 3)), mix(base, (10, 8, 6), 0.8))
        shape(image, outline + at, colour)
        shape(image, outline * 0.55 + (at[0] - r * 0.2, at[1] - r * 0.2), mix(colour, (255, 255, 255), 0.18))
        if r > 14:
            segments.append(at)
    return _scene(image, segments)


def _bricks(rng: np.random.Generator, h: int, w: int) -> Scene:
    base = _tone(rng, (152, 74, 54), (188, 130, 98), (120, 108, 102), (206, 198, 186))
    image = _filled(h, w, _tone(rng, (190, 182, 170), (96, 90, 86)))
    bh = float(rng.uniform(20, 36))
    bw = bh * rng.uniform(2.0, 2.8)
    for row in range(int(h / bh) + 2):
        for column in range(-1, int(w / bw) + 2):
            x, y = column * bw + (bw / 2 if row % 2 else 0), row * bh - bh / 2
            colour = mix(
                base, (240, 220, 190) if rng.random() < 0.5 else (50, 30, 26), float(rng.uniform(0, 0.35))
            )
            rectangle(image, (x + 2, y + 2, x + bw - 2, y + bh - 2), colour)
    grey = cv().cvtColor(image, cv().COLOR_RGB2GRAY)
    factor = relief(grey, 0.0015, 1.0) * (1 + 0.5 * fractal(rng, h, w, 12, 4))
    return _scene(
        shade(image, factor),
        [(x, y) for x in np.arange(bw, w, 2 * bw) for y in np.arange(bh, h, 3 * bh)][:20],
    )


def _meadow(rng: np.random.Generator, h: int, w: int) -> Scene:
    horizon = h * rng.uniform(0.15, 0.5)
    image = gradient(h, w, _tone(rng, (120, 170, 220), (190, 206, 220), (240, 200, 160)), (228, 234, 238))
    clouds = np.clip(fractal(rng, h, w, 140, 5, 2.0) * 4, 0, 1)[..., None]
    image = (image + (250 - image.astype(np.float32)) * clouds).astype(np.uint8)
    for k in range(3):
        x = np.linspace(0, w, 30)
        y = horizon - 18 + 14 * k + 16 * np.sin(x / w * rng.uniform(4, 9) + rng.uniform(0, 6))
        shape(image, [*np.stack([x, y], 1), (w, h), (0, h)], mix((110, 140, 150), (70, 110, 50), k / 2))
    ground = shade(
        _filled(h, w, _tone(rng, (84, 120, 52), (128, 128, 60), (168, 148, 98))),
        1 + 0.8 * fractal(rng, h, w, 16, 4),
    )
    image[int(horizon) + 12 :] = ground[int(horizon) + 12 :]
    segments = [(w * f, horizon / 2) for f in (0.25, 0.75)]
    for _ in range(int(rng.integers(60, 140))):
        left, low = rng.uniform(0, w), rng.uniform(horizon + 14, h)
        size = 6 + 30 * (low - horizon) / h
        tip = (left + rng.uniform(-0.5, 0.5) * size, low - size)
        stroke(image, [(left, low), tip], _tone(rng, (60, 96, 36), (140, 160, 70)), 2)
        if rng.random() < 0.3:
            disc(image, tip, size * 0.16, _any_colour(rng))
            segments.append(tip)
    return _scene(image, segments)


SCENES: dict[str, Callable[[np.random.Generator, int, int], Scene]] = {
    "wood": _wood,
    "stone": _stone,
    "fabric": _fabric,
    "foliage": _foliage,
    "tiles": _tiles,
    "bokeh": _bokeh,
    "facade": _facade,
    "shelf": _shelf,
    "gravel": _gravel,
    "bricks": _bricks,
    "meadow": _meadow,
}


def busy_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """A random background for a photograph of the database."""
    kinds = list(SCENES)
    return SCENES[kinds[int(rng.integers(len(kinds)))]](rng, height, width)


def plain_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """A clean background for a query: uniform paper, a soft gradient, or a scene out of focus."""
    kind = rng.random()
    light = _tone(rng, (236, 234, 230), (214, 218, 222), (240, 232, 218), (198, 202, 206), (70, 74, 82))
    if kind < 0.4:
        image = shade(_filled(height, width, light), 1 + 0.03 * fractal(rng, height, width, 200, 2))
    elif kind < 0.75:
        image = gradient(height, width, light, mix(light, _any_colour(rng), 0.35), rng.uniform(0.3, 2.8))
    else:
        image = cv().GaussianBlur(busy_scene(rng, height, width).image, (0, 0), float(rng.uniform(14, 22)))
    return _scene(image, [])
