"""Streaming mAP against the ranking it never makes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ilias_fast.datasets import Dataset
from ilias_fast.errors import FileFormatError, NonFiniteError, ParameterError, ShapeError, UnknownIdError
from ilias_fast.evaluate import RandomSubsets, count_distractors, distractor_curve, evaluate
from ilias_fast.kernels import MapCounter, average_precision, streaming_map
from ilias_fast.search import search
from ilias_fast.store import GlobalStore


def by_ranking(own: NDArray[np.float32], others: NDArray[np.float32], k: int) -> float:
    relevant = np.arange(len(own) + len(others)) < len(own)
    return average_precision(np.concatenate([own, others]), relevant, positives=len(own), k=k)


def samples(
    seed: int, queries: int, distractors: int, ties: int
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (rng.integers(-ties, ties, shape) / 8).astype(np.float32)  # noqa: E731
    return [draw(rng.integers(0, 6)) for _ in range(queries)], draw(queries, distractors)


@given(
    st.integers(0, 2**32),
    st.integers(0, 60),
    st.sampled_from([2, 5, 1000]),
    st.integers(1, 70),
    st.lists(st.integers(0, 60), max_size=4),
    st.lists(st.integers(0, 60), max_size=3),
)
def test_equals_the_ranking(
    seed: int, n: int, ties: int, k: int, prefixes: list[int], cuts: list[int]
) -> None:
    own, scores = samples(seed, 4, n, ties)
    prefixes = [min(prefix, n) for prefix in prefixes]
    subsets = np.random.default_rng(seed).random((2, n)) < 0.4
    edges = sorted({0, n, *(min(cut, n) for cut in cuts)})
    blocks = [scores[:, start:stop] for start, stop in pairwise(edges)]
    found = streaming_map(own, blocks, prefixes=prefixes, subsets=list(subsets), k=k)
    assert found.prefixes.tolist() == sorted(set(prefixes))
    for row, prefix in enumerate(found.prefixes):
        for query in range(4):
            expected = by_ranking(own[query], scores[query, :prefix], k)
            assert found.prefix_aps[row, query] == pytest.approx(expected, abs=1e-12)
    for row, subset in enumerate(subsets):
        for query in range(4):
            expected = by_ranking(own[query], scores[query, subset], k)
            assert found.subset_aps[row, query] == pytest.approx(expected, abs=1e-12)


def test_levels_and_threads_agree(cpu_level: str) -> None:
    own, scores = samples(1, 40, 5000, 100)
    assert cpu_level
    found = streaming_map(own, [scores], prefixes=[100, 5000], threads=2)
    for query in (0, 7, 39):
        assert found.prefix_aps[1, query] == pytest.approx(
            by_ranking(own[query], scores[query], 1000), abs=1e-12
        )


def test_parts_merge_in_any_order_and_survive_a_file(tmp_path: Path) -> None:
    own, scores = samples(2, 5, 90, 4)
    members = np.arange(90)[None] % 3 == 0
    whole = MapCounter(own, prefixes=[0, 50, 90], subsets=1)
    whole.add(scores, 0, members=members)
    parts = []
    for start, stop in ((60, 90), (0, 25), (25, 60)):
        part = MapCounter(own, prefixes=[0, 50, 90], subsets=1)
        part.add(scores[:, start:stop], start, members=members[:, start:stop])
        part.save(tmp_path / f"{start}.npz")
        parts.append(MapCounter.load(tmp_path / f"{start}.npz"))
    first, *others = parts
    with pytest.raises(ParameterError, match="have a gap"):
        first.result(5)
    for other in others:
        first.merge(other)
    assert first.covered == ((0, 90),)
    for found, expected in zip(first.result(7), whole.result(7), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ParameterError, match="distractors 0 to 89 were counted already"):
        first.merge(whole)
    with pytest.raises(ParameterError, match="expected a counter of the same"):
        first.merge(MapCounter(own, prefixes=[0, 50, 90]))


def test_always_there_is_in_every_sample() -> None:
    own, scores = samples(3, 3, 40, 3)
    own = [values[:2] if len(values) > 1 else np.array([0.5, 0.25], np.float32) for values in own]
    base = np.concatenate([np.stack(own), samples(4, 3, 8, 3)[1]], axis=1)
    mine = np.zeros(base.shape, bool)
    mine[:, :2] = True
    counter = MapCounter(own, prefixes=[0, 40], subsets=1)
    counter.add_always(base, own=mine)
    counter.add(scores, 0, members=np.arange(40)[None] < 9)
    found = counter.result(20)
    for query in range(3):
        for aps, others in ((found.prefix_aps[0], 0), (found.prefix_aps[1], 40), (found.subset_aps[0], 9)):
            expected = by_ranking(own[query], np.concatenate([base[query, 2:], scores[query, :others]]), 20)
            assert aps[query] == pytest.approx(expected, abs=1e-12)


def test_the_lowest_score_there_is_ties_with_others_only() -> None:
    lowest = float(np.finfo(np.float32).min)
    counter = MapCounter([[1.0, lowest]], prefixes=[2])
    counter.add_always(np.array([[1.0, lowest, lowest, 0.5]], np.float32), own=np.array([[1, 1, 0, 0]], bool))
    counter.add(np.array([[lowest, 2.0]], np.float32), 0)
    # 2, [1], 0.5, then a block of three: [lowest], and two distractors that are as low.
    assert counter.result(10).prefix_aps[0, 0] == pytest.approx((1 / 2 + 2 / 6) / 2)


@pytest.mark.parametrize("limits", [1, 8, 9, 40])
def test_many_positives_and_scores_of_a_few_values(cpu_level: str, limits: int) -> None:
    rng = np.random.default_rng(limits)
    own = [(rng.integers(0, 50, limits) / 64).astype(np.float32) for _ in range(6)]
    scores = (rng.integers(0, 50, (6, 5003)) / 64).astype(np.float32)
    found = streaming_map(own, [scores[:, :2050], scores[:, 2050:]], prefixes=[2050, 5003], k=200)
    assert cpu_level
    for query in range(6):
        expected = by_ranking(own[query], scores[query], 200)
        assert found.prefix_aps[1, query] == pytest.approx(expected, abs=1e-12)


def test_bad_input(tmp_path: Path) -> None:
    own = [np.array([0.5], np.float32)]
    with pytest.raises(NonFiniteError, match=r"positive_scores\[0\]"):
        MapCounter([np.array([np.nan])])
    with pytest.raises(ParameterError, match="prefixes"):
        MapCounter(own, prefixes=[-1])
    counter = MapCounter(own, prefixes=[3], subsets=1)
    for scores, members, error in (
        (np.zeros((2, 3)), None, ShapeError),
        (np.zeros((1, 3)), None, ShapeError),
        (np.zeros((1, 3)), np.ones((1, 2), bool), ShapeError),
        (np.zeros((1, 3)), np.ones((1, 3)), ShapeError),
        (np.array([[0.0, np.nan, 0.0]]), np.ones((1, 3), bool), NonFiniteError),
    ):
        with pytest.raises(error):
            counter.add(scores, 0, members=members)
    assert counter.covered == ()
    with pytest.raises(ParameterError, match="3 distractors asked for, 0 counted"):
        counter.result()
    counter.add(np.zeros((1, 3)), 0, members=np.ones((1, 3), bool))
    with pytest.raises(ParameterError, match="distractors 2 to 2 were counted already"):
        counter.add(np.zeros((1, 3)), 2, members=np.ones((1, 3), bool))
    with pytest.raises(ShapeError, match="subsets"):
        streaming_map(own, [np.zeros((1, 3))], subsets=[np.ones(4, bool)])
    counter.save(tmp_path / "counts.npz")
    whole = (tmp_path / "counts.npz").read_bytes()
    for cut in range(0, len(whole), 97):
        (tmp_path / "counts.npz").write_bytes(whole[:cut])
        with pytest.raises(FileFormatError, match=r"counts\.npz: not a file of counts"):
            MapCounter.load(tmp_path / "counts.npz")


def test_random_subsets_are_of_their_size_and_do_not_depend_on_blocks() -> None:
    subsets = RandomSubsets(200_000, 30_000, 2, seed=5)
    whole = subsets.members(0, 200_000)
    assert whole.sum(axis=1).tolist() == [30_000, 30_000]
    assert 0.12 < whole[0, whole[1]].mean() < 0.18
    np.testing.assert_array_equal(
        RandomSubsets(200_000, 30_000, 2, seed=5).members(60_000, 140_001), whole[:, 60_000:140_001]
    )
    with pytest.raises(ParameterError, match="size: expected at most 3"):
        RandomSubsets(3, 4, 1)


def store_of(path: Path, ids: list[str], vectors: NDArray[np.float16]) -> GlobalStore:
    with GlobalStore.create(path, dim=vectors.shape[1]) as writer:
        writer.append(ids, vectors)
    return GlobalStore.open(path)


def test_the_curve_over_stores_equals_search_and_evaluation(tmp_path: Path, rng: np.random.Generator) -> None:
    """Coarse values make ties, of products in many orders of summation; the curve must still be exact."""
    queries = [f"i{i}/query/Q.jpg" for i in range(6)]
    positives = [f"i{i}/pos/{j}.jpg" for i in range(6) for j in range(3)]
    dataset = Dataset("d", tmp_path, tmp_path, tuple(queries), (), tuple(positives))
    draw = lambda n: (rng.integers(-2, 3, (n, 16)) / 4).astype(np.float16)  # noqa: E731
    query_store = store_of(tmp_path / "q", queries, draw(6))
    positive_store = store_of(tmp_path / "p", positives, draw(18))
    parts = [store_of(tmp_path / f"d{n}", [f"t{n}/{i}" for i in range(200)], draw(200)) for n in range(2)]
    curve = distractor_curve(
        dataset, query_store, positive_store, parts, prefixes=[0, 200, 400], subsets=2, subset_size=100, k=500
    )
    for row, databases in enumerate(([positive_store], [positive_store, parts[0]], [positive_store, *parts])):
        expected = evaluate(search(query_store, databases, 500), dataset, k=500)
        assert dict(zip(curve.queries, curve.aps[row], strict=True)) == pytest.approx(
            dict(zip(expected.queries, expected.aps, strict=True)), abs=1e-9
        )
    assert curve.subset_maps.shape == (2,)
    assert all(curve.maps[2] <= value <= 100 for value in curve.subset_maps)
    state = tmp_path / "state.npz"

    def stop(done: int, _: int) -> None:
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distractor_curve(dataset, query_store, positive_store, parts, state=state, progress=stop)
    again = distractor_curve(dataset, query_store, positive_store, parts, state=state, k=500)
    assert again.distractors.tolist() == [0, 10, 100, 400]
    assert again.maps[-1] == curve.maps[-1]
    resumed = distractor_curve(dataset, query_store, positive_store, parts, state=state, k=500)
    assert resumed.maps.tolist() == again.maps.tolist()
    with pytest.raises(ParameterError, match="holds counts of other"):
        distractor_curve(dataset, query_store, positive_store, parts, state=state, subsets=1, subset_size=9)
    with pytest.raises(UnknownIdError, match=r"positives of 'i0/query/Q\.jpg' are not in the store"):
        distractor_curve(dataset, query_store, parts[0], parts)


def test_machines_count_their_shares(tmp_path: Path, rng: np.random.Generator) -> None:
    """Three machines, one of them stopped and gone on, another in larger shards, give the curve of one."""
    queries = [f"i{i}/query/Q.jpg" for i in range(4)]
    positives = [f"i{i}/pos/{j}.jpg" for i in range(4) for j in range(3)]
    dataset = Dataset("d", tmp_path, tmp_path, tuple(queries), (), tuple(positives))
    draw = lambda n: (rng.integers(-2, 3, (n, 16)) / 4).astype(np.float16)  # noqa: E731
    ends = (store_of(tmp_path / "q", queries, draw(4)), store_of(tmp_path / "p", positives, draw(12)))
    vectors = draw(600)
    names = [f"t/{i}" for i in range(600)]
    whole = store_of(tmp_path / "d", names, vectors)
    asked = {"prefixes": [0, 150, 600], "subsets": 2, "subset_size": 200, "seed": 3}
    expected = distractor_curve(dataset, *ends, [whole], **asked, k=50)  # type: ignore[arg-type]

    files = []
    for number, (start, stop) in enumerate(((0, 100), (100, 450), (450, 600))):
        part = store_of(tmp_path / f"d{number}", names[start:stop], vectors[start:stop])
        files.append(tmp_path / f"{number}.npz")
        if number == 1:
            # It was stopped after its first 60, and its shards are others now.
            short = store_of(tmp_path / "short", names[100:160], vectors[100:160])
            count_distractors(dataset, *ends, [short], **asked, first=100, total=600, state=files[1])  # type: ignore[arg-type]
        counter = count_distractors(
            dataset,
            *ends,
            [part],
            **asked,
            first=start,
            total=600,
            state=files[number],  # type: ignore[arg-type]
        )
        assert counter.covered == ((start, stop),)
    curve = distractor_curve(dataset, *ends, [], **asked, k=50, total=600, counted=files)  # type: ignore[arg-type]
    np.testing.assert_array_equal(curve.aps, expected.aps)
    np.testing.assert_array_equal(curve.subset_aps, expected.subset_aps)

    def again(**changes: object) -> object:
        arguments = {**asked, "k": 50, "total": 600, "counted": files, **changes}
        return distractor_curve(dataset, *ends, [], **arguments)  # type: ignore[arg-type]

    with pytest.raises(ParameterError, match="have a gap"):
        again(counted=files[::2])
    with pytest.raises(ParameterError, match=r"0\.npz: first: distractors 0 to 99 were counted already"):
        again(counted=[*files, files[0]])
    for changes in ({"seed": 4}, {"subset_size": 100}, {"total": 601}, {"prefixes": [1]}):
        with pytest.raises(ParameterError, match=r"0\.npz: holds counts of other"):
            again(**changes)
    with pytest.raises(ParameterError, match="total: expected at least 600"):
        distractor_curve(dataset, *ends, [whole], total=599)


def test_counts_merge_only_with_what_they_are_of() -> None:
    own = [np.array([0.5], np.float32)]
    here, there = (MapCounter(own, prefixes=[2], about=about) for about in ("seed 1", "seed 2"))
    with pytest.raises(ParameterError, match=r"\(seed 1\), found another \(seed 2\)"):
        here.merge(there)
    here, there = MapCounter(own, prefixes=[2]), MapCounter(own, prefixes=[2])
    here.add_always(np.array([[0.9]], np.float32))
    there.add_always(np.array([[0.1, 0.8, 0.7]], np.float32))
    with pytest.raises(ParameterError, match="the same images in every prefix"):
        here.merge(there)
    there = MapCounter(own, prefixes=[2])
    there.add_always(np.array([[0.8]], np.float32))
    here.add(np.array([[0.1]], np.float32), 0)
    there.add(np.array([[0.2]], np.float32), 1)
    here.merge(there)
    assert here.result(10).prefix_aps[0, 0] == 0.5
