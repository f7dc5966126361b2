"""`search`: the official worked examples, several stores as one, expansion, adaptation, selection."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from ilias_fast.errors import (
    DuplicateIdError,
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    ShapeError,
)
from ilias_fast.kernels import hamming_topk, topk
from ilias_fast.search import expansion, search
from ilias_fast.store import BinaryStore, GlobalStore, import_store, is_selected


class Linear:
    """A linear layer and L2 normalisation, as the official code writes it."""

    def __init__(self, weight: ArrayLike, bias: ArrayLike):
        self.weight, self.bias = np.asarray(weight, np.float32), np.asarray(bias, np.float32)

    def apply(self, vectors: ArrayLike) -> NDArray[np.float32]:
        y = np.asarray(vectors, np.float32) @ self.weight.T + self.bias
        unit: NDArray[np.float32] = y / np.linalg.norm(y, axis=1, keepdims=True)
        return unit


def store(path: Path, ids: Sequence[str], vectors: ArrayLike, **options: Any) -> GlobalStore:
    array = np.asarray(vectors)
    with GlobalStore.create(path, dim=array.shape[1], **options) as writer:
        writer.append(ids, array)
        writer.commit()
    return GlobalStore.open(path)


@pytest.fixture
def official(examples: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((examples / "e8_search_qe.json").read_text())
    return loaded


CASES = ["plain", "linear_adapted", "alpha_qe2", "alpha_qe2_linear_adapted", "selected_ids"]


def check_case(
    official: dict[str, Any], name: str, queries: GlobalStore, database: list[GlobalStore]
) -> None:
    case, layer = official["cases"][name], official["linear_adaptation"]
    adapter = Linear(layer["layer.weight"], layer["layer.bias"]) if case["lin_adapt"] else None
    run = search(
        queries,
        database,
        case["k"],
        query_expansion=case["query_expansion"],
        mode="official",
        adapter=adapter,
        selected_ids=case["selected_ids"],
    )
    assert list(run.query_ids) == official["queries"]["ids"]
    for query, ids, similarities in zip(run.query_ids, case["ids"], case["sims"], strict=True):
        assert run[query].ids == ids
        np.testing.assert_allclose(run[query].scores, similarities, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("cpu_level")
@pytest.mark.parametrize("name", CASES)
def test_official_examples(official: dict[str, Any], name: str, tmp_path: Path) -> None:
    parts = [official["queries"], official["positives"], *official["distractors"]]
    stores = [
        store(tmp_path / str(number), part["ids"], np.array(part["features_fp16_as_float"], np.float16))
        for number, part in enumerate(parts)
    ]
    check_case(official, name, stores[0], stores[1:])


@pytest.mark.parametrize("name", CASES)
def test_official_files(official: dict[str, Any], name: str, examples: Path, tmp_path: Path) -> None:
    formats = examples / "formats"
    queries = import_store(formats / "features_image_queries.hdf5", tmp_path / "queries")
    positives = import_store(formats / "features_positives.hdf5", tmp_path / "positives")
    distractors = import_store(formats / "features_distractors_{idx}.hdf5", tmp_path / "distractors")
    check_case(official, name, queries, [positives, distractors])


@pytest.fixture
def database(rng: np.random.Generator) -> NDArray[np.float16]:
    rows = rng.standard_normal((400, 12))
    rows[200:300] = rows[:100]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def names(count: int) -> list[str]:
    return [f"tar{row // 50}.tar/{row}" for row in range(count)]


def split(path: Path, database: NDArray[np.float16], cuts: Sequence[int]) -> list[GlobalStore]:
    """The rows in stores cut at `cuts`, each of several shards."""
    ids, bounds = names(len(database)), [0, *cuts, len(database)]
    return [
        store(path / str(first), ids[first:end], database[first:end], shard_bytes=1000)
        for first, end in itertools.pairwise(bounds)
    ]


def run_of(run: Any) -> list[tuple[list[str], list[float]]]:
    return [(run[query].ids, run[query].scores.tolist()) for query in run.query_ids]


@pytest.mark.parametrize("options", [{}, {"query_expansion": 5}, {"query_expansion": 3, "mode": "official"}])
@pytest.mark.parametrize("adapted", [False, True])
def test_stores_and_shards_do_not_matter(
    rng: np.random.Generator,
    database: NDArray[np.float16],
    tmp_path: Path,
    options: dict[str, Any],
    adapted: bool,
) -> None:
    """Unequal stores give what one array gives (the published code reads wrong neighbours here)."""
    adapter = None
    if adapted:
        # Powers of two: exact in any order of summation, so blocks cannot show in the last bits.
        adapter = Linear(np.eye(12) * 2.0 ** rng.integers(-2, 2, 12), np.zeros(12))
    queries = ([f"q{number}" for number in range(11)], rng.standard_normal((11, 12)).astype(np.float32))
    ids = names(400)
    whole = search(queries, store(tmp_path / "whole", ids, database), 50, adapter=adapter, **options)
    parts = split(tmp_path, database, [7, 8, 250])
    assert len(list(parts[-1].shards())) > 1
    assert run_of(search(queries, parts, 50, adapter=adapter, **options)) == run_of(whole)
    if not options and not adapted:
        found = topk(queries[1], database, 50)
        assert whole["q3"].ids == [ids[row] for row in found.indices[3]]
        assert whole["q3"].scores.tolist() == found.scores[3].tolist()


def test_selection_is_searching_the_selected(
    rng: np.random.Generator, database: NDArray[np.float16], tmp_path: Path
) -> None:
    ids = names(400)
    wanted = [str(row) for row in range(0, 400, 3)]
    rows = np.arange(0, 400, 3)
    queries = (["a", "b"], rng.standard_normal((2, 12)))
    alone = store(tmp_path / "alone", [ids[row] for row in rows], database[rows])
    for options in ({}, {"query_expansion": 4}, {"adapter": Linear(np.eye(12)[::-1], np.zeros(12))}):
        chosen = search(
            queries,
            split(tmp_path / str(len(options)) / "-".join(options), database, [100]),
            20,
            selected_ids=wanted,
            **options,
        )  # type: ignore[arg-type]
        assert run_of(chosen) == run_of(search(queries, alone, 20, **options))  # type: ignore[arg-type]


def test_selected_ids_rule() -> None:
    assert is_selected("yfcc_0.tar/123", {"123"})
    assert is_selected("yfcc_0.tar/123", {"yfcc_0.tar/123"})
    assert not is_selected("yfcc_0.tar/124", {"123"})
    assert is_selected("red_cup_000/pos/P000_00.jpg", {"123"})
    assert not is_selected("123", {"0"})


def test_expansion_formulas(
    rng: np.random.Generator,
    database: NDArray[np.float16],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the formula written out, with negative similarities, however many neighbours fit in memory."""
    stores = split(tmp_path, database[:5], [2])
    q = rng.standard_normal((1, 12)).astype(np.float32)
    adapter = Linear(rng.standard_normal((4, 12)), rng.standard_normal(4))
    x = database[:5].astype(np.float32)
    for mode, alpha in (("paper", 1.0), ("paper", 3.0), ("paper", 0.5), ("official", 1.0)):
        for layer in (None, adapter):
            a = layer.apply if layer is not None else (lambda value: np.asarray(value))
            s = (a(x) @ a(q)[0]).astype(np.float64)
            assert (s < 0).any()
            if mode == "paper":
                expanded = a(q)[0] + (np.maximum(s, 0)[:, None] ** alpha * a(x)).sum(axis=0)
            else:
                expanded = a(q)[0] + a(s[:, None].astype(np.float32) * x).sum(axis=0)
            expected = a(x) @ (expanded / np.linalg.norm(expanded))
            for together in (1, 2, 1 << 14):
                monkeypatch.setattr(expansion, "_TOGETHER", together)
                run = search((["q"], q), stores, 5, query_expansion=9, alpha=alpha, mode=mode, adapter=layer)  # type: ignore[arg-type]
                np.testing.assert_allclose(run["q"].scores, np.sort(expected)[::-1], atol=2e-6)


def test_kernels_stream_stores(
    rng: np.random.Generator, database: NDArray[np.float16], tmp_path: Path
) -> None:
    whole = store(tmp_path / "global", names(400), database, shard_bytes=1000)
    for q in (2, 40):
        queries = rng.standard_normal((q, 12)).astype(np.float32)
        mask = rng.random(400) < 0.5
        for selected in (None, mask):
            ours, theirs = (
                topk(queries, whole, 9, selected=selected),
                topk(queries, database, 9, selected=selected),
            )
            np.testing.assert_array_equal(ours.indices, theirs.indices)
            np.testing.assert_array_equal(ours.scores, theirs.scores)
    codes = rng.integers(0, 256, (400, 5)).astype(np.uint8)
    with BinaryStore.create(tmp_path / "binary", bits=40, shard_bytes=300) as writer:
        writer.append(names(400), codes)
        writer.commit()
    stored = BinaryStore.open(tmp_path / "binary")
    np.testing.assert_array_equal(
        hamming_topk(codes[:3], stored, 30).indices, hamming_topk(codes[:3], codes, 30).indices
    )
    with pytest.raises(ShapeError, match="12 columns"):
        topk(np.ones((1, 11)), whole, 1)
    with pytest.raises(ShapeError, match="5 bytes"):
        hamming_topk(codes[:, :4], stored, 1)
    with pytest.raises(IncompatibleStoreError):
        topk(np.ones((1, 5)), stored, 1)  # type: ignore[arg-type]


def test_progress_ends_at_the_total(database: NDArray[np.float16], tmp_path: Path) -> None:
    for adapter in (None, Linear(np.eye(12), np.zeros(12))):
        seen: list[tuple[int, int]] = []
        stores = split(tmp_path / str(adapter is None), database, [150])
        search(
            (["q"], np.ones((1, 12))),
            stores,
            3,
            query_expansion=1,
            adapter=adapter,
            progress=lambda *at, seen=seen: seen.append(at),
        )
        assert seen[-1] == (800, 800)
        assert seen == sorted(seen)


def test_wrong_arguments(database: NDArray[np.float16], tmp_path: Path) -> None:
    whole = store(tmp_path / "whole", names(400), database, provenance={"model": "a"})
    other = store(tmp_path / "other", names(400), database, provenance={"model": "b"})
    same = store(tmp_path / "same", names(400), database)
    query = (["q"], np.ones((1, 12)))
    wrong: list[dict[str, Any]] = [
        {"k": 0}, {"k": 2.5}, {"query_expansion": -1}, {"alpha": -1.0}, {"alpha": float("nan")},
        {"alpha": 2.0, "mode": "official"}, {"mode": "best"}, {"selected_ids": "123"},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(ParameterError, match=next(iter(options))):
            search(query, whole, **options)
    with pytest.raises(ParameterError, match="at least one store"):
        search(query, [])
    with pytest.raises(ShapeError, match="one id a row"):
        search(([], np.ones((1, 12))), whole)
    with pytest.raises(ShapeError, match="12 columns"):
        search((["q"], np.ones((1, 11))), whole)
    with pytest.raises(NonFiniteError, match="queries: row 0, column 0"):
        search((["q"], np.full((1, 12), np.nan)), whole)
    with pytest.raises(IncompatibleStoreError, match="model"):
        search(query, [whole, other])
    with pytest.raises(IncompatibleStoreError, match="model"):
        search(other, whole)
    assert len(search(other, whole, 2, force=True)) == 400
    with pytest.raises(DuplicateIdError):
        search(query, [whole, same], 800)
