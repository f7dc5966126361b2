"""The backends of `search`: the bits of the core, on data made to break a float32 screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ilias_fast import _core
from ilias_fast.errors import NonFiniteError, ParameterError, ShapeError
from ilias_fast.kernels import TopK, topk
from ilias_fast.search import search
from ilias_fast.search.backends import Backend, Cpu, Faiss, Torch, backend_of
from ilias_fast.search.backends import faiss as faiss_backend
from ilias_fast.search.backends import torch as torch_backend
from ilias_fast.store import GlobalStore
from tests.oracles import search as oracle
from tests.test_kernels_search import LARGEST_F32, adversarial

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=["torch", pytest.param("torch cuda", marks=pytest.mark.cuda), "faiss"])
def backend(request: pytest.FixtureRequest) -> Backend:
    library, _, device = request.param.partition(" ")
    pytest.importorskip(library, reason=f"{library} is not installed")
    return Faiss() if library == "faiss" else Torch(device or "cpu")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks in little data."""
    monkeypatch.setattr(torch_backend, "_PAIRS", {"cuda": 1, "cpu": 1})  # 256 rows
    monkeypatch.setattr(faiss_backend, "_BYTES", 4 * 37 * 300)


def same(found: TopK, expected: TopK | tuple[Any, Any]) -> None:
    np.testing.assert_array_equal(found.indices, expected[1])
    np.testing.assert_array_equal(found.scores.view(np.uint32), expected[0].view(np.uint32))


KINDS = [
    "gaussian", "equal", "clusters", "cancelling", "subnormal", "huge", "spread", "one coordinate", "zeros",
    "low rank",
]  # fmt: skip


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("q", "scale"), [(2, 1.0), (10, 1e-40), (10, 1e30)])
def test_adversarial_data(
    rng: np.random.Generator, backend: Backend, kind: str, q: int, scale: float
) -> None:
    n, d = 700, 37
    database = adversarial(rng, kind, n, d)
    queries = np.clip(rng.standard_normal((q, d)) * scale, -LARGEST_F32, LARGEST_F32).astype(np.float32)
    if kind == "cancelling":
        queries[:, d // 2 :] = queries[:, : d - d // 2]
    for selected in (None, rng.random(n) < 0.3):
        same(backend.topk(queries, database, 50, selected), topk(queries, database, 50, selected=selected))
    same(backend.topk(queries, database, 9999), topk(queries, database, 9999))


halves = st.floats(width=16, allow_nan=False, allow_infinity=False)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.data())
def test_any_finite_input(data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("faiss")
    engines: list[Backend] = [Torch(), Faiss()]
    if torch.cuda.is_available():
        engines.append(Torch("cuda"))
    d = data.draw(st.integers(0, 9))
    n, q = data.draw(st.integers(0, 12)), data.draw(st.sampled_from([0, 1, 3]))
    database = data.draw(hnp.arrays(np.float16, (n, d), elements=halves))
    queries = data.draw(hnp.arrays(np.float32, (q, d), elements=singles))
    k = data.draw(st.integers(1, 14))
    expected = oracle.topk(queries, database, k)
    for engine in engines:
        found = engine.topk(queries, database, k)
        if q and n:
            same(found, expected)


@pytest.mark.usefixtures("small_blocks")
def test_near_ties(rng: np.random.Generator, backend: Backend) -> None:
    """Rows one ulp apart in one coordinate, in any order: float32 products cannot tell them apart."""
    database = np.repeat(rng.standard_normal((3, 37)).astype(np.float16), 400, axis=0)
    database[np.arange(1200), rng.integers(0, 37, 1200)] += np.float16(0.001)
    database = database[rng.permutation(1200)]
    queries = (rng.standard_normal((5, 37)) * 10.0 ** rng.uniform(-30, 30, (5, 1))).astype(np.float32)
    same(backend.topk(queries, database, 100), topk(queries, database, 100))


def test_scores_beyond_float32(backend: Backend) -> None:
    database = np.array([[1], [60000], [2], [60000], [-60000]] * 100, np.float16)
    queries = np.full((3, 1), LARGEST_F32, np.float32)
    same(backend.topk(queries, database, 450), topk(queries, database, 450))


def test_bad_input(backend: Backend) -> None:
    database = np.ones((600, 3), np.float16)
    database[[500, 555], [2, 0]] = np.inf, np.nan
    with pytest.raises(NonFiniteError, match="database: row 500, column 2"):
        backend.topk(np.ones((2, 3), np.float32), database, 1)
    selected = np.isfinite(database).all(axis=1)
    assert backend.topk(np.ones((2, 3), np.float32), database, 1, selected).indices.tolist() == [[0], [0]]
    with pytest.raises(NonFiniteError, match="queries: row 1, column 0"):
        backend.topk(np.array([[1, 1, 1], [np.nan, 1, 1]], np.float32), database[:5], 1)
    with pytest.raises(ParameterError, match="at most 16384"):
        backend.topk(np.ones((1, 16385), np.float32), np.ones((1, 16385), np.float16), 1)
    with pytest.raises(ParameterError, match="at least 1"):
        backend.topk(np.ones((1, 3), np.float32), database[:5], 0)


def test_lower_precision_is_not_used() -> None:
    torch = pytest.importorskip("torch")
    torch.set_float32_matmul_precision("medium")
    try:
        queries = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
        database = np.random.default_rng(1).standard_normal((900, 64)).astype(np.float16)
        same(Torch().topk(queries, database, 20), topk(queries, database, 20))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_search_takes_them(rng: np.random.Generator, tmp_path: Path, backend: Backend) -> None:
    vectors = rng.standard_normal((300, 8)).astype(np.float16)
    with GlobalStore.create(tmp_path / "store", dim=8, shard_bytes=1000) as writer:
        writer.append([f"i/{row}" for row in range(300)], vectors)
        writer.commit()
    store = GlobalStore.open(tmp_path / "store")
    queries = (["a", "b"], rng.standard_normal((2, 8)))
    for options in ({}, {"query_expansion": 3}, {"selected_ids": [str(row) for row in range(0, 300, 2)]}):
        runs = [search(queries, store, 20, backend=engine, **options) for engine in ("cpu", backend)]  # type: ignore[arg-type]
        for query in ("a", "b"):
            assert runs[0][query].ids == runs[1][query].ids
            np.testing.assert_array_equal(runs[0][query].scores, runs[1][query].scores)


def test_backends_by_name() -> None:
    assert isinstance(backend_of("cpu"), Cpu)
    assert isinstance(backend_of("torch"), Torch)
    assert isinstance(backend_of("faiss"), Faiss)
    for wrong in ("gpu", 3, None):
        with pytest.raises(ParameterError, match="backend"):
            backend_of(wrong)  # type: ignore[arg-type]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("order", ["ascending", "random", "equal"])
def test_candidates_that_wait(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, device: str, order: str
) -> None:
    """More candidates than may wait are pruned and settled in between, whatever the order of the rows."""
    pytest.importorskip("torch")
    monkeypatch.setattr(torch_backend, "_WAITING", 700)
    database = rng.standard_normal((3000, 20)).astype(np.float16)
    queries = rng.standard_normal((4, 20)).astype(np.float32)
    if order == "ascending":
        database = database[np.argsort(database.astype(np.float64) @ queries[0])]
    elif order == "equal":
        database[:] = database[0]
    for k in (1, 100, 2900):
        same(Torch(device).topk(queries, database, k), topk(queries, database, k))


@pytest.mark.parametrize("device", DEVICES)
def test_blocks_that_do_not_fit(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    torch = pytest.importorskip("torch")
    plain, most, refused = torch_backend._Search._block, 100, []

    def block(self: Any, at: int, values: Any, *rest: Any) -> None:
        if len(values) > most:
            refused.append(len(values))
            raise torch.OutOfMemoryError("CUDA out of memory")
        plain(self, at, values, *rest)

    monkeypatch.setattr(torch_backend._Search, "_block", block)
    database = rng.standard_normal((1700, 20)).astype(np.float16)
    queries = rng.standard_normal((4, 20)).astype(np.float32)
    selected = rng.random(1700) < 0.5
    same(Torch(device).topk(queries, database, 9, selected), topk(queries, database, 9, selected=selected))
    assert refused[0] == 1700
    most = 0
    with pytest.raises(ParameterError, match="4 queries with one row of the database do not fit the memory"):
        Torch(device).topk(queries, database, 9)


def test_no_such_device() -> None:
    pytest.importorskip("torch")
    for name in ("nowhere", "cuda:99"):
        with pytest.raises(ParameterError, match=f"device: cannot use '{name}'.*'cpu' always works"):
            Torch(name).topk(np.ones((1, 2), np.float32), np.ones((3, 2), np.float16), 1)


# --- the best of given rows, by the core ---


def test_best_rows(rng: np.random.Generator, cpu_level: str) -> None:
    assert cpu_level
    queries = rng.standard_normal((4, 33)).astype(np.float32)
    database = rng.standard_normal((90, 33)).astype(np.float16)
    rows = rng.integers(0, 90, 700).astype(np.int64)
    offsets = np.array([0, 300, 300, 301, 700])
    for k in (1, 50, 1000):
        scores, found = _core.best_rows(queries, database, offsets, rows, k, 2)
        assert scores.shape == found.shape == (4, min(k, 399))
        for query in range(4):
            mine = rows[offsets[query] : offsets[query + 1]]
            ranked = sorted((-oracle.score(queries[query], database[row]), row) for row in mine)[:k]
            assert found[query, : len(ranked)].tolist() == [row for _, row in ranked]
            assert scores[query, : len(ranked)].tolist() == [-score for score, _ in ranked]
            assert (found[query, len(ranked) :] == -1).all()
            assert (scores[query, len(ranked) :] == -np.inf).all()
    best: Callable[..., Any] = _core.best_rows
    with pytest.raises(ParameterError, match="at least 1"):
        best(queries, database, offsets, rows, 0, None)
    database[7, 3] = np.nan
    with pytest.raises(NonFiniteError, match="row 7, column 3"):
        best(queries, database, np.array([0, 0, 0, 0, 1]), np.array([7]), 1, None)
    for wrong in ([0, 1], [0, 0, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 2]):
        with pytest.raises((ShapeError, ParameterError)):
            best(queries, database, np.array(wrong), np.array([1]), 1, None)
    for row in (-1, 90):
        with pytest.raises(ParameterError, match="rows below 90"):
            best(queries, database, np.array([0, 0, 0, 0, 1]), np.array([row]), 1, None)
