"""What every file format offers: a description, and rows in blocks of bounded size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ilias_fast.errors import FileFormatError, ParameterError

if TYPE_CHECKING:
    from typing_extensions import Self

    from ilias_fast.store._base import BaseStore

__all__ = [
    "BLOCK_BYTES",
    "Block",
    "Format",
    "Kind",
    "LocalRows",
    "ReadOptions",
    "Reader",
    "choose",
    "matrix_kind",
]

Kind = Literal["global", "binary", "local"]

BLOCK_BYTES = 32 << 20
"""About how many bytes of a file are read at a time."""

_MATRIX_NAMES = ("features", "vectors", "embeddings", "embedding", "codes")


class LocalRows(NamedTuple):
    """Local descriptors of several images, one image after the other.

    Attributes:
        offsets: int64 [n + 1]; image i owns rows `offsets[i]:offsets[i + 1]` of the others.
        descriptors: float32 [m, D]; or what an adapter made of them, uint8 [m, bytes] for codes.
        xy: float32 [m, 2], x / width and y / height.
        weight: float32 [m].
        size: int32 [n, 2], width and height of the images in pixels.
    """

    offsets: NDArray[np.int64]
    descriptors: NDArray[Any]
    xy: NDArray[np.float32]
    weight: NDArray[np.float32]
    size: NDArray[np.int32]


class Block(NamedTuple):
    """Some rows of a file.

    Attributes:
        start: The first of them.
        ids: One a row.
        values: float [m, D] or uint8 [m, bytes], overwritten once the reader has gone on by `KEPT` blocks;
            or `LocalRows`.
    """

    start: int
    ids: list[str]
    values: NDArray[Any] | LocalRows

    @property
    def stop(self) -> int:
        """One past the last row."""
        return self.start + len(self.ids)


@dataclass(frozen=True)
class ReadOptions:
    """How files are read.

    Attributes:
        ids: Text file of ids, one a line (`.gz` too), for formats that have no place for them; None for the
            one beside the file.
        number_rows: Without any ids, take the row numbers.
        array: Name of the array, tensor, dataset or column, where a file may hold several.
        unescape: Undo the official writer's id escaping.
        descriptors: Take the n strongest local descriptors of an image only.
        dtype: Of the numbers in a raw file.
        dim: Numbers a row in a raw file.
        threads: Number of threads that decode; None for all.
    """

    ids: Path | None = None
    number_rows: bool = False
    array: str | None = None
    unescape: bool = True
    descriptors: int | None = None
    dtype: DTypeLike | None = None
    dim: int | None = None
    threads: int | None = None


class Reader(ABC):
    """An opened file; a context manager.

    Attributes:
        kind: What its rows are.
        rows: How many.
        width: Numbers a vector or descriptor, or bits a code.
        dtype: What the numbers are stored as.
    """

    KEPT: ClassVar[int] = 3
    """A block's arrays stay as they are until this many later blocks have been asked for."""

    kind: Kind
    rows: int
    width: int
    dtype: str

    @abstractmethod
    def blocks(self, start: int = 0) -> Generator[Block, None, None]:
        """Yield the rows from `start` on, in order, in blocks of about `BLOCK_BYTES`.

        Raises:
            FileFormatError: The file is damaged.
            StorageError: It cannot be read.
        """

    def close(self) -> None:
        """Close the file; formats that keep it mapped have nothing to close."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Format(ABC):
    """A file format; one small class a format, registered in `registry`.

    Attributes:
        name: What options and provenance call it.
        title: What it is, for people.
        suffixes: File names that end so are taken for it.
        writes: The kinds of stores it can hold.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[Kind, ...]] = ()

    def open(self, path: Path, options: ReadOptions) -> Reader:
        """Open a file to read it.

        Raises:
            FileFormatError: It is damaged or something else.
            StorageError: It cannot be read.
            MissingExtraError: A library is not installed.
        """
        del options
        raise ParameterError(f"{path}: expected a format that can be imported, found {self.title}")

    def write(
        self, store: BaseStore, path: Path, options: Mapping[str, Any], progress: Any, overwrite: bool
    ) -> None:
        """Write a store of one of the kinds `writes`; the file appears complete or not at all.

        Raises:
            StorageError: The disk refused, or the file exists.
            MissingExtraError: A library is not installed.
        """
        del store, options, progress, overwrite
        raise ParameterError(f"{path}: expected a format that can be exported, found {self.title}")


def matrix_kind(path: Path, shape: Collection[int], dtype: np.dtype[Any] | str) -> tuple[Kind, int]:
    """Return what a matrix holds and its width: floats are vectors, uint8 are packed codes.

    Raises:
        FileFormatError: It is something else.
    """
    shape = list(shape)
    floats = dtype == "bfloat16" or (isinstance(dtype, np.dtype) and dtype.kind == "f")
    if len(shape) != 2 or shape[1] < 1:
        raise FileFormatError(f"{path}: expected a matrix [n, d], found shape {shape}")
    if not floats and dtype != np.uint8:
        raise FileFormatError(f"{path}: expected floats or packed codes (uint8), found {dtype}")
    return ("global", shape[1]) if floats else ("binary", 8 * shape[1])


def choose(path: Path, wanted: str | None, found: Mapping[str, str], matrices: Collection[str]) -> str:
    """Return which array of a file to read.

    Args:
        path: The file.
        wanted: The name asked for, or None to find the only one that will do.
        found: All there are, and a description of each.
        matrices: Those that will do.

    Raises:
        FileFormatError: None will do, or several.
    """
    listed = ", ".join(f"{name} {what}" for name, what in found.items()) or "nothing"
    if wanted is not None:
        if wanted not in found:
            raise FileFormatError(f"{path}: expected an array {wanted!r}, found {listed}")
        return wanted
    likely = [name for name in _MATRIX_NAMES if name in matrices]
    if len(matrices) == 1:
        return next(iter(matrices))
    if len(likely) == 1:
        return likely[0]
    raise FileFormatError(
        f"{path}: expected one matrix of floats or packed codes, found {listed}"
        + (" (say which with `array`)" if matrices else "")
    )
