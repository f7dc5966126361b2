"""`.npy` matrices and raw memory maps, with the ids in a text file, one a line."""

from __future__ import annotations

import io
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ilias_fast._files import replacing, storage_error
from ilias_fast.errors import DtypeError, FileFormatError, ParameterError
from ilias_fast.store._base import BaseStore
from ilias_fast.store._binary import BinaryStore
from ilias_fast.store._global import GlobalStore
from ilias_fast.store.formats.base import BLOCK_BYTES, Block, Format, Reader, ReadOptions, matrix_kind
from ilias_fast.store.formats.ids import ids_of_rows, write_ids

__all__ = ["MappedReader", "Npy", "Raw", "npy_header", "raw_dtype"]

_LONGEST_HEADER = 64 << 10


class Npy(Format):
    """NumPy's own format."""

    name = "npy"
    title = ".npy with a text file of ids"
    suffixes = (".npy",)
    writes = ("global", "binary")

    def open(self, path: Path, options: ReadOptions) -> Reader:
        """Map a matrix; errors as `Format.open`."""
        try:
            with path.open("rb") as file:
                shape, fortran, dtype = npy_header(path, file)
                offset = file.tell()
        except OSError as cause:
            raise storage_error(cause, path, "read") from cause
        return MappedReader(path, shape, dtype, offset, options, "F" if fortran else "C")

    def write(
        self,
        store: BaseStore,
        path: Path,
        options: Mapping[str, Any],
        progress: Any,
        overwrite: bool,
    ) -> None:
        """Write the rows, and the ids to the text file `ids` (the same name with `.txt` if not given).

        Errors as `Format.write`.
        """
        assert isinstance(store, (GlobalStore, BinaryStore))
        ids = Path(options["ids"]) if options.get("ids") else path.parent / f"{path.stem}.txt"
        shape = (len(store), store.dim if isinstance(store, GlobalStore) else store.code_bytes)
        dtype = np.dtype("<f2" if isinstance(store, GlobalStore) else np.uint8)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        with (
            replacing(path, overwrite=overwrite) as partial_array,
            replacing(ids, overwrite=overwrite) as partial_ids,
        ):
            with partial_array.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for first, rows in store.shards():
                    file.write(rows.data)
                    progress(first + len(rows), len(store))
            write_ids(partial_ids, store)


def raw_dtype(given: DTypeLike) -> np.dtype[Any]:
    """Return the dtype that raw numbers are said to be of.

    Raises:
        DtypeError: It is none, or none of float16, float32 and uint8.
    """
    try:
        dtype = np.dtype(given)
    except (TypeError, ValueError, SyntaxError) as cause:
        raise DtypeError(f"dtype: expected float16, float32 or uint8, found {given!r}") from cause
    if dtype.kind != "f" and dtype != np.uint8:
        raise DtypeError(f"dtype: expected float16, float32 or uint8, found {dtype}")
    return dtype


class Raw(Format):
    """Numbers without a header, as `numpy.memmap` writes them; `dtype` and `dim` say what they are."""

    name = "raw"
    title = "a raw memory map"
    suffixes = (".memmap", ".mmap", ".dat", ".bin", ".raw")

    def open(self, path: Path, options: ReadOptions) -> Reader:
        """Map the numbers; errors as `Format.open`."""
        if options.dtype is None or options.dim is None:
            raise ParameterError(f"{path}: expected the dtype and dim of a raw file, found none given")
        dtype = raw_dtype(options.dtype)
        if options.dim < 1:
            raise ParameterError(f"dim: expected at least 1, found {options.dim}")
        try:
            size = path.stat().st_size
        except OSError as cause:
            raise storage_error(cause, path, "read") from cause
        rows, rest = divmod(size, dtype.itemsize * options.dim)
        if rest:
            raise FileFormatError(
                f"{path}: expected rows of {options.dim} {dtype} ({dtype.itemsize * options.dim} bytes), "
                f"found {size} bytes, {rest} too many"
            )
        return MappedReader(path, (rows, options.dim), dtype, 0, options)


class MappedReader(Reader):
    """A matrix that lies in a file as it is, read through a memory map."""

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        offset: int,
        options: ReadOptions,
        order: str = "C",
        ids: Any = None,
    ) -> None:
        self.kind, self.width = matrix_kind(path, shape, dtype)
        self.rows = shape[0]
        self.dtype = str(dtype)
        self._ids = ids_of_rows(path, self.rows, options) if ids is None else ids
        size = dtype.itemsize * shape[0] * shape[1]
        try:
            if path.stat().st_size < offset + size:
                raise FileFormatError(
                    f"{path}: expected {size} bytes from byte {offset}, the file ends at "
                    f"{path.stat().st_size} (fetch or write it again)"
                )
            self._matrix: NDArray[Any] = (
                np.memmap(path, dtype, "r", offset, (shape[0], shape[1]), order)  # type: ignore[call-overload]
                if self.rows
                else np.empty((0, shape[1]), dtype)
            )
        except OSError as cause:
            raise storage_error(cause, path, "read") from cause

    def blocks(self, start: int = 0) -> Generator[Block, None, None]:
        """Yield views of the map; see `Reader.blocks`."""
        step = max(1, BLOCK_BYTES // (self._matrix.itemsize * self._matrix.shape[1]))
        starts = range(start, self.rows, step)
        counts = (min(step, self.rows - first) for first in starts)
        for first, names in zip(starts, self._ids.take(start, counts), strict=True):
            yield Block(first, names, np.asarray(self._matrix[first : first + len(names)]))


def npy_header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a `.npy` file, which may be part of another.

    Args:
        path: For messages.
        file: At the beginning; left at the first number.

    Returns:
        Shape, whether in Fortran order, and dtype; never of objects.

    Raises:
        FileFormatError: It is damaged, of objects (a pickle), or something else.
    """
    magic = file.read(8)
    if magic[:6] != np.lib.format.MAGIC_PREFIX or len(magic) != 8:
        found = f"something else (it starts {magic[:6]!r})" if magic else "an empty file"
        raise FileFormatError(f"{path}: expected a .npy file, found {found}")
    width = 2 if magic[6] == 1 else 4
    length = file.read(width)
    if magic[6] not in (1, 2, 3) or len(length) != width:
        raise FileFormatError(f"{path}: expected a .npy file of version 1 to 3, found damage")
    size = int.from_bytes(length, "little")
    if size > _LONGEST_HEADER:
        raise FileFormatError(
            f"{path}: expected a .npy header of at most {_LONGEST_HEADER} bytes, found {size}"
        )
    text = io.BytesIO(length + file.read(size))
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(text, _LONGEST_HEADER)
    except Exception as cause:  # damaged headers fail as syntax, token, value and memory errors
        raise FileFormatError(f"{path}: expected a .npy file, found damage: {cause}") from cause
    if dtype.hasobject:
        raise FileFormatError(f"{path}: expected numbers, found Python objects (a pickle, which is not read)")
    if any(extent < 0 for extent in shape):
        raise FileFormatError(f"{path}: expected a shape, found {shape}")
    return shape, fortran, dtype
