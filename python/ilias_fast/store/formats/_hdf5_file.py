"""HDF5 files opened without trust, and their matrices read fast.

The library decompresses one chunk at a time under a global lock. Where the filters are plain gzip, with or
without shuffling, the chunks are read and inflated here instead, by all threads (`_core.ChunkGrid`); where a
dataset is contiguous it is read from the file as it is. Anything else, and any chunk that turns out
damaged, is left to the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _core
from ilias_fast._extras import require
from ilias_fast._files import storage_error
from ilias_fast.errors import FileFormatError, IliasFastError

__all__ = ["Matrix", "opened", "translated"]

_CHUNK_CACHE = 32 << 20
_MOST_BYTES = 512 << 20
_DEFLATE, _SHUFFLE = 1, 2  # H5Z_FILTER_*; in the core, bits 0 and 1


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside the HDF5 library into one error that names the file."""
    try:
        yield
    except IliasFastError:
        raise
    except Exception as cause:
        # A damaged file makes h5py raise OSError, RuntimeError, KeyError, ValueError, UnicodeError...
        raise FileFormatError(
            f"{file}: expected a feature file (HDF5), found damage: {cause} (fetch or write the file again)"
        ) from cause


def opened(file: Path) -> Any:
    """Open a file for reading.

    Raises:
        FileFormatError: It is no HDF5 file, truncated or damaged.
        StorageError: The operating system refused.
        MissingExtraError: h5py is not installed.
    """
    h5py = require("h5py", "read HDF5 files")
    try:
        file.open("rb").close()
    except OSError as cause:
        raise storage_error(cause, file, "open") from cause
    with translated(file):
        return h5py.File(file, "r", rdcc_nbytes=_CHUNK_CACHE)


class Matrix:
    """The rows of a dataset of two or more axes; the others are taken as one.

    Attributes:
        rows: Number of rows.
        columns: Numbers a row.
        dtype: Of the numbers.
    """

    def __init__(self, path: Path, dataset: Any, threads: int | None = None) -> None:
        self._path = path
        self._dataset = dataset
        self._threads = threads
        self.rows = int(dataset.shape[0])
        self.columns = int(np.prod(dataset.shape[1:], dtype=np.int64))
        self.dtype: np.dtype[Any] = dataset.dtype
        self._grid: _core.ChunkGrid | None = None
        self._offset: int | None = None
        # Whatever an odd file brings up here, the library has the last word on it.
        with suppress(Exception):
            self._offset = _contiguous(path, dataset)
            self._grid = None if self._offset is not None else _grid(path, dataset)

    def block_rows(self, size: int) -> int:
        """Return how many rows are best read at a time, of about `size` bytes.

        Raises:
            FileFormatError: The chunks are so large that the library would need more than 512 MiB for one.
        """
        row = self.dtype.itemsize * self.columns
        rows = max(1, size // max(row, 1))
        if self._grid is not None:
            return self._grid.block_rows(size)
        chunks = self._dataset.chunks
        if self._offset is not None or not chunks:
            return rows
        chunk = self.dtype.itemsize * int(np.prod(chunks, dtype=np.int64))
        if chunk > _MOST_BYTES:
            raise FileFormatError(
                f"{self._path}: expected chunks of at most {_MOST_BYTES} bytes with these filters, found "
                f"{chunk} (rewrite it with smaller chunks: h5repack -l features:CHUNK=1024x{self.columns})"
            )
        # Whole chunks, so that none is decompressed twice; unless chunks are so tall that memory forbids it.
        tall = max(1, 2 * size // max(row, 1))
        return min(max(1, rows // int(chunks[0])) * int(chunks[0]), tall)

    def read(self, start: int, out: NDArray[Any]) -> None:
        """Read the rows from `start` on into `out` [m, columns], of this `dtype`.

        Raises:
            FileFormatError: They are damaged.
        """
        if self._offset is not None and self._read_plain(start, out):
            return
        if self._grid is not None:
            try:
                self._grid.read(start, out.view(np.uint8), self._threads)
                return
            except FileFormatError:
                self._grid = None
        with translated(self._path):
            shape = (len(out), *self._dataset.shape[1:])
            self._dataset.read_direct(out.reshape(shape), np.s_[start : start + len(out)])

    def _read_plain(self, start: int, out: NDArray[Any]) -> bool:
        assert self._offset is not None
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._offset + start * out.itemsize * self.columns)
                left = out.reshape(-1).view(np.uint8).data
                while len(left):
                    done = file.readinto(left)
                    if not done:
                        return False
                    left = left[done:]
        except OSError as cause:
            raise storage_error(cause, self._path, "read") from cause
        return True


def _plain_file(dataset: Any) -> bool:
    """Return whether positions in the file are what the library says: no user block before it."""
    return int(dataset.file.id.get_create_plist().get_userblock()) == 0


def _contiguous(path: Path, dataset: Any) -> int | None:
    """Return where the rows start in the file if they lie there one after the other."""
    properties = dataset.id.get_create_plist()
    h5py = require("h5py", "read HDF5 files")
    if (
        properties.get_layout() != h5py.h5d.CONTIGUOUS
        or properties.get_external_count()
        or not _plain_file(dataset)
    ):
        return None
    offset = dataset.id.get_offset()
    size = dataset.size * dataset.dtype.itemsize
    if offset is None or offset + size > path.stat().st_size:
        return None
    return int(offset)


def _grid(path: Path, dataset: Any) -> _core.ChunkGrid | None:
    """Return the chunks for the core to read, if they are of a kind it knows."""
    h5py = require("h5py", "read HDF5 files")
    properties = dataset.id.get_create_plist()
    if properties.get_layout() != h5py.h5d.CHUNKED or not _plain_file(dataset):
        return None
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if filters not in ([], [_DEFLATE], [_SHUFFLE], [_SHUFFLE, _DEFLATE]):
        return None
    inner = int(np.prod(dataset.shape[2:], dtype=np.int64))
    chunk = dataset.chunks
    if any(have != want for have, want in zip(chunk[2:], dataset.shape[2:], strict=True)):
        return None  # chunks that cut the later axes are no grid of the rows
    shape = (
        dataset.shape[0],
        dataset.shape[1] * inner,
        dataset.dtype.itemsize,
        chunk[0],
        chunk[1] * inner,
    )
    across = -(-dataset.shape[1] // chunk[1])
    count = -(-dataset.shape[0] // chunk[0]) * across
    if count > max(1, 16 * path.stat().st_size):
        return None  # a header that promises more chunks than the file could index
    offsets, sizes = np.zeros(count, np.int64), np.zeros(count, np.int64)
    applied = np.zeros(count, np.uint8)
    bits = [1 << (identity - 1) for identity in filters]

    def note(chunk_info: Any) -> None:
        place = chunk_info.chunk_offset[0] // chunk[0] * across + chunk_info.chunk_offset[1] // chunk[1]
        offsets[place], sizes[place] = chunk_info.byte_offset, chunk_info.size
        applied[place] = sum(
            bit for number, bit in enumerate(bits) if not chunk_info.filter_mask >> number & 1
        )

    dataset.id.chunk_iter(note)
    fill = np.zeros(1, dataset.dtype)
    properties.get_fill_value(fill)
    return _core.ChunkGrid(path, shape, offsets, sizes, applied, fill.tobytes())
