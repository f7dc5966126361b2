"""Adapting whole stores: derived row by row, resumable, with their parent on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.adapt import Itq, LinearAdapter, PcaWhitening, Signs, Strongest, Unpack, derive, sample_rows
from ilias_fast.errors import (
    IncompatibleStoreError,
    ParameterError,
)
from ilias_fast.store import BinaryStore, GlobalStore, LocalStore, delete
from tests.adapt_samples import KINDS, fitted


@pytest.fixture(params=KINDS)
def adapter(request: pytest.FixtureRequest, rng: np.random.Generator) -> Any:
    return fitted(request.param, rng)


def _store(path: Path, rng: np.random.Generator, counts: tuple[int, ...] = (50, 30, 20)) -> GlobalStore:
    """A store of one shard a count, 16 dimensions."""
    first = 0
    for count in counts:
        vectors = rng.standard_normal((count, 16)).astype(np.float16)
        ids = [f"{row}.jpg" for row in range(first, first + count)]
        provenance = {"extractor": "test"}
        writer = (
            GlobalStore.append_to(path) if first else GlobalStore.create(path, dim=16, provenance=provenance)
        )
        with writer:
            writer.append(ids, vectors)
        first += count
    return GlobalStore.open(path)


def test_a_derived_store_has_the_same_rows_adapted(
    adapter: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    source = _store(tmp_path / "source", rng)
    calls: list[tuple[int, int]] = []
    derived = derive(
        source, tmp_path / "derived", adapter, progress=lambda done, total: calls.append((done, total))
    )
    assert calls[0] == (0, 100)
    assert calls[-1] == (100, 100)
    assert list(derived.ids) == list(source.ids)
    rows = np.arange(100)
    expected = adapter.apply(source.rows(rows))
    if isinstance(adapter, Itq):
        assert isinstance(derived, BinaryStore)
        np.testing.assert_array_equal(derived.rows(rows), expected)
    else:
        np.testing.assert_allclose(derived.rows(rows), expected, atol=1e-3)
    assert derived.provenance["extractor"] == "test"
    assert [step["fingerprint"] for step in derived.provenance["adaptation"]] == [adapter.fingerprint]
    assert derived.parent is not None
    assert derived.parent["checksum"] == source.checksum
    assert derived.parent["parameters"]["adapter"] == adapter.kind


def test_adaptations_add_up(tmp_path: Path, rng: np.random.Generator) -> None:
    source = _store(tmp_path / "source", rng)
    whitening = PcaWhitening.fit(sample_rows(source, 60), 8)
    once = derive(source, tmp_path / "once", whitening)
    twice = derive(once, tmp_path / "twice", Itq.fit(sample_rows(once, 60), 8))
    assert [step["adapter"] for step in twice.provenance["adaptation"]] == ["pca-whitening", "itq"]


def test_an_interrupted_derivation_goes_on(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilias_fast.adapt.deriving._BLOCK_BYTES", 4 * 16 * 7)  # 7 rows a block
    monkeypatch.setattr("ilias_fast.adapt.deriving._COMMIT_BYTES", 1)
    source = _store(tmp_path / "source", rng)
    whitening = PcaWhitening.fit(sample_rows(source, 60), 8)
    whole = derive(source, tmp_path / "whole", whitening)

    def stop(done: int, total: int) -> None:  # noqa: ARG001
        if done >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derive(source, tmp_path / "d", whitening, progress=stop)
    assert 60 <= len(GlobalStore.open(tmp_path / "d")) < 100  # what was done is kept
    seen: list[int] = []
    derived = derive(source, tmp_path / "d", whitening, progress=lambda done, _: seen.append(done))
    assert seen[0] >= 60
    assert list(derived.ids) == list(whole.ids)
    np.testing.assert_allclose(derived.rows(np.arange(100)), whole.rows(np.arange(100)), atol=1e-3)
    # A finished one is opened as it is.
    before = derived.checksum
    assert derive(source, tmp_path / "d", whitening).checksum == before


def test_stores_that_do_not_fit(tmp_path: Path, rng: np.random.Generator) -> None:
    source = _store(tmp_path / "source", rng)
    whitening = PcaWhitening.fit(sample_rows(source, 60), 8)
    with pytest.raises(IncompatibleStoreError, match=r"dimension 15 .* found 16"):
        derive(source, tmp_path / "d", PcaWhitening.fit(rng.random((40, 15))))
    assert not (tmp_path / "d").exists()
    derive(source, tmp_path / "d", whitening)
    for other in (PcaWhitening.fit(sample_rows(source, 60), 7), Itq.fit(sample_rows(source, 60), 8)):
        with pytest.raises(IncompatibleStoreError, match="another path"):
            derive(source, tmp_path / "d", other)
    with GlobalStore.append_to(tmp_path / "source") as writer:
        writer.append(["new"], np.ones((1, 16), np.float16))
    with pytest.raises(IncompatibleStoreError, match="as it is now"):
        derive(GlobalStore.open(tmp_path / "source"), tmp_path / "d", whitening)


def test_an_empty_store_is_adapted_to_an_empty_one(tmp_path: Path) -> None:
    with GlobalStore.create(tmp_path / "empty", dim=3) as writer:
        writer.commit()
    layer = LinearAdapter(np.ones((2, 3)), np.zeros(2))
    assert len(derive(GlobalStore.open(tmp_path / "empty"), tmp_path / "d", layer)) == 0


def test_samples_are_rows_in_order(tmp_path: Path, rng: np.random.Generator) -> None:
    source = _store(tmp_path / "source", rng)
    rows = source.rows(np.arange(100)).astype(np.float32)
    np.testing.assert_array_equal(sample_rows(source, 1000), rows)
    sample = sample_rows(source, 10, seed=3)
    places = [int(np.flatnonzero((rows == row).all(axis=1))[0]) for row in sample]
    assert places == sorted(places)
    assert len(set(places)) == 10
    assert not np.array_equal(sample, sample_rows(source, 10, seed=4))
    with pytest.raises(ParameterError, match="count"):
        sample_rows(source, 0)


def test_signs_and_back(tmp_path: Path, rng: np.random.Generator) -> None:
    source = _store(tmp_path / "source", rng)
    rows = source.rows(np.arange(100))
    codes = derive(source, tmp_path / "codes", Signs(16))
    assert isinstance(codes, BinaryStore)
    np.testing.assert_array_equal(codes.rows(np.arange(100)), np.packbits(rows >= 0, axis=1))
    back = derive(codes, tmp_path / "back", Unpack(16))
    assert isinstance(back, GlobalStore)
    np.testing.assert_array_equal(back.rows(np.arange(100)), np.where(rows >= 0, 0.25, -0.25))
    assert [step["adapter"] for step in back.provenance["adaptation"]] == ["signs", "unpack"]
    Signs(16).save(tmp_path / "signs")
    assert Signs.load(tmp_path / "signs").fingerprint == Signs(16).fingerprint != Signs(17).fingerprint
    for wrong in (Unpack(16), Strongest(3), Signs(15)):
        with pytest.raises(IncompatibleStoreError, match=r"expected .* adapter, found"):
            derive(source, tmp_path / "x", wrong)
    with pytest.raises(IncompatibleStoreError, match="dimension 16"):
        derive(codes, tmp_path / "x", Signs(16))
    assert not (tmp_path / "x").exists()


def test_the_strongest_local_descriptors(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilias_fast.adapt.local._BLOCK_IMAGES", 2)
    counts = [0, 3, 4, 9, 1]
    offsets = np.cumsum([0, *counts])
    codes = rng.integers(0, 256, (17, 2), dtype=np.uint8)
    xy = rng.random((17, 2), dtype=np.float32)
    weight = np.round(3 * rng.random(17)).astype(np.float32)  # with ties
    with LocalStore.create(tmp_path / "local", bits=16, optional=["weight"]) as writer:
        writer.append_arrays(list("abcde"), offsets, codes, xy, size=np.ones((5, 2), np.int64), weight=weight)
    source = LocalStore.open(tmp_path / "local")
    derived = derive(source, tmp_path / "few", Strongest(3))
    assert isinstance(derived, LocalStore)
    assert [len(image.codes) for image in derived] == [0, 3, 3, 3, 1]
    assert derived.parent is not None
    assert derived.parent["parameters"] == {"adapter": "strongest", "count": 3}
    for row, image in enumerate(derived):
        there = range(offsets[row], offsets[row + 1])
        best = sorted(sorted(there, key=lambda place: (-weight[place], place))[:3])
        assert np.array_equal(image.codes, codes[best])
        assert np.array_equal(image.xy, xy[best])
        assert image.weight is not None
        assert np.array_equal(image.weight, weight[best])
    with LocalStore.create(tmp_path / "bare", bits=16) as writer:
        writer.append_arrays(["a"], [0, 0], np.empty((0, 2), np.uint8), np.empty((0, 2)), size=[[1, 1]])
    with pytest.raises(IncompatibleStoreError, match="weight"):
        derive(LocalStore.open(tmp_path / "bare"), tmp_path / "y", Strongest(3))


def test_deleted_rows_stay_away(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilias_fast.adapt.deriving._BLOCK_BYTES", 4 * 16 * 7)
    _store(tmp_path / "source", rng)
    delete(tmp_path / "source", ["0.jpg", "13.jpg", "14.jpg", "49.jpg", "80.jpg", "99.jpg"])
    source = GlobalStore.open(tmp_path / "source")
    layer = LinearAdapter(rng.standard_normal((4, 16)), np.zeros(4))
    derived = derive(source, tmp_path / "derived", layer, threads=1)
    assert list(derived.ids) == list(source.ids)
    rows = np.arange(94)
    np.testing.assert_array_equal(derived.rows(rows), layer.apply_half(source.rows(rows)))

    def stop(done: int, total: int) -> None:
        assert total == 94
        if done >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derive(source, tmp_path / "again", layer, progress=stop)
    again = derive(source, tmp_path / "again", layer)
    np.testing.assert_array_equal(again.rows(rows), derived.rows(rows))
    with pytest.raises(ParameterError, match="threads"):
        derive(source, tmp_path / "x", layer, threads=0)
