"""Int8 planes: kept beside a store or in memory, they never change an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ilias_fast import _core
from ilias_fast.errors import (
    IncompatibleStoreError,
    NonFiniteError,
    NotAStoreError,
    ParameterError,
    ShapeError,
    StoreLockedError,
)
from ilias_fast.kernels import build_planes, topk
from ilias_fast.search import search
from ilias_fast.store import BinaryStore, GlobalStore, delete, drop_planes, gc, verify
from ilias_fast.store import build_planes as build_store_planes

ROWS, DIM = 20_000, 72


@pytest.fixture
def vectors(rng: np.random.Generator) -> np.ndarray:
    """Rows of very different norms, with duplicates, zeros and one huge coordinate."""
    rows = rng.standard_normal((ROWS, DIM)) * 10.0 ** rng.integers(-4, 3, (ROWS, 1))
    rows[::97] = rows[5]
    rows[::101] = 0
    rows[::103, 3] = 6e4
    return rows.astype(np.float16)


def make(path: Path, vectors: np.ndarray, shards: int, prefix: str = "") -> GlobalStore:
    with GlobalStore.create(path, dim=vectors.shape[1]) as writer:
        for part in np.array_split(np.arange(len(vectors)), shards):
            writer.append([f"{prefix}{row}" for row in part], vectors[part])
            writer.commit()
    return GlobalStore.open(path)


@pytest.mark.parametrize("count", [1, 3, 8, 9, 17, 33, 130])
def test_the_answer_has_the_same_bits(
    vectors: np.ndarray, rng: np.random.Generator, tmp_path: Path, cpu_level: str, count: int
) -> None:
    queries = rng.standard_normal((count, DIM)).astype(np.float32)
    selected = rng.random(ROWS) < 0.6
    expected = [_core.topk(queries, vectors, 100, mask, 2, None, "float32") for mask in (None, selected)]
    planes = build_planes(vectors, threads=2)
    store = make(tmp_path / "store", vectors, 3)
    built = build_store_planes(tmp_path / "store", threads=1)
    for (scores, indices), mask in zip(expected, (None, selected), strict=True):
        for database, known in ((vectors, None), (vectors, planes), (store, None), (built, None)):
            found = topk(queries, database, 100, planes=known, selected=mask, threads=2)
            assert np.array_equal(found.scores.view(np.uint32), scores.view(np.uint32)), cpu_level
            assert np.array_equal(found.indices, indices), cpu_level


def test_built_once_and_again_for_what_is_new(vectors: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "store"
    make(path, vectors[:300], 2)
    calls: list[tuple[int, int]] = []
    store = build_store_planes(path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (300, 300)
    (planes,) = store.info().derived
    assert (planes.kind, planes.shards) == ("planes", 2)
    assert planes.bytes >= 300 * (128 + 16)
    assert _core.build_store_planes(path, 1, None) == 0
    with GlobalStore.append_to(path) as writer:
        writer.append(["new"], vectors[:1])
    assert _core.build_store_planes(path, 1, None) == 1
    assert verify(path).ok
    assert drop_planes(path) == 3
    assert drop_planes(path) == 0
    assert GlobalStore.open(path).info().derived == ()
    assert gc(path) == ()


def test_damaged_planes_are_passed_over_and_made_again(vectors: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "store"
    make(path, vectors[:3000], 1)
    build_store_planes(path)
    (file,) = (path / "shards").glob("*.planes-*")
    file.write_bytes(file.read_bytes()[:-7])
    queries = vectors[:2].astype(np.float32)
    found = topk(queries, GlobalStore.open(path), 5)
    assert np.array_equal(found.indices, topk(queries, vectors[:3000], 5).indices)
    assert not verify(path).ok
    build_store_planes(path)
    assert verify(path).ok


def test_refusals(vectors: np.ndarray, tmp_path: Path) -> None:
    planes = build_planes(vectors[:50])
    assert planes.shape == (50, DIM)
    queries = vectors[:1].astype(np.float32)
    with pytest.raises(ShapeError, match="49 rows of 72 columns"):
        topk(queries, vectors[:49], 3, planes=planes)
    with pytest.raises(ParameterError, match="store brings its own"):
        topk(queries, make(tmp_path / "own", vectors[:50], 1), 3, planes=planes)
    with pytest.raises(ParameterError, match="65536"):
        build_planes(np.zeros((2, 65_537), np.float16))
    with pytest.raises(ParameterError, match="columns"):
        build_planes(np.zeros((2, 0), np.float16))
    bad = vectors[:4000].copy()
    bad[3123, 7] = np.nan
    with pytest.raises(NonFiniteError, match="row 3123, column 7"):
        build_planes(bad)
    with pytest.raises(NotAStoreError):
        build_store_planes(tmp_path / "nothing")
    with BinaryStore.create(tmp_path / "codes", bits=64) as writer:
        writer.append(["a"], np.zeros((1, 8), np.uint8))
    with pytest.raises(IncompatibleStoreError):
        build_store_planes(tmp_path / "codes")
    with GlobalStore.append_to(tmp_path / "own"), pytest.raises(StoreLockedError):
        build_store_planes(tmp_path / "own")


def cone(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Rows around a direction of their own."""
    return (5 * rng.standard_normal(DIM) + rng.standard_normal((rows, DIM))).astype(np.float16)


@pytest.mark.parametrize("count", [1, 9, 40, 130])
def test_rows_around_different_centres(
    rng: np.random.Generator, tmp_path: Path, cpu_level: str, count: int
) -> None:
    """Each store has planes around its own mean; one has none, and one has deleted rows between."""
    parts = [cone(rng, rows) for rows in (9000, 700, 8000, 3000)]
    stores = [make(tmp_path / str(number), part, 2, f"{number}/") for number, part in enumerate(parts)]
    stores = [store if number == 1 else build_store_planes(store.path) for number, store in enumerate(stores)]
    delete(stores[2].path, [f"2/{row}" for row in range(0, 8000, 7)])
    stores[2] = GlobalStore.open(stores[2].path)
    left = [np.delete(part, np.s_[::7], axis=0) if number == 2 else part for number, part in enumerate(parts)]
    queries = rng.standard_normal((count, DIM)).astype(np.float32)
    scores, indices = _core.topk(queries, np.concatenate(left), 200, None, 2, None, "float32")
    ids = [name for store in stores for name in store.ids]
    found = search(([f"q{query}" for query in range(count)], queries), stores, k=200, threads=2)
    for query in range(count):
        assert found[f"q{query}"].ids == [ids[row] for row in indices[query]], cpu_level
        assert found[f"q{query}"].scores.tolist() == scores[query].tolist(), cpu_level


def test_what_is_appended_gets_planes_around_the_same_centre(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    make(path, cone(rng, 500), 1)
    build_store_planes(path)
    with GlobalStore.append_to(path) as writer:
        writer.append([f"new {row}" for row in range(500)], cone(rng, 500))
    build_store_planes(path)
    one, two = (load_file(file)["centre"] for file in (path / "shards").glob("*.planes-*"))
    assert one.any()
    np.testing.assert_array_equal(one, two)
