"""Writing single files so that their name never shows half of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ilias_fast.errors import IliasFastError, StorageError

__all__ = ["replacing", "storage_error"]


def storage_error(cause: OSError, path: Path, action: str) -> StorageError:
    """Return the typed error for an operating system error."""
    return StorageError(f"{path}: cannot {action}: {cause.strerror or cause}", cause.errno, path)


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary name to write to; sync it and rename it to `path` if the block succeeds.

    Raises:
        StorageError: The operating system refused, or `path` exists and `overwrite` is false.
    """
    if path.exists() and not overwrite:
        raise StorageError(f"{path}: already exists (choose another path, or ask to overwrite)", None, path)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except IliasFastError:
        raise
    except OSError as cause:
        raise storage_error(cause, path, "write") from cause
    finally:
        partial.unlink(missing_ok=True)
