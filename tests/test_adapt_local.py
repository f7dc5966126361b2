"""Deriving local stores: descriptors mapped, binarised, unpacked, or fewer of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.adapt import Itq, LinearAdapter, Signs, Strongest, Unpack, derive
from ilias_fast.errors import IncompatibleStoreError, NonFiniteError
from ilias_fast.store import GlobalStore, LocalStore

DIM = 12
COUNTS = [3, 0, 7, 1, 0, 5, 9, 2]


@pytest.fixture
def source(tmp_path: Path, rng: np.random.Generator) -> LocalStore:
    """A local store of float16 descriptors, some images without any."""
    path = tmp_path / "source"
    total = sum(COUNTS)
    with LocalStore.create(path, dim=DIM, optional=["scale", "weight"], provenance={"model": "m"}) as writer:
        writer.append_arrays(
            [f"{row}.jpg" for row in range(len(COUNTS))],
            np.concatenate([[0], np.cumsum(COUNTS)]),
            None,
            rng.random((total, 2)),
            descriptors=rng.standard_normal((total, DIM)).astype(np.float16),
            scale=rng.random(total) + 0.1,
            weight=rng.permutation(total),
            size=np.full((len(COUNTS), 2), 100),
        )
    return LocalStore.open(path)


@pytest.fixture(params=[1, 100, 1 << 20])
def any_block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one image, of a few, of all."""
    monkeypatch.setattr("ilias_fast.adapt.local._BLOCK_BYTES", request.param)


def _same_but_for_descriptors(derived: LocalStore, source: LocalStore) -> None:
    assert list(derived.ids) == list(source.ids)
    assert derived.optional == source.optional
    for image, other in zip(derived, source, strict=True):
        for name in ("xy", "scale", "weight"):
            assert np.array_equal(getattr(image, name), getattr(other, name)), name
        assert image.size == other.size
    assert derived.provenance["model"] == "m"
    assert derived.parent is not None
    assert derived.parent["checksum"] == source.checksum
    assert derived.verify().ok


@pytest.mark.usefixtures("any_block")
@pytest.mark.parametrize("name", ["itq", "signs"])
def test_floats_become_codes_and_floats_again(
    name: str, source: LocalStore, tmp_path: Path, rng: np.random.Generator
) -> None:
    step: Any = Signs(DIM)
    if name == "itq":
        step = Itq(np.zeros(DIM, np.float32), rng.standard_normal((DIM, 8)).astype(np.float32), 0.0)
    seen: list[tuple[int, int]] = []
    codes = derive(source, tmp_path / "codes", step, progress=lambda done, total: seen.append((done, total)))
    assert (codes.bits, codes.dim) == (step.bits, 0)
    assert (seen[0], seen[-1]) == ((0, len(COUNTS)), (len(COUNTS), len(COUNTS)))
    for image, other in zip(codes, source, strict=True):
        assert other.descriptors is not None
        assert np.array_equal(image.codes, step.apply(other.descriptors))
    _same_but_for_descriptors(codes, source)
    floats = derive(codes, tmp_path / "floats", Unpack(step.bits))
    assert (floats.bits, floats.dim) == (0, step.bits)
    for image, other in zip(floats, codes, strict=True):
        assert image.descriptors is not None
        assert np.array_equal(np.packbits(image.descriptors > 0, axis=1), other.codes)


@pytest.mark.usefixtures("any_block")
def test_a_layer_maps_descriptors(source: LocalStore, tmp_path: Path, rng: np.random.Generator) -> None:
    layer = LinearAdapter(rng.standard_normal((5, DIM)), rng.standard_normal(5))
    derived = derive(source, tmp_path / "d", layer)
    assert derived.dim == 5
    for image, other in zip(derived, source, strict=True):
        assert image.descriptors is not None
        assert other.descriptors is not None
        np.testing.assert_allclose(image.descriptors, layer.apply(other.descriptors), rtol=2e-3, atol=2e-3)
    _same_but_for_descriptors(derived, source)


@pytest.mark.usefixtures("any_block")
def test_the_strongest_stay_floats(source: LocalStore, tmp_path: Path) -> None:
    derived = derive(source, tmp_path / "d", Strongest(3))
    assert (derived.dim, derived.bits) == (DIM, 0)
    for image, other in zip(derived, source, strict=True):
        assert image.weight is not None
        assert other.weight is not None
        assert image.descriptors is not None
        assert other.descriptors is not None
        kept = np.sort(np.argsort(-other.weight, kind="stable")[:3])
        assert np.array_equal(image.descriptors, other.descriptors[kept])
        assert np.array_equal(image.xy, other.xy[kept])
        assert np.array_equal(image.weight, other.weight[kept])


def test_a_derivation_goes_on(source: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilias_fast.adapt.local._BLOCK_BYTES", 1)
    whole = derive(source, tmp_path / "whole", Signs(DIM))

    def stop(done: int, _total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derive(source, tmp_path / "d", Signs(DIM), progress=stop)
    assert 0 < len(LocalStore.open(tmp_path / "d")) < len(COUNTS)
    derived = derive(source, tmp_path / "d", Signs(DIM))
    for image, other in zip(derived, whole, strict=True):
        assert np.array_equal(image.codes, other.codes)
    assert list(derived.ids) == list(whole.ids)


def test_what_does_not_fit(source: LocalStore, tmp_path: Path) -> None:
    codes = derive(source, tmp_path / "codes", Signs(DIM))
    for store, step in ((source, Signs(DIM + 1)), (source, Unpack(DIM)), (codes, Signs(DIM))):
        with pytest.raises(IncompatibleStoreError, match=r"expected .* adapter, found"):
            derive(store, tmp_path / "d", step)
        assert not (tmp_path / "d").exists()


class _Beyond(LinearAdapter):
    """Makes of every fifth descriptor what float16 cannot hold."""

    def apply_half(self, vectors: Any, *, threads: Any = None) -> NDArray[np.float16]:
        result = super().apply_half(vectors, threads=threads)
        result[4::5] = np.inf
        return result


def test_a_result_beyond_float16_is_named(source: LocalStore, tmp_path: Path) -> None:
    step = _Beyond(np.ones((2, DIM)), np.zeros(2))
    with pytest.raises(NonFiniteError, match=r"beyond it for '2.jpg'"):
        derive(source, tmp_path / "d", step)
    with GlobalStore.create(tmp_path / "g", dim=DIM) as writer:
        writer.append([f"{row}.jpg" for row in range(7)], np.ones((7, DIM)))
    with pytest.raises(NonFiniteError, match=r"beyond it for '4.jpg'"):
        derive(GlobalStore.open(tmp_path / "g"), tmp_path / "e", step)
