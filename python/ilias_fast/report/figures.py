"""Line plots and tables of shares: what they are made of, and where their lines run on the page.

As in `plots.py` a drawing is 360 units wide, so that its text keeps its size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Curve", "DrawnCurve", "DrawnPlot", "Heat", "LinePlot", "draw_plot"]

_WIDTH, _LEFT, _TOP, _PLOT = 360.0, 36.0, 10.0, 190.0
_RIGHT = _WIDTH - 10


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        label: What it is called.
        x: Positions, ascending.
        y: Values.
        spread: Half the height of a bar at each point (a standard deviation); empty for none.
        method: Name of the report's method it belongs to, which gives its colour; None for the next colour.

    Examples:
        >>> Curve("PCA", (64, 128, 256), (40.0, 45.0, 47.0), spread=(0.5, 0.4, 0.4)).label
        'PCA'
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] = ()
    method: str | None = None


@dataclass(frozen=True)
class LinePlot:
    """A plot of one or more curves.

    Attributes:
        title: Headline.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        curves: The lines.
        note: A sentence below it.
        log: Whether the horizontal axis is logarithmic; 0 then has a place of its own at its left end.

    Examples:
        >>> curve = Curve("PCA", (64, 128), (40.0, 45.0))
        >>> LinePlot("Dimensions", "dimension", "mAP@1k", [curve], log=True).curves[0].label
        'PCA'
    """

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    note: str = ""
    log: bool = False


@dataclass(frozen=True)
class Heat:
    """A table of shares, shaded.

    Attributes:
        title: Headline.
        corner: What the rows are.
        rows: Their labels.
        columns: Labels of the columns.
        percent: percent[row][column], 0 to 100; None where there is nothing to divide.
        counts: What was counted, likewise.
        note: A sentence below it.

    Examples:
        >>> heat = Heat("Ranks", "clutter", ["0-5"], ["1-10", "not ranked"], [[75.0, 25.0]], [[3, 1]])
        >>> heat.percent[0][1]
        25.0
    """

    title: str
    corner: str
    rows: Sequence[str]
    columns: Sequence[str]
    percent: Sequence[Sequence[float | None]]
    counts: Sequence[Sequence[int]]
    note: str = ""


@dataclass(frozen=True)
class DrawnCurve:
    """A curve in the coordinates of the drawing; `points` are (x, y, title), `bars` (x, low y, high y)."""

    label: str
    colour: int
    path: str
    points: list[tuple[float, float, str]]
    bars: list[tuple[float, float, float]]


@dataclass(frozen=True)
class DrawnPlot:
    """A line plot laid out; ticks are (position, label)."""

    title: str
    x_label: str
    y_label: str
    note: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    curves: list[DrawnCurve]
    table: list[tuple[str, list[str]]]


def draw_plot(plot: LinePlot, methods: Sequence[str]) -> DrawnPlot:
    """Lay out a plot.

    Args:
        plot: The plot; its curves hold finite numbers.
        methods: Names of the report's methods in order: their positions are the colours.
    """
    xs = sorted({float(value) for curve in plot.curves for value in curve.x})
    tops = [
        value + (curve.spread[at] if curve.spread else 0.0)
        for curve in plot.curves
        for at, value in enumerate(curve.y)
    ]
    end, step = _nice(max(tops, default=1.0))
    place, x_ticks = _log_axis(xs) if plot.log else _linear_axis(xs)
    bottom = _TOP + _PLOT

    def height(value: float) -> float:
        return bottom - _PLOT * value / end

    used = {curve.method for curve in plot.curves}
    spare = iter(
        n for n in range(len(methods) + len(plot.curves)) if n >= len(methods) or methods[n] not in used
    )
    drawn = []
    for curve in plot.curves:
        at = [(place(float(x)), height(float(y))) for x, y in zip(curve.x, curve.y, strict=True)]
        # Beyond some tens of points a marker at each would hide the line.
        marked = len(at) <= 24
        drawn.append(
            DrawnCurve(
                curve.label,
                methods.index(curve.method) if curve.method in methods else next(spare),
                "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at) if at else "",
                [
                    (x, y, f"{curve.label}, {_short(value)}: {curve.y[n]:.1f}")
                    for n, ((x, y), value) in enumerate(zip(at, curve.x, strict=True))
                ]
                if marked
                else [],
                [
                    (x, height(curve.y[n] - curve.spread[n]), height(curve.y[n] + curve.spread[n]))
                    for n, (x, _) in enumerate(at)
                ]
                if curve.spread
                else [],
            )
        )
    shown = xs if len(xs) <= 24 else xs[:: -(-len(xs) // 11)]
    table = []
    for x in shown:
        values = [dict(zip(map(float, curve.x), curve.y, strict=True)).get(x) for curve in plot.curves]
        table.append((_short(x), ["–" if value is None else f"{value:.1f}" for value in values]))
    return DrawnPlot(
        plot.title,
        plot.x_label,
        plot.y_label,
        plot.note,
        _WIDTH,
        bottom + 34,
        _LEFT,
        _RIGHT,
        _TOP,
        bottom,
        x_ticks,
        [(height(step * n), f"{step * n:g}") for n in range(round(end / step) + 1)],
        drawn,
        table,
    )


def _nice(largest: float) -> tuple[float, float]:
    """Return the end of an axis from 0 that holds `largest`, and the distance of its ticks."""
    if largest <= 0:
        return 1.0, 0.25
    power = 10.0 ** math.floor(math.log10(largest))
    for factor, parts in ((1, 4), (2, 4), (2.5, 5), (4, 4), (5, 5), (6, 3), (8, 4), (10, 4)):
        if largest <= factor * power * (1 + 1e-9):
            return factor * power, factor * power / parts
    return 10 * power, 2.5 * power


def _linear_axis(xs: Sequence[float]) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    end, step = _nice(max(xs, default=1.0))

    def place(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * value / end

    return place, [(place(step * n), _short(step * n)) for n in range(round(end / step) + 1)]


def _log_axis(xs: Sequence[float]) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """Place values by their logarithm; 0 lies one decade (at least) left of the least."""
    positive = [value for value in xs if value > 0] or [1.0]
    low, high = math.log10(positive[0]), math.log10(positive[-1])
    zero = any(value <= 0 for value in xs)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    inset = (_RIGHT - _LEFT) * (0.14 if zero else 0.03)

    def place(value: float) -> float:
        if value <= 0:
            return _LEFT + 6
        return _LEFT + inset + (_RIGHT - 8 - _LEFT - inset) * (math.log10(value) - low) / (high - low)

    powers = [10.0**n for n in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    ticks = powers if len(powers) > 1 else positive[:: -(-len(positive) // 6)]
    # The last value is the one people look for.
    if ticks[-1] < positive[-1] and place(positive[-1]) - place(ticks[-1]) > 24:
        ticks = [*ticks, positive[-1]]
    labelled = [(place(value), _short(value)) for value in ticks]
    return place, [*([(place(0.0), "0")] if zero else []), *labelled]


def _short(value: float) -> str:
    """Write a number as an axis does: 5M, 100k, 512."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scale = 1e3 if letter == "k" else size
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}"
