"""Every exception ilias-fast raises on purpose.

All derive from `IliasFastError`. Each also derives from the built-in exception a Python programmer would
expect (`ValueError`, `KeyError`, `OSError`), so that existing handlers keep working. A message says what was
expected, what was found, where, and what to do.
"""

from __future__ import annotations

import os

__all__ = [
    "CorruptStoreError",
    "CpuLevelError",
    "DatasetError",
    "DtypeError",
    "DuplicateIdError",
    "FileFormatError",
    "IliasFastError",
    "ImageError",
    "IncompatibleStoreError",
    "InputError",
    "MissingExtraError",
    "NonFiniteError",
    "NotAStoreError",
    "ParameterError",
    "ShapeError",
    "StorageError",
    "StoreError",
    "StoreExistsError",
    "StoreLockedError",
    "UnknownIdError",
]


class IliasFastError(Exception):
    """Base of every error ilias-fast raises on purpose."""


class InputError(IliasFastError, ValueError):
    """An argument cannot be used; base of the four below."""


class ShapeError(InputError):
    """An array has the wrong number of dimensions or a wrong extent."""


class DtypeError(InputError, TypeError):
    """An array has a dtype that cannot be converted without losing what it means."""


class NonFiniteError(InputError):
    """An array holds NaN or an infinity."""


class ParameterError(InputError):
    """A parameter lies outside its range."""


class CpuLevelError(IliasFastError, ValueError):
    """`ILIAS_FAST_CPU` names a level that does not exist or that this machine cannot run."""


class MissingExtraError(IliasFastError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class StorageError(IliasFastError, OSError):
    """The operating system refused a file operation: disk full, read-only, missing, I/O error.

    Attributes:
        errno: The error number of the operating system, or None.
        filename: The file or folder, or None.
    """

    def __init__(
        self, message: str, errno: int | None = None, filename: str | os.PathLike[str] | None = None
    ):
        super().__init__(message)
        self.errno = errno
        self.filename = None if filename is None else os.fspath(filename)

    def __str__(self) -> str:
        return str(self.args[0])


class StoreError(IliasFastError):
    """A descriptor store cannot be used; base of the store errors below."""


class CorruptStoreError(StoreError, ValueError):
    """A file of a store is damaged, truncated, missing or not what the manifest promises."""


class NotAStoreError(StoreError, ValueError):
    """The folder is not a store, or of a schema version this build cannot read."""


class StoreExistsError(StoreError, FileExistsError):
    """A store cannot be created because something is already at its path."""


class StoreLockedError(StoreError):
    """Another writer has the store open."""


class IncompatibleStoreError(StoreError, ValueError):
    """A store is of another kind, dimension, descriptor length or provenance than the operation needs."""


class UnknownIdError(StoreError, KeyError):
    """An id is not in the store, run or dataset."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class DuplicateIdError(StoreError, ValueError):
    """An id is given twice, or is already in the store."""


class FileFormatError(IliasFastError, ValueError):
    """A file is not in the format it should be in."""


class DatasetError(IliasFastError, ValueError):
    """A dataset's files are missing or contradict each other."""


class ImageError(IliasFastError, OSError):
    """An image cannot be read or decoded."""
