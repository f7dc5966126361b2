"""Files of features in every format, by the peers' own writers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROWS, DIM = 100, 8
NAMES = [f"ïd/{row}.jpg" for row in range(ROWS)]


def write_ids(path: Path, names: list[str] = NAMES) -> None:
    """Write ids beside a file, one a line."""
    path.with_suffix(".txt").write_text("".join(f"{name}\n" for name in names), "utf-8")


def write_npy(path: Path, matrix: NDArray[Any]) -> Path:
    """Write a matrix as .npy, and its ids."""
    np.save(path.with_suffix(".npy"), matrix)
    write_ids(path)
    return path.with_suffix(".npy")


def _fortran(path: Path, matrix: NDArray[Any]) -> Path:
    return write_npy(path, np.asfortranarray(matrix))


def _npz(path: Path, matrix: NDArray[Any]) -> Path:
    np.savez(path.with_suffix(".npz"), features=matrix, ids=np.array(NAMES))
    return path.with_suffix(".npz")


def write_packed_npz(path: Path, matrix: NDArray[Any]) -> Path:
    """Write a compressed .npz with ids as bytes."""
    names = np.array([name.encode() for name in NAMES])
    np.savez_compressed(path.with_suffix(".npz"), x=matrix, names=names)
    return path.with_suffix(".npz")


def _safetensors(path: Path, matrix: NDArray[Any]) -> Path:
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file({"embeddings": matrix, "labels": np.arange(ROWS)}, path.with_suffix(".safetensors"))
    write_ids(path)
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
    write_ids(path)
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


def write_hdf5(path: Path, matrix: NDArray[Any]) -> Path:
    """Write official HDF5 with odd chunks."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        file.create_dataset("index", data=NAMES, dtype=h5py.string_dtype("utf-8"))
        file.create_dataset("features", data=matrix, compression="gzip", shuffle=True, chunks=(13, 3))
    return path.with_suffix(".hdf5")


WRITERS: dict[str, Callable[[Path, NDArray[Any]], Path]] = {
    writer.__name__.removeprefix("write_").strip("_"): writer
    for writer in (
        write_npy,
        _fortran,
        _npz,
        write_packed_npz,
        _safetensors,
        _torch,
        _bare_torch,
        _parquet,
        _ragged_parquet,
        _arrow_file,
        _arrow_stream,
        write_hdf5,
    )
}
