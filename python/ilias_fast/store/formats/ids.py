"""Ids from a text file, one a line, read in step with the rows they name."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, cast

from ilias_fast._files import storage_error
from ilias_fast.errors import FileFormatError, IliasFastError, ParameterError, ShapeError
from ilias_fast.store._base import BaseStore
from ilias_fast.store.formats.base import ReadOptions

__all__ = ["IdLines", "RowNumbers", "decoded", "ids_of_rows", "lines_of", "write_ids"]

_PIECE = 1 << 20


def decoded(path: Path, raw: list[bytes], first: int, what: str) -> list[str]:
    """Return ids as text.

    Args:
        path: Where they are from.
        raw: Their bytes.
        first: The number of the first.
        what: What is numbered ("line", "row").

    Raises:
        FileFormatError: One is not UTF-8; the message names its place.
    """
    try:
        return [name.decode("utf-8") for name in raw]
    except UnicodeDecodeError:
        for number, name in enumerate(raw, first):
            try:
                name.decode("utf-8")
            except UnicodeDecodeError as cause:
                raise FileFormatError(
                    f"{path}: expected ids in UTF-8, found {name[:80]!r} in {what} {number}"
                ) from cause
        raise AssertionError("unreachable") from None


def lines_of(path: Path) -> IdLines:
    """Count the lines of a text file of ids, which may be compressed (`.gz`).

    Raises:
        StorageError: It cannot be read.
        FileFormatError: A line is far longer than any id, or the compression is damaged.
    """
    lines, ended = 0, True
    with _opened(path) as file:
        while piece := file.read(_PIECE):
            count = piece.count(b"\n")
            if not count and len(piece) == _PIECE:
                raise FileFormatError(f"{path}: expected one id a line, found a line of over {_PIECE} bytes")
            lines += count
            ended = piece.endswith(b"\n")
    return IdLines(path, lines + (not ended))


class IdLines:
    """A text file of ids.

    Attributes:
        path: The file.
        count: Number of lines.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.count = count

    def take(self, start: int, counts: Iterator[int]) -> Iterator[list[str]]:
        """Yield, for each count, the next as many ids, from line `start` on.

        Raises:
            FileFormatError: An id is not UTF-8, or the file has become shorter.
            StorageError: It cannot be read.
        """
        with _opened(self.path) as file:
            for _ in islice(file, start):
                pass
            for count in counts:
                lines = list(islice(file, count))
                if len(lines) != count:
                    raise FileFormatError(f"{self.path}: expected {self.count} lines, found fewer now")
                raw = [line.removesuffix(b"\n").removesuffix(b"\r") for line in lines]
                yield decoded(self.path, raw, start + 1, "line")
                start += count


class RowNumbers:
    """The row numbers as ids, for features without names."""

    def take(self, start: int, counts: Iterator[int]) -> Iterator[list[str]]:
        """Yield, for each count, the next as many numbers."""
        for count in counts:
            yield [str(row) for row in range(start, start + count)]
            start += count


def ids_of_rows(path: Path, rows: int, options: ReadOptions) -> IdLines | RowNumbers:
    """Return the ids of a file that has none itself: those named, those beside it, or the row numbers.

    Raises:
        ParameterError: There are none.
        ShapeError: There are more or fewer than rows.
        FileFormatError, StorageError: They cannot be read.
    """
    beside = path.with_suffix(".txt")
    file = options.ids or (beside if beside.exists() else None)
    if file is None:
        if options.number_rows:
            return RowNumbers()
        raise ParameterError(
            f"{path}: expected ids, one a line, in {beside.name} beside it, found no such file "
            f"(name a file of ids, or ask to number the rows)"
        )
    lines = lines_of(file)
    if lines.count != rows:
        raise ShapeError(f"{file}: expected {rows} ids (the rows of {path}), found {lines.count}")
    return lines


def write_ids(path: Path, store: BaseStore) -> None:
    """Write the ids of a store, one a line."""
    with path.open("w", encoding="utf-8", newline="\n") as text:
        text.writelines(f"{name}\n" for name in store.ids)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file
    except (EOFError, zlib.error, gzip.BadGzipFile) as cause:
        raise FileFormatError(f"{path}: expected a whole gzip file, found damage: {cause}") from cause
    except IliasFastError:
        raise
    except (OSError, ValueError) as cause:
        raise storage_error(cause, path, "read") from cause
