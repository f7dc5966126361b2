"""Small vector motifs (star, fish, house ...), each a variation on its theme drawn from a generator.

A motif is a list of layers: polygon corners in [-1, 1] and the colour role 0 (main), 1 (accent) or 2 (ink).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast.datasets.generate.drawing import Colour, Image, Point, ellipse_points, shape

__all__ = ["MOTIFS", "Motif", "draw_motif", "make_motif"]

Motif = list[tuple[NDArray[np.float64], int]]


def _layer(points: ArrayLike, role: int) -> tuple[NDArray[np.float64], int]:
    return np.asarray(points, np.float64), role


def _round(
    x: float, y: float, rx: float, ry: float, role: int, angle: float = 0.0
) -> tuple[NDArray[np.float64], int]:
    return ellipse_points((x, y), (rx, ry), angle), role


def _box(x0: float, y0: float, x1: float, y1: float, role: int) -> tuple[NDArray[np.float64], int]:
    return _layer([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], role)


def _polar(radius: NDArray[np.float64], role: int) -> tuple[NDArray[np.float64], int]:
    t = np.linspace(0, 2 * np.pi, len(radius), endpoint=False) - np.pi / 2
    return np.stack([radius * np.cos(t), radius * np.sin(t)], axis=1), role


def _star(rng: np.random.Generator) -> Motif:
    n = int(rng.integers(5, 10))
    inner = rng.uniform(0.4, 0.62)
    spikes = np.tile([1.0, inner], n)
    return [
        _polar(spikes, 0),
        _polar(spikes * 0.68, 1),
        _polar(spikes * 0.42, 2),
        _round(0, 0, 0.14, 0.14, 0),
    ]


def _flower(rng: np.random.Generator) -> Motif:
    n = int(rng.integers(5, 9))
    layers: Motif = []
    for i in range(n):
        a = 2 * np.pi * i / n
        layers.append(_round(0.58 * np.cos(a), 0.58 * np.sin(a), 0.4, rng.uniform(0.2, 0.27), 0, a))
        layers.append(_round(0.5 * np.cos(a), 0.5 * np.sin(a), 0.22, 0.07, 1, a))
    return [*layers, _round(0, 0, 0.28, 0.28, 2), _round(0, 0, 0.17, 0.17, 1)]


def _leaf(rng: np.random.Generator) -> Motif:
    t = np.linspace(0, np.pi, 20)
    width = rng.uniform(0.42, 0.62)
    right = np.stack([width * np.sin(t) ** 1.3, -np.cos(t)], axis=1)
    layers = [_layer(np.concatenate([right, right[::-1] * [-1, 1]]), 0), _box(-0.03, -0.85, 0.03, 1.0, 2)]
    for y in np.linspace(-0.45, 0.6, int(rng.integers(4, 7))):
        for side in (-1, 1):
            reach = side * width * 0.75 * np.sqrt(max(0.05, 1 - y * y))
            layers.append(_layer([(0, y + 0.1), (reach, y - 0.18), (reach, y - 0.12), (0, y + 0.17)], 1))
    return layers


def _fish(rng: np.random.Generator) -> Motif:
    layers = [
        _layer([(0.45, 0), (1, -0.48), (0.86, 0), (1, 0.48)], 1),
        _layer([(-0.2, -0.3), (0.2, -0.72), (0.36, -0.2)], 1),
    ]
    layers.append(_round(-0.12, 0, 0.78, rng.uniform(0.38, 0.5), 0))
    for x in np.linspace(-0.2, 0.4, int(rng.integers(2, 5))):
        layers.append(_box(x, -0.28, x + 0.08, 0.28, 1))
    return [
        *layers,
        _round(-0.58, -0.1, 0.11, 0.11, 1),
        _round(-0.6, -0.1, 0.055, 0.055, 2),
        _layer([(-0.1, 0.1), (0.2, 0.34), (0.22, 0.02)], 2),
    ]


def _bird(rng: np.random.Generator) -> Motif:
    tilt = rng.uniform(-0.35, 0.1)
    return [
        _layer([(0.3, 0.1), (1.0, 0.35), (0.92, 0.6), (0.2, 0.42)], 2),
        _round(0, 0.15, 0.58, 0.42, 0, 0.25),
        _round(-0.48, -0.38, 0.32, 0.3, 0),
        _round(0.12, 0.1, 0.44, 0.2, 1, 0.4 + tilt),
        _round(0.2, 0.18, 0.28, 0.09, 2, 0.4 + tilt),
        _layer([(-0.74, -0.46), (-1.02, -0.3), (-0.74, -0.24)], 1),
        _round(-0.54, -0.44, 0.07, 0.07, 2),
        _box(-0.1, 0.5, -0.04, 0.95, 2),
        _box(0.12, 0.5, 0.18, 0.95, 2),
    ]


def _sun(rng: np.random.Generator) -> Motif:
    n = int(rng.integers(9, 16))
    layers: Motif = []
    for i in range(n):
        a, half = 2 * np.pi * i / n, rng.uniform(0.1, 0.16)
        reach = 1.0 if i % 2 else rng.uniform(0.75, 0.95)
        tip = (reach * np.cos(a), reach * np.sin(a))
        layers.append(
            _layer(
                [
                    (0.5 * np.cos(a - half), 0.5 * np.sin(a - half)),
                    tip,
                    (0.5 * np.cos(a + half), 0.5 * np.sin(a + half)),
                ],
                i % 2,
            )
        )
    return [
        *layers,
        _round(0, 0, 0.46, 0.46, 0),
        _round(0, 0, 0.34, 0.34, 1),
        _round(-0.12, -0.06, 0.05, 0.05, 2),
        _round(0.12, -0.06, 0.05, 0.05, 2),
        _round(0, 0.13, 0.12, 0.04, 2),
    ]


def _moon(rng: np.random.Generator) -> Motif:
    t = np.linspace(-0.35, 0.35, 24) * 2 * np.pi + np.pi
    outer = np.stack([0.9 * np.cos(t), 0.9 * np.sin(t)], axis=1)
    inner = np.stack([0.3 + 0.86 * np.cos(t[::-1]), 0.7 * np.sin(t[::-1])], axis=1)
    layers = [_layer(np.concatenate([outer, inner]), 0)]
    for _ in range(int(rng.integers(4, 7))):
        x, y, r = rng.uniform(-0.1, 0.85), rng.uniform(-0.7, 0.7), rng.uniform(0.07, 0.2)
        points, _role = _polar(np.tile([r, r * 0.4], 4), 1)
        layers.append((points + np.array([x, y]), 1))
    return layers


def _heart(rng: np.random.Generator) -> Motif:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    curve = np.stack([x, y], axis=1)
    layers = [_layer(curve, 0), _layer(curve * 0.8, 2), _layer(curve * 0.72, 0)]
    for _ in range(int(rng.integers(4, 9))):
        layers.append(
            _round(
                rng.uniform(-0.4, 0.4),
                rng.uniform(-0.4, 0.25),
                rng.uniform(0.05, 0.12),
                rng.uniform(0.05, 0.12),
                1,
            )
        )
    return layers


def _tree(rng: np.random.Generator) -> Motif:
    layers = [_box(-0.1, 0.6, 0.1, 1.0, 2)]
    for i, y in enumerate((0.7, 0.2, -0.28)):
        half = 0.75 - 0.18 * i + rng.uniform(-0.05, 0.05)
        layers.append(_layer([(-half, y), (0, y - 0.75), (half, y)], i % 2))
    for _ in range(int(rng.integers(4, 9))):
        layers.append(_round(rng.uniform(-0.4, 0.4), rng.uniform(-0.1, 0.6), 0.06, 0.06, 2))
    return layers


def _mushroom(rng: np.random.Generator) -> Motif:
    cap = ellipse_points((0, 0), (0.95, rng.uniform(0.75, 0.95)), n=24, start=0.5, stop=0.999)
    layers = [
        _layer([(-0.24, -0.05), (0.24, -0.05), (0.34, 0.9), (-0.34, 0.9)], 1),
        _box(-0.24, 0.18, 0.24, 0.26, 2),
        _layer(cap, 0),
    ]
    for _ in range(int(rng.integers(4, 8))):
        layers.append(
            _round(
                rng.uniform(-0.6, 0.6),
                rng.uniform(-0.55, -0.1),
                rng.uniform(0.07, 0.15),
                rng.uniform(0.07, 0.15),
                1,
            )
        )
    return layers


def _house(rng: np.random.Generator) -> Motif:
    layers = [
        _box(0.35, -0.9, 0.55, -0.3, 2),
        _box(-0.75, -0.1, 0.75, 0.95, 0),
        _layer([(-0.98, -0.08), (0, -0.85), (0.98, -0.08)], 2),
    ]
    door = rng.uniform(-0.5, 0.2)
    layers += [_box(door, 0.35, door + 0.32, 0.95, 2), _box(door + 0.05, 0.42, door + 0.27, 0.9, 1)]
    for x in (-0.6, 0.42) if door > -0.3 else (-0.05, 0.42):
        layers += [_box(x, 0.05, x + 0.24, 0.3, 1), _box(x + 0.1, 0.05, x + 0.13, 0.3, 2)]
    return layers


def _boat(rng: np.random.Generator) -> Motif:
    high = rng.uniform(-0.98, -0.7)
    layers = [
        _box(-0.05, high, 0.02, 0.4, 2),
        _layer([(-0.1, high + 0.1), (-0.1, 0.3), (-0.8, 0.3)], 1),
        _layer([(0.08, high), (0.08, 0.3), (0.7, 0.3)], 0),
    ]
    layers += [
        _layer([(-0.95, 0.42), (0.95, 0.42), (0.6, 0.82), (-0.65, 0.82)], 2),
        _box(-0.8, 0.5, 0.8, 0.57, 1),
    ]
    for x in np.linspace(-0.8, 0.8, int(rng.integers(4, 6))):
        layers.append(_round(x, 0.92, 0.18, 0.06, 0))
    return layers


def _rocket(rng: np.random.Generator) -> Motif:
    window = rng.uniform(-0.35, -0.1)
    return [
        _layer([(-0.3, 0.2), (-0.75, 0.75), (-0.25, 0.65)], 1),
        _layer([(0.3, 0.2), (0.75, 0.75), (0.25, 0.65)], 1),
        _layer([(-0.2, 0.62), (0, 1.0), (0.2, 0.62)], 1),
        _layer(
            [
                (0, -1),
                (0.24, -0.62),
                (0.34, -0.1),
                (0.26, 0.68),
                (-0.26, 0.68),
                (-0.34, -0.1),
                (-0.24, -0.62),
            ],
            0,
        ),
        _layer([(0, -1), (0.24, -0.62), (-0.24, -0.62)], 2),
        _round(0, window, 0.19, 0.19, 2),
        _round(0, window, 0.12, 0.12, 1),
        _box(-0.3, 0.3, 0.3, rng.uniform(0.36, 0.46), 2),
    ]


def _cat(rng: np.random.Generator) -> Motif:
    layers = [
        _layer([(-0.8, -0.95), (-0.2, -0.55), (-0.72, 0.0)], 0),
        _layer([(0.8, -0.95), (0.2, -0.55), (0.72, 0.0)], 0),
    ]
    layers += [
        _layer([(-0.68, -0.72), (-0.35, -0.5), (-0.6, -0.2)], 1),
        _layer([(0.68, -0.72), (0.35, -0.5), (0.6, -0.2)], 1),
        _round(0, 0.12, 0.82, 0.72, 0),
    ]
    eye = rng.uniform(0.08, 0.16)
    for side in (-1, 1):
        layers += [
            _round(side * 0.34, -0.02, eye + 0.05, 0.17, 1),
            _round(side * 0.34, 0, eye * 0.5, 0.13, 2),
        ]
        for y in (0.28, 0.4):
            layers.append(
                _layer(
                    [
                        (side * 0.2, y),
                        (side * 0.95, y - 0.08),
                        (side * 0.95, y - 0.04),
                        (side * 0.2, y + 0.04),
                    ],
                    2,
                )
            )
    stripes = [
        _layer([(x - 0.04, -0.55), (x + 0.04, -0.55), (x, -0.25)], 2)
        for x in np.linspace(-0.2, 0.2, int(rng.integers(2, 5)))
    ]
    return [*layers, *stripes, _layer([(-0.1, 0.22), (0.1, 0.22), (0, 0.36)], 2)]


def _crown(rng: np.random.Generator) -> Motif:
    n = int(rng.integers(3, 6))
    xs = np.linspace(-0.9, 0.9, 2 * n - 1)
    zigzag = [(x, -0.65 if i % 2 == 0 else 0.0) for i, x in enumerate(xs)]
    layers = [_layer([*zigzag, (0.75, 0.7), (-0.75, 0.7)], 0), _box(-0.76, 0.42, 0.76, 0.62, 1)]
    layers += [_round(x, -0.7, 0.1, 0.1, 1) for x in xs[::2]]
    return [*layers, *(_round(x, 0.52, 0.07, 0.07, 2) for x in np.linspace(-0.6, 0.6, n + 1))]


def _butterfly(rng: np.random.Generator) -> Motif:
    upper, lower = rng.uniform(0.38, 0.5), rng.uniform(0.28, 0.38)
    layers: Motif = []
    for side in (-1, 1):
        layers += [
            _round(side * 0.5, -0.35, 0.52, upper, 0, side * 0.6),
            _round(side * 0.42, 0.42, 0.4, lower, 0, -side * 0.6),
        ]
        layers += [
            _round(side * 0.52, -0.36, 0.3, upper * 0.55, 1, side * 0.6),
            _round(side * 0.44, 0.42, 0.2, lower * 0.5, 2, -side * 0.6),
        ]
        layers += [_round(side * 0.64, -0.46, 0.09, 0.09, 2)]
    return [*layers, _round(0, 0, 0.08, 0.62, 2)]


MOTIFS: dict[str, Callable[[np.random.Generator], Motif]] = {
    "star": _star,
    "flower": _flower,
    "leaf": _leaf,
    "fish": _fish,
    "bird": _bird,
    "sun": _sun,
    "moon": _moon,
    "heart": _heart,
    "tree": _tree,
    "mushroom": _mushroom,
    "house": _house,
    "boat": _boat,
    "rocket": _rocket,
    "cat": _cat,
    "crown": _crown,
    "butterfly": _butterfly,
}


def make_motif(name: str, rng: np.random.Generator) -> Motif:
    """Draw one variation of the motif `name`."""
    return MOTIFS[name](rng)


def draw_motif(
    image: Image,
    motif: Motif,
    centre: Point,
    radius: float,
    colours: Sequence[Colour | int],
    *,
    angle: float = 0.0,
    mirrored: bool = False,
) -> None:
    """Draw a motif of a given radius in pixels, turned by `angle` radians, in three colours by role."""
    c, s = radius * np.cos(angle), radius * np.sin(angle)
    flip = -1.0 if mirrored else 1.0
    matrix = np.array([[c * flip, s * flip], [-s, c]])
    for points, role in motif:
        shape(image, points @ matrix + centre, colours[role])
