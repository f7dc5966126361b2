"""Plain NumPy files to and from stores: a `.npy` matrix and a text file of ids, one a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ilias_fast._files import StrPath, read_lines, replacing, storage_error
from ilias_fast.errors import FileFormatError, ParameterError, ShapeError
from ilias_fast.store._binary import BinaryStore
from ilias_fast.store._global import GlobalStore

__all__ = ["export_npy", "import_npy", "read_npy"]

_BLOCK_BYTES = 64 << 20


def import_npy(
    array: StrPath,
    ids: StrPath,
    out: StrPath,
    *,
    provenance: dict[str, object] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> GlobalStore | BinaryStore:
    """Import a `.npy` matrix: floats become a global store (rounded to float16), uint8 a binary one.

    The file is mapped and read in blocks of about 64 MiB; the store appears, complete, at the end.

    Args:
        array: float [n, d] or uint8 [n, bytes] in a `.npy` file.
        ids: UTF-8 text, one id a line.
        out: The store to make.
        provenance: What the rows are made of.
        overwrite: Replace a store that is there.
        progress: Called with (rows done, rows in all).

    Raises:
        FileFormatError: A file is not of its format; the message names it.
        ShapeError: The number of ids and rows differ.
        StorageError: A file is missing, or the disk refused.
        StoreExistsError, NonFiniteError, DuplicateIdError, ParameterError
    """
    matrix = read_npy(Path(array))
    names = read_lines(Path(ids))
    if len(names) != len(matrix):
        raise ShapeError(f"{ids}: expected {len(matrix)} ids (the rows of {array}), found {len(names)}")
    record = {
        **(provenance or {}),
        "import": {"format": "npy", "name": Path(array).name, "dtype": str(matrix.dtype)},
    }
    step = max(1, _BLOCK_BYTES // (matrix.dtype.itemsize * matrix.shape[1]))
    starts = range(0, len(matrix), step)
    if matrix.dtype == np.uint8:
        bits = 8 * matrix.shape[1]
        with BinaryStore.create(out, bits=bits, provenance=record, overwrite=overwrite) as codes_writer:
            for start in starts:
                codes_writer.append(names[start : start + step], matrix[start : start + step])
                if progress is not None:
                    progress(min(start + step, len(matrix)), len(matrix))
        return BinaryStore.open(out)
    with GlobalStore.create(out, dim=matrix.shape[1], provenance=record, overwrite=overwrite) as writer:
        for start in starts:
            writer.append(names[start : start + step], matrix[start : start + step])
            if progress is not None:
                progress(min(start + step, len(matrix)), len(matrix))
    return GlobalStore.open(out)


def export_npy(
    store: GlobalStore | BinaryStore, array: StrPath, ids: StrPath, *, overwrite: bool = False
) -> None:
    """Write the rows as a `.npy` file (float16 [n, d] or uint8 [n, bytes]) and the ids as text, one a line.

    Args:
        store: What to write.
        array: The `.npy` file.
        ids: The text file.
        overwrite: Replace files that are there.

    Raises:
        StorageError: The disk refused, or a file exists.
    """
    if not isinstance(store, (GlobalStore, BinaryStore)):
        raise ParameterError(f"store: expected a global or binary store, found {store!r}")
    width, dtype = (store.dim, np.float16) if isinstance(store, GlobalStore) else (store.code_bytes, np.uint8)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    with (
        replacing(Path(array), overwrite=overwrite) as partial_array,
        replacing(Path(ids), overwrite=overwrite) as partial_ids,
    ):
        with partial_array.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (len(store), width)})
            for _, rows in store.shards():
                file.write(rows.data)
        with partial_ids.open("w", encoding="utf-8", newline="\n") as text:
            text.writelines(f"{name}\n" for name in store.ids)


def read_npy(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.generic]]:
    """Map a `.npy` matrix of floats or of packed codes (uint8).

    Raises:
        FileFormatError: The file is damaged, or holds something else.
        StorageError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(np.lib.format.MAGIC_PREFIX))
        if magic != np.lib.format.MAGIC_PREFIX:
            raise FileFormatError(f"{path}: expected a .npy file, found something else (it starts {magic!r})")
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileFormatError:
        raise
    except OSError as cause:
        raise storage_error(cause, path, "read") from cause
    except Exception as cause:  # damaged headers fail as syntax, token, value and memory errors
        raise FileFormatError(f"{path}: expected a .npy file, found damage: {cause}") from cause
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.shape[1] < 1:
        raise FileFormatError(
            f"{path}: expected a matrix in a .npy file, found {getattr(matrix, 'shape', 'an archive')}"
        )
    if matrix.dtype.kind != "f" and matrix.dtype != np.uint8:
        raise FileFormatError(f"{path}: expected floats or packed codes (uint8), found {matrix.dtype}")
    return matrix
