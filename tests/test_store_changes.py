"""Stores that change: delete, compact, select, merge; float16 local descriptors; stores as sequences."""

from __future__ import annotations

import gc as collector
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.errors import (
    DtypeError,
    DuplicateIdError,
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    StoreLockedError,
    UnknownIdError,
)
from ilias_fast.kernels import hamming_topk, topk
from ilias_fast.store import (
    BinaryStore,
    GlobalStore,
    LocalImage,
    LocalStore,
    compact,
    delete,
    gc,
    merge,
    open_store,
    select,
    verify,
)
from tests.command_line import done, failing
from tests.oracles import store as oracle
from tests.store_samples import make_global, make_images, shards_of, vectors


@pytest.fixture
def many(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A global store of 100 rows in many shards, `id0` to `id99`."""
    make_global(tmp_path / "many", rng, 100, shard_bytes=900)
    return tmp_path / "many"


def names(*numbers: int) -> list[str]:
    return [f"id{number}" for number in numbers]


# --- delete ---


def test_a_store_with_deleted_rows_is_as_if_it_never_had_them(many: Path, rng: np.random.Generator) -> None:
    before = GlobalStore.open(many)
    matrix = before.rows(range(100))
    gone = sorted(rng.choice(100, 37, replace=False).tolist())
    left = [row for row in range(100) if row not in gone]
    assert delete(many, names(*gone)) == 37
    store = GlobalStore.open(many)
    assert (len(store), store.info().deleted, store.info().rows) == (63, 37, 63)
    assert "37 deleted" in repr(store)
    assert list(store.ids) == names(*left)
    assert np.array_equal(store.find(names(*left)), np.arange(63))
    assert not store.contains(names(*gone)).any()
    assert np.array_equal(store.rows(range(63)), matrix[left])
    assert np.array_equal(np.concatenate([rows for _, rows in store.shards()]), matrix[left])
    assert [first for first, _ in store.shards()] == [
        row for row, number in enumerate(left) if row == 0 or number - 1 in gone or _starts(many, number)
    ]
    queries = rng.standard_normal((3, 8)).astype(np.float32)
    expected = topk(queries, matrix[left], 10)
    found = topk(queries, store, 10)
    assert np.array_equal(found.indices, expected.indices)
    assert found.scores.tobytes() == expected.scores.tobytes()
    # Whoever has it open keeps it; the shards themselves still have the rows.
    assert np.array_equal(before.rows(range(100)), matrix)
    manifest, ids, _ = oracle.read(many)
    assert (manifest["rows"], ids) == (63, names(*left))
    with pytest.raises(UnknownIdError, match=f"id{gone[0]}"):
        delete(many, names(left[0], gone[0]))
    assert len(GlobalStore.open(many)) == 63
    assert verify(many).ok


def _starts(path: Path, number: int) -> bool:
    firsts, row = set(), 0
    for entry in json.loads((path / "manifest.json").read_text())["shards"]:
        firsts.add(row)
        row += entry["rows"]
    return number in firsts


def test_deleted_ids_may_come_again(many: Path) -> None:
    delete(many, names(0, 50))
    with GlobalStore.append_to(many) as writer:
        assert writer.contains(names(0, 1)).tolist() == [False, True]
        with pytest.raises(DuplicateIdError, match="id1"):
            writer.append(names(1), np.ones((1, 8), np.float16))
        writer.append(names(50), np.full((1, 8), 7, np.float16))
        with pytest.raises(ParameterError, match="commit before"):
            writer.delete(names(1))
    store = GlobalStore.open(many)
    assert store.find(names(50)).tolist() == [98]
    assert store[98].tolist() == [7] * 8
    assert delete(many, names(50, 50)) == 1
    assert verify(many).ok


def test_every_row_can_be_deleted(many: Path) -> None:
    delete(many, names(*range(100)))
    store = GlobalStore.open(many)
    assert (len(store), list(store.shards()), list(store)) == (0, [], [])
    assert topk(np.ones((1, 8), np.float32), store, 3).indices.shape == (1, 0)
    assert compact(many).dropped == 100
    assert shards_of(many) == []
    assert len(GlobalStore.open(many)) == 0


def test_binary_and_local_stores_lose_rows_too(tmp_path: Path, rng: np.random.Generator) -> None:
    codes = rng.integers(0, 256, (40, 4), dtype=np.uint8)
    with BinaryStore.create(tmp_path / "b", bits=32, shard_bytes=300) as binary:
        binary.append(names(*range(40)), codes)
    images = make_images(rng, [3, 0, 2, 5, 1] * 4)
    with LocalStore.create(tmp_path / "l", bits=128, optional=["scale"], shard_bytes=300) as local:
        local.append(names(*range(20)), images)
    for path in (tmp_path / "b", tmp_path / "l"):
        assert delete(path, names(0, 3, 7, 8, 19)) == 5
    left = [row for row in range(40) if row not in (0, 3, 7, 8, 19)]
    expected = hamming_topk(codes[:2], codes[left], 5)
    found = hamming_topk(codes[:2], BinaryStore.open(tmp_path / "b"), 5)
    assert np.array_equal(found.indices, expected.indices)
    for _ in range(2):
        store = LocalStore.open(tmp_path / "l")
        for row, number in enumerate(left[:15]):
            assert np.array_equal(store[row].codes, images[number].codes)
            assert store[row].size == images[number].size
        compact(tmp_path / "l")


# --- compact ---


def test_compaction_drops_and_merges_and_changes_no_row(many: Path) -> None:
    delete(many, names(*range(0, 100, 3)))
    before = GlobalStore.open(many)
    rows, ids = before.rows(range(66)), list(before.ids)
    told: list[tuple[int, int]] = []
    result = compact(many, progress=lambda done, total: told.append((done, total)))
    assert (result.written, result.dropped) == (1, 34)
    assert told[-1] == (66, 66)
    (shard,) = shards_of(many)
    store = GlobalStore.open(many)
    assert np.array_equal(store.rows(range(66)), rows)
    assert list(store.ids) == ids
    assert store.info().deleted == 0
    assert compact(many) == (0, 0, 0)
    assert shards_of(many) == [shard]
    gc(many)
    # The reader of before still has its shards, which are gone from the folder.
    assert np.array_equal(before.rows(range(66)), rows)
    assert verify(many).ok


def test_compaction_needs_the_lock(many: Path) -> None:
    with GlobalStore.append_to(many):
        for action in (lambda: compact(many), lambda: delete(many, names(1))):
            with pytest.raises(StoreLockedError):
                action()


# --- select and merge ---


def test_select_by_ids_and_by_bitmap(many: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    delete(many, names(5))
    store = GlobalStore.open(many)
    order = rng.permutation(99)[:40]
    made = select(store, tmp_path / "ids", store.id_of(order))
    assert np.array_equal(made.rows(range(40)), store.rows(order))  # type: ignore[union-attr]
    assert made.parent is not None
    assert made.parent["checksum"] == store.checksum
    assert made.parent["parameters"] == {"operation": "select", "by": "ids", "rows": 40}
    mask = rng.random(99) < 0.3
    told: list[tuple[int, int]] = []
    made = select(store, tmp_path / "mask", mask, progress=lambda done, total: told.append((done, total)))
    assert list(made.ids) == store.id_of(np.flatnonzero(mask))
    assert told[-1] == (mask.sum(), mask.sum())
    with pytest.raises(ShapeError, match=r"bool \[99\]"):
        select(store, tmp_path / "x", mask[:-1])
    with pytest.raises(UnknownIdError, match="id5"):
        select(store, tmp_path / "x", names(1, 5))
    with pytest.raises(DuplicateIdError, match="id1"):
        select(store, tmp_path / "x", names(1, 2, 1))
    assert not (tmp_path / "x" / "manifest.json").exists()


def test_merge(tmp_path: Path, rng: np.random.Generator) -> None:
    matrices = [vectors(rng, 30) for _ in range(3)]
    stores = []
    for number, matrix in enumerate(matrices):
        provenance = {"model": "m", "source": f"file {number}"} | ({"weights": "w"} if number else {})
        with GlobalStore.create(tmp_path / str(number), dim=8, provenance=provenance) as writer:
            writer.append([f"{number}/{row}" for row in range(30)], matrix)
        stores.append(GlobalStore.open(tmp_path / str(number)))
    made = merge(stores, tmp_path / "all", shard_bytes=700)
    assert isinstance(made, GlobalStore)
    assert np.array_equal(made.rows(range(90)), np.concatenate(matrices))
    assert made.provenance == {"model": "m"}
    assert made.parent is not None
    assert [other["checksum"] for other in made.parent["parameters"]["others"]] == [
        store.checksum for store in stores[1:]
    ]
    with pytest.raises(DuplicateIdError, match='"1/0" is given twice, or is already there, and 29 more'):
        merge([*stores, stores[1]], tmp_path / "twice")
    assert not (tmp_path / "twice" / "manifest.json").exists()
    with GlobalStore.create(tmp_path / "other", dim=8, provenance={"model": "n"}) as writer:
        writer.append(["x"], vectors(rng, 1))
    with pytest.raises(IncompatibleStoreError, match="model"):
        merge([stores[0], GlobalStore.open(tmp_path / "other")], tmp_path / "both")
    merge([stores[0], GlobalStore.open(tmp_path / "other")], tmp_path / "both", force=True)
    with pytest.raises(ParameterError, match="at least one"):
        merge([], tmp_path / "none")


def test_the_command_line(many: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("id3\nid1\n")
    assert "2 rows deleted" in done("store", "delete", many, tmp_path / "ids.txt")
    card = done("store", "info", many)
    assert "2 rows, until compacted" in card
    assert "files whole at a glance" in card
    assert "2 deleted rows dropped" in done("store", "compact", many)
    assert "'id3'" in failing("store", "select", many, tmp_path / "ids.txt", "-o", tmp_path / "s")
    (tmp_path / "ids.txt").write_text("id4\nid2\n")
    assert "derived from" in done("store", "select", many, tmp_path / "ids.txt", "-o", tmp_path / "s")
    assert list(open_store(tmp_path / "s").ids) == ["id4", "id2"]
    assert '"id4"' in failing("store", "merge", many, tmp_path / "s", "-o", tmp_path / "t")
    done("store", "delete", many, tmp_path / "ids.txt")
    assert "98" in done("store", "merge", many, tmp_path / "s", "-o", tmp_path / "t")
    (many / "shards" / "000000.safetensors.partial").write_bytes(b"half")
    assert "left over" in done("store", "info", many)


# --- float16 local descriptors ---


def test_local_stores_of_float16_descriptors(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "s"
    images = [
        LocalImage(
            np.empty((count, 0), np.uint8),
            rng.random((count, 2), dtype=np.float32),
            None,
            None,
            rng.random(count, dtype=np.float32),
            (64, 48),
            rng.standard_normal((count, 6)).astype(np.float16),
        )
        for count in (3, 0, 5)
    ]
    with LocalStore.create(path, dim=6, optional=["weight"], shard_bytes=150) as writer:
        assert (writer.dim, writer.bits) == (6, 0)
        writer.append(names(0, 1, 2), images)
        for bad, error in (
            (np.ones((1, 7)), ShapeError),
            (np.ones((1, 6), np.uint8), DtypeError),
            (np.full((1, 6), 1e6), NonFiniteError),
            (None, ParameterError),
        ):
            image = LocalImage(
                np.empty((1, 0), np.uint8), np.zeros((1, 2), np.float32), None, None,
                np.ones(1, np.float32), (1, 1), bad,  # type: ignore[arg-type]
            )  # fmt: skip
            with pytest.raises(error):
                writer.append(["bad"], [image])
        with pytest.raises(ParameterError, match="descriptors and no codes"):
            writer.append_arrays(["x"], [0, 1], np.zeros((1, 1), np.uint8), np.zeros((1, 2)), size=[[1, 1]])
    store = LocalStore.open(path)
    assert (store.dim, store.bits, store.code_bytes) == (6, 0, 0)
    assert "6 float16" in repr(store)
    _, _, tensors = oracle.read(path)
    plain = oracle.images(tensors)
    for row, image in enumerate(images):
        found = store[row]
        assert found.descriptors is not None
        assert image.descriptors is not None
        assert found.descriptors.tobytes() == image.descriptors.tobytes()
        assert np.array_equal(plain[row]["descriptors"], image.descriptors)
        assert found.codes.shape == (len(image.xy), 0)
        assert np.array_equal(found.xy, image.xy)
        assert not found.descriptors.flags.writeable
    made = select(store, tmp_path / "t", names(2, 0))
    assert isinstance(made, LocalStore)
    assert np.array_equal(made[0].descriptors, images[2].descriptors)  # type: ignore[arg-type]
    with LocalStore.create(tmp_path / "codes", bits=48) as codes:
        codes.append_arrays(["a"], [0, 1], np.zeros((1, 6), np.uint8), np.zeros((1, 2)), size=[[1, 1]])
    with pytest.raises(IncompatibleStoreError, match="kind and length"):
        merge([store, LocalStore.open(tmp_path / "codes")], tmp_path / "u")
    with pytest.raises(ParameterError, match="one of them"):
        LocalStore.create(tmp_path / "v", bits=8, dim=8)


# --- stores as sequences ---


def test_rows_by_number_slice_and_list(many: Path) -> None:
    delete(many, names(7))
    with GlobalStore.open(many) as store:
        matrix = store.rows(range(99))
        assert np.array_equal(store[-1], matrix[-1])
        assert np.array_equal(store[np.int64(3)], matrix[3])
        assert np.array_equal(store[5:20:2], matrix[5:20:2])
        assert np.array_equal(store[[3, 1]], matrix[[3, 1]])
        assert np.array_equal(np.stack(list(store)), matrix)
        for row in (99, -100):
            with pytest.raises(IndexError, match="99 rows"):
                store[row]
    row = store[2]
    assert not row.flags.owndata
    assert not row.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        row[0] = 1
    del store
    collector.collect()
    assert np.array_equal(row, matrix[2])


def _sum(store: GlobalStore) -> float:
    return float(store.rows(range(len(store))).sum(dtype=np.float64))


def test_worker_processes_open_the_store_again(many: Path) -> None:
    store = GlobalStore.open(many)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_sum, [store]) == [_sum(store)]


def test_torch_takes_rows_without_a_copy(many: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    store = GlobalStore.open(many)
    first, rows = next(store.shards())
    tensor = torch.from_dlpack(rows)
    assert (first, tensor.data_ptr()) == (0, rows.ctypes.data)
    assert tensor.shape == rows.shape
    expected = rows.copy()
    del store, rows
    collector.collect()
    assert np.array_equal(tensor.numpy(), expected)
