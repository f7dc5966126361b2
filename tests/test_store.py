"""Stores: what goes in comes out, in every kind; ids, views, commits, compatibility, and every refusal."""

from __future__ import annotations

import gc
import json
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilias_fast.errors import (
    DuplicateIdError,
    IncompatibleStoreError,
    NotAStoreError,
    ParameterError,
    StoreExistsError,
    StoreLockedError,
    UnknownIdError,
)
from ilias_fast.store import (
    BinaryStore,
    GlobalStore,
    LocalStore,
    check_compatible,
    exists,
    open_store,
    verify,
)
from tests.oracles import store as oracle
from tests.store_samples import make_global, make_images, vectors

NAMES = ["a", "ć/ü.jpg", "b 😀", "日本/写真.jpg", "x" * 4096, "tab\there", 'quote"\\', "#", "é", "e\u0301"]

# --- round trips ---


@given(
    batches=st.lists(st.integers(0, 7), max_size=6),
    commits=st.sets(st.integers(0, 6)),
    dim=st.integers(1, 70),
    shard_bytes=st.sampled_from([1, 100, 1000, None]),
)
def test_global_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[int],
    commits: set[int],
    dim: int,
    shard_bytes: int | None,
) -> None:
    path = tmp_path_factory.mktemp("store") / "s"
    everything = np.random.default_rng(dim).standard_normal((sum(batches), dim)).astype(np.float16)
    ids = [f"{row}/é" for row in range(len(everything))]
    start = 0
    with GlobalStore.create(path, dim=dim, shard_bytes=shard_bytes) as writer:
        for index, rows in enumerate(batches):
            writer.append(ids[start : start + rows], everything[start : start + rows])
            start += rows
            assert len(writer) == start
            if index in commits:
                assert writer.commit() == start == len(GlobalStore.open(path))
    store = GlobalStore.open(path)
    views = list(store.shards())
    assert [first for first, _ in views] == np.cumsum([0, *(len(view) for _, view in views)])[:-1].tolist()
    joined = np.concatenate([np.empty((0, dim), np.float16), *(view for _, view in views)])
    assert joined.tobytes() == everything.tobytes()
    assert list(store.ids) == ids
    assert store.find(ids[::-1]).tolist() == list(range(len(ids)))[::-1]
    assert store.verify().ok
    manifest, names, tensors = oracle.read(path)
    assert names == ids
    assert manifest["dim"] == dim
    assert b"".join(tensor.tobytes() for tensor in tensors.get("vectors", [])) == everything.tobytes()


@given(
    counts=st.lists(st.integers(0, 9), max_size=12),
    bits=st.sampled_from([1, 7, 8, 12, 128, 512]),
    optional=st.sets(st.sampled_from(["scale", "angle", "weight"])),
    shard_bytes=st.sampled_from([1, 300, None]),
)
def test_local_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    counts: list[int],
    bits: int,
    optional: set[str],
    shard_bytes: int | None,
) -> None:
    path = tmp_path_factory.mktemp("store") / "s"
    images = make_images(np.random.default_rng(bits), counts, (bits + 7) // 8)
    for image in images:
        image.codes[:, -1] &= (0xFF << (-bits % 8)) & 0xFF
    ids = [f"image {row}" for row in range(len(images))]
    with LocalStore.create(path, bits=bits, optional=sorted(optional), shard_bytes=shard_bytes) as writer:
        writer.append(ids[:3], images[:3])
        writer.append(ids[3:], images[3:])
    store = LocalStore.open(path)
    assert len(store) == len(images)
    assert store.info().descriptors == sum(counts)
    plain = oracle.images(oracle.read(path)[2]) if images else []
    for found, image, bare in zip(store, images, plain, strict=True):
        assert found.size == image.size == tuple(bare["size"])
        for name in ("codes", "xy", "scale", "angle", "weight"):
            if name in optional or name in ("codes", "xy"):
                assert np.array_equal(getattr(found, name), getattr(image, name))
                assert np.array_equal(bare[name], getattr(image, name))
            else:
                assert getattr(found, name) is None
    assert store.verify().ok


def test_binary_round_trip(tmp_path: Path, rng: np.random.Generator) -> None:
    codes = rng.integers(0, 256, (50, 6), dtype=np.uint8)
    codes[:, -1] &= 0xF0
    with BinaryStore.create(tmp_path / "s", bits=44, shard_bytes=200) as writer:
        writer.append([str(row) for row in range(50)], codes)
    store = BinaryStore.open(tmp_path / "s")
    assert (store.bits, store.code_bytes, len(store)) == (44, 6, 50)
    assert np.array_equal(np.concatenate([view for _, view in store.shards()]), codes)
    assert np.array_equal(store.rows([7, 7, 0]), codes[[7, 7, 0]])
    manifest, _, tensors = oracle.read(tmp_path / "s")
    assert (manifest["bit_order"], manifest["sign_rule"]) == ("msb-first", "bit = (value >= 0)")
    assert np.array_equal(np.concatenate(tensors["codes"]), codes)


def test_floats_are_rounded_to_float16(tmp_path: Path, rng: np.random.Generator) -> None:
    wide = rng.standard_normal((5, 8)).astype(np.float32)
    with GlobalStore.create(tmp_path / "s", dim=8) as writer:
        writer.append(list("abcde"), wide)
    assert np.array_equal(GlobalStore.open(tmp_path / "s").rows(range(5)), wide.astype(np.float16))


def test_empty_store(tmp_path: Path) -> None:
    with GlobalStore.create(tmp_path / "s", dim=3):
        pass
    store = GlobalStore.open(tmp_path / "s")
    assert len(store) == 0
    assert list(store.ids) == []
    assert list(store.shards()) == []
    assert store.rows([]).shape == (0, 3)
    assert store.find([]).shape == (0,)
    assert repr(store.ids) == "<0 ids>"
    assert store.verify().ok


# --- ids ---


def test_any_text_is_an_id(tmp_path: Path, rng: np.random.Generator) -> None:
    with GlobalStore.create(tmp_path / "s", dim=8, shard_bytes=50) as writer:
        writer.append(NAMES, vectors(rng, len(NAMES)))
    ids = GlobalStore.open(tmp_path / "s").ids
    assert list(ids) == NAMES
    assert [ids.index(name) for name in NAMES] == list(range(len(NAMES)))
    assert ids[-1] == NAMES[-1]
    assert ids[2:7:2] == NAMES[2:7:2]
    assert NAMES[3] in ids
    assert "nobody" not in ids
    assert 5 not in ids  # type: ignore[comparison-overlap]
    assert ids.count("a") == 1
    assert list(reversed(ids)) == NAMES[::-1]
    assert "10 ids" in repr(ids)
    for out_of_range in (10, -11):
        with pytest.raises(IndexError, match="10 rows"):
            ids[out_of_range]
    with pytest.raises(ValueError, match="nobody"):
        ids.index("nobody")


def test_find_and_id_of(tmp_path: Path, rng: np.random.Generator) -> None:
    ids = [f"tar{row % 7}/key{row}" for row in rng.permutation(5000)]
    with GlobalStore.create(tmp_path / "s", dim=8, shard_bytes=20_000) as writer:
        writer.append(ids, vectors(rng, 5000))
    store = GlobalStore.open(tmp_path / "s")
    rows = rng.integers(0, 5000, 999)
    assert store.id_of(rows) == [ids[row] for row in rows]
    assert np.array_equal(store.find(store.id_of(rows)), rows)
    assert store.contains(["nobody", ids[4]]).tolist() == [False, True]
    with pytest.raises(UnknownIdError, match=r"'n0', 'n1', 'n2', 'n3', 'n4' and 2 more"):
        store.find([ids[0], *(f"n{index}" for index in range(7))])
    with pytest.raises(ParameterError, match="below 5000"):
        store.id_of([5000])
    with pytest.raises(ParameterError, match="-1"):
        store.rows([-1])


@pytest.mark.parametrize("bad", ["", "a\nb", "a\rb", "a\0b", "x" * 4097, "\ud800"])
def test_bad_ids_are_refused(tmp_path: Path, rng: np.random.Generator, bad: str) -> None:
    with GlobalStore.create(tmp_path / "s", dim=8) as writer:
        with pytest.raises(ParameterError, match="ids"):
            writer.append(["good", bad], vectors(rng, 2))
        writer.append(["good"], vectors(rng, 1))
    assert list(GlobalStore.open(tmp_path / "s").ids) == ["good"]


def test_duplicates_are_named_wherever_the_first_one_is(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "s"
    with GlobalStore.create(path, dim=8) as writer:
        writer.append(["committed"], vectors(rng, 1))
    with GlobalStore.append_to(path, shard_bytes=150) as writer:
        writer.append([f"written{row}" for row in range(20)], vectors(rng, 20))
        writer.append(["buffered"], vectors(rng, 1))
        for ids in (["committed"], ["new", "written3"], ["buffered"], ["twice", "new", "twice"]):
            with pytest.raises(DuplicateIdError, match=ids[-1]):
                writer.append(ids, vectors(rng, len(ids)))
        there = writer.contains(["committed", "written3", "buffered", "new"])
        assert there.tolist() == [True, True, True, False]
        assert len(writer) == 22
    assert len(GlobalStore.open(path)) == 22


def test_each_of_many_ids_is_known_however_it_was_written(tmp_path: Path, rng: np.random.Generator) -> None:
    ids = [f"folder/{row}.jpg" for row in range(6000)]
    matrix = vectors(rng, len(ids))
    with GlobalStore.create(tmp_path / "s", dim=8, shard_bytes=30_000) as writer:
        for start in range(0, len(ids), 75):
            rows = slice(start, start + 75)
            writer.append(ids[rows], matrix[rows])
            assert writer.contains(ids[: start + 76]).tolist() == [True] * (start + 75) + [False] * (
                start + 75 < len(ids)
            )
        for row in range(0, len(ids), 97):
            with pytest.raises(DuplicateIdError, match=ids[row]):
                writer.append(["new", ids[row]], matrix[:2])
    store = GlobalStore.open(tmp_path / "s")
    assert list(store.ids) == ids
    assert store.find(ids).tolist() == list(range(len(ids)))


# --- views and snapshots ---


def test_views_are_read_only_and_keep_their_map(tmp_path: Path, rng: np.random.Generator) -> None:
    matrix = make_global(tmp_path / "s", rng)
    (_, view), *_ = GlobalStore.open(tmp_path / "s").shards()
    for file in (tmp_path / "s" / "shards").iterdir():
        file.unlink()
    gc.collect()
    assert np.array_equal(view, matrix)
    assert view.ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.setflags(write=True)


def test_readers_keep_the_state_they_opened(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "s"
    first = make_global(path, rng)
    before = GlobalStore.open(path)
    with GlobalStore.append_to(path) as writer:
        writer.append(["more"], vectors(rng, 1))
        assert len(GlobalStore.open(path)) == 10
    assert len(before) == 10
    assert len(GlobalStore.open(path)) == 11
    second = make_global(path, rng, rows=3, overwrite=True)
    assert np.array_equal(before.rows(range(10)), first)
    assert np.array_equal(GlobalStore.open(path).rows(range(3)), second)
    assert len(list((path / "shards").iterdir())) == 1
    assert before.checksum != GlobalStore.open(path).checksum


def test_an_exception_drops_what_was_not_committed(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "s"

    def interrupted() -> None:
        with GlobalStore.create(path, dim=8, shard_bytes=100) as writer:
            writer.append(["kept"], vectors(rng, 1))
            writer.commit()
            writer.append([f"lost{row}" for row in range(50)], vectors(rng, 50))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert list(GlobalStore.open(path).ids) == ["kept"]
    assert len(list((path / "shards").iterdir())) == 1
    assert verify(path).leftovers == ()


def test_a_store_appears_with_its_first_commit(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "s"
    writer = GlobalStore.create(path, dim=8)
    assert not exists(path)
    with pytest.raises(NotAStoreError, match="first commit"):
        GlobalStore.open(path)
    writer.close()
    writer.close()
    assert writer.closed
    with pytest.raises(ParameterError, match="closed"):
        writer.append(["a"], vectors(rng, 1))
    make_global(path, rng)
    assert exists(path)


def test_overwriting_leaves_the_old_store_until_the_commit(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "s"
    old = make_global(path, rng)
    with pytest.raises(StoreExistsError):
        GlobalStore.create(path, dim=4)
    writer = LocalStore.create(path, bits=8, overwrite=True)
    writer.append(["image"], make_images(rng, [3], 1))
    assert np.array_equal(GlobalStore.open(path).rows(range(10)), old)
    writer.close()
    assert np.array_equal(GlobalStore.open(path).rows(range(10)), old)
    with LocalStore.create(path, bits=8, overwrite=True) as writer:
        writer.append(["image"], make_images(rng, [3], 1))
    assert isinstance(open_store(path), LocalStore)
    assert verify(path).leftovers == ()


def test_foreign_files_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("notes", "file"):
        with pytest.raises(StoreExistsError):
            GlobalStore.create(tmp_path / name, dim=4)
        with pytest.raises(NotAStoreError, match=r"other files|a file"):
            GlobalStore.create(tmp_path / name, dim=4, overwrite=True)
        with pytest.raises(NotAStoreError):
            GlobalStore.append_to(tmp_path / name)
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["diary.txt"]


def test_one_writer_at_a_time(tmp_path: Path, rng: np.random.Generator) -> None:
    make_global(tmp_path / "s", rng)
    with GlobalStore.append_to(tmp_path / "s"):
        with pytest.raises(StoreLockedError, match="another writer"):
            GlobalStore.append_to(tmp_path / "s")
        with pytest.raises(StoreLockedError):
            GlobalStore.create(tmp_path / "s", dim=8, overwrite=True)
    GlobalStore.append_to(tmp_path / "s").close()


# --- what a store says of itself ---


def test_info_repr_and_pickle(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "s"
    matrix = make_global(
        path, rng, provenance={"model": "m", "nested": {"é": [1, 2.5, None]}, "path": tmp_path}
    )
    store = GlobalStore.open(path)
    info = store.info()
    assert (info.kind, info.rows, info.dim, info.bits, info.shards, info.parent) == (
        "global",
        10,
        8,
        0,
        1,
        None,
    )
    assert info.provenance == {"model": "m", "nested": {"é": [1, 2.5, None]}, "path": str(tmp_path)}
    with pytest.raises(FrozenInstanceError):
        info.rows = 3  # type: ignore[misc]
    assert "10 x 8 float16" in repr(store)
    again = pickle.loads(pickle.dumps(store))
    assert np.array_equal(again.rows(range(10)), matrix)
    assert isinstance(open_store(path), GlobalStore)
    with pytest.raises(IncompatibleStoreError, match="local"):
        LocalStore.open(path)
    with pytest.raises(IncompatibleStoreError, match="binary"):
        BinaryStore.append_to(path)
    GlobalStore.append_to(path).close()


def test_provenance_survives_verbatim(tmp_path: Path) -> None:
    exact = {"float": 0.1 + 0.2, "big": 2**70, "order": {"b": 1, "a": 2}}
    with GlobalStore.create(tmp_path / "s", dim=1, provenance=exact) as writer:
        assert writer.provenance == exact
    store = GlobalStore.open(tmp_path / "s")
    assert json.dumps(store.provenance) == json.dumps(exact)
    for bad in ({"x": float("nan")}, {"x": object()}, [1]):
        with pytest.raises(ParameterError, match="provenance"):
            GlobalStore.create(tmp_path / "t", dim=1, provenance=bad)  # type: ignore[arg-type]


def test_derived_stores_name_their_parent(tmp_path: Path, rng: np.random.Generator) -> None:
    make_global(tmp_path / "s", rng)
    parent = GlobalStore.open(tmp_path / "s")
    with BinaryStore.create(tmp_path / "t", bits=8, parent=parent, parameters={"itq": 3}) as writer:
        writer.append(["a"], np.zeros((1, 1), np.uint8))
    record = BinaryStore.open(tmp_path / "t").parent
    assert record == {"path": str(parent.path), "checksum": parent.checksum, "parameters": {"itq": 3}}
    with pytest.raises(ParameterError, match="without a parent"):
        BinaryStore.create(tmp_path / "u", bits=8, parameters={})


def test_stores_of_different_origin_do_not_mix(tmp_path: Path, rng: np.random.Generator) -> None:
    def store(name: str, **provenance: object) -> GlobalStore:
        make_global(tmp_path / name, rng, provenance=provenance)
        return GlobalStore.open(tmp_path / name)

    one = store("one", model="siglip", transform="large", source="here")
    check_compatible(one, store("same", model="siglip", transform="large", source="there"))
    check_compatible(one, store("silent"))
    other = store("other", model="dinov2", transform="large")
    with pytest.raises(IncompatibleStoreError, match="model: 'siglip' and 'dinov2'"):
        check_compatible(one, other)
    check_compatible(one, other, force=True)
    with GlobalStore.create(tmp_path / "dim", dim=9):
        pass
    with pytest.raises(IncompatibleStoreError, match="kind and length"):
        check_compatible(one, GlobalStore.open(tmp_path / "dim"), force=True)
