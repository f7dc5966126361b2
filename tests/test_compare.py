"""Comparing methods, results tables, the published leaderboard, rank ranges, image with text."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.datasets import Dataset
from ilias_fast.errors import ParameterError
from ilias_fast.evaluate import (
    Evaluation,
    MissingQueriesWarning,
    compare,
    evaluate,
    format_results,
    fuse_text,
    leaderboard,
    rank_ranges,
)
from ilias_fast.evaluate.result import TaskScores
from ilias_fast.run import Run
from tests.test_evaluate import IMAGE, TEXT, make_dataset


def evaluation_of(aps: NDArray[np.float64], queries: list[str] | None = None, k: int = 1000) -> Evaluation:
    names = tuple(queries or [f"i{row}/query/Q.jpg" for row in range(len(aps))])
    ones = np.ones(len(aps), np.int64)
    scores = TaskScores("image", names, aps, aps, ones, ones, (), {}, {}, {}, {})
    return Evaluation(k, False, "d", {}, {"image": scores})


def test_wins_losses_and_correlation() -> None:
    first = np.array([10.0, 20, 30, 40])
    second = np.array([20.0, 10, 30, 60])
    found = compare({"a": evaluation_of(first), "b": evaluation_of(second)}, samples=500)
    (pair,) = found.pairs
    assert (pair.wins, pair.losses, pair.ties) == (2, 1, 1)
    assert pair.delta == pytest.approx(5)
    assert pair.pearson == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert [method.map for method in found.methods] == [25, 30]
    assert pair.interval[0] <= pair.delta <= pair.interval[1]
    assert json.loads(found.to_json())["pairs"][0]["wins"] == 2
    constant = compare({"a": evaluation_of(first), "b": evaluation_of(np.full(4, 7.0))}, samples=10)
    assert constant.pairs[0].pearson is None


def test_the_randomisation_test_equals_all_assignments() -> None:
    difference = np.array([3.0, -1, 4, 1, -5, 9, 2, 6])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    exact = (np.abs(signs @ difference) >= abs(difference.sum()) - 1e-9).mean()
    zero = np.full(8, 50.0)
    found = compare({"a": evaluation_of(zero), "b": evaluation_of(zero + difference)}, samples=40_000, seed=3)
    assert found.pairs[0].p == pytest.approx(exact, abs=0.01)
    same = compare({"a": evaluation_of(zero), "b": evaluation_of(zero)}, samples=100)
    assert same.pairs[0].p == 1.0


def test_intervals_have_their_confidence(rng: np.random.Generator) -> None:
    """Over many samples of a known population, about 90% of the intervals hold its mean."""
    inside = 0
    for trial in range(120):
        aps = rng.beta(0.5, 1.0, 200) * 100
        found = compare({"a": evaluation_of(aps)}, samples=400, confidence=0.9, seed=trial)
        low, high = found.methods[0].interval
        inside += low <= 100 / 3 <= high
    assert 97 <= inside <= 118


def test_only_common_queries_count() -> None:
    a = evaluation_of(np.array([10.0, 20]), ["a/q", "b/q"])
    b = evaluation_of(np.array([40.0, 30]), ["c/q", "b/q"])
    found = compare({"a": a, "b": b}, samples=5)
    assert (found.queries, found.left_out) == (("b/q",), 2)
    assert found.pairs[0].delta == 10
    assert compare({"a": a, "b": b}, samples=5).to_dict() == found.to_dict()


def test_what_cannot_be_compared() -> None:
    a = evaluation_of(np.array([10.0]))
    for change, message in (
        ({}, "expected one k and one task"),
        ({"a": a, "b": evaluation_of(np.array([1.0]), k=5)}, "expected one k and one task"),
        ({"a": a, "b": evaluation_of(np.array([1.0]), ["x/q"])}, "no query in common"),
    ):
        with pytest.raises(ParameterError, match=message):
            compare(change)  # type: ignore[arg-type]
    wrong = [{"samples": 0}, {"confidence": 1.0}, {"confidence": np.nan}, {"task": "text"}, {"seed": -1}]
    for options in wrong:
        with pytest.raises(ParameterError):
            compare({"a": a}, **options)  # type: ignore[arg-type]


def results() -> dict[str, Evaluation]:
    dataset = make_dataset()
    worse = {query: dict(list(found.items())[:1]) for query, found in IMAGE.items()}
    return {
        "one_a": evaluate(Run.from_dict({**IMAGE, **TEXT}), dataset),
        "two&b": evaluate(Run.from_dict(worse), dataset),
    }


def test_tables_as_text() -> None:
    found = results()
    markdown = format_results(found, "md").splitlines()
    assert markdown[0].startswith("| method | task | queries | mAP@1k | oracle | scale 0-0.069 |")
    assert markdown[2].startswith("| one\\_a | image | 3 | **52.8** | **83.3** |")
    assert len({line.count("|") for line in markdown[:2]}) == 1
    latex = format_results(found, "latex")
    assert r"one\_a & image & 3 & \textbf{52.8}" in latex
    assert r"two\&b & image" in latex
    assert latex.count("tabular") == 2
    rows = list(csv.DictReader(io.StringIO(format_results(found, "csv"))))
    assert float(rows[0]["mAP@1k"]) == found["one_a"].tasks["image"].map
    assert rows[1]["task"] == "text"
    assert rows[1]["category art"] != ""
    assert rows[0]["category toy"] == "", "nothing is not zero"
    content = json.loads(format_results(found, "json", published=True))
    assert content["methods"]["two&b"]["tasks"]["image"]["map"] == found["two&b"].map
    assert len(content["published"]) == len(leaderboard())
    for wrong in ({}, {"a": evaluation_of(np.ones(1)), "b": evaluation_of(np.ones(1), k=3)}):
        with pytest.raises(ParameterError, match="expected one k"):
            format_results(wrong, "md")
    with pytest.raises(ParameterError, match="form: expected 'md'"):
        format_results(found, "xml")  # type: ignore[arg-type]


def test_the_leaderboard_marks_its_sources_and_keeps_blanks() -> None:
    rows = leaderboard()
    assert len(rows) == 92
    assert {row.task for row in rows} == {"i2i", "t2i"}
    by_name = {(row.task, row.registry_name): row for row in rows}
    siglip = by_name["i2i", "vit_large_patch16_siglip_384.webli"]
    assert (siglip.map_5m, siglip.map_100m, siglip.map_100m_adapted) == (24.2, 19.6, 28.9)
    partly = by_name["i2i", "vit_large_patch16_siglip_384.v2_webli"]
    assert partly.quality == "partly unreadable"
    assert partly.map_5m is None
    assert all(row.quality for row in rows)
    assert not any(value == 0 for row in rows for value in (row.map_5m, row.map_100m))
    table = format_results(results(), "md", published=True)
    line = next(line for line in table.splitlines() if "dinov3\\_vitl16" in line)
    assert "secondary source" in line
    assert "**" not in line


def test_the_leaderboard_is_the_specification_s(examples: Path) -> None:
    import ilias_fast.evaluate as package

    here = Path(package.__file__).with_name("leaderboard.csv")
    assert here.read_bytes() == (examples.parent / "leaderboard.csv").read_bytes()


def test_rank_ranges_by_hand() -> None:
    dataset = make_dataset()
    run = Run.from_dict(IMAGE)
    found = rank_ranges(run, dataset, by="clutter", edges=(1, 2))
    assert found.ranges == ("1-1", "2-2", "not ranked")
    # a/pos/0: clutter 0, rank 1 of Q0, absent of Q1; a/pos/1: clutter 18, rank 3 and 2; b/pos/0: 60, rank 2.
    assert found.counts.tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0], [0, 1, 0]]
    assert found.percent[0].tolist() == [50, 0, 50]
    assert np.isnan(found.percent[2]).all()
    assert rank_ranges(run, dataset, by="scale").counts.sum() == 5
    for wrong in ({"by": "size"}, {"edges": (5, 5)}, {"edges": (0,)}):
        with pytest.raises(ParameterError):
            rank_ranges(run, dataset, **wrong)  # type: ignore[arg-type]
    bare = make_dataset(scale={}, clutter={})
    with pytest.raises(ParameterError, match="no clutter"):
        rank_ranges(run, bare)


def test_image_and_text_are_averaged() -> None:
    dataset: Dataset = make_dataset()
    image = Run.from_dict({"a/query/Q0.jpg": {"x": 1.0, "y": 0.5}})
    text = Run.from_dict({"a/query/T.txt": {"y": 0.9, "z": 0.1}})
    fused = fuse_text(image, text, dataset)
    result = fused["a/query/Q0.jpg"]
    assert result.ids == ["y", "x", "z"]
    assert result.scores == pytest.approx([0.7, 0.55, 0.3])
    assert fuse_text(image, text, dataset, weight=1)["a/query/Q0.jpg"].ids[0] == "x"
    with pytest.raises(ParameterError, match="weight"):
        fuse_text(image, text, dataset, weight=2)
    with pytest.raises(ParameterError, match=r"no text query of the instance of 'b/query/Q0\.jpg'"):
        fuse_text(Run.from_dict({"b/query/Q0.jpg": {"x": 1.0}}), text, dataset)


def test_image_queries_are_compared_with_the_text_of_their_instance() -> None:
    dataset = Dataset(
        "d",
        Path(),
        Path(),
        ("a/query/Q0.jpg", "a/query/Q1.jpg", "b/query/Q0.jpg", "c/query/Q0.jpg"),
        ("a/query/T.txt", "b/query/T.txt", "c/query/T.txt"),
        ("a/pos/0", "b/pos/0", "c/pos/0"),
    )
    image = {
        "a/query/Q0.jpg": {"a/pos/0": 1.0},
        "a/query/Q1.jpg": {"x": 2.0, "a/pos/0": 1.0},
        "b/query/Q0.jpg": {"b/pos/0": 1.0},
        "c/query/Q0.jpg": {"c/pos/0": 1.0},
    }
    text = {
        "b/query/T.txt": {"x": 2.0, "y": 1.5, "b/pos/0": 1.0},
        "a/query/T.txt": {"x": 2.0, "a/pos/0": 1.0},
    }
    with pytest.warns(MissingQueriesWarning):
        scores = {
            name: evaluate(Run.from_dict(run), dataset) for name, run in (("i2i", image), ("t2i", text))
        }
    found = compare(scores, pair="instance", samples=200)
    assert found.queries == ("a/query/Q0.jpg", "a/query/Q1.jpg", "b/query/Q0.jpg")
    assert (found.task, found.left_out) == ("image and text", 1)
    (pair,) = found.pairs
    assert (pair.wins, pair.losses, pair.ties) == (0, 2, 1)
    assert pair.delta == pytest.approx(100 * ((0.5 + 0.5 + 1 / 3) - (1 + 0.5 + 1)) / 3)
    expected = np.corrcoef([1, 0.5, 1], [0.5, 0.5, 1 / 3])[0, 1]
    assert pair.pearson == pytest.approx(expected)
    with pytest.raises(ParameterError, match="pair='instance' compares image queries with text"):
        compare(scores)
    with pytest.raises(ParameterError, match="pair: expected"):
        compare(scores, pair="object")  # type: ignore[arg-type]
