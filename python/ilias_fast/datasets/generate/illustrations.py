"""Small pictures that decorate the objects: every seed composes its own landscape, skyline, collage ..."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ilias_fast.datasets.generate.drawing import (
    Colour,
    Image,
    disc,
    ellipse_points,
    gradient,
    mix,
    rectangle,
    ring,
    shape,
    stroke,
)
from ilias_fast.datasets.generate.motifs import MOTIFS, draw_motif, make_motif
from ilias_fast.datasets.generate.palettes import Palette

__all__ = ["THEMES", "illustrate"]

_Draw = Callable[[Image, np.random.Generator, Palette], None]


def _ground(
    image: Image, rng: np.random.Generator, palette: Palette, base: float, rough: float, colour: Colour
) -> None:
    height, width = image.shape[:2]
    x = np.linspace(0, 1, 40)
    y = sum(rng.uniform(0.3, 1) * np.sin(2 * np.pi * (f * x + rng.random())) / f for f in (1, 2, 3.5, 6))
    ridge = np.stack([x * width, (base + rough * np.asarray(y)) * height], axis=1)
    shape(image, np.concatenate([ridge, [(width, height), (0, height)]]), colour)
    stroke(image, ridge, mix(colour, palette.ink, 0.35), max(1, width // 160))


def _scatter(
    image: Image,
    rng: np.random.Generator,
    palette: Palette,
    names: list[str],
    n: int,
    box: tuple[float, float, float, float],
    size: tuple[float, float],
) -> None:
    height, width = image.shape[:2]
    a, b, c = palette.three
    choices = [
        (a, b, palette.ink),
        (b, c, palette.ink),
        (c, a, palette.paper),
        (palette.paper, a, palette.ink),
    ]
    motifs = [make_motif(name, rng) for name in names]
    for _ in range(n):
        centre = (width * rng.uniform(box[0], box[2]), height * rng.uniform(box[1], box[3]))
        radius = min(height, width) * rng.uniform(*size)
        colours = choices[int(rng.integers(len(choices)))]
        draw_motif(
            image,
            motifs[int(rng.integers(len(motifs)))],
            centre,
            radius,
            colours,
            angle=rng.uniform(-0.3, 0.3),
        )


def _landscape(image: Image, rng: np.random.Generator, palette: Palette) -> None:
    height, width = image.shape[:2]
    a, b, c = palette.three
    image[:] = gradient(height, width, mix(c, palette.paper, 0.45), mix(b, palette.paper, 0.55))
    sun = (width * rng.uniform(0.15, 0.85), height * rng.uniform(0.14, 0.32))
    radius = min(height, width) * rng.uniform(0.08, 0.14)
    disc(image, sun, radius * 1.5, mix(b, palette.paper, 0.5))
    disc(image, sun, radius, b)
    for _ in range(int(rng.integers(2, 5))):
        x, y, r = (
            width * rng.random(),
            height * rng.uniform(0.06, 0.4),
            min(height, width) * rng.uniform(0.04, 0.07),
        )
        for dx in (-1.3, 0.0, 1.2):
            disc(image, (x + dx * r, y), r * rng.uniform(0.7, 1.1), palette.paper)
    layers = int(rng.integers(3, 5))
    tones = [mix(c, palette.ink, 0.1), a, mix(b, a, 0.4), mix(c, palette.ink, 0.55)]
    for i in range(layers):
        base = 0.42 + 0.5 * i / layers
        _ground(image, rng, palette, base, 0.05 + 0.03 * (i == 0), tones[i % 4])
        names = ["tree"] if rng.random() < 0.6 else ["tree", "house"]
        _scatter(
            image, rng, palette, names, int(rng.integers(2, 6)), (0.03, base, 0.97, base + 0.12), (0.05, 0.1)
        )
    for _ in range(int(rng.integers(0, 6))):
        x, y, r = width * rng.random(), height * rng.uniform(0.05, 0.35), width * 0.025
        stroke(image, [(x - r, y - r * 0.5), (x, y), (x + r, y - r * 0.6)], palette.ink, 2)


def _skyline(image: Image, rng: np.random.Generator, palette: Palette) -> None:
    height, width = image.shape[:2]
    night = rng.random() < 0.5
    a, b, c = palette.three
    image[:] = gradient(
        height, width, palette.ink if night else mix(c, palette.paper, 0.3), mix(a, palette.paper, 0.3)
    )
    disc(
        image,
        (width * rng.uniform(0.15, 0.85), height * rng.uniform(0.12, 0.3)),
        min(height, width) * 0.1,
        mix(b, palette.paper, 0.4),
    )
    for depth in range(3):
        tone = [mix(a, palette.ink, 0.35), mix(c, palette.ink, 0.25), mix(palette.ink, a, 0.2)][depth]
        x = -width * rng.uniform(0, 0.08)
        while x < width:
            w = width * rng.uniform(0.09, 0.2)
            top = height * (rng.uniform(0.2, 0.55) + 0.17 * depth)
            body = mix(tone, palette.paper, rng.uniform(0, 0.25))
            rectangle(image, (x, top, x + w, height), body)
            roof = rng.random()
            if roof < 0.3:
                shape(image, [(x, top), (x + w / 2, top - w * 0.6), (x + w, top)], mix(b, palette.ink, 0.2))
            elif roof < 0.5:
                stroke(image, [(x + w / 2, top), (x + w / 2, top - w * 0.7)], palette.ink, 2)
            columns, rows = int(rng.integers(2, 5)), max(2, int((height - top) / (w * rng.uniform(0.3, 0.5))))
            lit = rng.random((rows, columns)) < 0.6
            for row in range(rows):
                for column in range(columns):
                    wx = x + w * (0.12 + 0.8 * column / columns)
                    wy = top + (height - top) * (0.05 + row / rows)
                    colour = b if lit[row, column] else mix(body, palette.ink, 0.5)
                    rectangle(
                        image, (wx, wy, wx + w * 0.45 / columns, wy + (height - top) * 0.5 / rows), colour
                    )
            x += w * rng.uniform(0.95, 1.25)


def _collage(image: Image, rng: np.random.Generator, palette: Palette) -> None:
    height, width = image.shape[:2]
    columns = int(rng.integers(3, 6))
    cell = width / columns
    rows = max(1, int(np.ceil(height / cell)))
    ground = [palette.paper, palette.ink, *palette.three]
    for row in range(rows):
        for column in range(columns):
            x, y = column * cell, row * cell
            back, fore, third = (ground[int(i)] for i in rng.permutation(5)[:3])
            rectangle(image, (x, y, x + cell, y + cell), back)
            corner = (x + cell * int(rng.integers(2)), y + cell * int(rng.integers(2)))
            centre = (x + cell / 2, y + cell / 2)
            kind = int(rng.integers(7))
            if kind == 0:
                pie = ellipse_points(corner, (cell, cell), n=40)
                shape(image, np.clip(pie, (x, y), (x + cell, y + cell)), fore)
            elif kind == 1:
                disc(image, centre, cell * 0.42, fore)
                disc(image, centre, cell * rng.uniform(0.12, 0.28), third)
            elif kind == 2:
                shape(image, [(x, y), (x + cell, y), (x, y + cell)], fore)
                disc(image, (x + cell * 0.7, y + cell * 0.7), cell * 0.16, third)
            elif kind == 3:
                n = int(rng.integers(3, 6))
                for i in range(n):
                    rectangle(image, (x, y + cell * i / n, x + cell, y + cell * (i + 0.5) / n), fore)
            elif kind == 4:
                for i in range(4):
                    ring(image, corner, cell * (0.2 + 0.2 * i), fore, max(2, int(cell * 0.07)))
                rectangle(image, (x, y, x + cell, y + cell), third, 2)
            elif kind == 5:
                motif = make_motif(list(MOTIFS)[int(rng.integers(len(MOTIFS)))], rng)
                draw_motif(image, motif, centre, cell * 0.42, (fore, third, back))
            else:
                shape(
                    image,
                    [
                        (x + cell / 2, y),
                        (x + cell, y + cell / 2),
                        (x + cell / 2, y + cell),
                        (x, y + cell / 2),
                    ],
                    fore,
                )
                rectangle(image, (x + cell * 0.38, y + cell * 0.38, x + cell * 0.62, y + cell * 0.62), third)


def _botanical(image: Image, rng: np.random.Generator, palette: Palette) -> None:
    height, width = image.shape[:2]
    a, b, c = palette.three
    image[:] = gradient(height, width, palette.paper, mix(palette.paper, c, 0.25))
    unit = min(height, width)
    for _ in range(int(rng.integers(4, 7))):
        x = width * rng.uniform(0.1, 0.9)
        top = height * rng.uniform(0.12, 0.5)
        bend = width * rng.uniform(-0.15, 0.15)
        t = np.linspace(0, 1, 14)
        stem = np.stack([x + bend * t * t, height + (top - height) * t], axis=1)
        green = mix(c, palette.ink, rng.uniform(0.1, 0.5))
        stroke(image, stem, green, max(2, int(unit * 0.012)))
        leaf = make_motif("leaf", rng)
        for i in range(2, 12, int(rng.integers(2, 4))):
            side = 1 if i % 4 < 2 else -1
            place = stem[i] + (side * unit * 0.06, 0)
            draw_motif(
                image,
                leaf,
                place,
                unit * rng.uniform(0.06, 0.1),
                (green, mix(green, palette.paper, 0.4), palette.ink),
                angle=-side * 1.0,
            )
        bloom = make_motif("flower" if rng.random() < 0.7 else "sun", rng)
        first, second = (a, b) if rng.random() < 0.5 else (b, a)
        draw_motif(
            image,
            bloom,
            stem[-1],
            unit * rng.uniform(0.1, 0.17),
            (first, second, palette.ink),
            angle=rng.uniform(0, 6),
        )
    _scatter(
        image,
        rng,
        palette,
        ["butterfly", "bird"],
        int(rng.integers(1, 4)),
        (0.1, 0.08, 0.9, 0.4),
        (0.05, 0.09),
    )


def _underwater(image: Image, rng: np.random.Generator, palette: Palette) -> None:
    height, width = image.shape[:2]
    a, b, c = palette.three
    image[:] = gradient(height, width, mix(c, palette.paper, 0.35), mix(c, palette.ink, 0.55))
    unit = min(height, width)
    for i in range(int(rng.integers(3, 6))):
        y = height * (0.06 + 0.09 * i)
        x = np.linspace(0, width, 40)
        wave = y + unit * 0.02 * np.sin(2 * np.pi * (x / width * rng.uniform(3, 6) + rng.random()))
        stroke(image, np.stack([x, wave], axis=1), mix(c, palette.paper, 0.7), 2)
    for _ in range(int(rng.integers(4, 8))):
        x, h = width * rng.random(), height * rng.uniform(0.15, 0.4)
        t = np.linspace(0, 1, 16)
        weed = np.stack([x + unit * 0.03 * np.sin(t * rng.uniform(6, 12)), height - h * t], axis=1)
        stroke(image, weed, mix(a if rng.random() < 0.5 else b, palette.ink, 0.3), max(3, int(unit * 0.025)))
    _scatter(image, rng, palette, ["fish"], int(rng.integers(5, 9)), (0.1, 0.2, 0.9, 0.85), (0.07, 0.15))
    _scatter(
        image,
        rng,
        palette,
        ["star", "mushroom"],
        int(rng.integers(2, 5)),
        (0.05, 0.88, 0.95, 0.97),
        (0.04, 0.08),
    )
    for _ in range(int(rng.integers(8, 18))):
        ring(
            image,
            (width * rng.random(), height * rng.uniform(0.1, 0.9)),
            unit * rng.uniform(0.008, 0.025),
            palette.paper,
            2,
        )


def _space(image: Image, rng: np.random.Generator, palette: Palette) -> None:
    height, width = image.shape[:2]
    a, b, c = palette.three
    unit = min(height, width)
    image[:] = gradient(height, width, palette.ink, mix(palette.ink, a, 0.45), rng.uniform(0.5, 2.5))
    for _ in range(int(rng.integers(40, 80))):
        disc(
            image,
            (width * rng.random(), height * rng.random()),
            unit * rng.uniform(0.003, 0.009),
            palette.paper,
        )
    for _ in range(int(rng.integers(3, 5))):
        centre = np.array([width * rng.uniform(0.1, 0.9), height * rng.uniform(0.1, 0.9)])
        r = unit * rng.uniform(0.08, 0.2)
        colour = (a, b, c)[int(rng.integers(3))]
        disc(image, centre, r, mix(colour, palette.ink, 0.3))
        disc(image, centre - r * 0.12, r * 0.86, colour)
        for _ in range(int(rng.integers(3, 7))):
            crater = centre + r * 0.6 * rng.uniform(-1, 1, 2)
            disc(image, crater, r * rng.uniform(0.06, 0.2), mix(colour, palette.paper, 0.4))
        if rng.random() < 0.6:
            tilt = rng.uniform(-0.6, 0.6)
            stroke(
                image,
                ellipse_points(centre, (r * 1.7, r * 0.4), tilt, 50),
                palette.paper,
                max(2, int(unit * 0.012)),
                closed=True,
            )
    _scatter(
        image,
        rng,
        palette,
        ["rocket", "star", "moon"],
        int(rng.integers(3, 6)),
        (0.12, 0.12, 0.88, 0.88),
        (0.06, 0.14),
    )


def _parade(image: Image, rng: np.random.Generator, palette: Palette) -> None:
    height, width = image.shape[:2]
    a, b, c = palette.three
    image[:] = mix((a, b, c)[int(rng.integers(3))], palette.paper, 0.55)
    unit = min(height, width)
    n = int(rng.integers(9, 15))
    hub = (width * rng.uniform(0.3, 0.7), height * rng.uniform(0.45, 0.7))
    for i in range(n):
        t0, t1 = 2 * np.pi * i / n, 2 * np.pi * (i + 0.5) / n
        reach = (height + width) * 1.0
        shape(
            image,
            [
                hub,
                (hub[0] + reach * np.cos(t0), hub[1] + reach * np.sin(t0)),
                (hub[0] + reach * np.cos(t1), hub[1] + reach * np.sin(t1)),
            ],
            mix(b, palette.paper, 0.3),
        )
    name = list(MOTIFS)[int(rng.integers(len(MOTIFS)))]
    draw_motif(
        image,
        make_motif(name, rng),
        hub,
        unit * 0.36,
        (a, palette.paper, palette.ink),
        angle=rng.uniform(-0.15, 0.15),
    )
    others = [list(MOTIFS)[int(i)] for i in rng.permutation(len(MOTIFS))[:4]]
    for i in range(int(rng.integers(8, 13))):
        t = i * 2.4 + rng.random()
        r = unit * rng.uniform(0.42, 0.62)
        centre = (hub[0] + r * np.cos(t) * width / unit * 0.8, hub[1] + r * np.sin(t) * height / unit * 0.8)
        draw_motif(
            image,
            make_motif(others[i % 4], rng),
            centre,
            unit * rng.uniform(0.05, 0.1),
            (c, palette.paper, palette.ink),
            angle=rng.uniform(-0.5, 0.5),
        )


THEMES: dict[str, _Draw] = {
    "a landscape": _landscape,
    "a city skyline": _skyline,
    "a geometric collage": _collage,
    "garden flowers": _botanical,
    "an underwater scene": _underwater,
    "outer space": _space,
    "a burst of ornaments": _parade,
}


def illustrate(
    theme: str, seed: int, palette: Palette, height: int, width: int, *, mirrored: bool = False
) -> Image:
    """Draw the picture of a theme and seed, at the size asked for, optionally as its mirror image."""
    image = np.zeros((max(2, height), max(2, width), 3), np.uint8)
    THEMES[theme](image, np.random.default_rng(seed), palette)
    return np.ascontiguousarray(image[:, ::-1]) if mirrored else image
