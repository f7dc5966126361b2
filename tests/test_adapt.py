"""Adaptation: whitening against the published example, ITQ against its optimum, layers of all sorts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast._tensors import read_tensors, write_tensors
from ilias_fast.adapt import Adapter, Itq, LinearAdapter, PcaWhitening
from ilias_fast.errors import (
    DtypeError,
    FileFormatError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    StorageError,
)
from tests.adapt_samples import KINDS, fitted
from tests.oracles import adapt as oracle

# --- PCA whitening ----------------------------------------------------------------------------------------


def test_published_whitening_example(examples: Path) -> None:
    example = json.loads((examples / "e10_whitening.json").read_text())
    vectors = np.array(example["X"]).T
    for key, dim in (("gram_first5_dims4", 4), ("gram_first5_full", None)):
        whitening = PcaWhitening.fit(vectors, dim, shrinkage=0, subtract_mean=True)
        np.testing.assert_allclose(whitening.mean, np.ravel(example["pca"]["m"]), atol=1e-6)
        first = whitening.apply(vectors[:5]).astype(np.float64)
        np.testing.assert_allclose(first @ first.T, example["pca"][key], atol=2e-6)


@pytest.mark.parametrize(("count", "width"), [(200, 12), (20, 90), (30, 30)])
@pytest.mark.parametrize("shrinkage", [0.0, 0.7])
@pytest.mark.parametrize("subtract_mean", [True, False])
def test_whitening_equals_its_definition(
    count: int, width: int, shrinkage: float, subtract_mean: bool, rng: np.random.Generator
) -> None:
    train = rng.standard_normal((count, width)) @ rng.standard_normal((width, width)) + 3
    test = rng.standard_normal((7, width)) @ rng.standard_normal((width, width))
    whitening = PcaWhitening.fit(train, 8, shrinkage=shrinkage, subtract_mean=subtract_mean)
    ours = whitening.apply(test).astype(np.float64)
    train32 = train.astype(np.float32).astype(np.float64)
    expected = oracle.pca_whiten(train32, test, 8, shrinkage, subtract_mean)
    np.testing.assert_allclose(ours @ ours.T, expected @ expected.T, atol=1e-4)


def test_whitened_training_vectors_are_uncorrelated(rng: np.random.Generator) -> None:
    train = rng.standard_normal((500, 6)) @ rng.standard_normal((6, 6))
    whitening = PcaWhitening.fit(train, shrinkage=0, subtract_mean=True)
    projected = (train - whitening.mean) @ whitening.projection.T
    np.testing.assert_allclose(projected.T @ projected / 500, np.eye(6), atol=1e-4)


def test_dimension_is_limited_by_the_rank(rng: np.random.Generator) -> None:
    assert PcaWhitening.fit(rng.standard_normal((10, 50)), 40).output_dim == 10
    centred = PcaWhitening.fit(rng.standard_normal((10, 50)), 40, subtract_mean=True)
    assert centred.output_dim == 9  # the mean takes one
    flat = rng.standard_normal((100, 3)) @ rng.standard_normal((3, 20))
    assert PcaWhitening.fit(flat, shrinkage=0).output_dim == 3
    assert PcaWhitening.fit(rng.standard_normal((10, 50)), 4).output_dim == 4


def test_default_shrinkage_falls_with_the_number_of_vectors(rng: np.random.Generator) -> None:
    assert PcaWhitening.fit(rng.standard_normal((10, 160))).shrinkage == 2
    assert PcaWhitening.fit(rng.standard_normal((200, 16))).shrinkage == 0.01


def test_default_shrinkage_keeps_few_vectors_apart_from_equidistant(rng: np.random.Generator) -> None:
    centres = rng.standard_normal((10, 300))
    vectors = np.repeat(centres, 3, axis=0) + 0.3 * rng.standard_normal((30, 300))

    def contrast(whitening: PcaWhitening) -> float:
        cosines = (whitened := whitening.apply(vectors)) @ whitened.T
        same = np.kron(np.eye(10), np.ones((3, 3))).astype(bool) & ~np.eye(30, dtype=bool)
        return float(cosines[same].mean() - cosines[~same & ~np.eye(30, dtype=bool)].mean())

    assert contrast(PcaWhitening.fit(vectors, shrinkage=0, subtract_mean=True)) < 0.05
    assert contrast(PcaWhitening.fit(vectors)) > 0.5


def test_equal_data_give_equal_fingerprints(rng: np.random.Generator) -> None:
    train = rng.standard_normal((40, 8))
    one, other = PcaWhitening.fit(train), PcaWhitening.fit(train.copy())
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != PcaWhitening.fit(train, 4).fingerprint


def test_bad_whitening_input(rng: np.random.Generator) -> None:
    train = rng.standard_normal((20, 4))
    with pytest.raises(ShapeError, match=r"at least 2 vectors .* found \[1, 4\]"):
        PcaWhitening.fit(train[:1])
    with pytest.raises(ParameterError, match="all 20 are equal"):
        PcaWhitening.fit(np.ones((20, 4)), subtract_mean=True)
    with pytest.raises(ParameterError, match="all 20 are zero"):
        PcaWhitening.fit(np.zeros((20, 4)))
    with pytest.raises(ParameterError, match="dim"):
        PcaWhitening.fit(train, 0)
    for shrinkage in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ParameterError, match="shrinkage"):
            PcaWhitening.fit(train, shrinkage=shrinkage)
    train[7, 2] = np.nan
    with pytest.raises(NonFiniteError, match="row 7"):
        PcaWhitening.fit(train)


# --- ITQ --------------------------------------------------------------------------------------------------


def test_codes_are_the_packed_signs(rng: np.random.Generator) -> None:
    train = rng.random((300, 32))
    for subtract_mean in (True, False):
        itq = Itq.fit(train, 16, subtract_mean=subtract_mean)
        unit = (train / np.linalg.norm(train, axis=1, keepdims=True)).astype(np.float32)
        expected = oracle.pack((unit - itq.mean) @ itq.projection)
        codes = itq.apply(train * 5)
        assert codes.dtype == np.uint8
        assert codes.shape == (300, 2)
        # A value within rounding of zero may fall on either side.
        assert np.mean(codes != expected) < 1e-3
        assert bool(itq.mean.any()) is subtract_mean


def test_zero_is_a_set_bit() -> None:
    itq = Itq(np.zeros(8, np.float32), np.eye(8, dtype=np.float32), 0.0)
    assert itq.apply(np.zeros((1, 8))).tolist() == [[255]]
    assert itq.apply([[1, -1, -1, -1, -1, -1, -1, -1.0]]).tolist() == [[128]]


def test_projection_is_orthonormal_and_its_error_below_a_random_rotation(rng: np.random.Generator) -> None:
    train = rng.standard_normal((600, 24)) * np.linspace(3, 0.3, 24)
    itq = Itq.fit(train, 16)
    projection = itq.projection.astype(np.float64)
    np.testing.assert_allclose(projection.T @ projection, np.eye(16), atol=1e-5)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    ours = oracle.quantisation_error(centred, projection)
    assert itq.error == pytest.approx(ours, rel=1e-3)
    for _ in range(5):
        rotation, _ = np.linalg.qr(rng.standard_normal((16, 16)))
        assert ours < oracle.quantisation_error(centred, projection @ rotation)


def test_each_iteration_lowers_the_error(rng: np.random.Generator) -> None:
    train = rng.standard_normal((400, 16)) * np.linspace(2, 0.5, 16)
    errors = [Itq.fit(train, 16, iterations=iterations).error for iterations in (1, 2, 5, 10, 40)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_hamming_distance_follows_the_angle(rng: np.random.Generator) -> None:
    train = rng.random((2000, 32))
    itq = Itq.fit(train, 32)
    near = itq.apply(train[:200] + 0.05 * rng.standard_normal((200, 32)))
    distance = np.unpackbits(itq.apply(train[:200]) ^ near, axis=1).sum(axis=1).mean()
    assert distance < 6  # unrelated codes differ in 16 of 32 bits


def test_bad_itq_input(rng: np.random.Generator) -> None:
    train = rng.random((20, 16))
    for bits in (0, 4, 12, 24):
        with pytest.raises(ParameterError, match=f"found {bits}"):
            Itq.fit(train, bits)
    with pytest.raises(ParameterError, match="iterations"):
        Itq.fit(train, 8, iterations=0)
    with pytest.raises(ShapeError, match="at least 2"):
        Itq.fit(train[:0], 8)


# --- linear -----------------------------------------------------------------------------------------------


def test_linear_layer_equals_its_formula(rng: np.random.Generator) -> None:
    weight, bias = rng.standard_normal((5, 9)), rng.standard_normal(5)
    vectors = rng.standard_normal((11, 9))
    expected = vectors @ weight.T + bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    result = LinearAdapter(weight, bias).apply(vectors)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert LinearAdapter(np.zeros((2, 3)), np.zeros(2)).apply(np.ones((1, 3))).tolist() == [[0, 0]]


def test_float16_rows_are_taken_as_they_are(rng: np.random.Generator) -> None:
    layer = LinearAdapter(rng.standard_normal((5, 9)), np.zeros(5))
    rows = rng.standard_normal((4, 9)).astype(np.float16)
    np.testing.assert_array_equal(layer.apply(rows), layer.apply(rows.astype(np.float32)))


def test_official_checkpoint(examples: Path, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="reading .pth checkpoints needs torch (extra: torch)")
    path = examples / "formats" / "lin_adapt.pth"
    state = torch.load(path, weights_only=True)
    layer = LinearAdapter.load(path)
    vectors = rng.standard_normal((6, layer.input_dim)).astype(np.float32)
    expected = torch.nn.functional.normalize(
        torch.nn.functional.linear(torch.from_numpy(vectors), state["layer.weight"], state["layer.bias"])
    )
    np.testing.assert_allclose(layer.apply(vectors), expected.numpy(), atol=1e-6)


def test_checkpoints_that_are_not_layers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="reading .pth checkpoints needs torch (extra: torch)")
    path = tmp_path / "layer.pth"
    cases: list[tuple[Any, str]] = [
        ({"layer.weight": torch.ones(2, 3)}, "found layer.weight"),
        ({"layer.weight": torch.ones(2, 3), "layer.bias": torch.ones(4)}, r"\[2\].*\[4\]"),
        ({"layer.weight": torch.ones(6), "layer.bias": torch.ones(4)}, r"\[any, any\].*\[6\]"),
        ({"layer.weight": torch.full((1, 1), torch.nan), "layer.bias": torch.ones(1)}, "NaN"),
        ({"epoch": 3}, "state dict of tensors"),
        (torch.ones(3), "state dict of tensors"),
        (Path("an object that would run code"), "plain tensors"),
    ]
    for state, message in cases:
        torch.save(state, path)
        with pytest.raises(FileFormatError, match=message) as error:
            LinearAdapter.load(path)
        assert str(path) in str(error.value)
    path.write_bytes(b"garbage")
    with pytest.raises(FileFormatError, match="plain tensors"):
        LinearAdapter.load(path)
    with pytest.raises(StorageError, match="cannot read"):
        LinearAdapter.load(tmp_path / "gone.pth")


def test_bad_layers() -> None:
    with pytest.raises(ShapeError, match=r"found \[2, 3\] and \[3\]"):
        LinearAdapter(np.ones((2, 3)), np.ones(3))
    with pytest.raises(NonFiniteError, match="weight and bias"):
        LinearAdapter([[np.inf]], [1.0])


# --- all of them ------------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def adapter(request: pytest.FixtureRequest, rng: np.random.Generator) -> Adapter:
    return fitted(request.param, rng)


def test_saving_keeps_every_answer(adapter: Adapter, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "model"
    adapter.save(path)
    loaded = type(adapter).load(path)
    vectors = rng.random((10, 16))
    np.testing.assert_array_equal(loaded.apply(vectors), adapter.apply(vectors))
    assert loaded.fingerprint == adapter.fingerprint
    assert loaded.provenance() == json.loads(json.dumps(adapter.provenance()))
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_any_safetensors_library_reads_the_file(adapter: Adapter, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy", reason="the comparison needs safetensors")
    adapter.save(tmp_path / "model")
    loaded = safetensors.load_file(tmp_path / "model")
    assert set(loaded) == set(adapter.tensors())
    for name, tensor in adapter.tensors().items():
        np.testing.assert_array_equal(loaded[name], tensor)
    safetensors.save_file(loaded, tmp_path / "theirs")
    again, _ = read_tensors(tmp_path / "theirs")
    for name, tensor in adapter.tensors().items():
        np.testing.assert_array_equal(again[name], tensor)


def test_results_do_not_depend_on_the_batch(adapter: Adapter, rng: np.random.Generator) -> None:
    vectors = rng.random((40, 16)).astype(np.float32)
    whole = adapter.apply(vectors)
    parts = np.concatenate([adapter.apply(vectors[:13]), adapter.apply(vectors[13:])])
    np.testing.assert_allclose(whole.astype(np.float64), parts.astype(np.float64), atol=1e-6)


def test_wrong_dimension_names_both(adapter: Adapter) -> None:
    with pytest.raises(ShapeError, match=r"\[n, 16\].*\[3, 15\]"):
        adapter.apply(np.zeros((3, 15)))
    with pytest.raises(DtypeError, match="float32"):
        adapter.apply(np.zeros((3, 16), complex))
    assert adapter.apply(np.zeros((0, 16))).shape[0] == 0


def test_another_kind_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "model"
    PcaWhitening.fit(rng.random((10, 8))).save(path)
    with pytest.raises(FileFormatError, match="'itq', found 'pca-whitening'"):
        Itq.load(path)
    with pytest.raises(FileFormatError, match=r"layer\.weight"):
        LinearAdapter.load(path)


def test_damaged_files_are_refused_or_equal(
    adapter: Adapter, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "model"
    adapter.save(path)
    whole = path.read_bytes()
    for length in (0, 4, 8, 20, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match="model"):
            type(adapter).load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(FileFormatError, match="behind the last tensor"):
        type(adapter).load(path)
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(header)] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = type(adapter).load(path)
        except FileFormatError:
            continue
        assert loaded.input_dim == 16


def test_a_header_cannot_claim_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for header in (
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
        {"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"a": 3},
        {"__metadata__": 3},
        [],
    ):
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
        with pytest.raises(FileFormatError, match="model"):
            read_tensors(path)


def test_saving_where_it_cannot_be_saved(adapter: Adapter, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        adapter.save(tmp_path / "no" / "such" / "folder")
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        adapter.save(tmp_path / "taken")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_tensors_round_trip(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = {
        "half": rng.standard_normal((3, 2)).astype(np.float16),
        "bytes": rng.integers(0, 256, 5, dtype=np.uint8),
        "empty": np.zeros((0, 4)),
        "scalar": np.array(7, np.int64),
    }
    write_tensors(tmp_path / "t", tensors, {"who": "Grüße"})
    read, metadata = read_tensors(tmp_path / "t")
    assert metadata == {"who": "Grüße"}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype
