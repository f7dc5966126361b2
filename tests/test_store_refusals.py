"""What a store refuses, and that a refusal changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast import _core
from ilias_fast.errors import (
    CorruptStoreError,
    DtypeError,
    IncompatibleStoreError,
    NonFiniteError,
    NotAStoreError,
    ParameterError,
    ShapeError,
)
from ilias_fast.store import (
    BinaryStore,
    GlobalStore,
    LocalStore,
)
from tests.store_samples import make_global, make_images, vectors


def test_bad_vectors_leave_the_writer_as_it_was(tmp_path: Path, rng: np.random.Generator) -> None:
    nan = vectors(rng, 3)
    nan[2, 5] = np.nan
    with GlobalStore.create(tmp_path / "s", dim=8) as writer:
        with pytest.raises(NonFiniteError, match="row 2, column 5 is NaN"):
            writer.append(list("abc"), nan)
        with pytest.raises(NonFiniteError, match="inf"):
            writer.append(["a"], np.full((1, 8), 1e6, np.float32))
        with pytest.raises(ShapeError, match="8 columns"):
            writer.append(["a"], vectors(rng, 1, 9))
        with pytest.raises(ShapeError, match="expected 2 rows"):
            writer.append(["a", "b"], vectors(rng, 3))
        with pytest.raises(ShapeError, match=r"\[8\]"):
            writer.append(["a"], vectors(rng, 1)[0])
        with pytest.raises(DtypeError, match="int64"):
            writer.append(["a"], np.ones((1, 8), np.int64))
        with pytest.raises(DtypeError, match="single str"):
            writer.append("a", vectors(rng, 1))
        with pytest.raises(DtypeError, match="position 1"):
            writer.append(["a", 3], vectors(rng, 2))  # type: ignore[list-item]
        assert len(writer) == 0
        writer.append(list("abc"), vectors(rng, 3))
    assert len(GlobalStore.open(tmp_path / "s")) == 3


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"xy": np.full((3, 2), 1.5)}, ParameterError, "divide x by the width"),
        ({"xy": np.full((3, 2), np.nan)}, NonFiniteError, "xy"),
        ({"xy": np.zeros((2, 2))}, ShapeError, "xy"),
        ({"xy": np.zeros((3, 3))}, ShapeError, "xy"),
        ({"codes": np.zeros((3, 15), np.uint8)}, ShapeError, "16 columns"),
        ({"codes": np.zeros((3, 16), np.int64)}, DtypeError, "uint8"),
        ({"offsets": [0, 2]}, ShapeError, "codes"),
        ({"offsets": [1, 3]}, ParameterError, "first offset of 0"),
        (
            {"offsets": [0, 4, 3], "ids": ["a", "b"], "size": [[1, 1], [1, 1]]},
            ParameterError,
            "never decrease",
        ),
        ({"offsets": [0, 1, 3]}, ShapeError, "offsets"),
        ({"scale": None}, ParameterError, "created with it"),
        ({"angle": np.zeros(3)}, ParameterError, "created without"),
        ({"scale": np.zeros(3)}, ParameterError, "positive"),
        ({"scale": np.full(3, np.inf)}, NonFiniteError, "scale"),
        ({"scale": np.ones(2)}, ShapeError, "scale"),
        ({"size": [[0, 5]]}, ParameterError, "positive width"),
        ({"size": [[5, 2**31]]}, ParameterError, "2\\^31"),
        ({"size": [[5.0, 5.0]]}, ShapeError, "integers"),
        ({"size": [[5, 5], [5, 5]]}, ShapeError, "size"),
    ],
)
def test_bad_local_descriptors(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], match: str
) -> None:
    good: dict[str, Any] = {
        "ids": ["a"],
        "offsets": [0, 3],
        "codes": np.zeros((3, 16), np.uint8),
        "xy": np.full((3, 2), 0.5),
        "size": [[5, 5]],
        "scale": np.ones(3),
    }
    with LocalStore.create(tmp_path / "s", bits=128, optional=["scale"]) as writer:
        with pytest.raises(error, match=match):
            writer.append_arrays(**{**good, **change})
        writer.append_arrays(**good)
    assert len(LocalStore.open(tmp_path / "s").image(0).codes) == 3


def test_bad_images(tmp_path: Path, rng: np.random.Generator) -> None:
    (image,) = make_images(rng, [3])
    with LocalStore.create(tmp_path / "s", bits=128, optional=["weight"]) as writer:
        with pytest.raises(ParameterError, match="weight"):
            writer.append(["a"], [image._replace(weight=None)])
        with pytest.raises(ShapeError, match="weight: expected 3 rows in image 0, found 2"):
            writer.append(["a"], [image._replace(weight=np.ones(2, np.float32))])
        with pytest.raises(ShapeError, match="16 columns"):
            writer.append(["a"], [image._replace(codes=np.zeros((3, 8), np.uint8))])
        writer.append(["a"], [image])
    store = LocalStore.open(tmp_path / "s")
    store.require("weight")
    with pytest.raises(IncompatibleStoreError, match="angle"):
        store.require("weight", "angle")
    with pytest.raises(IndexError):
        store.image(1)
    assert np.array_equal(store.image(-1).codes, image.codes)


def test_padding_bits_must_be_zero(tmp_path: Path) -> None:
    with BinaryStore.create(tmp_path / "s", bits=12) as writer:
        with pytest.raises(ParameterError, match="zero bits after the first 12"):
            writer.append(["a"], np.array([[255, 255]], np.uint8))
        writer.append(["a"], np.array([[255, 240]], np.uint8))


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, 10**9, None])
def test_bad_lengths(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(ParameterError, match="dim"):
        GlobalStore.create(tmp_path / "s", dim=bad)
    with pytest.raises(ParameterError, match="bits"):
        LocalStore.create(tmp_path / "s", bits=bad)
    assert not (tmp_path / "s").exists()


def test_other_bad_parameters(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="shard_bytes"):
        GlobalStore.create(tmp_path / "s", dim=3, shard_bytes=0)
    with pytest.raises(ParameterError, match="colour"):
        LocalStore.create(tmp_path / "s", bits=8, optional=["colour"])
    with pytest.raises(NotAStoreError, match="nothing there"):
        GlobalStore.open(tmp_path / "nowhere")


def test_a_newer_version_is_told_from_a_damaged_one(tmp_path: Path, rng: np.random.Generator) -> None:
    make_global(tmp_path / "s", rng)
    manifest = tmp_path / "s" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"version":1', '"version":2'))
    with pytest.raises(NotAStoreError, match="version 2"):
        GlobalStore.open(tmp_path / "s")
    manifest.write_text(text.replace('"rows":10', '"rows":11'))
    with pytest.raises(CorruptStoreError, match="checksum"):
        GlobalStore.open(tmp_path / "s")


@pytest.mark.parametrize(
    "value", ["1" * 5000, '{"a":' * 100_000 + "{}" + "}" * 100_000], ids=["digits", "depth"]
)
def test_a_provenance_python_cannot_hold_hides_no_rows(tmp_path: Path, value: str) -> None:
    # As another program may write it: it is JSON.
    writer = _core.StoreWriter.create(
        tmp_path / "s", "global", True, 2, [], f'{{"a":{value}}}', None, False, None
    )
    writer.append_vectors(["x"], np.ones((1, 2), np.float16))
    writer.commit()
    writer.close()
    store = GlobalStore.open(tmp_path / "s")
    assert store.id_of([0]) == ["x"]
    with pytest.raises(CorruptStoreError, match="expected a provenance that Python can hold"):
        store.provenance  # noqa: B018 (the look is what is tested)
