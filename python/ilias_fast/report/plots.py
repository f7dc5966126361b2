"""Geometry of the page's charts: numbers in, coordinates out. The template draws them as inline SVG.

All charts are 360 units wide, so that their text keeps its size on a phone; values are percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Bar",
    "Columns",
    "Dot",
    "Point",
    "Rows",
    "Scatter",
    "Tick",
    "columns",
    "dot_strip",
    "rows",
    "scatter",
]

WIDTH = 360.0
STRIP_WIDTH, STRIP_HEIGHT, STRIP_MARGIN = 200.0, 18.0, 8.0


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    label: str
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """A rectangle for one value of one method; `outline` is the extent of its oracle bar, 0 if none."""

    x: float
    y: float
    width: float
    height: float
    method: int
    title: str
    value: str = ""
    outline: float = 0.0


@dataclass(frozen=True)
class Columns:
    """Vertical bars in clusters, as in the scale and clutter figure."""

    width: float
    height: float
    left: float
    bottom: float
    ticks: list[Tick]
    groups: list[Tick]
    bars: list[Bar]


@dataclass(frozen=True)
class Rows:
    """Horizontal bars in clusters, one cluster a category (or one bar a method)."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    ticks: list[Tick]
    groups: list[Tick]
    bars: list[Bar]


@dataclass(frozen=True)
class Point:
    """A query in a scatter plot; `change` is "up", "down" or "same"."""

    x: float
    y: float
    title: str
    number: int
    change: str


@dataclass(frozen=True)
class Scatter:
    """AP per query of one method (y) against another (x), in a square from (left, top) of `side` units."""

    width: float
    height: float
    left: float
    top: float
    side: float
    ticks: list[Tick]
    points: list[Point]
    pearson: float | None
    up: int
    down: int
    same: int


@dataclass(frozen=True)
class Dot:
    """A method's marker in a table row's strip."""

    x: float
    method: int
    title: str


def _axis_top(values: Sequence[float]) -> tuple[float, float]:
    """Return the end of an axis from 0 that holds `values`, and the distance of its ticks."""
    largest = max(values, default=0.0)
    for top, step in ((1, 0.25), (2, 0.5), (5, 1), (10, 2), (20, 5), (40, 10), (60, 20), (80, 20)):
        if largest <= top:
            return float(top), float(step)
    return 100.0, 25.0


def _ticks(top: float, step: float) -> list[tuple[float, str]]:
    return [(step * i, f"{step * i:g}") for i in range(round(top / step) + 1)]


def columns(
    labels: Sequence[str],
    notes: Sequence[str],
    values: Sequence[Sequence[float | None]],
    methods: Sequence[str],
) -> Columns:
    """Lay out clusters of vertical bars.

    Args:
        labels: One for each cluster.
        notes: Second line below each label, e.g. the number of queries.
        values: values[method][cluster], percent or None.
        methods: Labels of the methods, for the hover titles.
    """
    left, top, plot_height = 30.0, 10.0, 150.0
    end, step = _axis_top([v for series in values for v in series if v is not None])
    bottom = top + plot_height
    slot = (WIDTH - left - 4) / max(1, len(labels))
    thickness = min(26.0, 0.8 * slot / max(1, len(methods)))
    groups, bars = [], []
    for g, (label, note) in enumerate(zip(labels, notes, strict=True)):
        middle = left + slot * (g + 0.5)
        groups.append(Tick(middle, label, note))
        start = middle - thickness * len(methods) / 2
        for m, name in enumerate(methods):
            value = values[m][g]
            if value is None:
                continue
            height = plot_height * value / end
            bars.append(
                Bar(
                    start + m * thickness,
                    bottom - height,
                    thickness * 0.86,
                    height,
                    m,
                    f"{name}, {label}: {value:.1f}",
                )
            )
    ticks = [Tick(bottom - plot_height * at / end, label) for at, label in _ticks(end, step)]
    return Columns(WIDTH, bottom + 40, left, bottom, ticks, groups, bars)


def rows(
    labels: Sequence[str],
    notes: Sequence[str],
    values: Sequence[Sequence[float | None]],
    methods: Sequence[str],
    *,
    oracles: Sequence[float | None] | None = None,
) -> Rows:
    """Lay out clusters of horizontal bars, each cluster under its label.

    Arguments as for `columns`. With `oracles` each cluster is one method: values[m][m] is its mAP, oracles[m]
    its oracle, and the other values are None.
    """
    left, right, top, caption = 2.0, WIDTH - 34, 4.0, 16.0
    known = [v for series in values for v in series if v is not None]
    end, step = _axis_top([*known, *(v for v in oracles or () if v is not None)])
    thickness = 12.0 if oracles is not None else max(4.0, min(9.0, 36.0 / max(1, len(methods))))
    groups, bars, y = [], [], top
    for g, (label, note) in enumerate(zip(labels, notes, strict=True)):
        groups.append(Tick(y + 11, label, note))
        y += caption
        for m, name in enumerate(methods):
            value = values[m][g]
            if value is None:
                continue
            oracle = None if oracles is None else oracles[m]
            title = f"{label}: {value:.1f}" if oracles is not None else f"{name}, {label}: {value:.1f}"
            bars.append(
                Bar(
                    left,
                    y,
                    (right - left) * value / end,
                    thickness * 0.88,
                    m,
                    title if oracle is None else f"{title}, oracle {oracle:.1f}",
                    f"{value:.1f}" if oracles is not None else "",
                    0.0 if oracle is None else (right - left) * oracle / end,
                )
            )
            y += thickness
        y += 8
    ticks = [Tick(left + (right - left) * at / end, label) for at, label in _ticks(end, step)]
    return Rows(WIDTH, y + 16, left, right, top, y, ticks, groups, bars)


def scatter(x: Sequence[float], y: Sequence[float], titles: Sequence[str], numbers: Sequence[int]) -> Scatter:
    """Lay out AP per query of two methods, with Pearson's r and the counts above and below the diagonal.

    A change of less than 0.05, invisible at one decimal, counts as none.
    """
    left, top, side = 44.0, 8.0, 300.0
    points = []
    counts = {"up": 0, "down": 0, "same": 0}
    for a, b, title, number in zip(x, y, titles, numbers, strict=True):
        change = change_of(b - a)
        counts[change] += 1
        at_x, at_y = left + side * a / 100, top + side * (100 - b) / 100
        points.append(Point(at_x, at_y, f"{title}: {a:.1f} → {b:.1f}", number, change))
    ticks = [Tick(side * at / 100, f"{at}") for at in (0, 25, 50, 75, 100)]
    return Scatter(
        left + side + 12, top + side + 36, left, top, side, ticks, points, _pearson(x, y), *counts.values()
    )


def change_of(delta: float) -> str:
    """Name a change of AP in percent points: "up", "down", or "same" below 0.05."""
    return "up" if delta >= 0.05 else "down" if delta <= -0.05 else "same"


def _pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's correlation; None when a method has the same AP everywhere."""
    if len(x) < 2:
        return None
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    xx = math.fsum((a - mean_x) ** 2 for a in x)
    yy = math.fsum((b - mean_y) ** 2 for b in y)
    if xx <= 1e-18 or yy <= 1e-18:
        return None
    return math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / math.sqrt(xx * yy)


def dot_strip(values: Sequence[float | None], methods: Sequence[str]) -> list[Dot]:
    """Place one marker a method on a strip from 0 to 100; methods without a value have none."""
    span = STRIP_WIDTH - 2 * STRIP_MARGIN
    return [
        Dot(STRIP_MARGIN + span * value / 100, m, f"{methods[m]}: {value:.1f}")
        for m, value in enumerate(values)
        if value is not None
    ]
