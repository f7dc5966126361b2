"""What must hold of report data: unique ids, known names, values in their ranges."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ilias_fast import _arrays
from ilias_fast.errors import (
    DtypeError,
    DuplicateIdError,
    InputError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    UnknownIdError,
)

if TYPE_CHECKING:
    from ilias_fast.report.data import MatchedPair, MethodResult, QueryResult
    from ilias_fast.report.figures import LinePlot

__all__ = ["check_method", "check_pair", "check_plot", "check_query", "unique"]


def unique(where: str, values: Iterable[str]) -> set[str]:
    """Return the values as a set; refuse one that occurs twice."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise DuplicateIdError(f"{where}: {value!r} occurs twice; each must be unique")
        seen.add(value)
    return seen


def check_percent(where: str, value: float) -> None:
    value = _arrays.real(where, value)
    if not math.isfinite(value):
        raise NonFiniteError(
            f"{where}: expected percent in 0..100, found {value}; leave out what was not evaluated"
        )
    if not -1e-9 <= value <= 100 + 1e-9:
        raise ParameterError(f"{where}: expected percent in 0..100, found {value}")


def check_method(method: MethodResult, ids: set[str]) -> None:
    """Refuse a method with a value out of its range, or of a query that the report lacks."""
    where = f"method {method.name!r}"
    check_percent(f"{where}, map", method.map)
    if method.oracle is not None:
        check_percent(f"{where}, oracle", method.oracle)
    for id_, ap in method.aps.items():
        if id_ not in ids:
            raise UnknownIdError(f"{where}, aps: {id_!r} is not among the {len(ids)} queries of the report")
        check_percent(f"{where}, AP of {id_!r}", ap)
    listed = [
        *method.groups.items(),
        ("categories", method.categories),
        ("subcategories", method.subcategories),
    ]
    for group, scores in listed:
        unique(f"{where}, {group}", (score.label for score in scores))
        for score in scores:
            if score.map is not None:
                check_percent(f"{where}, {group} {score.label!r}", score.map)


def check_query(query: QueryResult, names: set[str]) -> None:
    """Refuse a query whose rankings are of unknown methods, uneven, or repeat an id."""
    for name, ranking in query.rankings.items():
        where = f"query {query.id!r}, ranking of {name!r}"
        if name not in names:
            raise InputError(f"{where}: no such method; expected one of {sorted(names)}")
        if len(ranking.ids) != len(ranking.scores):
            raise ShapeError(
                f"{where}: expected one score for each id, found {len(ranking.ids)} ids, "
                f"{len(ranking.scores)} scores"
            )
        unique(where, ranking.ids)


def check_pair(where: str, pair: MatchedPair, ids: set[str], names: set[str]) -> None:
    """Refuse a pair that is of an unknown query or method, or whose arrays do not fit."""
    if pair.query_id not in ids:
        raise UnknownIdError(f"{where}: {pair.query_id!r} is not among the {len(ids)} queries of the report")
    if pair.method not in names:
        raise InputError(f"{where}: {pair.method!r} is not a method; expected one of {sorted(names)}")
    query_xy = _arrays.any_array(f"{where}.query_xy", pair.query_xy, "t, 2")
    database_xy = _arrays.any_array(f"{where}.database_xy", pair.database_xy, "t, 2")
    inliers = _arrays.any_array(f"{where}.inliers", pair.inliers, "t")
    count = len(query_xy) if query_xy.ndim else -1
    for name, array, shape in (
        ("query_xy", query_xy, (count, 2)),
        ("database_xy", database_xy, (count, 2)),
        ("inliers", inliers, (count,)),
    ):
        if array.shape != shape:
            raise ShapeError(f"{where}.{name}: expected shape {list(shape)}, found {list(array.shape)}")
    for name, array in (("query_xy", query_xy), ("database_xy", database_xy)):
        if array.dtype.kind not in "fiu":
            raise DtypeError(f"{where}.{name}: expected real numbers, found {array.dtype}")
        if not np.isfinite(array).all():
            raise NonFiniteError(f"{where}.{name}: expected coordinates in [0, 1], found NaN or infinity")
        if count and (array.min() < -0.01 or array.max() > 1.01):
            raise ParameterError(
                f"{where}.{name}: expected coordinates in [0, 1], found {array.min()} to {array.max()}; "
                f"divide x by the image's width and y by its height"
            )
    if inliers.dtype != np.bool_:
        raise DtypeError(f"{where}.inliers: expected bool, found {inliers.dtype}")
    if pair.model is not None:
        model = _arrays.any_array(f"{where}.model", pair.model, "2 or 3, 3")
        if model.shape not in ((2, 3), (3, 3)):
            raise ShapeError(f"{where}.model: expected shape [2, 3] or [3, 3], found {list(model.shape)}")
        if model.dtype.kind not in "fiu" or not np.isfinite(model).all():
            raise NonFiniteError(f"{where}.model: expected finite numbers, found {model.tolist()}")


def check_plot(where: str, plot: LinePlot) -> None:
    """Refuse a plot that cannot be drawn."""
    if not plot.curves:
        raise InputError(f"{where}: expected at least one curve, found none")
    for curve in plot.curves:
        if len(curve.x) != len(curve.y) or (curve.spread and len(curve.spread) != len(curve.x)):
            raise ShapeError(
                f"{where}, curve {curve.label!r}: expected as many y as x, found {len(curve.x)} and "
                f"{len(curve.y)}, and a spread for all or none, found {len(curve.spread)}"
            )
        for value in (*curve.x, *curve.y, *curve.spread):
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"{where}, curve {curve.label!r}: expected finite numbers, found {value}"
                )
