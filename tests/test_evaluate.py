"""Average precision and the ILIAS protocol, against scikit-learn and against plain dictionaries."""

from __future__ import annotations

import json
import pickle
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilias_fast import _core
from ilias_fast.datasets import Dataset
from ilias_fast.errors import (
    DatasetError,
    DtypeError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    StorageError,
    UnknownIdError,
)
from ilias_fast.evaluate import Evaluation, MissingQueriesWarning, evaluate
from ilias_fast.evaluate.ilias import CLUTTER_BOUNDS, SCALE_BOUNDS
from ilias_fast.kernels import average_precision
from ilias_fast.run import Run
from tests.oracles import evaluate as oracle

# --- average_precision ---

lists = st.lists(st.tuples(st.one_of(st.integers(-2, 2), st.floats(-1, 1)), st.booleans()), max_size=30)


@given(lists, st.integers(1, 35), st.integers(0, 5))
def test_average_precision_equals_scikit_learn(
    entries: list[tuple[float, bool]], k: int, unlisted: int
) -> None:
    scores = np.array([score for score, _ in entries], np.float64)
    relevant = np.array([flag for _, flag in entries], bool)
    ids = [str(position) for position in range(len(entries))]
    positives = [name for name, flag in zip(ids, relevant, strict=True) if flag]
    positives += [f"unlisted{number}" for number in range(unlisted)]
    expected, _ = oracle.average_precision(ids, scores.tolist(), positives, k)
    found = average_precision(scores, relevant, positives=len(positives), k=k)
    assert found == pytest.approx(expected, abs=1e-12)


def test_average_precision_of_long_lists(rng: np.random.Generator) -> None:
    for ties in (10, 10**9):
        scores = rng.integers(0, ties, 5000).astype(np.float32)
        relevant = rng.random(5000) < 0.02
        ids = list(map(str, range(5000)))
        positives = [name for name, flag in zip(ids, relevant, strict=True) if flag]
        expected, _ = oracle.average_precision(ids, scores.tolist(), positives, 1000)
        found = average_precision(scores, relevant, positives=len(positives), k=1000)
        assert found == pytest.approx(expected, abs=1e-12)


def test_ties_at_the_cut_are_broken_by_input_order() -> None:
    assert average_precision([2, 1, 1], [False, True, False], positives=1, k=2) == 0.5
    assert average_precision([2, 1, 1], [False, False, True], positives=1, k=2) == 0.0


def test_average_precision_of_little() -> None:
    assert average_precision(np.empty(0), np.empty(0, bool), positives=3, k=10) == 0.0
    assert average_precision([1.0], [False], positives=0, k=10) == 0.0
    assert average_precision([1.0], [True], positives=2**62, k=2**62) == pytest.approx(2**-62)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": 0}, ParameterError, "k: expected 1 or more, found 0"),
        ({"k": -1}, ParameterError, "k: expected 1 or more, found -1"),
        ({"k": 2**63}, ParameterError, "fits 64 bits"),
        ({"k": 1.5}, ParameterError, "k: expected a whole number, found 1.5"),
        ({"positives": 0}, ParameterError, "at least 1, the number of relevant results"),
        ({"positives": -1}, ParameterError, "positives: expected 0 or more"),
        ({"relevant": [True]}, ShapeError, "relevant: expected 2 values"),
        ({"relevant": [1, 0]}, DtypeError, "relevant: expected"),
        ({"scores": [[1.0, 2.0]]}, ShapeError, "scores: expected shape"),
        ({"scores": ["a", "b"]}, DtypeError, "scores: expected"),
        ({"scores": [1.0, np.nan]}, NonFiniteError, "scores: row 0, column 1 is NaN"),
        ({"scores": [np.inf, 1.0]}, NonFiniteError, "scores: row 0, column 0 is inf"),
    ],
)
def test_average_precision_of_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    good: dict[str, Any] = {"scores": [1.0, 0.5], "relevant": [True, False], "positives": 1, "k": 2}
    assert average_precision(**good) == 1.0
    with pytest.raises(error) as raised:
        average_precision(**(good | change))
    assert message in str(raised.value)


def test_the_core_checks_what_python_would_not_send() -> None:
    arrays = {
        "offsets": np.array([0, 1], np.int64),
        "rows": np.array([5], np.int64),
        "scores": np.array([1.0]),
        "instances": np.array([0], np.int32),
        "groups": np.array([0], np.uint32),
        "queries": np.array([0], np.int32),
        "positives": np.array([1], np.int64),
    }
    with pytest.raises(ParameterError, match="rows: query 0"):
        _core.judge(**arrays, group_count=0, k=1, threads=1)
    with pytest.raises(ShapeError, match="positives: expected 3, found 1"):
        _core.judge(**arrays, group_count=2, k=1, threads=1)
    with pytest.raises(ParameterError, match="groups: expected at most 31, found 32"):
        _core.judge(**arrays, group_count=32, k=1, threads=1)


# --- evaluate ---


def make_dataset(**change: Any) -> Dataset:
    """Three instances; a has two image queries, b one, c only a text query."""
    arguments: dict[str, Any] = {
        "name": "small",
        "root": Path("small"),
        "core": Path("small"),
        "image_queries": ("a/query/Q0.jpg", "a/query/Q1.jpg", "b/query/Q0.jpg"),
        "text_queries": ("a/query/T.txt", "c/query/T.txt"),
        "positives": ("a/pos/0.jpg", "a/pos/1.jpg", "b/pos/0.jpg", "c/pos/0.jpg"),
        "distractors": ("t.tar/0", "t.tar/1", "t.tar/2"),
        "scale": {"a/pos/0.jpg": 0.0, "a/pos/1.jpg": 0.9, "b/pos/0.jpg": 0.1, "c/pos/0.jpg": 0.2},
        "clutter": {"a/pos/0.jpg": 0, "a/pos/1.jpg": 18, "b/pos/0.jpg": 60, "c/pos/0.jpg": 33},
        "taxonomy": {
            "art": {"craft": {"x": ["a"]}, "other": {"other": ["b"]}},
            "toy": {"other": {"y": ["c"]}},
        },
    }
    return Dataset(**(arguments | change))


IMAGE = {
    "a/query/Q0.jpg": {"a/pos/0.jpg": 3.0, "t.tar/0": 2.0, "a/pos/1.jpg": 1.0},
    "a/query/Q1.jpg": {"t.tar/0": 3.0, "a/pos/1.jpg": 2.0},
    "b/query/Q0.jpg": {"t.tar/0": 3.0, "b/pos/0.jpg": 2.0, "a/pos/0.jpg": 1.0},
}
TEXT = {
    "a/query/T.txt": {"a/pos/0.jpg": 3.0, "a/pos/1.jpg": 2.0},
    "c/query/T.txt": {"t.tar/0": 1.0},
}


def test_a_small_case_by_hand() -> None:
    evaluation = evaluate(Run.from_dict(IMAGE, {"method": "by hand"}), make_dataset())
    assert list(evaluation.tasks) == ["image"]
    assert evaluation.queries == tuple(IMAGE)
    assert evaluation.aps == pytest.approx([100 * (1 + 2 / 3) / 2, 25, 50])
    assert evaluation.oracles == pytest.approx([100, 50, 100])
    assert evaluation.map == pytest.approx((100 * (1 + 2 / 3) / 2 + 25 + 50) / 3)
    assert evaluation.oracle == pytest.approx(250 / 3)
    assert evaluation.scale == pytest.approx(
        {
            "0-0.06880213760855043": (100 + 0) / 2,
            "0.06880213760855043-0.13526567164179104": 50,
            "0.2729876723163842-inf": (50 + 50) / 2,
        }
    )
    assert evaluation.clutter == pytest.approx({"0-18": 50, "18-33": 50, "53-inf": 50})
    a = (100 * (1 + 2 / 3) / 2 + 25) / 2
    assert evaluation.subcategories == pytest.approx({"art-craft": a, "art-other": 50})
    assert evaluation.categories == pytest.approx({"art": (a + 50) / 2})
    assert [row[4:] for row in evaluation.per_query()] == [(2, 2), (2, 1), (1, 1)]
    assert evaluation.per_query()[0].instance == "a"
    assert evaluation.missing == ()
    assert evaluation.run == {"method": "by hand"}


def test_tasks_are_never_mixed_silently() -> None:
    evaluation = evaluate(Run.from_dict(TEXT | IMAGE), make_dataset())
    assert list(evaluation.tasks) == ["image", "text"]
    assert evaluation.tasks["image"].map == pytest.approx(evaluate(Run.from_dict(IMAGE), make_dataset()).map)
    assert evaluation.tasks["text"].map == pytest.approx(50)
    for name in ("map", "oracle", "queries", "aps", "oracles", "missing", "scale", "clutter", "categories",
                 "subcategories"):  # fmt: skip
        with pytest.raises(ParameterError, match="image, text"):
            getattr(evaluation, name)
    assert len(evaluation.per_query()) == 5
    chosen = evaluate(Run.from_dict(TEXT | IMAGE), make_dataset(), task="text")
    assert chosen.map == pytest.approx(50)


def test_official_mode_mixes_tasks_and_inflates_the_oracle() -> None:
    both = evaluate(Run.from_dict(TEXT | IMAGE), make_dataset(), official=True, k=4)
    assert list(both.tasks) == ["all"]
    assert both.queries == (*IMAGE, *TEXT)
    aps = [100 * (1 + 2 / 3) / 2, 25, 50, 100, 0]
    assert both.map == pytest.approx(np.mean(aps))
    assert both.oracles == pytest.approx([100 * 2 / 3 * 4 / 2, 100 * 1 / 2 * 4 / 2, 100 * 1 / 3 * 4, 200, 0])
    assert evaluate(
        Run.from_dict(TEXT | IMAGE), make_dataset(), official=True, task="text"
    ).map == pytest.approx(50)


def test_missing_queries() -> None:
    run = Run.from_dict({name: IMAGE[name] for name in list(IMAGE)[:1]})
    full = 100 * (1 + 2 / 3) / 2
    with pytest.warns(MissingQueriesWarning, match="lacks 2 of 3 image queries: 'a/query/Q1.jpg'") as caught:
        warned = evaluate(run, make_dataset())
    assert caught[0].filename == __file__
    assert warned.map == pytest.approx(full)
    assert warned.missing == ("a/query/Q1.jpg", "b/query/Q0.jpg")
    zero = evaluate(run, make_dataset(), missing="zero")
    assert zero.map == pytest.approx(full / 3)
    assert zero.oracle == pytest.approx(100 / 3)
    assert zero.missing == warned.missing
    assert zero.scale["0.06880213760855043-0.13526567164179104"] == 0
    assert zero.categories == pytest.approx({"art": full / 4})
    assert zero.per_query()[2] == ("b/query/Q0.jpg", "b", 0, 0, 1, 0)
    with pytest.raises(UnknownIdError, match="lacks 2 of 3 image queries"):
        evaluate(run, make_dataset(), missing="error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        official = evaluate(run, make_dataset(), official=True)
    assert official.map == pytest.approx(full)


def test_an_empty_list_is_not_a_missing_query() -> None:
    evaluation = evaluate(Run.from_dict(IMAGE | {"b/query/Q0.jpg": {}}), make_dataset())
    assert evaluation.aps[2] == 0
    assert evaluation.missing == ()


def test_an_empty_run() -> None:
    empty = Run.from_dict({})
    for arguments in ({}, {"official": True}, {"task": "text"}):
        with pytest.raises(ParameterError, match="nothing to evaluate"):
            evaluate(empty, make_dataset(), **arguments)  # type: ignore[arg-type]
    zero = evaluate(empty, make_dataset(), missing="zero")
    assert [task.map for task in zero.tasks.values()] == [0, 0]
    with pytest.raises(UnknownIdError, match="lacks 3 of 3 image queries"):
        evaluate(empty, make_dataset(), missing="error")


def test_unknown_queries() -> None:
    run = Run.from_dict(IMAGE | {"z/query/Q.jpg": {"t.tar/0": 1.0}, "a/query/Q9.jpg": {"a/pos/0.jpg": 1.0}})
    with pytest.raises(
        UnknownIdError, match=r"2 of 5 queries of the run are not in the dataset: 'z/query/Q\.jpg'"
    ):
        evaluate(run, make_dataset())
    assert evaluate(run, make_dataset(), official=True).queries == tuple(IMAGE)


def test_unknown_queries_of_a_pickle_are_errors_even_officially(tmp_path: Path) -> None:
    Run.from_dict({"z/query/Q.jpg": {"t.tar/0": 1.0}}).save(tmp_path / "run.pkl")
    with pytest.raises(UnknownIdError, match="1 queries"):
        evaluate(Run.load(tmp_path / "run.pkl"), make_dataset(), official=True)


def test_database_ids_are_checked_on_request() -> None:
    run = Run.from_dict(IMAGE | {"b/query/Q0.jpg": {"t.tar/9": 1.0, "t/1": 0.5}})
    evaluate(run, make_dataset())
    with pytest.raises(UnknownIdError, match=r"1 database ids of the run are not in the dataset: 't\.tar/9'"):
        evaluate(run, make_dataset(), check_ids=True)
    with pytest.raises(DatasetError, match="lists no distractors"):
        evaluate(run, make_dataset(distractors=()), check_ids=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k: expected 1 or more"),
        ({"k": -5}, "k: expected 1 or more"),
        ({"k": "ten"}, "k: expected a whole number"),
        ({"missing": "ignore"}, "missing: expected 'warn', 'zero' or 'error', found 'ignore'"),
        ({"task": "video"}, "task: expected 'image' or 'text', found 'video'"),
        ({"threads": 0}, "threads"),
    ],
)
def test_bad_options(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        evaluate(Run.from_dict(IMAGE), make_dataset(), **arguments)


def test_a_dataset_without_annotations_has_no_groups() -> None:
    evaluation = evaluate(Run.from_dict(IMAGE), make_dataset(scale={}, clutter={}, taxonomy=None))
    for groups in (evaluation.scale, evaluation.clutter, evaluation.categories, evaluation.subcategories):
        assert groups == {}
    assert evaluation.map > 0


def random_case(rng: np.random.Generator) -> tuple[dict[str, dict[str, float]], Dataset]:
    """Return a run with ties, absent lists and positives of other instances, and its dataset."""
    instances = [f"i{number}" for number in range(6)]
    positives = [
        f"{name}/pos/{number}.jpg" for name in instances for number in range(int(rng.integers(1, 7)))
    ]
    distractors = [f"t.tar/{number}" for number in range(10)]
    edges = [*SCALE_BOUNDS[:-1], *rng.random(3)]
    dataset = make_dataset(
        image_queries=tuple(f"{name}/query/Q{number}.jpg" for name in instances for number in range(2)),
        text_queries=(),
        positives=tuple(positives),
        scale={name: float(rng.choice(edges)) for name in positives},
        clutter={name: int(rng.choice([*CLUTTER_BOUNDS[:-1], 17, 32, 52, 500])) for name in positives},
        taxonomy=None,
    )
    run = {}
    for query in dataset.image_queries:
        found = rng.permutation([*positives, *distractors])[: rng.integers(0, 25)]
        run[query] = {str(name): float(rng.integers(0, 8)) for name in found}
    return run, dataset


@pytest.mark.parametrize("k", [1, 3, 10, 1000])
def test_random_runs_equal_the_oracle(k: int, rng: np.random.Generator) -> None:
    for _ in range(15):
        results, dataset = random_case(rng)
        run = Run.from_dict(results)
        official = evaluate(run, dataset, k=k, official=True)
        default = evaluate(run, dataset, k=k, threads=1)
        positives_of = {query: dataset.positives_of(query) for query in results}
        for row, official_oracle in zip(default.per_query(), official.oracles, strict=True):
            found = results[row.query]
            ap, perfect = oracle.average_precision(
                list(found), list(found.values()), positives_of[row.query], k
            )
            assert row.ap == pytest.approx(100 * ap, abs=1e-9)
            assert official_oracle == pytest.approx(100 * perfect, abs=1e-9)
            assert row.ap <= row.oracle + 1e-9 <= 100 + 2e-9
        assert official.aps.tolist() == default.aps.tolist()
        for groups, values, bounds in (
            (default.scale, dataset.scale, SCALE_BOUNDS),
            (default.clutter, dataset.clutter, CLUTTER_BOUNDS),
        ):
            expected = {}
            for low, high in pairwise(bounds):
                mean = oracle.group_mean(results, positives_of, oracle.in_group(values, low, high), k)
                if mean is not None:
                    expected[f"{low}-{high}"] = mean
            assert groups == pytest.approx(expected, abs=1e-9)


def test_no_answer_depends_on_threads(rng: np.random.Generator) -> None:
    results, dataset = random_case(rng)
    run = Run.from_dict(results)
    one, many = (evaluate(run, dataset, threads=threads).to_json() for threads in (1, 5))
    assert one == many


# --- results ---


def saved() -> Evaluation:
    return evaluate(Run.from_dict(IMAGE, {"method": "x"}), make_dataset())


def test_json(tmp_path: Path) -> None:
    saved().save(tmp_path / "evaluation.json")
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["unit"] == "percent"
    assert (content["k"], content["dataset"], content["run"]) == (1000, "small", {"method": "x"})
    task = content["tasks"]["image"]
    assert task["map"] == saved().map
    assert task["scale"] == dict(saved().scale)
    assert task["per_query"][1]["ap"] == pytest.approx(25)
    assert content == json.loads(saved().to_json(indent=None))


def test_evaluations_can_be_sent_to_other_processes() -> None:
    assert pickle.loads(pickle.dumps(saved())).to_json() == saved().to_json()


def test_official_result_file(tmp_path: Path) -> None:
    saved().save(tmp_path / "report.pkl")
    content = pickle.loads((tmp_path / "report.pkl").read_bytes())
    assert list(content) == [
        "queries", "map", "aps", "oracle", "scale", "clutter", "categories", "subcategories",
    ]  # fmt: skip
    assert type(content["map"]) is type(content["oracle"]) is float
    assert content["queries"] == list(IMAGE)
    assert isinstance(content["aps"], np.ndarray)
    assert type(content["categories"]) is dict


def test_results_that_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"\.json or \.pkl"):
        saved().save(tmp_path / "evaluation.txt")
    with pytest.raises(StorageError, match="cannot write"):
        saved().save(tmp_path / "no" / "evaluation.json")
    both = evaluate(Run.from_dict(TEXT | IMAGE), make_dataset())
    both.save(tmp_path / "both.json")
    with pytest.raises(ParameterError, match="image, text"):
        both.save(tmp_path / "both.pkl")
