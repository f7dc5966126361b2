"""Geometry of a matched pair: query left, database image right, correspondences between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilias_fast.report.data import MatchedPair
from ilias_fast.rerank.correspondences import outline

__all__ = ["Line", "Pair", "draw_pair"]

_HEIGHT, _GAP = 240.0, 14.0


@dataclass(frozen=True)
class Line:
    """A correspondence, in the coordinates of the drawing."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Pair:
    """A drawing of `width` x `height`: the query at (0, 0), the database image from x = `database_x`.

    Attributes:
        frame: Corners of the query's frame mapped by the model, relative to the database image, as the
            `points` of an SVG polygon; "" without a model.
        hidden: Correspondences not drawn because there are too many.
    """

    number: int
    query_number: int
    query_id: str
    database_id: str
    method: str
    positive: bool
    query_image: int
    database_image: int
    width: float
    height: float
    query_width: float
    database_x: float
    database_width: float
    inlier_lines: list[Line]
    other_lines: list[Line]
    frame: str
    inliers: int
    tentatives: int
    hidden: int


def draw_pair(
    pair: MatchedPair,
    *,
    number: int,
    query_number: int,
    method: str,
    positive: bool,
    images: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    max_lines: int,
) -> Pair:
    """Lay out a pair.

    Args:
        pair: The correspondences.
        number: Position of the pair on the page.
        query_number: Position of its query in the report.
        method: Label of the method.
        positive: Whether the database image is a positive of the query.
        images: Numbers of the query's and the database image's picture on the page.
        sizes: Width and height of both pictures; only the aspect ratio matters.
        max_lines: Bound on the lines drawn; inliers first.
    """
    query_width, database_width = (_HEIGHT * min(3.0, max(0.25, width / height)) for width, height in sizes)
    offset = query_width + _GAP
    query_xy = np.asarray(pair.query_xy, dtype=np.float64).reshape(-1, 2) * (query_width, _HEIGHT)
    database_xy = np.asarray(pair.database_xy, dtype=np.float64).reshape(-1, 2) * (database_width, _HEIGHT)
    inliers = np.asarray(pair.inliers, dtype=bool)
    shown_inliers = _spread(np.flatnonzero(inliers), max_lines)
    shown_others = _spread(np.flatnonzero(~inliers), max_lines - len(shown_inliers))

    def lines(rows: NDArray[np.int64]) -> list[Line]:
        ends = np.concatenate((query_xy[rows], database_xy[rows] + (offset, 0.0)), axis=1)
        return [Line(*(round(v, 1) for v in row)) for row in ends.tolist()]

    return Pair(
        number=number,
        query_number=query_number,
        query_id=pair.query_id,
        database_id=pair.database_id,
        method=method,
        positive=positive,
        query_image=images[0],
        database_image=images[1],
        width=round(offset + database_width, 1),
        height=_HEIGHT,
        query_width=round(query_width, 1),
        database_x=round(offset, 1),
        database_width=round(database_width, 1),
        inlier_lines=lines(shown_inliers),
        other_lines=lines(shown_others),
        frame="" if pair.model is None else _frame(np.asarray(pair.model, dtype=np.float64), database_width),
        inliers=int(inliers.sum()),
        tentatives=len(inliers),
        hidden=len(inliers) - len(shown_inliers) - len(shown_others),
    )


def _spread(rows: NDArray[np.intp], count: int) -> NDArray[np.int64]:
    """Return at most `count` of `rows`, evenly spread over them."""
    if len(rows) <= count:
        return rows.astype(np.int64)
    chosen: Sequence[int] | NDArray[np.int64] = np.arange(count, dtype=np.int64) * len(rows) // max(1, count)
    return rows[chosen].astype(np.int64)


def _frame(model: NDArray[np.float64], database_width: float) -> str:
    """Map the corners of the unit square and scale them to the database picture."""
    mapped = outline(model, 1, 1)[:-1] * (database_width, _HEIGHT)
    # A wild model must not produce coordinates that a browser rounds to nonsense.
    clipped = np.clip(mapped, -1e5, 1e5)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in clipped.tolist())
