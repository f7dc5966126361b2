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
    """Base of every error ilias-fast raises on purpose.

    Examples:
        >>> from ilias_fast.store import open_store
        >>> try:
        ...     open_store("nowhere")
        ... except IliasFastError as error:
        ...     print(type(error).__name__, isinstance(error, ValueError))
        NotAStoreError True
    """


class InputError(IliasFastError, ValueError):
    """An argument cannot be used; base of the four below.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.kernels import topk
        >>> try:
        ...     topk(np.ones((1, 3)), np.ones((3, 2), np.float16), 1)
        ... except InputError as error:
        ...     print(type(error).__name__)
        ShapeError
    """


class ShapeError(InputError):
    """An array has the wrong number of dimensions or a wrong extent.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.kernels import topk
        >>> topk(np.ones((1, 3)), np.ones((3, 2), np.float16), 1)
        Traceback (most recent call last):
            ...
        ilias_fast.errors.ShapeError: queries: expected 2 columns, as the database has, found 3 columns
    """


class DtypeError(InputError, TypeError):
    """An array has a dtype that cannot be converted without losing what it means.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.kernels import topk
        >>> try:
        ...     topk([[1.0, 2.0]], np.full((3, 2), 0.1), 1)
        ... except DtypeError as error:
        ...     print("float16" in str(error))
        True
    """


class NonFiniteError(InputError):
    """An array holds NaN or an infinity.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.kernels import topk
        >>> try:
        ...     topk([[1.0, np.nan]], np.ones((3, 2), np.float16), 1)
        ... except NonFiniteError as error:
        ...     print("NaN" in str(error))
        True
    """


class ParameterError(InputError):
    """A parameter lies outside its range.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.kernels import topk
        >>> topk([[1.0, 0.0]], np.ones((3, 2), np.float16), 0)
        Traceback (most recent call last):
            ...
        ilias_fast.errors.ParameterError: k: expected at least 1, found 0
    """


class CpuLevelError(IliasFastError, ValueError):
    """`ILIAS_FAST_CPU` names a level that does not exist or that this machine cannot run.

    Examples:
        >>> from ilias_fast import cpu
        >>> try:
        ...     with cpu.pinned("avx1"):
        ...         pass
        ... except CpuLevelError as error:
        ...     print("avx1" in str(error))
        True
    """


class MissingExtraError(IliasFastError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it.

    Examples:
        >>> raise MissingExtraError('this needs torch: pip install "ilias-fast[torch]"')
        Traceback (most recent call last):
            ...
        ilias_fast.errors.MissingExtraError: this needs torch: pip install "ilias-fast[torch]"
    """


class StorageError(IliasFastError, OSError):
    """The operating system refused a file operation: disk full, read-only, missing, I/O error.

    Attributes:
        errno: The error number of the operating system, or None.
        filename: The file or folder, or None.

    Examples:
        >>> from ilias_fast.run import Run
        >>> try:
        ...     Run.load("nowhere.json")
        ... except StorageError as error:
        ...     print(error.errno == 2, isinstance(error, OSError))
        True True
    """

    def __init__(
        self, message: str, errno: int | None = None, filename: str | os.PathLike[str] | None = None
    ):
        super().__init__(message)
        self.errno = errno
        self.filename: str | None = None if filename is None else os.fspath(filename)

    def __str__(self) -> str:
        return str(self.args[0])


class StoreError(IliasFastError):
    """A descriptor store cannot be used; base of the store errors below.

    Examples:
        >>> from ilias_fast.store import open_store
        >>> try:
        ...     open_store("nowhere")
        ... except StoreError as error:
        ...     print(type(error).__name__)
        NotAStoreError
    """


class CorruptStoreError(StoreError, ValueError):
    """A file of a store is damaged, truncated, missing or not what the manifest promises.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> shard = next(Path("vectors/shards").iterdir())
        >>> _ = shard.write_bytes(shard.read_bytes()[:-1])
        >>> try:
        ...     GlobalStore.open("vectors")
        ... except CorruptStoreError as error:
        ...     print("damaged:", "vectors" in str(error))
        damaged: True
    """


class NotAStoreError(StoreError, ValueError):
    """The folder is not a store, or of a schema version this build cannot read.

    Examples:
        >>> from ilias_fast.store import open_store
        >>> try:
        ...     open_store("nowhere")
        ... except NotAStoreError as error:
        ...     print("nowhere" in str(error))
        True
    """


class StoreExistsError(StoreError, FileExistsError):
    """A store cannot be created because something is already at its path.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> try:
        ...     GlobalStore.create("vectors", dim=2)
        ... except StoreExistsError as error:
        ...     print("vectors" in str(error))
        True
    """


class StoreLockedError(StoreError):
    """Another writer has the store open.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        ...     _ = writer.commit()
        ...     try:
        ...         GlobalStore.append_to("vectors")
        ...     except StoreLockedError as error:
        ...         print("vectors" in str(error))
        True
    """


class IncompatibleStoreError(StoreError, ValueError):
    """A store is of another kind, dimension, descriptor length or provenance than the operation needs.

    Examples:
        >>> from ilias_fast.store import BinaryStore, GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> try:
        ...     BinaryStore.open("vectors")
        ... except IncompatibleStoreError as error:
        ...     print("global" in str(error))
        True
    """


class UnknownIdError(StoreError, KeyError):
    """An id is not in the store, run or dataset.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> try:
        ...     GlobalStore.open("vectors").find(["b.jpg"])
        ... except UnknownIdError as error:
        ...     print("b.jpg" in str(error))
        True
    """

    def __str__(self) -> str:
        return Exception.__str__(self)


class DuplicateIdError(StoreError, ValueError):
    """An id is given twice, or is already in the store.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     try:
        ...         writer.append(["a.jpg", "a.jpg"], [[1.0, 0], [0, 1]])
        ...     except DuplicateIdError as error:
        ...         print(error)
        vectors: id "a.jpg" is given twice, or is already there (ids are unique; skip it or choose another)
    """


class FileFormatError(IliasFastError, ValueError):
    """A file is not in the format it should be in.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.run import Run
        >>> _ = Path("run.json").write_text("[1, 2]")
        >>> Run.load("run.json")
        Traceback (most recent call last):
            ...
        ilias_fast.errors.FileFormatError: run.json: expected an object of queries, found a list
    """


class DatasetError(IliasFastError, ValueError):
    """A dataset's files are missing or contradict each other.

    Examples:
        >>> from ilias_fast.datasets import load_dataset
        >>> try:
        ...     load_dataset("nowhere")
        ... except DatasetError as error:
        ...     print(error)
        nowhere: expected a folder that holds a dataset, found nothing
    """


class ImageError(IliasFastError, OSError):
    """An image cannot be read or decoded.

    Examples:
        >>> from ilias_fast.images import decode
        >>> try:
        ...     decode(b"not an image", "a.jpg")
        ... except ImageError as error:
        ...     print("a.jpg" in str(error))
        True
    """
