"""Reading a file whole and writing one atomically, with errors that name it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ilias_fast.errors import StorageError

__all__ = ["read_bytes", "written"]


def read_bytes(path: Path) -> bytes:
    """Return the file's content.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as cause:
        raise StorageError(f"{path}: cannot read: {cause.strerror or cause}", cause.errno, path) from cause


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place when the block ends without an exception.

    Whatever happens, `path` holds either what it held before or all of the new content.

    Raises:
        StorageError: The file cannot be written (disk full, read-only, no such folder).
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as cause:
        raise StorageError(f"{path}: cannot write: {cause.strerror or cause}", cause.errno, path) from cause
    finally:
        with suppress(OSError):
            temporary.unlink()
