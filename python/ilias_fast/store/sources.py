"""Descriptors named by a path, whatever they lie in: a store, official feature HDF5, or `.npy`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilias_fast.errors import FileFormatError, IncompatibleStoreError, ParameterError, ShapeError
from ilias_fast.store._files import storage_error
from ilias_fast.store._global import GlobalStore
from ilias_fast.store._open import exists, open_store
from ilias_fast.store.arrays import import_npy, read_ids, read_npy
from ilias_fast.store.hdf5 import import_hdf5, read_hdf5

__all__ = ["open_features", "read_lines", "read_queries"]

_HDF5 = (".hdf5", ".h5")


def read_queries(source: str | os.PathLike[str]) -> GlobalStore | tuple[list[str], NDArray[np.float32]]:
    """Return query descriptors: a store as it is, the content of a file as (ids, float32 [Q, d]).

    A `.npy` matrix takes its ids from the text file of the same name (`queries.npy`, `queries.txt`), one id a
    line, or, without one, the row numbers.

    Raises:
        ParameterError: The path is none of these.
        FileFormatError, StorageError, ShapeError, CorruptStoreError: It cannot be read.
    """
    path = Path(source)
    if exists(path):
        return _global(path)
    if path.suffix in _HDF5:
        return read_hdf5(path)
    if path.suffix == ".npy":
        matrix = read_npy(path)
        if matrix.dtype.kind != "f":
            raise FileFormatError(f"{path}: expected floats, found {matrix.dtype}")
        names = _names(path, len(matrix))
        if len(names) != len(matrix):
            raise ShapeError(
                f"{path.with_suffix('.txt')}: expected {len(matrix)} ids (the rows of {path}), "
                f"found {len(names)}"
            )
        return names, matrix.astype(np.float32)
    raise _unknown(path)


@contextmanager
def open_features(
    sources: Sequence[str | os.PathLike[str]],
    *,
    near: str | os.PathLike[str],
    progress: Callable[[int, int], object] | None = None,
) -> Iterator[list[GlobalStore]]:
    """Open database descriptors as global stores, in the order given, for the length of a `with` block.

    Files are imported into temporary stores first, so that nothing is held in memory: a database is searched
    in bounded memory whatever it lies in. Import features that are searched often with `import_hdf5` once.

    Args:
        sources: Stores, official HDF5 files or `{idx}` templates, or `.npy` (ids as in `read_queries`).
            float32 features are rounded to float16.
        near: A file beside which the temporary stores are made.
        progress: Called with (rows done, rows in all) of each import.

    Raises:
        ParameterError: A path is none of these.
        FileFormatError, StorageError, CorruptStoreError, IncompatibleStoreError: One cannot be read.
    """
    with ExitStack() as stack:
        stores = []
        for number, source in enumerate(map(Path, sources)):
            if exists(source):
                stores.append(_global(source))
                continue
            if source.suffix not in (*_HDF5, ".npy"):
                raise _unknown(source)
            place = Path(stack.enter_context(_temporary(Path(near).parent))) / str(number)
            if source.suffix == ".npy":
                ids = source.with_suffix(".txt")
                if not ids.exists():
                    ids = place.with_suffix(".txt")
                    ids.write_text("".join(f"{row}\n" for row in range(len(read_npy(source)))), "utf-8")
                stores.append(_as_global(source, import_npy(source, ids, place, progress=progress)))
            else:
                stores.append(import_hdf5(source, place, progress=progress))
        yield stores


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the non-empty lines of a UTF-8 text file, stripped: a list of ids.

    Raises:
        StorageError: The file cannot be read.
        FileFormatError: It is not UTF-8.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as cause:
        raise storage_error(cause, Path(path), "read") from cause
    except UnicodeDecodeError as cause:
        raise FileFormatError(f"{path}: expected UTF-8 text: {cause}") from cause
    return [line.strip() for line in lines if line.strip()]


def _global(path: Path) -> GlobalStore:
    return _as_global(path, open_store(path))


def _as_global(path: Path, store: object) -> GlobalStore:
    if not isinstance(store, GlobalStore):
        raise IncompatibleStoreError(f"{path}: expected a global store or floats, found {store!r}")
    return store


def _names(path: Path, rows: int) -> list[str]:
    ids = path.with_suffix(".txt")
    return read_ids(ids) if ids.exists() else [str(row) for row in range(rows)]


def _unknown(path: Path) -> ParameterError:
    what = "something else" if path.exists() else "nothing"
    return ParameterError(f"{path}: expected a store, a .hdf5 file or template, or a .npy file; found {what}")


def _temporary(parent: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix=".ilias-fast-", dir=parent)
    except OSError as cause:
        raise storage_error(cause, parent, "write to") from cause
