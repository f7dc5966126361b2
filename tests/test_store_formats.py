"""Features of every format, in and out: by the peers' own writers and readers, interrupted, and damaged."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.adapt import Itq, LinearAdapter, load_adapter
from ilias_fast.errors import (
    DtypeError,
    DuplicateIdError,
    FileFormatError,
    IliasFastError,
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    StorageError,
)
from ilias_fast.store import BinaryStore, GlobalStore, exists, export_store, import_store, read_matrix
from ilias_fast.store.formats import base, importing

ROWS, DIM = 100, 8
NAMES = [f"ïd/{row}.jpg" for row in range(ROWS)]


def _text(path: Path, names: list[str] = NAMES) -> None:
    path.with_suffix(".txt").write_text("".join(f"{name}\n" for name in names), "utf-8")


def _npy(path: Path, matrix: NDArray[Any]) -> Path:
    np.save(path.with_suffix(".npy"), matrix)
    _text(path)
    return path.with_suffix(".npy")


def _fortran(path: Path, matrix: NDArray[Any]) -> Path:
    return _npy(path, np.asfortranarray(matrix))


def _npz(path: Path, matrix: NDArray[Any]) -> Path:
    np.savez(path.with_suffix(".npz"), features=matrix, ids=np.array(NAMES))
    return path.with_suffix(".npz")


def _packed_npz(path: Path, matrix: NDArray[Any]) -> Path:
    names = np.array([name.encode() for name in NAMES])
    np.savez_compressed(path.with_suffix(".npz"), x=matrix, names=names)
    return path.with_suffix(".npz")


def _safetensors(path: Path, matrix: NDArray[Any]) -> Path:
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file({"embeddings": matrix, "labels": np.arange(ROWS)}, path.with_suffix(".safetensors"))
    _text(path)
    return path.with_suffix(".safetensors")


def _torch(path: Path, matrix: NDArray[Any]) -> Path:
    torch = pytest.importorskip("torch")
    torch.save({"ids": NAMES, "features": torch.from_numpy(matrix)}, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def _bare_torch(path: Path, matrix: NDArray[Any]) -> Path:
    torch = pytest.importorskip("torch")
    # A view that is not contiguous, in the format of before torch 1.6.
    tensor = torch.from_numpy(np.ascontiguousarray(matrix.T)).T
    torch.save(tensor, path.with_suffix(".pt"), _use_new_zipfile_serialization=False)
    _text(path)
    return path.with_suffix(".pt")


def _table(matrix: NDArray[Any], fixed: bool) -> Any:
    arrow = pytest.importorskip("pyarrow")
    flat = arrow.array(matrix.reshape(-1))
    if fixed:
        lists = arrow.FixedSizeListArray.from_arrays(flat, DIM)
    else:
        lists = arrow.ListArray.from_arrays(
            arrow.array(np.arange(0, matrix.size + 1, DIM), arrow.int32()), flat
        )
    return arrow.table({"label": np.arange(ROWS), "embedding": lists, "id": NAMES})


def _parquet(path: Path, matrix: NDArray[Any]) -> Path:
    table = _table(matrix, fixed=True)
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(table, path.with_suffix(".parquet"), row_group_size=33)
    return path.with_suffix(".parquet")


def _ragged_parquet(path: Path, matrix: NDArray[Any]) -> Path:
    table = _table(matrix, fixed=False)
    pytest.importorskip("pyarrow.parquet").write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def _arrow_file(path: Path, matrix: NDArray[Any]) -> Path:
    table = _table(matrix, fixed=True)
    arrow = pytest.importorskip("pyarrow")
    file = str(path.with_suffix(".arrow"))
    with arrow.OSFile(file, "wb") as sink, arrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=29)
    return path.with_suffix(".arrow")


def _arrow_stream(path: Path, matrix: NDArray[Any]) -> Path:
    table = _table(matrix, fixed=False)
    arrow = pytest.importorskip("pyarrow")
    file = str(path.with_suffix(".arrow"))
    with arrow.OSFile(file, "wb") as sink, arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=41)
    return path.with_suffix(".arrow")


def _hdf5(path: Path, matrix: NDArray[Any]) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        file.create_dataset("index", data=NAMES, dtype=h5py.string_dtype("utf-8"))
        file.create_dataset("features", data=matrix, compression="gzip", shuffle=True, chunks=(13, 3))
    return path.with_suffix(".hdf5")


WRITERS: dict[str, Callable[[Path, NDArray[Any]], Path]] = {
    writer.__name__.strip("_"): writer
    for writer in (
        _npy,
        _fortran,
        _npz,
        _packed_npz,
        _safetensors,
        _torch,
        _bare_torch,
        _parquet,
        _ragged_parquet,
        _arrow_file,
        _arrow_stream,
        _hdf5,
    )
}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Callable[[Path, NDArray[Any]], Path]:
    return WRITERS[request.param]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of about ten rows, in every format."""
    for name in ("arrow", "hdf5", "npy", "npz", "safetensors", "torch"):
        monkeypatch.setattr(f"ilias_fast.store.formats.{name}.BLOCK_BYTES", 10 * DIM * 2)
    assert base.BLOCK_BYTES > 1 << 20


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
@pytest.mark.usefixtures("small_blocks")
def test_every_format_is_imported(
    write: Callable[[Path, NDArray[Any]], Path], dtype: type, tmp_path: Path, rng: np.random.Generator
) -> None:
    matrix = (100 * rng.random((ROWS, DIM))).astype(dtype)
    if dtype is np.uint8 and write is _hdf5:
        pytest.skip("official files hold floats")
    file = write(tmp_path / "f", matrix)
    seen: list[tuple[int, int]] = []
    store = import_store(file, tmp_path / "s", progress=lambda done, total: seen.append((done, total)))
    assert isinstance(store, BinaryStore if dtype is np.uint8 else GlobalStore)
    assert list(store.ids) == NAMES
    expected = matrix if dtype is np.uint8 else matrix.astype(np.float16)
    assert np.array_equal(store.rows(range(ROWS)), expected)
    assert seen[0] == (0, ROWS)
    assert seen[-1] == (ROWS, ROWS)
    (entry,) = store.provenance["import"]["files"]
    assert (entry["dtype"], entry["rows"], entry["read"]) == (np.dtype(dtype).name, ROWS, ROWS)
    if dtype is not np.uint8:
        names, rows = read_matrix(file)
        assert (names, rows.dtype) == (NAMES, np.float32)
        assert np.array_equal(rows, matrix.astype(np.float32))
    else:
        with pytest.raises(FileFormatError, match="expected floats"):
            read_matrix(file)


@pytest.mark.usefixtures("small_blocks")
def test_an_import_goes_on_inside_a_file(
    write: Callable[[Path, NDArray[Any]], Path],
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importing, "_COMMIT_BYTES", 1)
    matrix = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    file = write(tmp_path / "f", matrix)

    def stop(done: int, _total: int) -> None:
        if done >= 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_store(file, tmp_path / "s", progress=stop)
    there = len(GlobalStore.open(tmp_path / "s"))
    assert 50 <= there < ROWS
    seen: list[int] = []
    store = import_store(file, tmp_path / "s", progress=lambda done, _: seen.append(done))
    assert seen[0] == there
    assert list(store.ids) == NAMES
    assert np.array_equal(store.rows(range(ROWS)), matrix.astype(np.float16))
    state = store.checksum
    assert import_store(file, tmp_path / "s").checksum == state


KILLED = """
import sys, time
from ilias_fast.store import import_store
from ilias_fast.store.formats import importing, npz

importing._COMMIT_BYTES = 1
npz.BLOCK_BYTES = 10 * 8 * 4

def report(done, total):
    print(done, flush=True)
    time.sleep(0.01)

import_store(sys.argv[1], sys.argv[2], progress=report)
"""


def test_an_import_goes_on_after_a_kill(tmp_path: Path, rng: np.random.Generator) -> None:
    matrix = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    file, out = _packed_npz(tmp_path / "f", matrix), tmp_path / "s"
    first = []
    for _ in range(6):
        command = [sys.executable, "-c", KILLED, str(file), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            first.append(int(child.stdout.readline()))
            for _ in range(int(rng.integers(3))):
                child.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.02)))
            child.send_signal(signal.SIGKILL)
        if exists(out):
            there = GlobalStore.open(out)
            assert there.verify().ok
            assert list(there.ids) == NAMES[: len(there)]
        if first[-1] == ROWS:
            break
    assert first == sorted(first)  # nothing that was committed is read again
    assert len(set(first)) > 1
    store = import_store(file, out)
    assert list(store.ids) == NAMES
    assert np.array_equal(store.rows(range(ROWS)), matrix.astype(np.float16))


def test_bfloat16(tmp_path: Path, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    tensor = torch.from_numpy(rng.standard_normal((ROWS, DIM)).astype(np.float32)).bfloat16()
    torch.save(tensor, tmp_path / "t.pt")
    _text(tmp_path / "t")
    save_file({"x": tensor}, tmp_path / "t.safetensors")
    for name in ("t.pt", "t.safetensors"):
        store = import_store(tmp_path / name, tmp_path / f"s-{name}")
        assert np.array_equal(store.rows(range(ROWS)), tensor.float().numpy().astype(np.float16))


def test_raw_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    matrix = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    matrix.tofile(tmp_path / "features_global.pt")  # what AMES calls its memory maps
    _text(tmp_path / "features_global")
    options: dict[str, Any] = {"format": "raw", "dtype": "float32", "dim": DIM}
    store = import_store(tmp_path / "features_global.pt", tmp_path / "s", **options)
    assert np.array_equal(store.rows(range(ROWS)), matrix.astype(np.float16))
    with pytest.raises(FileFormatError, match="the format raw"):
        import_store(tmp_path / "features_global.pt", tmp_path / "t")
    with pytest.raises(FileFormatError, match="8 too many"):
        import_store(tmp_path / "features_global.pt", tmp_path / "t", **{**options, "dim": 7})
    with pytest.raises(ParameterError, match="dtype and dim"):
        import_store(tmp_path / "features_global.pt", tmp_path / "t", format="raw")
    with pytest.raises(DtypeError, match="int8"):
        import_store(tmp_path / "features_global.pt", tmp_path / "t", **{**options, "dtype": "int8"})
    with pytest.raises(DtypeError, match="nonsense"):
        import_store(tmp_path / "features_global.pt", tmp_path / "t", **{**options, "dtype": "nonsense"})


def test_ids_come_from_where_they_are(tmp_path: Path, rng: np.random.Generator) -> None:
    file = _npy(tmp_path / "f", rng.standard_normal((ROWS, DIM)))
    packed = tmp_path / "other.txt.gz"
    packed.write_bytes(gzip.compress("".join(f"{row}\r\n" for row in range(ROWS)).encode()))
    assert import_store(file, tmp_path / "a", ids=packed).ids[99] == "99"
    file.with_suffix(".txt").unlink()
    with pytest.raises(ParameterError, match=r"f\.txt beside it, found no such file"):
        import_store(file, tmp_path / "b")
    assert import_store(file, tmp_path / "b", number_rows=True).ids[7] == "7"
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(FileFormatError, match="gzip"):
        import_store(file, tmp_path / "c", ids=packed)
    for text, error, match in (
        (b"a\nb\n", ShapeError, "expected 100 ids .* found 2"),
        (b"\n".join(b"%d" % row for row in range(99)) + b"\n\xff\n", FileFormatError, "UTF-8.* line 100"),
        (b"same\n" * 100, DuplicateIdError, "'?same'?"),
        (b"\n" * 100, ParameterError, "id"),
        (b"x" * (3 << 20), FileFormatError, "one id a line"),
    ):
        file.with_suffix(".txt").write_bytes(text)
        with pytest.raises(error, match=match):
            import_store(file, tmp_path / "d")
    with pytest.raises(ParameterError, match="several files"):
        import_store([file, file], tmp_path / "e", ids=packed)


def test_a_row_that_is_not_a_number_is_named(
    write: Callable[[Path, NDArray[Any]], Path], tmp_path: Path, rng: np.random.Generator
) -> None:
    matrix = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    for number, bad in enumerate((np.nan, np.inf, 1e6)):
        matrix[77, 3] = bad
        (tmp_path / str(number)).mkdir()
        file = write(tmp_path / str(number) / "f", matrix)
        with pytest.raises(NonFiniteError, match=r"f\.\w+: row 77 \('ïd/77.jpg'\)"):
            import_store(file, tmp_path / str(number) / "s")
        with pytest.raises(NonFiniteError, match=r"row 77"):
            import_store(file, tmp_path / str(number) / "t", selected_ids=NAMES[50:])
    matrix[77, 3] = np.nan
    file = write(tmp_path / "f", matrix)
    with pytest.raises(NonFiniteError, match=r"row 77"):
        import_store(file, tmp_path / "b", adapter=Itq.fit(rng.standard_normal((30, DIM)), 8))


def test_an_adapter_is_applied_on_the_way(tmp_path: Path, rng: np.random.Generator) -> None:
    matrix = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    file = _npy(tmp_path / "f", matrix)
    np.savez_compressed(tmp_path / "itq_D16.npz", proj=rng.standard_normal((DIM, 16)).astype(np.float32))
    itq = load_adapter(tmp_path / "itq_D16.npz")
    assert isinstance(itq, Itq)
    codes = import_store(file, tmp_path / "codes", adapter=itq)
    assert isinstance(codes, BinaryStore)
    with np.load(tmp_path / "itq_D16.npz") as archive:
        assert np.array_equal(codes.rows(range(ROWS)), np.packbits(matrix @ archive["proj"] >= 0, axis=1))
    layer = LinearAdapter(rng.standard_normal((3, DIM)), np.ones(3))
    adapted = import_store(file, tmp_path / "adapted", adapter=layer)
    np.testing.assert_allclose(adapted.rows(range(ROWS)), layer.apply(matrix), atol=1e-3)
    assert adapted.provenance["adaptation"][0]["fingerprint"] == layer.fingerprint
    with pytest.raises(IncompatibleStoreError, match="same options"):
        import_store(file, tmp_path / "adapted")
    other = LinearAdapter(rng.standard_normal((3, 9)), np.ones(3))
    with pytest.raises(IncompatibleStoreError, match=r"dimension 9 for this adapter.* of 8"):
        import_store(file, tmp_path / "x", adapter=other)
    np.savez(tmp_path / "bad.npz", proj=np.zeros((DIM, 7), np.float32))
    with pytest.raises(FileFormatError, match="multiple of 8"):
        load_adapter(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", other=np.zeros((DIM, 8), np.float32))
    with pytest.raises(FileFormatError, match="'proj'"):
        load_adapter(tmp_path / "bad.npz")


def test_the_array_is_chosen_or_asked_for(tmp_path: Path, rng: np.random.Generator) -> None:
    one, two = rng.random((4, 3)), rng.random((4, 3))
    names = np.array(list("abcd"))
    np.savez(tmp_path / "f.npz", first=one, second=two, ids=names)
    with pytest.raises(FileFormatError, match=r"found first float64 \[4, 3\], second .*`array`"):
        import_store(tmp_path / "f.npz", tmp_path / "s")
    store = import_store(tmp_path / "f.npz", tmp_path / "s", array="second")
    assert np.array_equal(store.rows(range(4)), two.astype(np.float16))
    for name in ("third", "ids"):
        with pytest.raises(FileFormatError, match=r"found first|expected a matrix"):
            import_store(tmp_path / "f.npz", tmp_path / "t", array=name)
    np.savez(tmp_path / "f.npz", first=one, features=two, ids=names[:3])
    with pytest.raises(ShapeError, match="expected 4 ids, found 3"):
        import_store(tmp_path / "f.npz", tmp_path / "t")


def test_widths_that_differ_between_files(tmp_path: Path, rng: np.random.Generator) -> None:
    for number, dim in enumerate((8, 9)):
        np.savez(tmp_path / f"f{number:05d}.npz", features=rng.random((2, dim)), ids=np.array(["a", "b"]))
    with pytest.raises(IncompatibleStoreError, match=r"f00001.npz: .* dimension 8 .* of 9"):
        import_store(tmp_path / "f{idx}.npz", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_pickles_are_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    np.save(tmp_path / "f.npy", np.array([[Bomb()]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "f.npz", allow_pickle=True, x=np.array([[Bomb()]], dtype=object))
    (tmp_path / "f.pt").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "f.pth").write_bytes(pickle.dumps(Bomb()))
    for name, match in (
        ("f.npy", "pickle"),
        ("f.npz", "pickle"),
        ("f.pt", "run code"),
        ("f.pth", "run code"),
    ):
        if name.startswith("f.pt"):
            pytest.importorskip("torch")
        with pytest.raises(FileFormatError, match=match):
            import_store(tmp_path / name, tmp_path / "s", number_rows=True)
    assert not (tmp_path / "ran").exists()


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f2", "fortran_order": False, "shape": (1 << 20, 128)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(256):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(FileFormatError, match="zip bomb"):
        import_store(path, tmp_path / "s", number_rows=True)
    # A header that promises more than is there.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
    with pytest.raises(FileFormatError, match=r"expected 268435456 bytes in x.npy .* found 100"):
        import_store(path, tmp_path / "s", number_rows=True)
    # A header that is a bomb itself.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x02\x00" + (1 << 25).to_bytes(4, "little") + b" " * (1 << 25))
    with pytest.raises(FileFormatError, match="header of at most"):
        import_store(path, tmp_path / "s", number_rows=True)


def test_ragged_lists_are_named(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ids = ["a", "b", "c"]
    for lists, match in (
        ([[1.0, 2.0], [3.0, 4.0], [5.0]], "lists of 2 numbers .* found 1 in row 2"),
        ([[1.0, 2.0], None, [5.0, 6.0]], "found none in row 1"),
        ([[1.0, 2.0], [3.0, None], [5.0, 6.0]], "found none in row 1"),
    ):
        parquet.write_table(arrow.table({"v": lists, "id": ids}), tmp_path / "f.parquet")
        with pytest.raises(FileFormatError, match=match):
            import_store(tmp_path / "f.parquet", tmp_path / "s")
    parquet.write_table(
        arrow.table({"v": [[1.0], [2.0], [3.0]], "id": ["a", None, "c"]}), tmp_path / "f.parquet"
    )
    with pytest.raises(FileFormatError, match=r"an id in every row .* found none in row 1"):
        import_store(tmp_path / "f.parquet", tmp_path / "s")
    parquet.write_table(arrow.table({"v": ["x", "y", "z"], "id": ids}), tmp_path / "f.parquet")
    with pytest.raises(FileFormatError, match=r"expected one matrix .* v string"):
        import_store(tmp_path / "f.parquet", tmp_path / "s")


def test_damaged_files_are_refused_or_read(
    write: Callable[[Path, NDArray[Any]], Path], tmp_path: Path, rng: np.random.Generator
) -> None:
    file = write(tmp_path / "f", rng.standard_normal((ROWS, DIM)).astype(np.float32))
    good = file.read_bytes()
    refused = 0
    for trial in range(30):
        bad = bytearray(good)
        if trial % 3 == 0:
            bad = bad[: int(rng.integers(len(bad)))]
        for position in rng.integers(0, max(1, len(bad)), 4) if len(bad) else ():
            bad[position] ^= int(rng.integers(1, 256))
        file.write_bytes(bad)
        try:
            import_store(file, tmp_path / "s", overwrite=True)
        except IliasFastError:
            refused += 1
    assert refused >= 8


def test_names_without_a_known_format(tmp_path: Path) -> None:
    (tmp_path / "f.xyz").write_bytes(b"")
    with pytest.raises(ParameterError, match=r"ends in one of \.hdf5.*found '\.xyz'"):
        import_store(tmp_path / "f.xyz", tmp_path / "s")
    with pytest.raises(ParameterError, match="format: expected one of ilias-hdf5"):
        import_store(tmp_path / "f.xyz", tmp_path / "s", format="xyz")
    with pytest.raises(ParameterError, match="can be imported, found faiss"):
        import_store(tmp_path / "f.faiss", tmp_path / "s")


# --- export ---


@pytest.fixture
def vectors(tmp_path: Path, rng: np.random.Generator) -> GlobalStore:
    with GlobalStore.create(
        tmp_path / "global", dim=DIM, provenance={"model": "m"}, shard_bytes=700
    ) as writer:
        writer.append(NAMES, rng.standard_normal((ROWS, DIM)).astype(np.float16))
    return GlobalStore.open(tmp_path / "global")


@pytest.fixture
def codes(tmp_path: Path, rng: np.random.Generator) -> BinaryStore:
    with BinaryStore.create(tmp_path / "binary", bits=8 * DIM, shard_bytes=700) as writer:
        writer.append(NAMES, rng.integers(0, 256, (ROWS, DIM), dtype=np.uint8))
    return BinaryStore.open(tmp_path / "binary")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".hdf5"])
def test_what_is_exported_comes_back(
    suffix: str, tmp_path: Path, vectors: GlobalStore, codes: BinaryStore
) -> None:
    for number, store in enumerate((vectors, codes)):
        if suffix == ".hdf5" and store is codes:
            continue
        file = tmp_path / f"out{number}{suffix}"
        seen: list[int] = []
        export_store(store, file, progress=lambda done, _, seen=seen: seen.append(done))
        assert seen[-1] == ROWS
        back = import_store(file, tmp_path / f"back{number}")
        assert list(back.ids) == NAMES
        assert np.array_equal(back.rows(range(ROWS)), store.rows(range(ROWS)))
        with pytest.raises(StorageError, match="already exists"):
            export_store(store, file)
        export_store(store, file, overwrite=True)


def test_safetensors_is_read_by_its_library(tmp_path: Path, vectors: GlobalStore, codes: BinaryStore) -> None:
    safetensors = pytest.importorskip("safetensors")
    for store, name in ((vectors, "vectors"), (codes, "codes")):
        export_store(store, tmp_path / f"{name}.safetensors")
        with safetensors.safe_open(tmp_path / f"{name}.safetensors", "numpy") as file:
            assert np.array_equal(file.get_tensor(name), store.rows(range(ROWS)))
            offsets, ids = file.get_tensor("id_offsets"), file.get_tensor("ids").tobytes()
            assert [ids[a:b].decode() for a, b in pairwise(offsets)] == NAMES
            assert json.loads(file.metadata()["provenance"]) == store.provenance


def test_faiss_reads_what_it_would_have_written(
    tmp_path: Path, rng: np.random.Generator, vectors: GlobalStore, codes: BinaryStore
) -> None:
    faiss = pytest.importorskip("faiss")
    rows = vectors.rows(range(ROWS)).astype(np.float32)
    queries = rng.standard_normal((5, DIM)).astype(np.float32)
    flat = faiss.IndexFlatIP(DIM)
    fp16 = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for name, expected in (("flat", flat), ("fp16", fp16)):
        expected.train(rows)
        expected.add(rows)
        file = tmp_path / f"{name}.faiss"
        export_store(vectors, file, index=name)
        found = faiss.read_index(str(file))
        assert (type(found), found.ntotal, found.d) == (type(expected), ROWS, DIM)
        assert np.array_equal(found.search(queries, 10)[1], expected.search(queries, 10)[1])
        assert np.array_equal(found.reconstruct_n(0, ROWS), rows)
        assert file.read_bytes() == faiss.serialize_index(expected).tobytes()
        assert file.with_suffix(".txt").read_text("utf-8").splitlines() == NAMES
        found.add(rows)  # a whole index, not only one to look at
    binary = faiss.IndexBinaryFlat(8 * DIM)
    binary.add(codes.rows(range(ROWS)))
    export_store(codes, tmp_path / "b.faiss")
    assert (tmp_path / "b.faiss").read_bytes() == faiss.serialize_index_binary(binary).tobytes()
    with pytest.raises(ParameterError, match="index: expected one of fp16, flat"):
        export_store(vectors, tmp_path / "c.faiss", index="hnsw")


@pytest.mark.parametrize("name", ["f.npy", "f.hdf5", "f.safetensors", "f.faiss"])
def test_an_export_that_fails_leaves_nothing(name: str, tmp_path: Path, vectors: GlobalStore) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_store(vectors, folder / name, progress=stop)
    assert list(folder.iterdir()) == []
    with pytest.raises(StorageError, match="nowhere"):
        export_store(vectors, folder / "nowhere" / name)
