"""AMES equals the published forward: cached, ragged, batched, from stores, in lower precision nearly."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="AMES needs torch (extra: torch)")

import torch

from ilias_fast.errors import (
    DtypeError,
    FileFormatError,
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    StorageError,
)
from ilias_fast.rerank import AmesOptions, ensemble, rerank
from ilias_fast.rerank.ames import Ames, load_ames
from ilias_fast.rerank.ames import network as network_module
from ilias_fast.rerank.ames.checkpoint import expected_shapes
from ilias_fast.run import Run
from ilias_fast.store import LocalImage, LocalStore
from tests.oracles import ames as oracle

DIM, LOCAL = 16, 24


def published(*, binary: bool, seed: int = 0, layers: int = 3) -> oracle.Ames:
    """A small network whose logits spread."""
    torch.manual_seed(seed)
    network = oracle.Ames(LOCAL, DIM, 2, layers, 32, binary=binary).eval()
    for name, parameter in network.named_parameters():
        torch.nn.init.normal_(parameter, std=0.5 if parameter.dim() > 1 else 0.1)
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.ones_(parameter)
    return network


def fast(network: oracle.Ames, **options: Any) -> Ames:
    return Ames(network.state_dict(), **options)


def padded(images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(1, *map(len, images))
    values = torch.zeros(len(images), longest, LOCAL)
    mask = torch.ones(len(images), longest, dtype=torch.bool)
    for row, image in enumerate(images):
        values[row, : len(image)] = torch.from_numpy(image)
        mask[row, : len(image)] = False
    return values, mask


def reference(network: oracle.Ames, query: np.ndarray, images: list[np.ndarray]) -> np.ndarray:
    q, d = padded([query] * len(images)), padded(images)
    with torch.no_grad():
        return np.asarray(network(q[0], q[1], d[0], d[1]).numpy())


def descriptors(rng: np.random.Generator, *lengths: int) -> list[np.ndarray]:
    return [(rng.standard_normal((n, LOCAL)) * rng.uniform(0.1, 9)).astype(np.float32) for n in lengths]


@pytest.mark.parametrize("case", ["fp", "binary"])
def test_equals_the_worked_example(examples: Path, case: str) -> None:
    example = json.loads((examples / "e11_ames.json").read_text())["cases"][case]
    network = load_ames(examples / example["checkpoint"], heads=example["config"]["nhead"])
    assert network.binary == example["config"]["binarized"]
    logits = []
    for q, q_mask, d, d_mask in zip(
        *(example[k] for k in ("query", "query_mask", "db", "db_mask")), strict=True
    ):
        query = network.encode(np.array(q, np.float32)[~np.array(q_mask, bool)])
        image = network.encode(np.array(d, np.float32)[~np.array(d_mask, bool)], database=True)
        logits.append(network.score(query, [image])[0])
    np.testing.assert_allclose(logits, example["raw_similarity"], atol=1e-5)
    squashed = 1 / (1 + np.exp(-example["gamma"] * np.array(logits)))
    mixed = example["lambda"] * np.array(example["global_similarity"]) + (1 - example["lambda"]) * squashed
    np.testing.assert_allclose(mixed, example["final_score"], atol=1e-5)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_ragged_batches_equal_the_padded_forward(rng: np.random.Generator, binary: bool, layers: int) -> None:
    published_network = published(binary=binary, layers=layers)
    network = fast(published_network)
    (query,) = descriptors(rng, 19)
    images = descriptors(rng, 7, 1, 30, 0, 8, 9, 16, 17, 7, 23)
    expected = reference(published_network, query, images)
    assert expected.std() > 0.05
    encoded = [network.encode(image, database=True) for image in images]
    for batch in (1, 3, 8, 100):
        found = network.score(network.encode(query), encoded, batch=batch)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = network.score(network.encode(query[:0]), encoded)
    np.testing.assert_allclose(alone, reference(published_network, query[:0], images), atol=1e-5)


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 0.12), ("float16", 0.015)])
def test_lower_precision_stays_near(rng: np.random.Generator, dtype: str, bound: float) -> None:
    published_network = published(binary=True)
    (query,), images = descriptors(rng, 40), descriptors(rng, *[20] * 6, 13)
    network = fast(published_network, dtype=dtype)
    found = network.score(network.encode(query), [network.encode(i, database=True) for i in images])
    np.testing.assert_allclose(found, reference(published_network, query, images), atol=bound)


def test_codes_are_signs(rng: np.random.Generator) -> None:
    published_network = published(binary=True)
    network = fast(published_network)
    (query,), (image,) = descriptors(rng, 11), descriptors(rng, 5)
    projection = published_network.remap_local[0].W.detach().numpy()

    def packed(rows: np.ndarray) -> np.ndarray:
        return np.packbits(rows @ projection >= 0, axis=1)

    by_codes = network.score(network.encode(packed(query)), [network.encode(packed(image), database=True)])
    by_vectors = network.score(network.encode(query), [network.encode(image, database=True)])
    np.testing.assert_allclose(by_codes, by_vectors, atol=1e-5)


def test_order_of_descriptors_and_sides_do_not_matter(rng: np.random.Generator) -> None:
    network = fast(published(binary=True))
    (query,), (image,) = descriptors(rng, 11), descriptors(rng, 5)

    def logit(a: np.ndarray, b: np.ndarray) -> float:
        return float(network.score(network.encode(a), [network.encode(b, database=True)])[0])

    assert logit(query, image) == pytest.approx(logit(query[::-1].copy(), image[::-1].copy()), abs=1e-5)
    assert logit(query, image) == pytest.approx(logit(image, query), abs=1e-5)


class Stores:
    def __init__(self, folder: Path, rng: np.random.Generator, *, dim: int = DIM) -> None:
        lengths = {"q": (12, 0, 5), "d": (4, 9, 0, 9, 6, 7, 1, 20)}
        self.codes = {
            side: [rng.integers(0, 256, (n, dim // 8), dtype=np.uint8) for n in counts]
            for side, counts in lengths.items()
        }
        self.stores = {}
        for side, images in self.codes.items():
            with LocalStore.create(folder / side, bits=dim) as writer:
                made = [
                    LocalImage(c, np.zeros((len(c), 2), np.float32), None, None, None, (9, 9)) for c in images
                ]
                writer.append([f"{side}{i}" for i in range(len(images))], made)
            self.stores[side] = LocalStore.open(folder / side)
        scores = {f"q{i}": {f"d{j}": float(-j) for j in range(8) if (i + j) % 4} for i in range(3)}
        self.run = Run.from_dict(scores)


def checkpoint(path: Path, network: oracle.Ames) -> Path:
    torch.save({"state": network.state_dict()}, path)
    return path


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_a_run_by_ames(tmp_path: Path, rng: np.random.Generator, cache_bytes: int) -> None:
    world = Stores(tmp_path, rng)
    published_network = published(binary=True)
    path = checkpoint(tmp_path / "ames.pt", published_network)
    options = AmesOptions(path, 10, 8, cache_bytes=cache_bytes, batch=3)
    seen: list[tuple[int, int]] = []
    local = rerank(
        world.run,
        world.stores["q"],
        world.stores["d"],
        method="ames",
        shortlist=5,
        options=options,
        threads=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (15, 15)
    network = fast(published_network)
    for number, query in enumerate(world.run.query_ids):
        start = int(world.run.offsets[number])
        encoded = network.encode(world.codes["q"][number][:10])
        for place, name in enumerate(world.run[query].ids):
            if place < 5:
                image = network.encode(world.codes["d"][int(name[1:])][:8], database=True)
                expected = network.score(encoded, [image])[0]
                assert local.scores[start + place] == pytest.approx(expected, abs=1e-5)
            else:
                assert np.isnan(local.scores[start + place])
    after = ensemble(world.run, local)
    assert sorted(after["q0"].ids) == sorted(world.run["q0"].ids)


def test_kept_scores_are_those_of_one_network(tmp_path: Path, rng: np.random.Generator) -> None:
    world = Stores(tmp_path, rng)
    path = checkpoint(tmp_path / "ames.pt", published(binary=True))

    def scored(name: str | Path) -> np.ndarray:
        options = AmesOptions(name)
        sides = world.stores["q"], world.stores["d"]
        return rerank(
            world.run, *sides, method="ames", options=options, keep=tmp_path / "kept.npz"
        ).scores.copy()

    first = scored(path)
    np.testing.assert_array_equal(first, scored(str(path)))
    checkpoint(path, published(binary=True, seed=1))  # trained on, say, and saved under its old name
    with pytest.raises(IncompatibleStoreError, match="differ in network"):
        scored(path)
    with pytest.raises(ParameterError, match="checkpoint: expected the path"):
        AmesOptions(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("binary", [False, True])
def test_stores_of_float_descriptors(tmp_path: Path, rng: np.random.Generator, binary: bool) -> None:
    if "dim" not in inspect.signature(LocalStore.create).parameters:
        pytest.skip("this build's local stores hold codes only")
    create: Any = LocalStore.create
    given = {"q": descriptors(rng, 9), "d": descriptors(rng, 4, 0, 7)}
    for side, images in given.items():
        with create(tmp_path / side, dim=LOCAL) as writer:
            for number, rows in enumerate(images):
                offsets = np.array([0, len(rows)])
                xy, size = np.zeros((len(rows), 2), np.float32), np.array([[9, 9]])
                append: Any = writer.append_arrays
                append([f"{side}{number}"], offsets, None, xy, descriptors=rows, size=size)
    run = Run.from_dict({"q0": {"d0": 3.0, "d1": 2.0, "d2": 1.0}})
    published_network = published(binary=binary)
    stores = (LocalStore.open(tmp_path / side) for side in ("q", "d"))
    options = AmesOptions(checkpoint(tmp_path / "ames.pt", published_network))
    local = rerank(run, *stores, method="ames", options=options)
    halves = [rows.astype(np.float16).astype(np.float32) for rows in (*given["q"], *given["d"])]
    np.testing.assert_allclose(local.scores, reference(published_network, halves[0], halves[1:]), atol=1e-5)


def test_stores_that_do_not_fit(tmp_path: Path, rng: np.random.Generator) -> None:
    world = Stores(tmp_path, rng, dim=24)
    arguments = (world.run, world.stores["q"], world.stores["d"])
    path = checkpoint(tmp_path / "ames.pt", published(binary=True))
    with pytest.raises(IncompatibleStoreError, match="codes of 16 bits, as the network takes, found 24"):
        rerank(*arguments, method="ames", options=AmesOptions(path))
    path = checkpoint(tmp_path / "float.pt", published(binary=False))
    with pytest.raises(IncompatibleStoreError, match="float descriptors of dimension 24"):
        rerank(*arguments, method="ames", options=AmesOptions(path))
    with pytest.raises(ParameterError, match="path of a checkpoint"):
        rerank(*arguments, method="ames")
    with pytest.raises(StorageError, match="nowhere"):
        rerank(*arguments, method="ames", options=AmesOptions(tmp_path / "nowhere.pt"))


def test_bad_descriptors() -> None:
    binary, real = (fast(published(binary=b)) for b in (True, False))
    with pytest.raises(ShapeError, match=r"codes of 16 bits \(2 bytes\)"):
        binary.encode(np.zeros((3, 4), np.uint8))
    with pytest.raises(ShapeError, match="dimension 24"):
        real.encode(np.zeros((3, 4), np.float32))
    bad = np.zeros((3, LOCAL), np.float32)
    bad[1, 2] = np.nan
    with pytest.raises(NonFiniteError, match="row 1, column 2"):
        real.encode(bad)
    with pytest.raises(DtypeError):
        real.encode(np.array([["a"]]))
    zero = real.encode(np.zeros((2, LOCAL), np.float32))
    assert np.isfinite(real.score(zero, [real.encode(np.zeros((1, LOCAL)), database=True)])).all()


@pytest.mark.parametrize("binary", [False, True])
def test_images_are_encoded_together(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, binary: bool
) -> None:
    """Those of one length in batches, as on a GPU, whatever their order."""
    network = fast(published(binary=binary))
    images: list[np.ndarray] = descriptors(rng, 5, 0, 7, 5, 5, 5, 7, 1)
    if binary:
        images += [rng.integers(0, 256, (length, DIM // 8), np.uint8) for length in (5, 5, 2)]
    alone = [network.encode(image, database=True) for image in images]
    monkeypatch.setattr(network_module, "_TOGETHER", {"cpu": 3})
    together = network.encode_images(images, database=True)
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert network.encode_images([]) == []


@pytest.mark.parametrize("wrong", [{"dtype": "float64"}, {"device": "nowhere"}, {"device": "cuda:99"}])
def test_bad_places(wrong: dict[str, str]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        fast(published(binary=True), **wrong)


def test_checkpoints_are_strict(tmp_path: Path) -> None:
    state = dict(published(binary=True).state_dict())
    assert {name: tuple(value.shape) for name, value in state.items()} == expected_shapes(
        LOCAL, DIM, 3, 32, binary=True
    )

    def refused(match: str, **changed: torch.Tensor | None) -> None:
        other = {**state, **changed}
        kept = {name: value for name, value in other.items() if value is not None}
        torch.save({"state": kept}, tmp_path / "bad.pt")
        with pytest.raises(FileFormatError, match=match):
            load_ames(tmp_path / "bad.pt")

    name = "decoder.layers.1.self_attn.in_proj_weight"
    refused(rf"{name}: expected shape \[48, 16\], found \[48, 17\]", **{name: torch.zeros(48, 17)})
    refused(f"no tensor '{name}'", **{name: None})
    refused("unknown 'detector.weight'", **{"detector.weight": torch.zeros(1)})
    refused("NaN", **{name: torch.full((48, 16), torch.nan)})
    refused("floating point", **{name: torch.zeros(48, 16, dtype=torch.int64)})
    refused("normalize_before", **{"decoder.norm.weight": torch.ones(16)})
    refused("no tensor 'mtc_token'", mtc_token=None)
    refused(r"mtc_token: expected shape \[n\], found \[\]", mtc_token=torch.tensor(1.0))
    torch.save({"state": state}, tmp_path / "good.pt")
    assert repr(load_ames(tmp_path / "good.pt")).startswith("Ames(binary, 24 -> 16, 3 layers")
    with pytest.raises(ParameterError, match="divisor of the model's dimension 16, found 3"):
        load_ames(tmp_path / "good.pt", heads=3)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (tmp_path / "ran", "x"))

    torch.save({"state": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(FileFormatError, match="would run code"):
        load_ames(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_the_published_sizes() -> None:
    for binary, parameters in ((False, 2_079_745), (True, 2_096_129)):
        shapes = expected_shapes(768, 128, 5, 1024, binary=binary)
        assert sum(int(np.prod(shape)) for shape in shapes.values()) == parameters
