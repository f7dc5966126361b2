"""Descriptors named by a path, whatever they lie in: a store, or a file of a format that can be imported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import StrPath, is_file, is_folder, storage_error
from ilias_fast.errors import IncompatibleStoreError, ParameterError
from ilias_fast.store._global import GlobalStore
from ilias_fast.store._open import exists, open_store
from ilias_fast.store.formats import FeatureFiles, import_store, is_features, read_matrix

__all__ = ["open_features", "read_queries"]


def read_queries(source: StrPath) -> GlobalStore | tuple[list[str], NDArray[np.float32]]:
    """Return query descriptors: a store as it is, the content of a file as (ids, float32 [Q, d]).

    A file without ids takes them from the text file of the same name (`queries.npy`, `queries.txt`), one id a
    line, or, without one, the row numbers.

    Args:
        source: A store, or a file of a format that `import_store` knows.

    Raises:
        ParameterError: The path is none of these.
        FileFormatError, StorageError, ShapeError, CorruptStoreError, MissingExtraError: It cannot be read.

    Examples:
        >>> import numpy as np
        >>> np.save("queries.npy", np.eye(2, dtype=np.float32))
        >>> ids, vectors = read_queries("queries.npy")
        >>> ids, vectors.shape
        (['0', '1'], (2, 2))
    """
    path = Path(source)
    if exists(path):
        return _global(path)
    _check_known(path)
    return read_matrix(path, number_rows=True)


@contextmanager
def open_features(
    sources: Sequence[StrPath],
    *,
    near: StrPath,
    once: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Iterator[list[GlobalStore | FeatureFiles]]:
    """Open database descriptors, in the order given, for the length of a `with` block.

    Nothing is held in memory, whatever a database lies in: files are read as they are if that is done `once`,
    and otherwise imported into temporary stores. Import features that are searched often with `import_store`.

    Args:
        sources: Stores, files of a format that `import_store` knows, or `{idx}` templates of such (ids as in
            `read_queries`). float32 features are rounded to float16.
        near: A file beside which the temporary stores are made.
        once: The rows are read once, front to back.
        threads: Number of threads that decode; None for all.
        progress: Called with (rows done, rows in all) of each import.

    Raises:
        ParameterError: A path is none of these.
        FileFormatError, StorageError, CorruptStoreError, IncompatibleStoreError, MissingExtraError: One
            cannot be read.

    Examples:
        >>> import numpy as np
        >>> np.save("vectors.npy", np.eye(3, dtype=np.float32))
        >>> with open_features(["vectors.npy"], near="run.json") as database:
        ...     print(len(database), database[0].dim)
        1 3
    """
    with ExitStack() as stack:
        stores: list[GlobalStore | FeatureFiles] = []
        for number, source in enumerate(map(Path, sources)):
            if exists(source):
                stores.append(_global(source))
                continue
            _check_known(source)
            if once:
                stores.append(FeatureFiles(source, number_rows=True, threads=threads))
                continue
            place = Path(stack.enter_context(_temporary(Path(near).parent))) / str(number)
            several = "{idx}" in str(source)
            imported = import_store(
                source, place, number_rows=not several, threads=threads, progress=progress
            )
            stores.append(_as_global(source, imported))
        yield stores


def _global(path: Path) -> GlobalStore:
    return _as_global(path, open_store(path))


def _as_global(path: Path, store: object) -> GlobalStore:
    if not isinstance(store, GlobalStore):
        raise IncompatibleStoreError(f"{path}: expected a global store or floats, found {store!r}")
    return store


def _check_known(path: Path) -> None:
    if not is_features(path):
        what = "something else" if is_file(path) or is_folder(path) else "nothing"
        raise ParameterError(
            f"{path}: expected a store, or a file or template of .hdf5, .npy or another format that can be "
            f"imported; found {what}"
        )


def _temporary(parent: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix=".ilias-fast-", dir=parent)
    except OSError as cause:
        raise storage_error(cause, parent, "write to") from cause
