"""Shards that vanish, and folders that cannot be written: typed errors, and the store as it was."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.adapt import Itq, Signs, derive
from ilias_fast.errors import CorruptStoreError, IliasFastError, StorageError
from ilias_fast.store import (
    GlobalStore,
    build_planes,
    compact,
    delete,
    drop_planes,
    gc,
    import_store,
    merge,
    open_store,
    select,
    verify,
)
from tests.store_samples import make_global, shards_of, tmpfs

ROWS, DIM = 40, 8

Work = Callable[[Path], object]

OPENING: dict[str, Work] = {
    "append": GlobalStore.append_to,
    "delete": lambda path: delete(path, ["id1"]),
    "compact": compact,
    "planes": build_planes,
    "drop planes": drop_planes,
    "select": lambda path: select(open_store(path), path.with_name("made"), ["id1"]),
    "merge": lambda path: merge([open_store(path)], path.with_name("made")),
    "derive": lambda path: derive(open_store(path), path.with_name("made"), Signs(DIM)),
}
"""Everything that changes a store or makes one of it."""


@pytest.fixture
def store(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A store of many shards with deleted rows: there is something to compact."""
    path = tmp_path / "s"
    make_global(path, rng, ROWS, shard_bytes=150)
    delete(path, ["id3", "id4", "id30"])
    assert len(shards_of(path)) > 4
    return path


@pytest.mark.parametrize("work", OPENING)
@pytest.mark.parametrize("place", [0, -1])
def test_a_vanished_shard_is_named_and_nothing_changes(work: str, place: int, store: Path) -> None:
    gone = shards_of(store)[place]
    content = gone.read_bytes()
    gone.unlink()
    manifest = (store / "manifest.json").read_bytes()
    files = sorted(store.rglob("*"))
    with pytest.raises(CorruptStoreError, match=f"{gone.name}.*found no file"):
        OPENING[work](store)
    assert (store / "manifest.json").read_bytes() == manifest
    assert sorted({*store.rglob("*"), store / "lock"}) == sorted({*files, store / "lock"})
    assert not store.with_name("made").exists()
    (damage,) = verify(store).damages
    assert damage.file == gone.name
    gone.write_bytes(content)
    assert verify(store).ok
    OPENING[work](store)


def test_what_is_open_outlives_its_files(store: Path, tmp_path: Path) -> None:
    opened = GlobalStore.open(store)
    rows = opened.rows(range(len(opened)))
    for shard in shards_of(store):
        shard.unlink()
    chosen = select(opened, tmp_path / "chosen", list(opened.ids)[::-1])
    assert isinstance(chosen, GlobalStore)
    assert np.array_equal(chosen.rows(range(len(opened))), rows[::-1])
    codes = derive(opened, tmp_path / "codes", Signs(DIM))
    assert np.array_equal(codes.rows(range(len(opened))), np.packbits(rows >= 0, axis=1))
    with pytest.raises(CorruptStoreError, match="found no file"):
        GlobalStore.open(store)


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_a_damaged_shard_stops_a_compaction(damage: str, store: Path) -> None:
    delete(store, [f"id{row}" for row in range(5, ROWS, 3) if row != 30])  # every shard is worth rewriting
    whole = list(GlobalStore.open(store).ids)
    victim = shards_of(store)[-2]
    content = victim.read_bytes()
    before = (store / "manifest.json").read_bytes()
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(content[:-1])
    else:
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CorruptStoreError, match=victim.name):
        compact(store, shard_bytes=300)
    # The damaged shard stays, whole or not, and so does every row that is not in it.
    (found,) = verify(store).damages
    assert found.file == victim.name
    assert verify(store).leftovers == ()
    # What opening notices changes nothing; a changed byte is found when its shard's turn comes.
    assert ((store / "manifest.json").read_bytes() == before) == (damage != "changed")
    victim.write_bytes(content)
    assert verify(store).ok
    assert list(GlobalStore.open(store).ids) == whole
    assert compact(store, shard_bytes=300).dropped > 0
    assert list(GlobalStore.open(store).ids) == whole


@pytest.mark.parametrize("work", [*OPENING, "gc", "import", "import more", "create"])
def test_a_folder_that_cannot_be_written(work: str, tmp_path: Path, rng: np.random.Generator) -> None:
    with tmpfs(tmp_path / "disk", 4 << 20) as disk:
        path = disk / "s"
        matrix = make_global(path, rng, ROWS, shard_bytes=150)
        delete(path, ["id3", "id4", "id30"])
        np.save(tmp_path / "f.npy", matrix)
        np.save(tmp_path / "g.npy", matrix)
        for name in ("f", "g"):
            (tmp_path / f"{name}.txt").write_text("".join(f"{name}{row}\n" for row in range(ROWS)))
        import_store([tmp_path / "f.npy"], disk / "imported")
        works: dict[str, Work] = {
            **OPENING,
            "gc": gc,
            "import": lambda path: import_store(tmp_path / "f.npy", path.with_name("made")),
            "import more": lambda path: import_store(
                [tmp_path / "f.npy", tmp_path / "g.npy"], path.with_name("imported")
            ),
            "create": lambda path: GlobalStore.create(path.with_name("made"), dim=4),
        }
        files = {file: file.read_bytes() for file in disk.rglob("*") if file.is_file()}
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(StorageError, match="Read-only") as caught:
            works[work](path)
        assert caught.value.filename
        assert files == {file: file.read_bytes() for file in disk.rglob("*") if file.is_file()}
        assert verify(path).ok
        assert verify(path).leftovers == ()
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        works[work](path)
        assert verify(path).ok


def test_an_adapter_for_another_length_leaves_nothing(store: Path, rng: np.random.Generator) -> None:
    itq = Itq.fit(rng.standard_normal((50, DIM + 1)), 8)
    with pytest.raises(IliasFastError, match="dimension"):
        derive(open_store(store), store.with_name("made"), itq)
    assert not store.with_name("made").exists()
