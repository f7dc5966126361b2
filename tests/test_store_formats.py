"""Features of every format, in: by the peers' own writers, and interrupted."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    ShapeError,
)
from ilias_fast.store import BinaryStore, GlobalStore, exists, import_store, read_matrix
from ilias_fast.store.formats import base, importing
from tests.feature_files import (
    DIM,
    NAMES,
    ROWS,
    WRITERS,
    write_hdf5,
    write_ids,
    write_npy,
    write_packed_npz,
)


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
    if dtype is np.uint8 and write is write_hdf5:
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
    file, out = write_packed_npz(tmp_path / "f", matrix), tmp_path / "s"
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
    write_ids(tmp_path / "t")
    save_file({"x": tensor}, tmp_path / "t.safetensors")
    for name in ("t.pt", "t.safetensors"):
        store = import_store(tmp_path / name, tmp_path / f"s-{name}")
        assert np.array_equal(store.rows(range(ROWS)), tensor.float().numpy().astype(np.float16))


def test_raw_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    matrix = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    matrix.tofile(tmp_path / "features_global.pt")  # what AMES calls its memory maps
    write_ids(tmp_path / "features_global")
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
    file = write_npy(tmp_path / "f", rng.standard_normal((ROWS, DIM)))
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
    file = write_npy(tmp_path / "f", matrix)
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
