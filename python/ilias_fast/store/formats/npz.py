"""`.npz` archives: a matrix, and the ids beside it in the archive or in a text file.

Members are read as streams, so that an archive of any size takes bounded memory. What a member says of itself
is checked before it is believed: a member that would grow without bounds is refused.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import storage_error
from ilias_fast.errors import FileFormatError, IliasFastError, ShapeError
from ilias_fast.store.formats.base import (
    BLOCK_BYTES,
    Block,
    Format,
    Reader,
    ReadOptions,
    choose,
    matrix_kind,
)
from ilias_fast.store.formats.buffers import Buffers
from ilias_fast.store.formats.ids import decoded, ids_of_rows
from ilias_fast.store.formats.npy import npy_header

__all__ = ["Npz", "read_npz"]

_ID_NAMES = ("ids", "id", "index", "names", "image_ids", "paths", "filenames")
# Numbers compress to a half at best, text to a twentieth. A bomb of this ratio is a thousand times its size.
_MOST_RATIO = 200
_HARMLESS = 64 << 20


class Npz(Format):
    """NumPy archives."""

    name = "npz"
    title = ".npz archive"
    suffixes = (".npz",)

    def open(self, path: Path, options: ReadOptions) -> Reader:
        """Open an archive; errors as `Format.open`."""
        return _NpzReader(path, options)


def read_npz(path: Path, name: str) -> NDArray[Any]:
    """Read one small array of an archive, of at most 64 MiB.

    Raises:
        FileFormatError: The archive is damaged, lacks the array, or it is larger.
        StorageError: It cannot be read.
    """
    member = f"{name}.npy"
    with _reading(path), zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            raise FileFormatError(f"{path}: expected an array {name!r}, found {archive.namelist()}")
        entry = archive.getinfo(member)
        if entry.file_size > _HARMLESS:
            raise FileFormatError(f"{path}: expected at most {_HARMLESS} bytes, found {entry.file_size}")
        with archive.open(entry) as file:
            shape, fortran, dtype = npy_header(path, file)
            content = file.read()
    try:
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    except ValueError as cause:
        raise FileFormatError(f"{path}: expected {dtype} {list(shape)}, found damage: {cause}") from cause


class _NpzReader(Reader):
    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path = path
        with _reading(path):
            self._archive = zipfile.ZipFile(path)
        try:
            members = {
                name: self._described(name) for name in self._archive.namelist() if name.endswith(".npy")
            }
            described = {name[:-4]: f"{dtype} {list(shape)}" for name, (shape, _, dtype) in members.items()}
            matrices = [
                name[:-4]
                for name, (shape, _, dtype) in members.items()
                if len(shape) == 2 and (dtype.kind == "f" or dtype == np.uint8)
            ]
            chosen = choose(path, options.array, described, matrices) + ".npy"
            self._shape, fortran, self._dtype = members[chosen]
            self.kind, self.width = matrix_kind(path, self._shape, self._dtype)
            if fortran:
                raise FileFormatError(
                    f"{path}: expected {chosen} in C order, found Fortran order "
                    f"(save numpy.ascontiguousarray of it)"
                )
            self._member = chosen
            self.rows = self._shape[0]
            self.dtype = str(self._dtype)
            self._ids = self._find_ids(members, options)
        except BaseException:
            self._archive.close()
            raise

    def _described(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        entry = self._archive.getinfo(name)
        if entry.file_size > max(_HARMLESS, _MOST_RATIO * entry.compress_size):
            raise FileFormatError(
                f"{self._path}: {name} would grow from {entry.compress_size} to {entry.file_size} bytes; "
                f"no descriptors compress like that (a zip bomb)"
            )
        with _reading(self._path), self._archive.open(entry) as file:
            header = npy_header(self._path, file)
            size = header[2].itemsize
            for extent in header[0]:
                size *= extent
            if file.tell() + size != entry.file_size:
                raise FileFormatError(
                    f"{self._path}: expected {size} bytes in {name} for {header[2]} {list(header[0])}, "
                    f"found {entry.file_size - file.tell()}"
                )
            return header

    def _find_ids(self, members: dict[str, Any], options: ReadOptions) -> Any:
        if options.ids is None:
            for name in _ID_NAMES:
                shape, _, dtype = members.get(f"{name}.npy", ((), False, np.dtype(float)))
                if dtype.kind in "US" and len(shape) == 1:
                    if shape[0] != self.rows:
                        raise ShapeError(f"{self._path}: expected {self.rows} {name}, found {shape[0]}")
                    return _Strings(self._path, self._archive, f"{name}.npy", dtype)
        return ids_of_rows(self._path, self.rows, options)

    def blocks(self, start: int = 0) -> Generator[Block, None, None]:
        row = self._dtype.itemsize * self._shape[1]
        step = max(1, BLOCK_BYTES // row)
        buffers = Buffers(self.KEPT, min(step, self.rows), self._shape[1], self._dtype)
        starts = range(start, self.rows, step)
        ids = self._ids.take(start, (min(step, self.rows - first) for first in starts))
        with _reading(self._path), self._archive.open(self._member) as file:
            npy_header(self._path, file)
            _skip(file, start * row)
            for first, names in zip(starts, ids, strict=True):
                values = buffers.next(len(names))
                _fill(self._path, file, values)
                yield Block(first, names, values)

    def close(self) -> None:
        self._archive.close()


class _Strings:
    """A member of fixed-length strings."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, member: str, dtype: np.dtype[Any]) -> None:
        self._path, self._archive, self._member, self._dtype = path, archive, member, dtype

    def take(self, start: int, counts: Iterator[int]) -> Iterator[list[str]]:
        with _reading(self._path), self._archive.open(self._member) as file:
            npy_header(self._path, file)
            _skip(file, start * self._dtype.itemsize)
            for count in counts:
                names: NDArray[Any] = np.empty(count, self._dtype)
                if self._dtype.itemsize:
                    _fill(self._path, file, names)
                if self._dtype.kind == "S":
                    yield decoded(self._path, names.tolist(), start, "row")
                else:
                    yield _text(self._path, names, start)
                start += count


def _text(path: Path, names: NDArray[Any], start: int) -> list[str]:
    try:
        return list(names.tolist())
    except (ValueError, UnicodeError) as cause:
        raise FileFormatError(
            f"{path}: expected ids of Unicode characters in rows from {start}: {cause}"
        ) from cause


def _skip(file: IO[bytes], size: int) -> None:
    while size:
        done = len(file.read(min(size, 1 << 20)))
        if not done:
            return
        size -= done


def _fill(path: Path, file: Any, values: NDArray[Any]) -> None:
    left = values.reshape(-1).view(np.uint8).data
    while len(left):
        done = file.readinto(left)
        if not done:
            raise FileFormatError(f"{path}: expected {len(left)} bytes more, the file is truncated")
        left = left[done:]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except IliasFastError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        KeyError,
    ) as cause:
        # Damage, encryption, or a compression of another kind.
        raise FileFormatError(f"{path}: expected a .npz archive, found damage: {cause}") from cause
    except OSError as cause:
        if cause.errno is None:
            raise FileFormatError(f"{path}: expected a .npz archive, found damage: {cause}") from cause
        raise storage_error(cause, path, "read") from cause
