"""Report data that contradicts itself is refused with an error that says where."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ilias_fast import errors
from ilias_fast.report import (
    GroupScore,
    MatchedPair,
    MethodResult,
    QueryResult,
    Ranking,
    ReportData,
    ReportOptions,
)


def broken_pair(**changes: object) -> dict[str, object]:
    base = MatchedPair("q", "p", "g", np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3, bool))
    return {"matches": [dataclasses.replace(base, **changes)]}


GOOD = MethodResult("g", "G", 50, 60, {"q": 50.0})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": []}, errors.InputError, "at least one method"),
        ({"queries": []}, errors.InputError, "at least one query, found none"),
        ({"k": 0}, errors.ParameterError, "k: expected at least 1"),
        ({"distractors": -1}, errors.ParameterError, "distractors"),
        ({"baseline": "other"}, errors.InputError, "'other' is not a method"),
        ({"methods": [GOOD, GOOD]}, errors.DuplicateIdError, "'g' occurs twice"),
        (
            {"queries": [QueryResult("q", []), QueryResult("q", [])]},
            errors.DuplicateIdError,
            "'q' occurs twice",
        ),
        (
            {"methods": [MethodResult("g", "G", 5, 6, {"q": float("nan")})]},
            errors.NonFiniteError,
            "AP of 'q'",
        ),
        ({"methods": [MethodResult("g", "G", float("inf"), 6, {})]}, errors.NonFiniteError, "map"),
        ({"methods": [MethodResult("g", "G", 5, float("nan"), {})]}, errors.NonFiniteError, "oracle"),
        ({"methods": [MethodResult("g", "G", 5, 6, {"q": 101.0})]}, errors.ParameterError, "found 101"),
        ({"methods": [MethodResult("g", "G", 5, 6, {"z": 1.0})]}, errors.UnknownIdError, "'z' is not among"),
        (
            {"methods": [MethodResult("g", "G", 5, 6, {}, {"scale": [GroupScore("a", -1.0)]})]},
            errors.ParameterError,
            "scale 'a'",
        ),
        (
            {
                "methods": [
                    MethodResult("g", "G", 5, 6, {}, categories=[GroupScore("a", 1), GroupScore("a", 2)])
                ]
            },
            errors.DuplicateIdError,
            "categories",
        ),
        ({"queries": [QueryResult("q", [], {"x": Ranking([], [])})]}, errors.InputError, "no such method"),
        (
            {"queries": [QueryResult("q", [], {"g": Ranking(["a"], [])})]},
            errors.ShapeError,
            "1 ids, 0 scores",
        ),
        (
            {"queries": [QueryResult("q", [], {"g": Ranking(["a", "a"], [1, 0])})]},
            errors.DuplicateIdError,
            "'a' occurs twice",
        ),
        (broken_pair(query_id="z"), errors.UnknownIdError, "'z' is not among"),
        (broken_pair(method="z"), errors.InputError, "'z' is not a method"),
        (broken_pair(query_xy=np.zeros(3)), errors.ShapeError, "query_xy"),
        (broken_pair(query_xy=0.5), errors.ShapeError, "query_xy"),
        (broken_pair(database_xy=np.zeros((2, 2))), errors.ShapeError, "database_xy"),
        (broken_pair(database_xy=np.full((3, 2), np.nan)), errors.NonFiniteError, "database_xy"),
        (
            broken_pair(query_xy=np.full((3, 2), 200.0)),
            errors.ParameterError,
            "divide x by the image's width",
        ),
        (broken_pair(query_xy=np.full((3, 2), "a")), errors.DtypeError, "query_xy"),
        (broken_pair(inliers=np.zeros(3)), errors.DtypeError, "inliers"),
        (broken_pair(inliers=np.zeros(2, bool)), errors.ShapeError, "inliers"),
        (broken_pair(model=np.eye(4)), errors.ShapeError, "model"),
        (broken_pair(model=np.full((2, 3), np.inf)), errors.NonFiniteError, "model"),
    ],
)
def test_bad_data(changes: dict[str, object], error: type[Exception], message: str) -> None:
    good: dict[str, object] = {
        "title": "t",
        "methods": [GOOD],
        "queries": [QueryResult("q", ["p"])],
        "distractors": 1,
    }
    ReportData(**good)  # type: ignore[arg-type]
    with pytest.raises(error, match=message) as caught:
        ReportData(**{**good, **changes})  # type: ignore[arg-type]
    assert isinstance(caught.value, errors.IliasFastError)


@pytest.mark.parametrize(
    "options", [{"results": 0}, {"quality": 96}, {"lines": 1.5}, {"strips": -1}, {"thumbnail": True}]
)
def test_bad_options(options: dict[str, int]) -> None:
    with pytest.raises(errors.ParameterError, match=next(iter(options))):
        ReportOptions(**options)
