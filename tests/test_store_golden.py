"""Stores written by version 1 of the format: whatever comes later must read them and write the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.store import (
    BinaryStore,
    GlobalStore,
    LocalImage,
    LocalStore,
    compact,
    delete,
    open_store,
    verify,
)
from tests.oracles import store as oracle

GOLDEN = Path(__file__).parent / "data" / "store-v1"
IDS = ["a/pos/1.jpg", "ć ü 😀.jpg", "distractors/0000000003", "d", "e"]


def write(folder: Path) -> None:
    """Write the golden stores; `python -m tests.test_store_golden` writes them to their place."""
    numbers = np.arange(15, dtype=np.float16).reshape(5, 3) / 4 - 1
    with GlobalStore.create(
        folder / "global", dim=3, provenance={"model": "golden"}, shard_bytes=100
    ) as writer:
        writer.append(IDS, numbers)
    codes = np.arange(10, dtype=np.uint8).reshape(5, 2) << 4
    with BinaryStore.create(folder / "binary", bits=12, provenance={"model": "golden"}) as binary:
        binary.append(IDS, codes)
    counts = [2, 0, 1, 3, 0]
    packed = [np.full((count, 2), row * 16, np.uint8) for row, count in enumerate(counts)]
    images = [
        LocalImage(
            codes=packed[row],
            xy=np.full((count, 2), row / 8, np.float32),
            scale=np.full(count, row + 1, np.float32),
            angle=np.full(count, -row, np.float32),
            weight=np.full(count, row / 2, np.float32),
            size=(640 + row, 480),
            descriptors=np.full((count, 3), row / 4, np.float16),
        )
        for row, count in enumerate(counts)
    ]
    every = ("scale", "angle", "weight")
    with LocalStore.create(folder / "local", bits=16, optional=every) as local:
        local.append(IDS, images)
    with LocalStore.create(folder / "floats", dim=3, optional=every) as floats:
        floats.append(IDS, images)
    for name in ("global", "binary", "local", "floats"):
        delete(folder / name, IDS[2:3])
        (folder / name / "lock").unlink()


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def test_it_is_read(golden: Path) -> None:
    left = [0, 1, 3, 4]
    for path in sorted(golden.iterdir()):
        report = verify(path)
        assert report.ok, report
        assert report.leftovers == ()
        store = open_store(path)
        assert list(store.ids) == [IDS[row] for row in left]
        assert oracle.read(path)[1] == list(store.ids)
    first = GlobalStore.open(golden / "global")
    assert first.provenance == {"model": "golden"}
    assert first.rows(range(4)).tolist() == [[row * 3 / 4 - 1 + i / 4 for i in range(3)] for row in left]
    assert BinaryStore.open(golden / "binary").rows(range(4)).tolist() == [
        [row * 2 * 16 % 256, (row * 2 + 1) * 16 % 256] for row in left
    ]
    for name in ("local", "floats"):
        local = LocalStore.open(golden / name)
        assert [image.size for image in local] == [(640 + row, 480) for row in left]
        image = local[2]
        assert image.xy.tolist() == [[0.375, 0.375]] * 3
        assert image.scale is not None
        assert image.scale.tolist() == [4] * 3
        if name == "local":
            assert image.codes.tolist() == [[48, 48]] * 3
        else:
            assert image.descriptors is not None
            assert image.descriptors.tolist() == [[0.75] * 3] * 3


def test_it_is_written_to(golden: Path) -> None:
    with GlobalStore.append_to(golden / "global") as writer:
        writer.append([IDS[2], "new"], np.ones((2, 3), np.float16))
    compact(golden / "global")
    assert list(GlobalStore.open(golden / "global").ids) == [IDS[0], IDS[1], *IDS[3:], IDS[2], "new"]


def test_the_writer_still_writes_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path)
    for path in sorted(GOLDEN.rglob("*.safetensors")):
        assert (tmp_path / path.relative_to(GOLDEN)).read_bytes() == path.read_bytes(), path.name


if __name__ == "__main__":
    write(GOLDEN)
