"""Damaged files of stores: each a typed error, none misread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ilias_fast.errors import (
    CorruptStoreError,
    IliasFastError,
    NotAStoreError,
    StoreLockedError,
)
from ilias_fast.store import GlobalStore, LocalStore, gc, open_store, verify
from tests.store_samples import shards_of


@pytest.fixture
def local(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A local store of one shard with three images, one without descriptors."""
    path = tmp_path / "local"
    with LocalStore.create(path, bits=16, optional=["scale"]) as writer:
        writer.append_arrays(
            ["a", "b", "ć"],
            [0, 3, 3, 5],
            rng.integers(0, 256, (5, 2), dtype=np.uint8),
            rng.random((5, 2)),
            size=np.full((3, 2), 9),
            scale=np.ones(5),
        )
    return path


def read_all(path: Path) -> int:
    """Touch everything a store has."""
    store = open_store(path)
    names = list(store.ids)
    store.contains(names)
    if isinstance(store, LocalStore):
        return sum(int(image.codes.sum()) + int(image.xy.sum() > 0) for image in store)
    store.rows(range(len(store)))
    return len(names) + sum(int(view.size) for _, view in store.shards())


# --- damaged files ---


def test_every_changed_byte_of_the_manifest_is_noticed(small: Path) -> None:
    manifest = small / "manifest.json"
    good = manifest.read_bytes()
    for position in range(len(good)):
        for flip in (0x01, 0x20, 0x80):
            bad = bytearray(good)
            bad[position] ^= flip
            manifest.write_bytes(bad)
            with pytest.raises((CorruptStoreError, NotAStoreError)):
                GlobalStore.open(small)
    manifest.write_bytes(good)
    assert len(GlobalStore.open(small)) == 8


def test_a_manifest_cut_anywhere_is_noticed(small: Path) -> None:
    manifest = small / "manifest.json"
    good = manifest.read_bytes()
    for length in range(len(good)):
        manifest.write_bytes(good[:length])
        with pytest.raises(CorruptStoreError, match=r"manifest\.json"):
            GlobalStore.open(small)
        with pytest.raises(CorruptStoreError):
            verify(small)
        with pytest.raises(CorruptStoreError):
            GlobalStore.append_to(small)
    manifest.write_bytes(good + b"\n")
    with pytest.raises(CorruptStoreError, match="checksum"):
        GlobalStore.open(small)


@pytest.mark.parametrize("kind", ["small", "local"])
def test_every_changed_byte_of_a_shard_is_found_by_verify(kind: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(kind)
    shard = shards_of(path)[-1]
    good = shard.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        shard.write_bytes(bad)
        (damage,) = verify(path).damages
        assert damage.file == shard.name
        assert (damage.start, damage.end) == (0, len(good))
        if position >= header:
            assert "ids" in damage.tensors
        try:
            read_all(path)
        except IliasFastError as error:
            assert shard.name in str(error)  # noqa: PT017 (reading may also succeed: it sees no checksums)
    shard.write_bytes(good)
    assert verify(path).ok


def test_a_shard_cut_anywhere_is_noticed(small: Path) -> None:
    shard = shards_of(small)[0]
    good = shard.read_bytes()
    for length in range(0, len(good), 3):
        shard.write_bytes(good[:length])
        with pytest.raises(
            CorruptStoreError, match=f"{shard.name}.*expected {len(good)} bytes, found {length}"
        ):
            GlobalStore.open(small)
        (damage,) = verify(small, quick=True).damages
        assert f"found {length}" in damage.detail
    shard.write_bytes(good + b"x")
    with pytest.raises(CorruptStoreError, match=f"found {len(good) + 1}"):
        GlobalStore.open(small)


def test_a_missing_shard_is_named(small: Path) -> None:
    shard = shards_of(small)[1]
    shard.unlink()
    with pytest.raises(CorruptStoreError, match=f"{shard.name}.*found no file"):
        GlobalStore.open(small)
    with pytest.raises(CorruptStoreError, match=shard.name):
        GlobalStore.append_to(small)
    (damage,) = verify(small).damages
    assert damage.file == shard.name
    assert str(damage).startswith(f"shards/{shard.name}: bytes 0 to ")
    shard.mkdir()
    with pytest.raises(CorruptStoreError, match=shard.name):
        GlobalStore.open(small)


def test_verify_names_the_damaged_block_and_its_tensors(tmp_path: Path, rng: np.random.Generator) -> None:
    block = 4 << 20
    path = tmp_path / "s"
    matrix = rng.standard_normal((10_000, 512)).astype(np.float16)
    with GlobalStore.create(path, dim=512) as writer:
        writer.append([f"id{row}" for row in range(len(matrix))], matrix)
    (shard,) = shards_of(path)
    size = shard.stat().st_size
    told: list[tuple[int, int]] = []
    report = verify(path, threads=2, progress=lambda done, total: told.append((done, total)))
    assert report.ok
    assert (report.shards, report.bytes, told[-1]) == (1, size, (size, size))
    assert told == sorted(told)
    with shard.open("r+b") as file:
        file.seek(block + 77)
        file.write(b"\xff\xee\xdd")
        file.seek(size - 1)
        file.write(b"\xff")
    first, last = verify(path).damages
    assert (first.start, first.end, first.tensors) == (block, 2 * block, ("vectors",))
    assert (last.start, last.end, last.tensors) == (
        size // block * block,
        size,
        ("vectors", "id_offsets", "id_hash", "id_row", "ids"),
    )
    assert "checksum" in first.detail
    assert verify(path, quick=True).ok


def test_leftovers_are_listed_and_collected(small: Path) -> None:
    names = [
        "shards/000009-0123456789abcdef.safetensors",
        "shards/000002.safetensors.partial",
        "manifest.json.partial",
    ]
    for name in names:
        (small / name).write_bytes(b"half")
    (small / "README").write_text("mine")
    assert verify(small).leftovers == tuple(sorted(names))
    writer = GlobalStore.append_to(small)
    with pytest.raises(StoreLockedError):
        gc(small)
    writer.close()
    assert gc(small) == tuple(sorted(names))
    assert gc(small) == ()
    assert (small / "README").exists()
    assert verify(small).ok


def test_a_store_replaced_by_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(IliasFastError):
        GlobalStore.open(tmp_path)
    (tmp_path / "manifest.json").rmdir()
    for text in ("", "[]", "null", '"x"', "{" * 100_000, "[" * 100_000, "\x00" * 50, '{"format":1}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(CorruptStoreError, match="manifest"):
            GlobalStore.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format":"another","version":1}')
    with pytest.raises(NotAStoreError, match="another"):
        GlobalStore.open(tmp_path)


def test_an_enormous_manifest_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptStoreError, match="at most"):
        GlobalStore.open(tmp_path)
