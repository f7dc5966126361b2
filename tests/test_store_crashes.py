"""Killed and competing writers, full disks: a typed error or a clean continuation."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.errors import DuplicateIdError, NotAStoreError, StorageError, StoreLockedError
from ilias_fast.store import GlobalStore, select, verify
from tests.store_samples import shards_of, tmpfs

HERE = Path(__file__).resolve().parent


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
        seen: set[str] = set()
        opened = 0
        while opened < 300 or len(seen) < 3:
            assert opened < 50_000, "nothing was overwritten meanwhile: the test tests nothing"
            opened += 1
            store = GlobalStore.open(path)
            (value,) = {name.split("/")[0] for name in store.ids}
            assert np.all(store.rows(range(20)) == int(value) % 1000)
            assert verify(path).ok
            seen.add(value)
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


def test_a_forked_child_cannot_write_with_the_writer_of_its_parent(small: Path) -> None:
    code = (
        "import os, sys, numpy as np; from ilias_fast.store import GlobalStore\n"
        "from ilias_fast.errors import ParameterError\n"
        "with GlobalStore.append_to(sys.argv[1]) as writer:\n"
        "    row = np.ones((1, GlobalStore.open(sys.argv[1]).dim), np.float16)\n"
        "    writer.append(['parent'], row)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        for write in (lambda: writer.append(['child'], row), writer.commit):\n"
        "            try: write(); os._exit(1)\n"
        "            except ParameterError as error: assert 'forked' in str(error)\n"
        "        os._exit(7)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
    )
    before = len(GlobalStore.open(small))
    script = [sys.executable, "-W", "ignore", "-c", code, str(small)]
    assert subprocess.run(script, timeout=60).returncode == 0
    assert GlobalStore.open(small).ids[before:] == ["parent"]
    assert verify(small).ok


def test_a_writer_that_committed_nothing_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s"
    writer = GlobalStore.create(path, dim=2)
    writer.append(["a"], np.ones((1, 2)))
    with pytest.raises(StoreLockedError):
        GlobalStore.create(path, dim=2)
    with (path / "lock").open() as old:
        writer.close()
        assert not path.exists()
        with GlobalStore.create(path, dim=2) as writer:
            # The lock of a folder that is gone locks nothing.
            fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with pytest.raises(StoreLockedError):
                GlobalStore.create(path, dim=2)
            writer.append(["a"], np.ones((1, 2)))
    assert GlobalStore.open(path).ids[:] == ["a"]
    with pytest.raises(DuplicateIdError, match="given twice"):
        select(GlobalStore.open(path), tmp_path / "t", ["a", "a"])
    assert not (tmp_path / "t").exists()
    # What was there before stays, and what came meanwhile.
    (tmp_path / "mine").mkdir()
    GlobalStore.create(tmp_path / "mine", dim=2).close()
    assert (tmp_path / "mine").is_dir()
    writer = GlobalStore.create(tmp_path / "u", dim=2)
    (tmp_path / "u" / "notes").write_text("")
    writer.close()
    assert (tmp_path / "u" / "notes").exists()


# --- disks that refuse ---


@pytest.mark.parametrize("limit", [3000, 14_500, 15_000])
def test_what_a_repeated_commit_writes_is_what_was_appended(tmp_path: Path, limit: int) -> None:
    # The disk is full once the vectors, but not the ids, are in the file.
    code = """
import resource, sys
import numpy as np
from ilias_fast.errors import StorageError
from ilias_fast.store import GlobalStore, verify

path, limit = sys.argv[1], int(sys.argv[2])
vectors = np.random.default_rng(0).standard_normal((100, 64)).astype(np.float16)
writer = GlobalStore.create(path, dim=64)
writer.append([f"a{row}" for row in range(100)], vectors)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
for attempt in range(2):
    try:
        writer.commit()
        sys.exit("no error")
    except StorageError:
        pass
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
writer.append(["late"], vectors[:1])
assert writer.commit() == 101
(_, found), *more = GlobalStore.open(path).shards()
assert not more and np.array_equal(found[:100], vectors) and np.array_equal(found[100], vectors[0])
assert verify(path).ok
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "s"), str(limit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


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
