"""Choosing the weights of an ensemble and the length of the shortlist on a validation set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from itertools import product
from pathlib import Path
from typing import NamedTuple

from ilias_fast._files import StrPath, written
from ilias_fast.errors import ParameterError
from ilias_fast.rerank.ensemble import ensemble
from ilias_fast.rerank.scores import LocalScores
from ilias_fast.run import Run

__all__ = ["GAMMAS", "LAMBDAS", "Surface", "SurfacePoint", "tune"]

LAMBDAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
GAMMAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_CELL, _LEFT, _TOP = 46, 56, 40
_WIDEST = 1300
"""Pictures of more shortlists than fit in so many pixels have several rows."""
_BEST = ' stroke="#000" stroke-width="2"'


class SurfacePoint(NamedTuple):
    """One choice and what it is worth.

    Attributes:
        shortlist: Images re-ranked, M.
        lam: Weight of the global score.
        gamma: Slope of the local score.
        value: What `evaluate` returned.

    Examples:
        >>> point = SurfacePoint(100, lam=0.5, gamma=0.1, value=48.5)
        >>> point.shortlist, point.value
        (100, 48.5)
    """

    shortlist: int
    lam: float
    gamma: float
    value: float


@dataclass(frozen=True)
class Surface:
    """The values of all choices.

    Attributes:
        method: The method that was tuned.
        points: All choices, in the order shortlist, lam, gamma.
        baseline: Value of the run without re-ranking.
        name: What the values are, "mAP@1k" for example.

    Examples:
        >>> points = SurfacePoint(100, 0.5, 0.1, 48.5), SurfacePoint(100, 0.7, 0.1, 50.0)
        >>> surface = Surface("spatial", points, baseline=45.0)
        >>> surface.best.lam, surface.axes()
        (0.7, ([100], [0.5, 0.7], [0.1]))
    """

    method: str
    points: tuple[SurfacePoint, ...]
    baseline: float
    name: str = "value"

    @property
    def best(self) -> SurfacePoint:
        """The best choice; among equals the shortest shortlist, then the one given first."""
        return max(self.points, key=lambda point: (point.value, -point.shortlist))

    def axes(self) -> tuple[list[int], list[float], list[float]]:
        """Return the shortlists, lambdas and gammas tried, in the order given."""
        return (
            list(dict.fromkeys(point.shortlist for point in self.points)),
            list(dict.fromkeys(point.lam for point in self.points)),
            list(dict.fromkeys(point.gamma for point in self.points)),
        )

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(
            {
                "method": self.method,
                "measure": self.name,
                "baseline": self.baseline,
                "best": self.best._asdict(),
                "points": [point._asdict() for point in self.points],
            },
            indent=1,
        )

    def to_svg(self) -> str:
        """Return a picture: lambda by gamma for every shortlist, coloured by the gain over no re-ranking."""
        shortlists, lams, gammas = self.axes()
        value = {point[:3]: point.value for point in self.points}
        reach = max((abs(v - self.baseline) for v in value.values()), default=0.0) or 1.0
        wide = _LEFT + _CELL * len(gammas) + 24
        high = _TOP + 26 * len(lams) + 16
        across = min(len(shortlists), max(1, _WIDEST // wide))
        width, height = wide * across + 8, high * -(-len(shortlists) // across) + 8
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif" font-size="12" text-anchor="middle">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
        ]
        for place, shortlist in enumerate(shortlists):
            x0, y0 = place % across * wide + _LEFT, place // across * high
            title = f"{self.method}, M = {shortlist}: {self.name} (without: {self.baseline:.1f})"
            parts.append(f'<text x="{x0 - 48}" y="{y0 + 18}" text-anchor="start">{escape(title)}</text>')
            parts += [
                f'<text x="{x0 + _CELL * (i + 0.5)}" y="{y0 + _TOP - 6}" fill="#555">γ {gamma:g}</text>'
                for i, gamma in enumerate(gammas)
            ]
            for row, lam in enumerate(lams):
                y = y0 + _TOP + 26 * row
                parts.append(f'<text x="{x0 - 26}" y="{y + 17}" fill="#555">λ {lam:g}</text>')
                for i, gamma in enumerate(gammas):
                    found = value[shortlist, lam, gamma]
                    best = self.best[:3] == (shortlist, lam, gamma)
                    parts.append(
                        f'<rect x="{x0 + _CELL * i}" y="{y}" width="{_CELL - 2}" height="24" '
                        f'fill="{_colour((found - self.baseline) / reach)}"'
                        f"{_BEST if best else ''}/>"
                        f'<text x="{x0 + _CELL * (i + 0.5) - 1}" y="{y + 17}">{found:.1f}</text>'
                    )
        return "\n".join([*parts, "</svg>"]) + "\n"

    def save(self, path: StrPath) -> None:
        """Write the surface: `.json` with all values, or `.svg`, a picture.

        Args:
            path: Where to; the extension decides the format.

        Raises:
            ParameterError: Another extension.
            StorageError: The file cannot be written.
        """
        path = Path(path)
        if path.suffix not in (".json", ".svg"):
            raise ParameterError(f"{path}: expected a file name ending in .json or .svg")
        with written(path) as file:
            file.write((self.to_json() + "\n" if path.suffix == ".json" else self.to_svg()).encode())


def _colour(gain: float) -> str:
    """White for no gain, green for the largest, red for the largest loss."""
    share = min(1.0, abs(gain)) ** 0.7
    target = (86, 180, 110) if gain > 0 else (222, 110, 96)
    return "#" + "".join(f"{round(255 + (channel - 255) * share):02x}" for channel in target)


def tune(
    run: Run,
    local: LocalScores,
    evaluate: Callable[[Run], float],
    *,
    lams: Iterable[float] = LAMBDAS,
    gammas: Iterable[float] = GAMMAS,
    shortlists: Iterable[int] | None = None,
    calibrate: bool | None = None,
    name: str = "value",
    progress: Callable[[int, int], object] | None = None,
) -> Surface:
    """Evaluate the ensemble for every choice of weights and shortlist; no image is compared again.

    Args:
        run: The run the local scores were made of.
        local: Raw local scores, over the longest shortlist to be tried.
        evaluate: Returns the value of a run, larger is better (mAP).
        lams: Weights of the global score.
        gammas: Slopes of the local score; not used by methods without a sigmoid.
        shortlists: Images re-ranked, M; None for 50, 100, 200, ... up to what was scored.
        calibrate: See `ensemble`.
        name: What the values are, for tables and pictures.
        progress: Called with (choices done, choices in all).

    Returns:
        The value of every choice, and of the run itself.

    Raises:
        ParameterError: A weight or a shortlist is out of range, or there is nothing to try.
        ShapeError: The local scores belong to another run.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.run import Run
        >>> run = Run.from_dict({"query.jpg": {"a.jpg": 0.5, "b.jpg": 0.4}})
        >>> local = LocalScores(run, "spatial", SpatialOptions(), 2, np.array([0, 12], np.float32))
        >>> first = lambda run: float(run["query.jpg"].ids[0] == "b.jpg")
        >>> surface = tune(run, local, first, lams=(0.5, 1.0), gammas=(0.1,), shortlists=(2,))
        >>> surface.baseline, surface.best.lam
        (0.0, 0.5)
    """
    lengths = _lengths(local.shortlist) if shortlists is None else list(shortlists)
    choices = list(product(dict.fromkeys(lengths), dict.fromkeys(lams), dict.fromkeys(gammas)))
    if not choices:
        raise ParameterError("lams, gammas, shortlists: expected at least one value each, found none")
    points: list[SurfacePoint] = []
    shortened: dict[int, LocalScores] = {}
    for shortlist, lam, gamma in choices:
        if shortlist not in shortened:
            shortened = {shortlist: local.truncate(shortlist)}
        tried = ensemble(run, shortened[shortlist], lam=lam, gamma=gamma, calibrate=calibrate)
        points.append(SurfacePoint(shortlist, lam, gamma, float(evaluate(tried))))
        if progress is not None:
            progress(len(points), len(choices))
    return Surface(local.method, tuple(points), float(evaluate(run)), name)


def _lengths(most: int) -> list[int]:
    lengths, length = [], 50
    while length < most:
        lengths.append(length)
        length *= 2 if str(length)[0] != "2" else 5 / 2  # type: ignore[assignment]
        length = int(length)
    return [*lengths, most]
