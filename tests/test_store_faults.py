"""Damaged files, full disks, killed and competing writers: a typed error or a clean continuation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.errors import (
    CorruptStoreError,
    IliasFastError,
    NotAStoreError,
    StorageError,
    StoreLockedError,
)
from ilias_fast.store import GlobalStore, LocalStore, gc, open_store, verify

HERE = Path(__file__).resolve().parent


@pytest.fixture
def small(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A global store of two shards of 4 rows each."""
    path = tmp_path / "small"
    with GlobalStore.create(path, dim=4, provenance={"model": "m"}) as writer:
        for first in (0, 4):
            matrix = rng.standard_normal((4, 4)).astype(np.float16)
            writer.append([f"id{first + row}" for row in range(4)], matrix)
            writer.commit()
    assert len(shards_of(path)) == 2
    return path


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


def shards_of(path: Path) -> list[Path]:
    return sorted((path / "shards").glob("*.safetensors"))


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
    assert (last.start, last.end, last.tensors) == (size // block * block, size, ("vectors", "id_row", "ids"))
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


# --- killed and competing writers ---


def test_killed_writers_lose_nothing_that_was_committed(tmp_path: Path) -> None:
    script = [
        sys.executable,
        "-W",
        "ignore",
        str(HERE / "kill_store_writer.py"),
        str(tmp_path / "s"),
        "40",
        "20",
    ]
    done = subprocess.run(script, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    rows, _, leftovers, _ = done.stdout.split()
    assert int(rows) > 0
    assert int(leftovers) > 0, "no writer was killed in the middle of a commit: the test tests nothing"


def test_another_process_cannot_write_at_the_same_time(small: Path) -> None:
    code = (
        "import sys; from ilias_fast.store import GlobalStore\n"
        "from ilias_fast.errors import StoreLockedError\n"
        "try: GlobalStore.append_to(sys.argv[1])\n"
        "except StoreLockedError as error: print(error); sys.exit(7)\n"
    )
    with GlobalStore.append_to(small):
        done = subprocess.run([sys.executable, "-c", code, small], capture_output=True, text=True)
        assert (done.returncode, "another writer" in done.stdout) == (7, True), done.stderr
    assert subprocess.run([sys.executable, "-c", code, small]).returncode == 0


def test_opening_while_another_process_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "s"
    code = (
        "import sys, numpy as np; from ilias_fast.store import GlobalStore\n"
        "for value in range(1, 10**6):\n"
        "    with GlobalStore.create(sys.argv[1], dim=4, overwrite=True, shard_bytes=100) as writer:\n"
        "        ids = [f'{value}/{row}' for row in range(20)]\n"
        "        writer.append(ids, np.full((20, 4), value % 1000, np.float16))\n"
        "    print(value, flush=True)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        seen = set()
        for _ in range(300):
            store = GlobalStore.open(path)
            (value,) = {name.split("/")[0] for name in store.ids}
            assert np.all(store.rows(range(20)) == int(value) % 1000)
            assert verify(path).ok
            seen.add(value)
        assert len(seen) > 1, "nothing was overwritten meanwhile: the test tests nothing"
    finally:
        other.kill()
        other.communicate()


def test_a_forked_child_does_not_tidy_up_for_its_parent(small: Path) -> None:
    code = (
        "import os, sys, numpy as np; from ilias_fast.store import GlobalStore\n"
        "writer = GlobalStore.append_to(sys.argv[1], shard_bytes=60)\n"
        "writer.append([f'new{i}' for i in range(9)], np.ones((9, 4), np.float16))\n"
        "if os.fork() == 0: writer.close(); os._exit(0)\n"
        "os.wait(); writer.commit(); writer.close()\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(GlobalStore.open(small)) == 17
    assert verify(small).ok


# --- disks that refuse ---


def test_a_file_size_limit_fails_cleanly_and_commit_can_be_repeated(small: Path) -> None:
    # EFBIG reaches the same code as ENOSPC, and needs no privileges.
    code = """
import errno, resource, sys
import numpy as np
from ilias_fast.errors import ParameterError, StorageError
from ilias_fast.store import GlobalStore, verify

path = sys.argv[1]
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
rows = np.ones((5000, 4), np.float16)

def limited(action):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        action()
    except StorageError as error:
        assert error.errno == errno.EFBIG, error
        assert "shards" in error.filename, error
    else:
        sys.exit("no error")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

writer = GlobalStore.append_to(path)
writer.append([f"a{i}" for i in range(5000)], rows)
limited(writer.commit)
assert len(GlobalStore.open(path)) == 8
assert verify(path).leftovers == ()
assert writer.commit() == 5008
writer.close()
with GlobalStore.append_to(path, shard_bytes=50_000) as writer:
    limited(lambda: writer.append([f"b{i}" for i in range(5000)], rows))
    try:
        writer.commit()
    except ParameterError as error:
        assert "last write failed" in str(error)
    else:
        sys.exit("a failed writer committed")
    writer.close()
assert len(GlobalStore.open(path)) == 5008
assert verify(path).ok and verify(path).leftovers == ()
with GlobalStore.append_to(path) as writer:
    writer.append(["c"], rows[:1])
assert len(GlobalStore.open(path)) == 5009
"""
    done = subprocess.run([sys.executable, "-c", code, small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@contextmanager
def tmpfs(path: Path, size: int) -> Iterator[Path]:
    path.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "none", path], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path, rng: np.random.Generator) -> None:
    with tmpfs(tmp_path / "disk", 1 << 20) as disk:
        path = disk / "s"
        matrix = rng.standard_normal((2000, 64)).astype(np.float16)
        writer = GlobalStore.create(path, dim=64)
        writer.append([f"a{row}" for row in range(2000)], matrix)
        writer.commit()
        writer.append([f"b{row}" for row in range(10_000)], np.repeat(matrix, 5, axis=0))
        with pytest.raises(StorageError, match="space") as caught:
            writer.commit()
        assert caught.value.errno == 28
        assert len(GlobalStore.open(path)) == 2000
        assert verify(path).leftovers == ()
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        assert writer.commit() == 12_000
        writer.close()
        assert np.array_equal(GlobalStore.open(path).rows(range(2000)), matrix)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert len(GlobalStore.open(path)) == 12_000
        assert verify(path).ok
        with pytest.raises(StorageError, match="lock"):
            GlobalStore.append_to(path)
        with pytest.raises(StorageError):
            GlobalStore.create(disk / "t", dim=4)


def test_no_room_even_for_the_manifest(small: Path) -> None:
    (small / "manifest.json.partial").mkdir()
    with GlobalStore.append_to(small) as writer:
        writer.append(["new"], np.ones((1, 4), np.float16))
        with pytest.raises(StorageError, match=r"manifest.json: cannot write"):
            writer.commit()
        assert len(GlobalStore.open(small)) == 8
        (small / "manifest.json.partial").rmdir()
    assert len(GlobalStore.open(small)) == 9


def test_a_shard_that_cannot_be_created(small: Path) -> None:
    moved = small / "shards.moved"
    with GlobalStore.append_to(small) as writer:
        (small / "shards").rename(moved)
        writer.append(["new"], np.ones((1, 4), np.float16))
        with pytest.raises(StorageError, match="cannot create"):
            writer.commit()
        moved.rename(small / "shards")
        assert writer.commit() == 9
    assert verify(small).ok


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot create"):
        GlobalStore.create(tmp_path / "file" / "s", dim=4)
    with pytest.raises(NotAStoreError):
        GlobalStore.open(tmp_path / "file" / "s")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_an_unreadable_shard(small: Path) -> None:
    shards_of(small)[0].chmod(0)
    with pytest.raises(StorageError, match="Permission"):
        GlobalStore.open(small)
