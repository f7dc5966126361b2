"""Official feature HDF5 and plain NumPy files: in, out, interrupted, damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ilias_fast.errors import (
    DuplicateIdError,
    FileFormatError,
    IliasFastError,
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    StorageError,
    StoreExistsError,
)
from ilias_fast.store import (
    GlobalStore,
    LocalStore,
    escape_id,
    export_store,
    import_store,
    unescape_id,
)
from ilias_fast.store.formats import _hdf5_file
from ilias_fast.store.formats import hdf5 as module

h5py = pytest.importorskip("h5py")


def write(path: Path, ids: list[str], features: NDArray[Any], **options: Any) -> Path:
    """Write a feature file as the official code does."""
    with h5py.File(path, "w") as file:
        file.create_dataset("index", data=ids, dtype=h5py.string_dtype("ascii"))
        file.create_dataset(
            "features", data=features, **{"compression": "gzip", "compression_opts": 0, **options}
        )
    return path


def features(rng: np.random.Generator, rows: int, dim: int = 8, dtype: type = np.float16) -> NDArray[Any]:
    return rng.standard_normal((rows, dim)).astype(dtype)


@pytest.fixture
def shards(tmp_path: Path, rng: np.random.Generator) -> tuple[str, list[NDArray[Any]]]:
    """Three shards of unequal size: template and features."""
    parts = [features(rng, rows) for rows in (7, 3, 5)]
    for index, part in enumerate(parts):
        ids = [f"yfcc_{index}.tar/{row + 10 * index}" for row in range(len(part))]
        write(tmp_path / f"d_{index:05d}.hdf5", ids, part)
    return str(tmp_path / "d_{idx}.hdf5"), parts


# --- ids ---

ESCAPED = [
    ("café/1.jpg", "caf#U00e9/1.jpg"),
    ("ća.jpg", "#U0107a.jpg"),
    ("a😀b.jpg", "a\\\\U0001f600b.jpg"),
    ("o'neil.jpg", "o'neil.jpg"),
    ("a\tb", "a\\\\tb"),
    ("bold_bimp_000/query/Q000_00.jpg", "bold_bimp_000/query/Q000_00.jpg"),
    ("back\\slash", "back\\\\\\\\slash"),
    ("both ' and \"", "both \\' and \""),
]


@pytest.mark.parametrize(("name", "stored"), ESCAPED)
def test_ids_are_escaped_as_the_official_code_does(name: str, stored: str) -> None:
    assert escape_id(name) == stored
    assert unescape_id(stored) == name


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\#"), max_size=20))
def test_unescaping_undoes_escaping(name: str) -> None:
    assert escape_id(name).isascii()
    assert unescape_id(escape_id(name)) == name


@given(st.text("#U0123456789abcdef\\utx'n", max_size=30))
def test_unescaping_never_fails(text: str) -> None:
    assert isinstance(unescape_id(text), str)


def test_impossible_characters_stay_as_they_are() -> None:
    assert unescape_id("#Ud800 \\\\Uffffffff") == "#Ud800 \\\\Uffffffff"


# --- import ---


def test_the_official_examples_load(examples: Path, tmp_path: Path) -> None:
    expected = json.loads((examples / "e8_search_qe.json").read_text())
    formats = examples / "formats"
    for name, part in (("features_image_queries", "queries"), ("features_positives", "positives")):
        store = import_store(formats / f"{name}.hdf5", tmp_path / part)
        assert list(store.ids) == expected[part]["ids"]
        assert store.rows(range(len(store))).tolist() == expected[part]["features_fp16_as_float"]
    store = import_store(formats / "features_distractors_{idx}.hdf5", tmp_path / "distractors")
    assert len(store) == 12
    assert store.ids[6].startswith("yfcc100m_0010.tar/")
    wanted = [line for line in (formats / "selected_ids.txt").read_text().split() if line]
    chosen = import_store(
        formats / "features_distractors_{idx}.hdf5",
        tmp_path / "mini",
        selected_ids=formats / "selected_ids.txt",
    )
    assert [name.split("/")[1] for name in chosen.ids] == wanted


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression_opts": 9},
        {"chunks": (7, 3)},
        {"chunks": (1, 8)},
        {"chunks": (100, 1), "compression_opts": 4},
        {"compression": None, "compression_opts": None},
        {"shuffle": True},
    ],
)
def test_any_layout_is_read_in_bounded_blocks(
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    dtype: type,
    options: dict[str, Any],
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 20 * 8 * np.dtype(dtype).itemsize)
    matrix = features(rng, 100, dtype=dtype)
    ids = [f"é{row}" for row in range(100)]
    file = write(tmp_path / "f.hdf5", [escape_id(name) for name in ids], matrix, **options)
    steps: list[tuple[int, int]] = []
    store = import_store(file, tmp_path / "s", progress=lambda done, total: steps.append((done, total)))
    assert list(store.ids) == ids
    assert store.rows(range(100)).tobytes() == matrix.astype(np.float16).tobytes()
    assert steps[-1] == (100, 100)
    with h5py.File(file) as opened:
        tallest = opened["features"].chunks[0] if opened["features"].chunks else 1
    assert len(steps) - 1 == -(-100 // (max(1, 20 // tallest) * tallest))
    (record,) = store.provenance["import"]["files"]
    assert len(record.pop("ends")) == 64
    assert record == {
        "name": "f.hdf5",
        "bytes": file.stat().st_size,
        "rows": 100,
        "dtype": np.dtype(dtype).name,
        "read": 100,
        "selected": 100,
    }


def test_tall_chunks_of_other_filters_do_not_take_more_memory(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 15 * 16)
    matrix = features(rng, 100)
    names = [str(row) for row in range(100)]
    options = {"compression": "lzf", "compression_opts": None, "chunks": (100, 1)}
    file = write(tmp_path / "f.hdf5", names, matrix, **options)
    steps: list[int] = []
    store = import_store(file, tmp_path / "s", progress=lambda done, _: steps.append(done))
    assert steps == [0, 30, 60, 90, 100]
    assert np.array_equal(store.rows(range(100)), matrix)
    monkeypatch.setattr(_hdf5_file, "_MOST_BYTES", 100)
    with pytest.raises(FileFormatError, match="chunks of at most"):
        import_store(file, tmp_path / "t")


def test_a_template_keeps_the_order_of_its_files(
    tmp_path: Path, shards: tuple[str, list[NDArray[Any]]]
) -> None:
    template, parts = shards
    store = import_store(template, tmp_path / "s", provenance={"model": "m"})
    assert np.array_equal(store.rows(range(15)), np.concatenate(parts))
    assert store.provenance["model"] == "m"
    assert store.info().shards == 1
    two = import_store(template, tmp_path / "two", total=2)
    assert len(two) == 10
    listed = import_store(
        [template.replace("{idx}", f"{index:05d}") for index in (2, 0)], tmp_path / "listed"
    )
    assert np.array_equal(listed.rows(range(12)), np.concatenate([parts[2], parts[0]]))


def test_a_gap_in_a_template_is_reported(tmp_path: Path, shards: tuple[str, list[NDArray[Any]]]) -> None:
    template, _ = shards
    Path(template.replace("{idx}", "00001")).unlink()
    with pytest.raises(
        ParameterError, match=r"expected 3 files .* found 2; the first one missing is .*d_00001.hdf5"
    ):
        import_store(template, tmp_path / "s")
    with pytest.raises(StorageError, match="d_00001"):
        import_store(template, tmp_path / "s", total=3)
    with pytest.raises(ParameterError, match="found none"):
        import_store(str(tmp_path / "other_{idx}.hdf5"), tmp_path / "s")
    with pytest.raises(ParameterError, match="at least one file"):
        import_store([], tmp_path / "s")
    with pytest.raises(StorageError, match="nowhere"):
        import_store(tmp_path / "nowhere.hdf5", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_selected_ids_are_second_components(tmp_path: Path, shards: tuple[str, list[NDArray[Any]]]) -> None:
    template, parts = shards
    store = import_store(template, tmp_path / "s", selected_ids=["12", "10", "0", "nobody"])
    assert list(store.ids) == ["yfcc_0.tar/0", "yfcc_1.tar/10", "yfcc_1.tar/12"]
    assert np.array_equal(store.rows(range(3)), [parts[0][0], parts[1][0], parts[1][2]])
    counts = [entry["selected"] for entry in store.provenance["import"]["files"]]
    assert counts == [1, 2, 0]


def test_an_interrupted_import_goes_on(tmp_path: Path, shards: tuple[str, list[NDArray[Any]]]) -> None:
    template, parts = shards
    out = tmp_path / "s"

    def interrupt(done: int, _total: int) -> None:
        if done > 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_store(template, out, progress=interrupt)
    assert len(GlobalStore.open(out)) == 10
    with pytest.raises(IncompatibleStoreError, match="unfinished import"):
        import_store(template, out, selected_ids=["0"])
    steps: list[int] = []
    store = import_store(template, out, progress=lambda done, _: steps.append(done))
    assert steps == [10, 15]
    assert np.array_equal(store.rows(range(15)), np.concatenate(parts))
    before = (out / "manifest.json").read_bytes()
    import_store(template, out)
    assert (out / "manifest.json").read_bytes() == before


def test_only_an_import_is_continued(tmp_path: Path, shards: tuple[str, list[NDArray[Any]]]) -> None:
    template, _ = shards
    with GlobalStore.create(tmp_path / "s", dim=8):
        pass
    with pytest.raises(StoreExistsError, match="no import"):
        import_store(template, tmp_path / "s")


def test_a_bad_row_names_its_file(tmp_path: Path, rng: np.random.Generator, shards: tuple[str, Any]) -> None:
    template, _ = shards
    bad = features(rng, 4)
    bad[2, 1] = np.inf
    write(tmp_path / "d_00003.hdf5", list("abcd"), bad)
    with pytest.raises(NonFiniteError, match=r"d_00003.hdf5: row 2 \('c'\) holds NaN, an inf"):
        import_store(template, tmp_path / "s")
    assert len(GlobalStore.open(tmp_path / "s")) == 15
    write(tmp_path / "d_00003.hdf5", ["new", "yfcc_0.tar/3"], features(rng, 2))
    with pytest.raises(DuplicateIdError, match=r"d_00003.hdf5.*yfcc_0.tar/3"):
        import_store(template, tmp_path / "s")
    write(tmp_path / "d_00003.hdf5", ["new"], features(rng, 1, dim=9))
    with pytest.raises(
        IncompatibleStoreError,
        match=r"d_00003.hdf5: expected features of dimension 8 .* rows of 9",
    ):
        import_store(template, tmp_path / "t")


def test_files_of_another_format(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "f.hdf5"

    def refuse(match: str) -> None:
        with pytest.raises(FileFormatError, match=match):
            import_store(path, tmp_path / "s")
        assert not (tmp_path / "s").exists()

    path.write_bytes(b"no HDF5")
    refuse("f.hdf5")
    path.write_bytes(b"")
    refuse("f.hdf5")
    with h5py.File(path, "w") as file:
        file.create_dataset("index", data=["a"])
        file.create_group("features")
    refuse("features lacks")
    for index, matrix in (
        (["a"], features(rng, 2)),
        (["a"], features(rng, 1)[0]),
        (["a"], np.ones((1, 3), np.int32)),
        ([1.5], features(rng, 1)),
        (["a"], np.ones((1, 0), np.float16)),
    ):
        with h5py.File(path, "w") as file:
            file.create_dataset("index", data=index)
            file.create_dataset("features", data=matrix)
        refuse("expected")


def test_damaged_files_give_typed_errors(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write(
        tmp_path / "f.hdf5", [f"id{row}" for row in range(20)], features(rng, 20), compression_opts=4
    )
    good = path.read_bytes()
    imported = 0
    for length in range(0, len(good), max(1, len(good) // 40)):
        path.write_bytes(good[:length])
        with pytest.raises(FileFormatError, match=r"f\.hdf5"):
            import_store(path, tmp_path / "cut")
    for trial in range(150):
        bad = bytearray(good)
        for position in rng.integers(0, len(good), 3):
            bad[position] ^= int(rng.integers(1, 256))
        path.write_bytes(bad)
        try:
            import_store(path, tmp_path / f"flip{trial}")
            imported += 1
        except IliasFastError as error:
            assert "f.hdf5" in str(error)  # noqa: PT017 (HDF5 has no checksums: some damage cannot be noticed)
    assert imported < 150


# --- export ---


def test_export_is_read_back(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EXPORT_BYTES", 500)
    names = [name for name, _ in ESCAPED]
    matrix = features(rng, len(names))
    with GlobalStore.create(tmp_path / "s", dim=8) as writer:
        writer.append(names, matrix)
    store = GlobalStore.open(tmp_path / "s")
    export_store(store, tmp_path / "f.hdf5")
    with h5py.File(tmp_path / "f.hdf5") as file:
        assert sorted(file) == ["features", "index"]
        assert list(file["index"].asstr()) == [stored for _, stored in ESCAPED]
        assert h5py.check_string_dtype(file["index"].dtype).encoding == "ascii"
        assert file["features"].dtype == np.float16
        assert (file["features"].compression, file["features"].compression_opts) == ("gzip", 0)
        assert np.array_equal(file["features"], matrix)
    again = import_store(tmp_path / "f.hdf5", tmp_path / "again")
    assert list(again.ids) == names
    assert np.array_equal(again.rows(range(len(names))), matrix)
    with pytest.raises(StorageError, match="already exists"):
        export_store(store, tmp_path / "f.hdf5")
    export_store(store, tmp_path / "f.hdf5", overwrite=True, escape=False, compression=9)
    again = import_store(tmp_path / "f.hdf5", tmp_path / "plain", unescape=False)
    assert list(again.ids) == names
    with pytest.raises(ParameterError, match="gzip level"):
        export_store(store, tmp_path / "g.hdf5", compression=10)
    with pytest.raises(StorageError):
        export_store(store, tmp_path / "nowhere" / "g.hdf5")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again", "f.hdf5", "plain", "s"]


def test_an_empty_store_is_exported(tmp_path: Path) -> None:
    with GlobalStore.create(tmp_path / "s", dim=8):
        pass
    export_store(GlobalStore.open(tmp_path / "s"), tmp_path / "f.hdf5")
    assert len(import_store(tmp_path / "f.hdf5", tmp_path / "again")) == 0


def test_only_global_stores_have_an_official_form(tmp_path: Path) -> None:
    with LocalStore.create(tmp_path / "s", bits=8):
        pass
    store = LocalStore.open(tmp_path / "s")
    for name in ("f.hdf5", "f.npy", "f.safetensors", "f.faiss"):
        with pytest.raises(IncompatibleStoreError, match="expected a global"):
            export_store(store, tmp_path / name)
    for name in ("f.npz", "f.parquet"):
        with pytest.raises(ParameterError, match="none for this store"):
            export_store(store, tmp_path / name)


def test_a_selection_keeps_every_positive(tmp_path: Path, rng: np.random.Generator) -> None:
    names = ["cup/pos/P0.jpg", "yfcc_0.tar/7", "yfcc_0.tar/8", "pos/7", "cup/query/Q0.jpg"]
    with GlobalStore.create(tmp_path / "all", dim=4) as writer:
        writer.append(names, rng.normal(size=(5, 4)).astype(np.float16))
    export_store(GlobalStore.open(tmp_path / "all"), tmp_path / "all.hdf5")
    chosen = import_store(tmp_path / "all.hdf5", tmp_path / "mini", selected_ids=["7"])
    assert list(chosen.ids) == ["cup/pos/P0.jpg", "yfcc_0.tar/7", "pos/7"]
