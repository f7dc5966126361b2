"""Fusion, exclusion, a k for each query, augmentation, and searches that go on after being killed."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from ilias_fast.errors import IncompatibleStoreError, NonFiniteError, ParameterError, ShapeError
from ilias_fast.kernels import TopK, topk
from ilias_fast.run import Run
from ilias_fast.search import Part, augment, augmentation, fusion, resuming, search, search_fused, sequence
from ilias_fast.search.backends import Cpu
from ilias_fast.store import GlobalStore
from tests.oracles import search as oracle


def store(path: Path, ids: Sequence[str], vectors: ArrayLike, **options: Any) -> GlobalStore:
    array = np.asarray(vectors)
    with GlobalStore.create(path, dim=array.shape[1], **options) as writer:
        writer.append(ids, array)
        writer.commit()
    return GlobalStore.open(path)


def names(count: int) -> list[str]:
    return [f"thing{row % 7}/pos/{row}" for row in range(count)]


@pytest.fixture
def vectors(rng: np.random.Generator) -> NDArray[np.float16]:
    return rng.standard_normal((400, 12)).astype(np.float16)


def results(run: Run) -> list[tuple[list[str], list[float]]]:
    return [(list(run[query].ids), run[query].scores.tolist()) for query in run.query_ids]


# --- exclusion and k ---


def test_exclusion_and_k_for_each_query(
    rng: np.random.Generator, vectors: NDArray[np.float16], tmp_path: Path
) -> None:
    ids = names(400)
    stores = [
        store(tmp_path / "a", ids[:150], vectors[:150]),
        store(tmp_path / "b", ids[150:], vectors[150:]),
    ]
    queries = (["x", "y", "z"], rng.standard_normal((3, 12)).astype(np.float32))
    full = search(queries, stores, 400)
    exclude = {"x": full["x"].ids[:30], "z": [*full["z"].ids[5:8], "not there"]}
    run = search(queries, stores, {"x": 4, "y": 400, "z": 7}, exclude=exclude)
    for query, k in (("x", 4), ("y", 400), ("z", 7)):
        left = [at for at, name in enumerate(full[query].ids) if name not in exclude.get(query, ())][:k]
        assert run[query].ids == [full[query].ids[at] for at in left]
        np.testing.assert_array_equal(run[query].scores, full[query].scores[left])
    everything = search(queries, stores, 5, exclude={"y": ids})
    assert [len(everything[query].ids) for query in ("x", "y", "z")] == [5, 0, 5]
    # What a query must not find it is not expanded with either.
    alone = search(queries, stores, 3, query_expansion=1, exclude={"x": full["x"].ids[:1]})
    x = vectors[ids.index(full["x"].ids[1])].astype(np.float64)
    expanded = queries[1][0] + full["x"].scores[1].astype(np.float64) * x
    scores = vectors.astype(np.float64) @ (expanded / np.linalg.norm(expanded))
    scores[ids.index(full["x"].ids[0])] = -np.inf
    np.testing.assert_allclose(alone["x"].scores, np.sort(scores)[::-1][:3], atol=2e-6)
    wrong: list[dict[str, Any]] = [
        {"exclude": {"nobody": ["a"]}}, {"exclude": {"x": "thing0/pos/0"}}, {"k": [1, 2, 3]}, {"k": {"x": 1}},
        {"k": {"x": 1, "y": 0, "z": 2}}, {"k": {"x": 1, "y": 1, "z": 1, "w": 1}},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises((ParameterError, ShapeError), match=next(iter(options))):
            search(queries, stores, **options)


# --- fusion ---


def split(path: Path, ids: list[str], vectors: NDArray[np.float16], cuts: Sequence[int]) -> list[GlobalStore]:
    bounds = [0, *cuts, len(ids)]
    return [
        store(path / str(number), ids[first:end], vectors[first:end], shard_bytes=700)
        for number, (first, end) in enumerate(itertools.pairwise(bounds))
    ]


@pytest.mark.parametrize("rows", [1, 33, 1000])
def test_fusion_is_one_inner_product(
    rng: np.random.Generator,
    vectors: NDArray[np.float16],
    tmp_path: Path,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However the stores are cut and the blocks made: bit for bit the concatenated vectors."""
    monkeypatch.setattr(fusion, "_BLOCK_BYTES", 2 * (12 + 5) * rows)
    count, ids = 90, names(90)
    first, second = vectors[:count], rng.standard_normal((count, 5)).astype(np.float16)
    second[20:40] = second[:20]
    q1 = rng.standard_normal((6, 12)).astype(np.float32)
    q2 = rng.standard_normal((6, 5)).astype(np.float32)
    query_ids = [f"thing{row}/query/{row}" for row in range(6)]
    weights = (0.37, -1.21)
    parts = [
        Part((query_ids, q1), split(tmp_path / "a", ids, first, [40, 41]), weights[0]),
        Part((query_ids[::-1], q2[::-1]), split(tmp_path / "b", ids, second, [7]), weights[1]),
    ]
    long = np.concatenate(
        [(w * q.astype(np.float64)).astype(np.float32) for w, q in zip(weights, (q1, q2), strict=True)],
        axis=1,
    )
    database = np.concatenate([first, second], axis=1)
    expected = TopK(*oracle.topk(long, database, 50))
    run = search_fused(parts, 50)
    for row, query in enumerate(query_ids):
        assert run[query].ids == [ids[at] for at in expected.indices[row]]
        np.testing.assert_array_equal(run[query].scores, expected.scores[row])
    some = search_fused(
        parts, dict.fromkeys(query_ids, 3), selected_ids=[], exclude={query_ids[2]: run[query_ids[2]].ids[:2]}
    )
    assert some[query_ids[2]].ids == run[query_ids[2]].ids[2:5]
    assert some[query_ids[1]].ids == run[query_ids[1]].ids[:3]


def test_fusion_meets_texts_by_instance(
    rng: np.random.Generator, vectors: NDArray[np.float16], tmp_path: Path
) -> None:
    images = store(tmp_path / "images", names(50), vectors[:50])
    queries = (["thing1/query/a", "thing1/query/b", "thing0/query/a"], rng.standard_normal((3, 12)))
    texts = (["thing0/query/T0.txt", "thing1/query/T0.txt"], rng.standard_normal((2, 12)))
    run = search_fused([Part(queries, images, 0.5), Part(texts, images, 0.5)], 5)
    mean = (np.asarray(queries[1]) + np.asarray(texts[1])[[1, 1, 0]]) / 2
    expected = topk(mean.astype(np.float32), vectors[:50], 5)
    assert [run[query].ids for query in queries[0]] == [
        [names(50)[row] for row in found] for found in expected.indices
    ]
    with pytest.raises(ShapeError, match="0 counterparts"):
        search_fused([Part(queries, images), Part((["thing1/x"], np.ones((1, 12))), images)])
    two = (["thing1/x", "thing1/y", "thing0/y"], np.ones((3, 12)))
    with pytest.raises(ShapeError, match="2 counterparts"):
        search_fused([Part(queries, images), Part(two, images)])


def test_fusion_refuses_what_does_not_fit(vectors: NDArray[np.float16], tmp_path: Path) -> None:
    images = store(tmp_path / "images", names(50), vectors[:50])
    query = (["a"], np.ones((1, 12)))
    shuffled = store(tmp_path / "shuffled", names(50)[::-1], vectors[:50])
    with pytest.raises(IncompatibleStoreError, match="at row 0"):
        search_fused([Part(query, images), Part(query, shuffled)])
    fewer = store(tmp_path / "fewer", names(49), vectors[:49])
    with pytest.raises(IncompatibleStoreError, match="50 in part 0 and 49 in part 1"):
        search_fused([Part(query, images), Part(query, fewer)])
    with pytest.raises(ParameterError, match="weight"):
        search_fused([Part(query, images, np.inf)])
    with pytest.raises(NonFiniteError, match="weighted query"):
        search_fused([Part(query, images, 1e39)])
    with pytest.raises(ShapeError, match="12 columns in part 0"):
        search_fused([Part((["a"], np.ones((1, 11))), images)])
    with pytest.raises(ParameterError, match="at least one part"):
        search_fused([])


# --- augmentation ---


def test_augmentation(vectors: NDArray[np.float16], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.concatenate([vectors[:60], vectors[:10]])  # duplicates: a row may rank behind its copy
    source = store(tmp_path / "source", [f"i{row}" for row in range(70)], vectors, shard_bytes=500)
    x = vectors.astype(np.float64)
    for alpha, results in ((0.0, 1 << 24), (1.0, 1), (2.5, 40)):
        monkeypatch.setattr(augmentation, "_RESULTS", results)
        augmented = augment(source, tmp_path / f"augmented{alpha}", neighbours=4, alpha=alpha)
        for row in range(70):
            scores = topk(vectors[row : row + 1].astype(np.float32), vectors, 70)
            others = [at for at in scores.indices[0].tolist() if at != row][:4]
            sums = x[row] + sum(max(x[row] @ x[at], 0.0) ** alpha * x[at] for at in others)
            found = augmented.rows([row])[0].astype(np.float64)
            np.testing.assert_allclose(found, sums / np.linalg.norm(sums), atol=1e-3)
    assert augmented.parent is not None
    assert augmented.parent["checksum"] == source.checksum
    assert list(augmented.ids) == list(source.ids)
    for wrong in ({"neighbours": 0}, {"alpha": -1.0}, {"alpha": float("inf")}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            augment(source, tmp_path / "never", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "never").exists()


# --- going on after a kill ---


class Counting(Cpu):
    """Counts the parts it is given."""

    parts = 0

    def topk(self, *args: Any, **kwargs: Any) -> TopK:
        self.parts += 1
        return super().topk(*args, **kwargs)


@pytest.mark.parametrize("kill_at", [1, 4, 9, 14])
def test_a_killed_search_goes_on(
    rng: np.random.Generator,
    vectors: NDArray[np.float16],
    tmp_path: Path,
    kill_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequence, "_SAVED_BYTES", 1)
    database = store(tmp_path / "store", names(400), vectors, shard_bytes=1200)
    shards = len(list(database.shards()))
    assert shards >= 8
    q = rng.standard_normal((3, 12)).astype(np.float32)
    np.save(tmp_path / "q.npy", q)
    queries = (["q0", "q1", "q2"], q)
    expected = results(search(queries, database, 20, query_expansion=2))
    command = [sys.executable, "-m", "tests.kill_search", str(database.path), str(tmp_path / "q.npy")]
    child = subprocess.Popen(
        [*command, str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert child.stdout is not None
    for _ in range(kill_at):
        assert child.stdout.readline() == "part\n"
    child.kill()
    child.wait()
    child.stdout.close()
    counting = Counting()
    run = search(queries, database, 20, query_expansion=2, resume=tmp_path / "state", backend=counting)
    assert results(run) == expected
    assert 2 * shards - kill_at <= counting.parts <= 2 * shards - kill_at + 1
    # Finished work is not done again, other work does not use it.
    again = Counting()
    assert (
        results(search(queries, database, 20, query_expansion=2, resume=tmp_path / "state", backend=again))
        == expected
    )
    assert again.parts == 0
    other = search(queries, database, 21, resume=tmp_path / "state", backend=again)
    assert again.parts == shards
    assert results(other) == results(search(queries, database, 21))
    resuming.discard(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_states_of_other_searches_and_damaged_ones_are_not_used(
    rng: np.random.Generator,
    vectors: NDArray[np.float16],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequence, "_SAVED_BYTES", 1)
    database = store(tmp_path / "store", names(400), vectors, shard_bytes=3000)
    queries = (["q"], rng.standard_normal((1, 12)))
    folder = tmp_path / "state"
    expected = results(search(queries, database, 5, resume=folder))
    (path,) = folder.iterdir()
    good = path.read_bytes()
    for damaged in (b"", good[:50], good[:-1], good[:-9] + bytes([good[-9] ^ 1]) + good[-8:]):
        path.write_bytes(damaged)
        assert results(search(queries, database, 5, resume=folder)) == expected
    more = store(tmp_path / "more", ["other/pos/1"], vectors[:1])
    counting = Counting()
    search(queries, [database, more], 5, resume=folder, backend=counting)
    assert counting.parts == len(list(database.shards())) + 1
    search(queries, database, 5, selected_ids=["3"], resume=folder, backend=counting)
    assert counting.parts == 2 * len(list(database.shards())) + 1
