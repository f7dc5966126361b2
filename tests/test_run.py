"""Runs: construction, rank order, merging, truncation."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ilias_fast.errors import (
    DtypeError,
    DuplicateIdError,
    InputError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    UnknownIdError,
)
from ilias_fast.run import Run

RESULTS = {
    "a/query/Q0.jpg": {"a/pos/P0.jpg": 0.875, "t.tar/1": 0.5, "ü/ø.jpg": 0.5},
    "b/query/Q0.jpg": {"t.tar/1": 0.25, "a/pos/P0.jpg": 0.1, "t.tar/2": -1.5},
}


def example() -> Run:
    return Run.from_dict(RESULTS, {"method": "test", "k": 3})


def as_dict(run: Run) -> dict[str, dict[str, float]]:
    return {query: dict(zip(run[query].ids, run[query].scores.tolist(), strict=True)) for query in run}


def test_from_dict_keeps_everything() -> None:
    run = example()
    assert as_dict(run) == RESULTS
    assert len(run) == 2
    assert list(run) == list(RESULTS)
    assert run.offsets.tolist() == [0, 3, 6]
    assert run.provenance == {"method": "test", "k": 3}
    assert "a/query/Q0.jpg" in run
    assert "c" not in run
    assert repr(run) == "Run(2 queries, 6 results, 4 database ids)"


def test_results_are_in_rank_order_and_ties_keep_theirs() -> None:
    run = Run.from_dict({"q": {"a": 0.1, "b": 0.5, "c": 0.5, "d": 0.9, "e": 0.5}})
    assert run["q"].ids == ["d", "b", "c", "e", "a"]
    assert run["q"].scores.tolist() == [0.9, 0.5, 0.5, 0.5, 0.1]


def test_a_rise_between_queries_is_not_disorder() -> None:
    run = Run.from_dict({"p": {"a": 0.1}, "q": {"b": 0.5}})
    assert run["p"].ids == ["a"]
    assert run["q"].ids == ["b"]


def test_runs_are_immutable_and_own_their_arrays() -> None:
    scores = np.array([0.5, 0.25])
    run = Run.from_arrays(["q"], [0, 2], ["a", "b"], [0, 1], scores)
    scores[0] = 0.0
    assert run.scores.tolist() == [0.5, 0.25]
    for array in (run.offsets, run.indices, run.scores, run["q"].scores):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        run.scores = scores  # type: ignore[misc]
    with pytest.raises(TypeError):
        run.provenance["x"] = 1  # type: ignore[index]


def test_from_topk_names_only_the_rows_that_occur() -> None:
    asked: list[list[int]] = []

    def id_of(rows: NDArray[np.int64]) -> list[str]:
        asked.append(rows.tolist())
        return [f"id{row}" for row in rows]

    scores = np.array([[3, 2, 1], [9, 8, -1]], dtype=np.float32)
    run = Run.from_topk(["p", "q"], scores, [[10**9, 7, 5], [5, 10**9, -1]], id_of, {"k": 3})
    assert asked == [[5, 7, 10**9]]
    assert as_dict(run) == {"p": {"id1000000000": 3, "id7": 2, "id5": 1}, "q": {"id5": 9, "id1000000000": 8}}
    assert run.database_ids == ("id5", "id7", "id1000000000")


def test_from_topk_of_nothing() -> None:
    def id_of(rows: NDArray[np.int64]) -> list[str]:
        raise AssertionError(f"there is no row to name, not even {rows}")

    empty = np.empty((2, 0))
    run = Run.from_topk(["p", "q"], empty, empty.astype(np.int64), id_of)
    assert [len(run[query]) for query in run] == [0, 0]


@pytest.mark.parametrize(
    ("scores", "indices", "ids"),
    [
        ([[1.0, 0.5]], [[0]], ["a"]),
        ([1.0], [0], ["a"]),
        ([[1.0], [0.5]], [[0], [1]], ["a", "b"]),
        ([[1.0, 0.5]], [[0, 1]], ["a"]),
    ],
)
def test_from_topk_wrong_shapes(scores: Any, indices: Any, ids: list[str]) -> None:
    with pytest.raises(ShapeError):
        Run.from_topk(["q"], scores, indices, lambda _: ids)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"offsets": [0, 1]}, ShapeError, "expected 3, one more than queries, found 2"),
    ({"offsets": [1, 1, 2]}, ParameterError, "start at 0"),
    ({"offsets": [0, 2, 1]}, ParameterError, "never decrease"),
    ({"offsets": [0, 1, 3]}, ShapeError, "expected 3 entries each"),
    ({"offsets": [0.0, 1.0, 2.0]}, DtypeError, "offsets"),
    ({"indices": [0, 2]}, ParameterError, "query 'q', result 0: expected an index below 2"),
    ({"indices": [-1, 1]}, ParameterError, "query 'p', result 0"),
    ({"indices": [0]}, ShapeError, "found 1 and 2"),
    ({"indices": [0.0, 1.0]}, DtypeError, "indices"),
    ({"indices": [[0, 1]]}, ShapeError, "indices"),
    ({"scores": [0.5, np.nan]}, NonFiniteError, "query 'q', database id 'b': the score is nan"),
    ({"scores": [np.inf, 0.5]}, NonFiniteError, "query 'p', database id 'a': the score is inf"),
    ({"scores": ["x", "y"]}, DtypeError, "scores"),
    ({"query_ids": ["p", "p"]}, DuplicateIdError, "query id 'p' is given twice"),
    ({"query_ids": ["p", ""]}, InputError, "query id 1"),
    ({"query_ids": ["p", 3]}, InputError, "query id 1"),
    ({"database_ids": ["a", "a"]}, DuplicateIdError, "database id 'a' is given twice"),
    ({"database_ids": ["a", "b\0"]}, InputError, "database id 1"),
    ({"database_ids": ["a", "\ud800"]}, InputError, "database id 1"),
    ({"duplicates": "sum"}, ParameterError, "expected 'error' or 'max', found 'sum'"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_arrays_are_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    good: dict[str, Any] = {
        "query_ids": ["p", "q"],
        "offsets": [0, 1, 2],
        "database_ids": ["a", "b"],
        "indices": [0, 1],
        "scores": [0.5, 0.25],
    }
    Run.from_arrays(**good)
    with pytest.raises(error) as raised:
        Run.from_arrays(**(good | change))
    assert message in str(raised.value)


def test_duplicates_are_refused_or_merged() -> None:
    arrays = (["p", "q"], [0, 4, 5], ["a", "b", "c"], [0, 1, 0, 2, 0], [0.2, 0.5, 0.9, 0.5, 0.1])
    with pytest.raises(DuplicateIdError, match="query 'p': database id 'a' is listed twice"):
        Run.from_arrays(*arrays)
    merged = Run.from_arrays(*arrays, duplicates="max")
    assert as_dict(merged) == {"p": {"a": 0.9, "b": 0.5, "c": 0.5}, "q": {"a": 0.1}}
    assert merged["p"].ids == ["a", "b", "c"]


def test_a_vocabulary_that_repeats_ids_is_merged_too() -> None:
    run = Run.from_topk(["q"], [[0.9, 0.8, 0.7]], [[0, 1, 2]], lambda _: ["a", "b", "a"], duplicates="max")
    assert as_dict(run) == {"q": {"a": 0.9, "b": 0.8}}
    assert run.database_ids == ("a", "b")


@given(
    st.dictionaries(
        st.sampled_from("pqr"),
        st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), max_size=12),
        max_size=3,
    )
)
def test_merging_equals_a_dictionary_of_maxima(lists: dict[str, list[tuple[int, int]]]) -> None:
    entries = [entry for found in lists.values() for entry in found]
    offsets = np.cumsum([0, *map(len, lists.values())])
    indices = np.array([row for row, _ in entries], np.int64)
    scores = np.array([float(score) for _, score in entries])
    run = Run.from_arrays(list(lists), offsets, list("abcde"), indices, scores, duplicates="max")
    for query, found in lists.items():
        best = {"abcde"[row]: float(max(s for r, s in found if r == row)) for row, _ in found}
        assert dict(zip(run[query].ids, run[query].scores.tolist(), strict=True)) == best


def test_runs_can_be_sent_to_other_processes() -> None:
    run = example()
    again = pickle.loads(pickle.dumps(run))
    assert again == run == copy.deepcopy(run)
    assert again.provenance == run.provenance
    assert not again.scores.flags.writeable


def test_unknown_query() -> None:
    with pytest.raises(UnknownIdError, match="no query 'c'"):
        example()["c"]


def test_truncate() -> None:
    run = Run.from_dict({"p": {"a": 3, "b": 2, "c": 1}, "q": {"a": 1}, "r": {}})
    assert as_dict(run.truncate(2)) == {"p": {"a": 3, "b": 2}, "q": {"a": 1}, "r": {}}
    assert as_dict(run.truncate(0)) == {"p": {}, "q": {}, "r": {}}
    assert run.truncate(100) == run
    with pytest.raises(ParameterError, match="found -1"):
        run.truncate(-1)


def test_with_scores_reorders() -> None:
    run = Run.from_dict({"p": {"a": 3, "b": 2}, "q": {"c": 1}})
    other = run.with_scores([0.5, 0.75, 0.0], {"method": "other"})
    assert other["p"].ids == ["b", "a"]
    assert other.provenance == {"method": "other"}
    assert run["p"].ids == ["a", "b"]
    with pytest.raises(ShapeError):
        run.with_scores([1.0])


def test_equality_ignores_the_vocabulary() -> None:
    a = Run.from_arrays(["q"], [0, 2], ["a", "b", "unused"], [0, 1], [2, 1])
    b = Run.from_arrays(["q"], [0, 2], ["b", "a"], [1, 0], [2, 1])
    assert a == b
    assert a != Run.from_dict({"q": {"a": 2, "c": 1}})
    assert a != Run.from_dict({"q": {"a": 2}})
    assert a != 3
