"""Files read whole and files written atomically, with errors that name them: one rule for every module.

A text file of ids has one id a line; lines end with a line feed or with carriage return and line feed, and
the last end may be missing. Other characters that Python would break lines at may be part of an id.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ilias_fast.errors import FileFormatError, IliasFastError, StorageError

__all__ = [
    "StrPath",
    "is_file",
    "is_folder",
    "is_leftover",
    "read_bytes",
    "read_lines",
    "read_names",
    "read_text",
    "replacing",
    "storage_error",
    "written",
]

StrPath = str | os.PathLike[str]

_SUFFIX = ".partial"


def storage_error(cause: OSError | ValueError, path: StrPath, action: str) -> StorageError:
    """Return the typed error for an operating system error, or for a path it would not even look at.

    Args:
        cause: What the operating system said; Python's ValueError for a path that holds NUL.
        path: The file or folder.
        action: What was tried ("read", "write", "list"), to complete "cannot ...".
    """
    said, number = (cause.strerror, cause.errno) if isinstance(cause, OSError) else (None, None)
    return StorageError(f"{os.fspath(path)}: cannot {action}: {said or cause}", number, os.fspath(path))


def is_file(path: StrPath) -> bool:
    """Return whether there is a file; not where the operating system will not look (a name too long, ...)."""
    return os.path.isfile(path)  # noqa: PTH113 (`Path.is_file` raises there)


def is_folder(path: StrPath) -> bool:
    """Return whether there is a folder; see `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as cause:
        raise storage_error(cause, path, "read") from cause


def read_text(path: Path, damaged: type[IliasFastError] = FileFormatError) -> str:
    """Return the content of a UTF-8 text file.

    Args:
        path: The file.
        damaged: The error to raise if it is not UTF-8.

    Raises:
        StorageError: It cannot be read.
        FileFormatError: It is not UTF-8 (or `damaged`).
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as cause:
        raise damaged(f"{path}: expected UTF-8 text: {cause}") from cause


def read_lines(path: Path, damaged: type[IliasFastError] = FileFormatError) -> list[str]:
    """Return the lines of a UTF-8 text file as they are, without their ends; errors as `read_text`."""
    text = read_text(path, damaged)
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def read_names(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file without surrounding white space, blank ones left out.

    Errors as `read_text`.
    """
    return [name for line in read_lines(path) if (name := line.strip())]


@contextmanager
def replacing(path: Path, *, overwrite: bool = True, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; rename it to `path` if the block succeeds.

    Whatever happens, `path` holds either what it held before or all of the new content.

    Args:
        path: The file to write.
        overwrite: Whether a file that is there may be replaced.
        durable: Sync the content before the rename, so that even a power failure leaves one or the other.

    Raises:
        StorageError: The operating system refused (disk full, read-only, no such folder), or `path` exists
            and `overwrite` is false or it is no file.
    """
    if not overwrite and os.path.lexists(path):
        raise StorageError(f"{path}: already exists (choose another path, or ask to overwrite)", None, path)
    if not path.name or "\0" in path.name:
        raise StorageError(f"{path}: expected the name of a file to write", None, path)
    if not (is_file(path) or is_folder(path)) and os.path.exists(path):  # noqa: PTH110
        # To rename a file over /dev/null would leave the machine without one.
        raise StorageError(f"{path}: expected a file to replace, found a device, pipe or socket", None, path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
    try:
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except IliasFastError:
        raise
    except OSError as cause:
        raise storage_error(cause, path, "write") from cause
    finally:
        with suppress(OSError, ValueError):
            partial.unlink()


@contextmanager
def written(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` when the block succeeds; see `replacing`."""
    with replacing(path, durable=durable) as partial, partial.open("xb") as file:
        yield file


def is_leftover(name: str) -> bool:
    """Return whether a file of this name is the remains of a killed `replacing`."""
    return name.startswith(".") and name.endswith(_SUFFIX)
