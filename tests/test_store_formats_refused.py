"""Features that are damaged, hostile or of no known format: typed errors."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.errors import (
    FileFormatError,
    IliasFastError,
    ParameterError,
)
from ilias_fast.store import import_store
from tests.feature_files import DIM, ROWS, WRITERS


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Callable[[Path, NDArray[Any]], Path]:
    return WRITERS[request.param]


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
    with pytest.raises(ParameterError, match="format: expected 'ilias-hdf5'"):
        import_store(tmp_path / "f.xyz", tmp_path / "s", format="xyz")
    with pytest.raises(ParameterError, match="can be imported, found faiss"):
        import_store(tmp_path / "f.faiss", tmp_path / "s")
