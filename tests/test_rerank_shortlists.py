"""Shortlists of any shape: repeated, empty, shorter than M, of one image; and both methods in one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ilias_fast import cpu
from ilias_fast.errors import DuplicateIdError, IncompatibleStoreError, ParameterError, UnknownIdError
from ilias_fast.rerank import (
    ChamferOptions,
    LocalScores,
    Method,
    SpatialOptions,
    ensemble,
    rerank,
    rerank_both,
    tune,
)
from ilias_fast.rerank import oracle as best_order
from ilias_fast.run import Run
from ilias_fast.store import LocalStore

METHODS: tuple[Method, ...] = ("chamfer", "spatial")
COUNT = 40


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Images of 40 keypoints; `a` and `b` share 20 descriptors and their layout, `blank` has nothing."""
    rng = np.random.default_rng(8)
    names = ["a", "b", "c", "d", "blank"]
    codes = rng.integers(0, 256, (4 * COUNT, 16), dtype=np.uint8)
    xy = rng.random((4 * COUNT, 2), dtype=np.float32)
    codes[COUNT : COUNT + 20], xy[COUNT : COUNT + 20] = codes[:20], 0.5 * xy[:20] + 0.1
    offsets = [0, COUNT, 2 * COUNT, 3 * COUNT, 4 * COUNT, 4 * COUNT]
    with LocalStore.create(tmp_path / "store", bits=128) as writer:
        writer.append_arrays(names, offsets, codes, xy, size=[[300, 300]] * len(names))
    return LocalStore.open(tmp_path / "store")


def same(one: LocalScores, other: LocalScores) -> None:
    assert (one.method, one.options, one.shortlist) == (other.method, other.options, other.shortlist)
    for name in ("scores", "inliers", "tentative", "models"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_what_is_listed_twice_never_reaches_the_scores() -> None:
    arrays = (["q"], [0, 3], ["a", "b"], [0, 1, 0], [0.9, 0.8, 0.7])
    with pytest.raises(DuplicateIdError, match="'a' is listed twice"):
        Run.from_arrays(*arrays)
    with pytest.raises(DuplicateIdError, match="'q' is given twice"):
        Run.from_arrays(["q", "q"], [0, 1, 2], ["a"], [0, 0], [0.9, 0.8])
    merged = Run.from_arrays(*arrays, duplicates="max")
    assert (merged["q"].ids, merged["q"].scores.tolist()) == (["a", "b"], [0.9, 0.8])


@pytest.mark.parametrize("method", METHODS)
def test_merged_lists_are_scored_as_any_other(store: LocalStore, method: Method) -> None:
    merged = Run.from_arrays(
        ["a"], [0, 4], ["c", "b", "c"], [0, 1, 2, 1], [0.9, 0.8, 0.7, 0.6], duplicates="max"
    )
    plain = Run.from_dict({"a": {"c": 0.9, "b": 0.8}})
    local = rerank(merged, store, store, method=method)
    np.testing.assert_array_equal(local.scores, rerank(plain, store, store, method=method).scores)
    assert ensemble(merged, local)["a"].ids == ensemble(plain, local)["a"].ids


@pytest.mark.parametrize("method", METHODS)
def test_queries_without_results_need_no_descriptors(store: LocalStore, method: Method) -> None:
    run = Run.from_dict({"unheard of": {}, "a": {"b": 0.5, "blank": 0.4}, "c": {}})
    local = rerank(run, store, store, method=method)
    assert local.scores.shape == (2,)
    assert local.scores[0] > 0
    assert local.scores[1] == 0
    final = ensemble(run, local)
    assert [len(final[query]) for query in run] == [0, 2, 0]
    assert best_order(run, lambda _: {"b"}, shortlist=5)["a"].ids == ["b", "blank"]
    with pytest.raises(UnknownIdError, match="unheard of"):
        rerank(Run.from_dict({"unheard of": {"b": 1.0}}), store, store, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_a_shortlist_of_none_of_one_and_of_more_than_there_is(store: LocalStore, method: Method) -> None:
    run = Run.from_dict({"a": {"c": 0.9, "d": 0.8, "b": 0.7}, "c": {"a": 0.3}})
    whole = rerank(run, store, store, method=method, shortlist=3)
    more = rerank(run, store, store, method=method, shortlist=10**9)
    np.testing.assert_array_equal(more.scores, whole.scores)
    assert ensemble(run, more) == ensemble(run, whole)
    assert ensemble(run, whole, lam=0.0)["a"].ids[0] == "b"
    one = rerank(run, store, store, method=method, shortlist=1)
    assert np.isnan(one.scores).tolist() == [False, True, True, False]
    assert one.scores[0] == whole.scores[0]
    assert ensemble(run, one)["a"].ids == run["a"].ids, "one image changes places with none"
    assert tune(run, more, lambda tried: len(tried), shortlists=[1, 10**9]).best.value == 2
    none = rerank(run, store, store, method=method, shortlist=0)
    assert np.isnan(none.scores).all()
    assert ensemble(run, none) == run
    for bad in (-1, 1.5, "3", None):
        with pytest.raises(ParameterError, match="shortlist"):
            rerank(run, store, store, method=method, shortlist=bad)


@pytest.mark.usefixtures("cpu_level")
@pytest.mark.parametrize("one_pass", [True, False])
def test_both_methods_in_one_pass_are_two_calls(store: LocalStore, one_pass: bool) -> None:
    names = ["a", "b", "c", "d", "blank"]
    run = Run.from_dict({q: {name: 1.0 - i / 10 for i, name in enumerate(names)} for q in names})
    cases: list[tuple[ChamferOptions | None, SpatialOptions | None]] = [
        (None, None),
        (ChamferOptions(7), SpatialOptions(query_descriptors=30)),
        (ChamferOptions(0, 9), SpatialOptions(database_descriptors=9, mutual=False)),
        (ChamferOptions(30, None), SpatialOptions(query_descriptors=30, ratio=0.9, model="homography")),
    ]
    if not one_pass:
        cases = [
            (ChamferOptions(None), SpatialOptions(query_descriptors=30)),
            (ChamferOptions(31), SpatialOptions(query_descriptors=30)),
            (ChamferOptions(database_descriptors=9), None),
        ]
    for chamfer, spatial in cases:
        for shortlist in (1, 3, 1000):
            seen: list[tuple[int, int]] = []
            found = rerank_both(
                run,
                store,
                store,
                shortlist=shortlist,
                chamfer=chamfer,
                spatial=spatial,
                progress=lambda done, total, seen=seen: seen.append((done, total)),
            )
            same(found[0], rerank(run, store, store, method="chamfer", options=chamfer, shortlist=shortlist))
            same(found[1], rerank(run, store, store, options=spatial, shortlist=shortlist))
            pairs = 5 * min(shortlist, 5) * (1 if one_pass else 2)
            assert seen[-1] == (pairs, pairs)
            assert seen == sorted(seen)


def test_both_methods_refuse_what_each_refuses(store: LocalStore, tmp_path: Path) -> None:
    run = Run.from_dict({"a": {"b": 1.0}})
    with pytest.raises(ParameterError, match="ChamferOptions"):
        rerank_both(run, store, store, chamfer=SpatialOptions())  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="shortlist"):
        rerank_both(run, store, store, shortlist=-1)
    with pytest.raises(IncompatibleStoreError, match="LocalStore"):
        rerank_both(run, store, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UnknownIdError, match="'z'"):
        rerank_both(Run.from_dict({"a": {"z": 1.0}}), store, store)
    assert [len(local.scores) for local in rerank_both(Run.from_dict({}), store, store)] == [0, 0]


def test_one_pass_does_not_depend_on_threads(store: LocalStore) -> None:
    run = Run.from_dict({"a": {"b": 1.0, "c": 0.5}, "b": {"a": 1.0, "blank": 0.1}})
    first = rerank_both(run, store, store, threads=1)
    for level in cpu.available_levels():
        with cpu.pinned(level):
            for one, other in zip(rerank_both(run, store, store, threads=2), first, strict=True):
                same(one, other)
