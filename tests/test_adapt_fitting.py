"""Fitting by streaming, supervised whitening, awkward data; applying with the same bits everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast import cpu
from ilias_fast.adapt import (
    Adapter,
    Itq,
    LinearAdapter,
    PcaWhitening,
    SupervisedWhitening,
    VectorAdapter,
    derive,
    load_adapter,
)
from ilias_fast.errors import (
    DtypeError,
    FileFormatError,
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    ShapeError,
)
from ilias_fast.store import BinaryStore, GlobalStore, LocalStore
from tests.adapt_samples import KINDS, fitted
from tests.oracles import adapt as oracle


def global_store(path: Path, rows: np.ndarray) -> GlobalStore:
    with GlobalStore.create(path, dim=rows.shape[1], shard_bytes=4096) as writer:
        writer.append([str(row) for row in range(len(rows))], rows)
    return GlobalStore.open(path)


def local_store(path: Path, rows: np.ndarray, counts: list[int]) -> LocalStore:
    with LocalStore.create(path, dim=rows.shape[1]) as writer:
        writer.append_arrays(
            [str(image) for image in range(len(counts))],
            np.cumsum([0, *counts]),
            None,
            np.full((len(rows), 2), 0.5),
            descriptors=rows,
            size=np.ones((len(counts), 2), np.int64),
        )
    return LocalStore.open(path)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilias_fast.adapt.blocks._BLOCK_BYTES", 4 * 12 * 37)
    monkeypatch.setattr("ilias_fast.adapt.blocks._IMAGES", 3)
    monkeypatch.setattr("ilias_fast.adapt.whitening._PAIRS", 7)


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    mixed = rng.standard_normal((200, 12)) @ rng.standard_normal((12, 12)) + 5
    return mixed.astype(np.float16)


# --- supervised whitening ---------------------------------------------------------------------------------


def test_published_supervised_whitening(examples: Path) -> None:
    example = json.loads((examples / "e10_whitening.json").read_text())
    vectors = np.array(example["X"]).T
    for key, dim in (("gram_first5_dims4", 4), ("gram_first5_full", None)):
        whitening = SupervisedWhitening.fit(vectors, example["qidxs"], example["pidxs"], dim)
        np.testing.assert_allclose(whitening.mean, np.ravel(example["lw"]["m"]), atol=1e-6)
        first = whitening.apply(vectors[:5]).astype(np.float64)
        np.testing.assert_allclose(first @ first.T, example["lw"][key], atol=2e-6)


@pytest.mark.parametrize("pairs", [40, 5])  # 5 pairs do not span 12 dimensions: the loading does
def test_supervised_whitening_equals_its_definition(
    rows: np.ndarray, rng: np.random.Generator, pairs: int
) -> None:
    queries = rng.integers(0, 200, pairs)
    positives = (queries + rng.integers(1, 200, pairs)) % 200
    whitening = SupervisedWhitening.fit(rows, queries, positives, 12)
    assert whitening.pairs == pairs
    assert (whitening.loading > 0) == (pairs == 5)
    wide = rows.astype(np.float64)
    expected = oracle.supervised_whiten(wide, queries.tolist(), positives.tolist(), wide[:9], 12)
    ours = whitening.apply(rows[:9]).astype(np.float64)
    np.testing.assert_allclose(ours @ ours.T, expected @ expected.T, atol=5e-3 if pairs == 5 else 1e-4)


def test_whitening_of_cirtorch_is_read(rows: np.ndarray, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="reading .pth checkpoints needs torch (extra: torch)")
    made = SupervisedWhitening.fit(rows, np.arange(20), np.arange(20, 40), 5)
    state = {"m": torch.from_numpy(made.mean)[:, None], "P": torch.from_numpy(made.projection)}
    torch.save(state, tmp_path / "w.pth")
    loaded = load_adapter(tmp_path / "w.pth")
    np.testing.assert_array_equal(loaded.apply(rows), made.apply(rows))
    torch.save({**state, "m": torch.ones(3)}, tmp_path / "w.pth")
    with pytest.raises(FileFormatError, match=r"\[12\], found float32 \[3\]"):
        load_adapter(tmp_path / "w.pth")
    torch.save({"P": state["P"]}, tmp_path / "w.pth")
    with pytest.raises(FileFormatError, match="m and P"):
        load_adapter(tmp_path / "w.pth")
    made.save(tmp_path / "w")
    assert load_adapter(tmp_path / "w").fingerprint == made.fingerprint


def test_bad_pairs(rows: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="found 2 and 1"):
        SupervisedWhitening.fit(rows, [0, 1], [2])
    with pytest.raises(ShapeError, match="found 0 and 0"):
        SupervisedWhitening.fit(rows, np.empty(0, int), np.empty(0, int))
    with pytest.raises(ParameterError, match=r"positives: expected rows from 0 to 199, found 2 to 200"):
        SupervisedWhitening.fit(rows, [0, 1], [2, 200])
    with pytest.raises(DtypeError, match="queries"):
        SupervisedWhitening.fit(rows, [0.5], [2])
    with pytest.raises(ParameterError, match="equal vectors"):
        SupervisedWhitening.fit(rows, [3, 4], [3, 4])
    with pytest.raises(ParameterError, match=r"dimension 12 .* found 13"):
        SupervisedWhitening.fit(rows, [0], [1], 13)
    bad = rows.astype(np.float32)
    bad[17, 3] = np.inf
    with pytest.raises(NonFiniteError, match="row 17"):
        SupervisedWhitening.fit(bad, [0], [1])


# --- streaming --------------------------------------------------------------------------------------------


def fits(source: Any) -> list[Adapter]:
    return [
        PcaWhitening.fit(source, 8, shrinkage=0, subtract_mean=True),
        PcaWhitening.fit(source, 8),
        SupervisedWhitening.fit(source, np.arange(50), np.arange(50, 100), 8),
        Itq.fit(source, 8),
        Itq.fit(source, 8, sample=60, seed=3),
    ]


def test_a_store_gives_what_its_rows_give(rows: np.ndarray, tmp_path: Path) -> None:
    store = global_store(tmp_path / "global", rows)
    local = local_store(tmp_path / "local", rows, [0, 90, 1, 0, 9, 100, 0])
    for one, *others in zip(fits(rows), fits(store), fits(local), strict=True):
        for other in others:
            for name, tensor in one.tensors().items():
                np.testing.assert_allclose(other.tensors()[name], tensor, rtol=1e-4, atol=1e-5)
    calls: list[tuple[int, int]] = []
    PcaWhitening.fit(store, 8, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (200, 200)
    assert len(calls) == 6


def test_few_rows_of_a_store(rng: np.random.Generator, tmp_path: Path) -> None:
    rows = rng.standard_normal((5, 12)).astype(np.float16)
    store = global_store(tmp_path / "few", rows)
    ours, same = PcaWhitening.fit(store, 12), PcaWhitening.fit(rows, 12)
    assert ours.output_dim == same.output_dim == 5  # five rows span no more
    np.testing.assert_allclose(ours.apply(rows), same.apply(rows), atol=1e-5)
    with pytest.raises(ShapeError, match=r"at least 2 vectors .* found \[1, 12\]"):
        Itq.fit(global_store(tmp_path / "one", rows[:1]), 8)
    with pytest.raises(ParameterError, match="same direction"):
        Itq.fit(np.tile(rows[:1], (9, 1)), 8)
    with pytest.raises(ParameterError, match="sample"):
        Itq.fit(rows, 8, sample=1)
    with BinaryStore.create(tmp_path / "b", bits=8) as writer:
        writer.append(["a", "b"], np.zeros((2, 1), np.uint8))
    with pytest.raises(IncompatibleStoreError, match="float16 vectors"):
        Itq.fit(BinaryStore.open(tmp_path / "b"), 8)  # type: ignore[arg-type]


def test_local_descriptors_are_binarised(rows: np.ndarray, tmp_path: Path) -> None:
    local = local_store(tmp_path / "local", rows, [0, 90, 1, 0, 9, 100, 0])
    itq = Itq.fit(local, 8)
    derived = derive(local, tmp_path / "codes", itq)
    assert isinstance(derived, LocalStore)
    assert (derived.bits, list(derived.ids)) == (8, list(local.ids))
    codes = np.concatenate([image.codes for image in derived])
    np.testing.assert_array_equal(codes, itq.apply(rows))
    assert derived.provenance["adaptation"][0]["adapter"] == "itq"
    assert derive(local, tmp_path / "codes", itq).checksum == derived.checksum
    with pytest.raises(IncompatibleStoreError, match="expected dimension 16"):
        derive(local, tmp_path / "x", Itq.fit(np.eye(16), 8))
    with pytest.raises(IncompatibleStoreError, match="expected dimension 12"):
        derive(derived, tmp_path / "x", itq)


# --- applying ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_machine_threads_or_blocks(kind: str, rng: np.random.Generator) -> None:
    adapter: Any = fitted(kind, rng)
    rows = rng.standard_normal((700, 16)).astype(np.float16)
    answers = []
    for level in cpu.available_levels():
        with cpu.pinned(level):
            answers.append(adapter.apply(rows, threads=1))
            answers.append(adapter.apply(rows, threads=3))
            answers.append(np.concatenate([adapter.apply(rows[:311]), adapter.apply(rows[311:], threads=2)]))
    answers.append(adapter.apply(rows.astype(np.float64)))
    for answer in answers:
        assert answer.tobytes() == answers[0].tobytes()
    if isinstance(adapter, VectorAdapter):
        half = adapter.apply_half(rows)
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half, answers[0].astype(np.float16))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_finite_are_named(kind: str, rng: np.random.Generator) -> None:
    adapter = fitted(kind, rng)
    rows = rng.standard_normal((900, 16)).astype(np.float32)
    rows[800, 3] = np.inf
    rows[650, 2] = np.nan
    with pytest.raises(NonFiniteError, match="row 650, column 2"):
        adapter.apply(rows)
    with pytest.raises(ParameterError, match="threads"):
        adapter.apply(rows, threads=0)


def test_zero_vectors_and_large_ones(rng: np.random.Generator) -> None:
    layer = LinearAdapter(rng.standard_normal((3, 4)), np.zeros(3))
    assert not layer.apply(np.zeros((2, 4))).any()
    huge = layer.apply(np.full((1, 4), 1e30))
    np.testing.assert_allclose(np.linalg.norm(huge), 1, rtol=1e-6)
    with pytest.raises(NonFiniteError, match="adapted vectors: row 0"):
        layer.apply(np.full((1, 4), 3e38))
    assert Itq.fit(rng.standard_normal((50, 16)), 8).apply(np.zeros((1, 16))).shape == (1, 1)
    strided = rng.standard_normal((10, 8)).astype(np.float16)[:, ::2]
    np.testing.assert_array_equal(layer.apply(strided), layer.apply(strided.copy()))


def test_error_is_that_of_a_float32_sum(rng: np.random.Generator) -> None:
    weight, bias = (
        rng.standard_normal((64, 500)).astype(np.float32),
        rng.standard_normal(64).astype(np.float32),
    )
    rows = rng.standard_normal((20, 500)).astype(np.float16)
    exact = rows.astype(np.float64) @ weight.T.astype(np.float64) + bias
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    assert abs(LinearAdapter(weight, bias).apply(rows) - exact).max() < 1e-6
