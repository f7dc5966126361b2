"""Things of no family that lie around: cushion, biscuit, ball, toy block, present, notebook.

They keep the clutter varied, so that an object's relatives (which confuse a matcher) are only part of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ilias_fast.datasets.generate.drawing import (
    PATTERNS,
    Image,
    Mask,
    disc,
    ellipse_points,
    fractal,
    mix,
    pattern,
    rectangle,
    relief,
    rounded_mask,
    shade,
    shape,
    stroke,
    text,
)
from ilias_fast.datasets.generate.motifs import MOTIFS, draw_motif, make_motif
from ilias_fast.datasets.generate.palettes import PALETTES, Palette
from ilias_fast.datasets.generate.sprites import Sprite, finish

__all__ = ["knickknack"]

_N = 256
_Picture = tuple[Image, Mask]


def _pattern(rng: np.random.Generator, palette: Palette) -> Image:
    order = [palette.three[int(i)] for i in rng.permutation(3)]
    return pattern(PATTERNS[int(rng.integers(len(PATTERNS)))], _N, _N, float(rng.uniform(24, 60)), order)


def _cushion(rng: np.random.Generator, palette: Palette) -> _Picture:
    t = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    radius = 104 * (1 + 0.2 * np.abs(np.sin(2 * t)) ** 2)
    alpha = np.zeros((_N, _N), np.uint8)
    outline = np.stack([128 + radius * np.cos(t), 128 + radius * np.sin(t)], axis=1)
    shape(alpha, outline, 255)
    rgb = shade(_pattern(rng, palette), 1 + 0.3 * fractal(rng, _N, _N, 90, 3))
    stroke(rgb, outline, palette.paper, 7, closed=True)
    return finish(rgb, alpha, bevel=0.02, gloss=0.25)


def _biscuit(rng: np.random.Generator, palette: Palette) -> _Picture:
    motif = make_motif(list(MOTIFS)[int(rng.integers(len(MOTIFS)))], rng)
    alpha = np.zeros((_N, _N), np.uint8)
    draw_motif(alpha, motif, (128, 128), 118, (255, 255, 255))
    dough = ((206, 158, 96), (150, 92, 52), palette.three[0])[int(rng.integers(3))]
    rgb = np.empty((_N, _N, 3), np.uint8)
    rgb[:] = dough
    draw_motif(rgb, motif, (128, 128), 104, (palette.paper, palette.three[1], palette.three[2]))
    return finish(shade(rgb, 1 + 0.3 * fractal(rng, _N, _N, 12, 3)), alpha, bevel=0.02)


def _ball(rng: np.random.Generator, palette: Palette) -> _Picture:
    rgb = _pattern(rng, palette) if rng.random() < 0.4 else np.empty((_N, _N, 3), np.uint8)
    sectors = int(rng.integers(3, 9))
    if sectors < 7:
        pole = rng.uniform(80, 176, 2)
        for i in range(sectors * 2):
            t0, t1 = np.pi * i / sectors, np.pi * (i + 1.02) / sectors
            wedge = [
                pole,
                pole + 400 * np.array([np.cos(t0), np.sin(t0)]),
                pole + 400 * np.array([np.cos(t1), np.sin(t1)]),
            ]
            shape(rgb, wedge, (palette.paper, *palette.three)[i % (2 + sectors % 3)])
    else:
        rgb[:] = palette.three[0]
    y, x = np.mgrid[0:_N, 0:_N].astype(np.float32) / 128 - 1
    lit = 0.5 + 0.65 * np.sqrt(np.clip(1 - (x + 0.3) ** 2 * 0.6 - (y + 0.35) ** 2 * 0.6, 0, 1))
    alpha = np.zeros((_N, _N), np.uint8)
    disc(alpha, (128, 128), 122, 255)
    return shade(rgb, lit.astype(np.float32)), alpha


def _block(rng: np.random.Generator, palette: Palette) -> _Picture:
    rgb = np.empty((_N, _N, 3), np.uint8)
    rgb[:] = mix((214, 178, 130), palette.three[0], float(rng.uniform(0, 0.9)))
    rgb = shade(rgb, 1 + 0.25 * fractal(rng, _N, _N, 20, 3, 5.0))
    rectangle(rgb, (22, 22, 233, 233), palette.three[1], int(rng.integers(6, 16)))
    letter = "ABCDEFGHJKLMNPRSTUVWXYZ2345679&?"[int(rng.integers(32))]
    text(rgb, letter, (128, 128), 130, palette.ink, font=int(rng.integers(5)), weight=2.0, height=130)
    return finish(rgb, rounded_mask(_N, _N, (4, 4, 251, 251), 20), bevel=0.02)


def _present(rng: np.random.Generator, palette: Palette) -> _Picture:
    rgb = _pattern(rng, palette)
    at, wide = rng.uniform(70, 186, 2), float(rng.uniform(14, 30))
    rectangle(rgb, (at[0] - wide, 0, at[0] + wide, _N), palette.paper)
    rectangle(rgb, (0, at[1] - wide, _N, at[1] + wide), palette.paper)
    for angle in (0.5, 2.6, 3.9, 5.6):
        loop = ellipse_points(at + 34 * np.array([np.cos(angle), np.sin(angle)]), (38, 18), angle)
        shape(rgb, loop, palette.ink)
        shape(rgb, (loop - at) * 0.86 + at, mix(palette.paper, palette.ink, 0.25))
    disc(rgb, at, 15, palette.ink)
    top = int(rng.integers(0, 60))
    return finish(rgb, rounded_mask(_N, _N, (2, 2 + top, 253, 253), 6), bevel=0.012, gloss=0.2)


def _notebook(rng: np.random.Generator, palette: Palette) -> _Picture:
    rgb = np.empty((_N, _N, 3), np.uint8)
    rgb[:] = mix(palette.paper, (255, 255, 255), 0.5)
    pitch = int(rng.integers(14, 26))
    for y in range(30, _N, pitch):
        rectangle(rgb, (0, y, _N, y), mix(palette.three[2], palette.paper, 0.4))
        if rng.random() < 0.7:
            x = np.linspace(50, rng.uniform(110, 240), 50)
            line = y - 4 - pitch * 0.3 * np.abs(np.sin(x * rng.uniform(0.2, 0.5))) * rng.random(50)
            stroke(rgb, np.stack([x, line], axis=1), palette.ink, 1)
    height = np.full((_N, _N), 200, np.uint8)
    for y in range(12, _N, 18):
        disc(rgb, (40, y), 4, palette.ink)
        disc(height, (40, y), 5, 60)
    return finish(shade(rgb, relief(height, 0.004)), rounded_mask(_N, _N, (30, 2, 253, 253), 8), gloss=0.1)


_KINDS: tuple[Callable[[np.random.Generator, Palette], _Picture], ...] = (
    _cushion,
    _biscuit,
    _biscuit,
    _ball,
    _block,
    _present,
    _notebook,
)


def knickknack(rng: np.random.Generator) -> Sprite:
    """Draw one."""
    palette = PALETTES[int(rng.integers(len(PALETTES)))].rotated(int(rng.integers(3)))
    return Sprite.cut(*_KINDS[int(rng.integers(len(_KINDS)))](rng, palette), longest=_N)
