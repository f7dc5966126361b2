"""Official feature HDF5: `index` and `features`. Needs the extra `[hdf5]`.

The official writer keeps ids in ASCII by an escaping of its own; ids are unescaped on import (a store holds
plain UTF-8) and escaped on export. ILIAS ids are ASCII without backslashes, for which both do nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ilias_fast._extras import require
from ilias_fast._files import replacing
from ilias_fast.errors import FileFormatError, ParameterError
from ilias_fast.store._base import BaseStore
from ilias_fast.store._global import GlobalStore
from ilias_fast.store._sink import Sink
from ilias_fast.store.formats._hdf5_file import Matrix, opened, translated
from ilias_fast.store.formats.base import BLOCK_BYTES, Block, Format, Reader, ReadOptions
from ilias_fast.store.formats.buffers import Buffers
from ilias_fast.store.formats.escaping import escape_id, unescape_ids
from ilias_fast.store.formats.ids import decoded

__all__ = ["Hdf5"]

_EXPORT_BYTES = 64 << 20


class Hdf5(Format):
    """The benchmark's own feature files."""

    name = "ilias-hdf5"
    title = "official feature HDF5"
    suffixes = (".hdf5", ".h5")
    writes = ("global",)

    def open(self, path: Path, options: ReadOptions) -> Reader:
        """Open a feature file; errors as `Format.open`."""
        return _Hdf5Reader(path, options)

    def write(
        self, store: BaseStore, path: Path, options: Mapping[str, Any], progress: Any, overwrite: bool
    ) -> None:
        """Write a feature file; options `escape` (ids as the official writer does) and `compression`.

        Errors as `Format.write`.
        """
        assert isinstance(store, GlobalStore)
        h5py = require("h5py", "write HDF5 files")
        compression, escape = options.get("compression", 0), options.get("escape", True)
        if compression not in range(10):
            raise ParameterError(f"compression: expected a gzip level from 0 to 9, found {compression!r}")
        with (
            replacing(path, overwrite=overwrite) as partial,
            Sink(partial) as sink,
            h5py.File(sink, "w") as file,
        ):
            text = h5py.string_dtype("ascii" if escape else "utf-8")
            index = file.create_dataset("index", (len(store),), dtype=text)
            compress: dict[str, Any] = (
                {"compression": "gzip", "compression_opts": compression} if len(store) else {}
            )
            features = file.create_dataset("features", (len(store), store.dim), dtype=np.float16, **compress)
            step = max(1, _EXPORT_BYTES // (2 * store.dim))
            if features.chunks:
                step = max(1, step // features.chunks[0]) * features.chunks[0]
            for start in range(0, len(store), step):
                rows = np.arange(start, min(start + step, len(store)))
                names = store.id_of(rows)
                index[start : start + len(rows)] = [escape_id(name) for name in names] if escape else names
                features[start : start + len(rows)] = store.rows(rows)
                sink.check()
                progress(start + len(rows), len(store))


class _Hdf5Reader(Reader):
    kind = "global"

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path = path
        self._file = opened(path)
        try:
            with translated(path):
                self._index, features = _datasets(path, self._file, options.array)
                self._matrix = Matrix(path, features, options.threads)
                self._unescape = options.unescape
                self.rows, self.width = self._matrix.rows, self._matrix.columns
                self.dtype = str(self._matrix.dtype)
        except BaseException:
            self._file.close()
            raise

    def blocks(self, start: int = 0) -> Generator[Block, None, None]:
        step = self._matrix.block_rows(BLOCK_BYTES)
        buffers = Buffers(self.KEPT, min(step, self.rows), self.width, self._matrix.dtype)
        while start < self.rows:
            # Up to the next multiple, so that an import that goes on reads whole chunks too.
            stop = min(start + step - start % step, self.rows)
            values = buffers.next(stop - start)
            self._matrix.read(start, values)
            with translated(self._path):
                raw = self._index[start:stop].tolist()
            names = decoded(self._path, [_bytes(name) for name in raw], start, "row")
            yield Block(start, unescape_ids(names) if self._unescape else names, values)
            start = stop

    def close(self) -> None:
        self._file.close()


def _bytes(name: object) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode("utf-8", "surrogateescape")


def _datasets(file: Path, opened: Any, array: str | None) -> tuple[Any, Any]:
    h5py = require("h5py", "read HDF5 files")
    wanted = array or "features"
    found = {name: opened.get(name) for name in ("index", wanted)}
    for name, dataset in found.items():
        if not isinstance(dataset, h5py.Dataset):
            raise FileFormatError(
                f"{file}: expected datasets index and {wanted}, found {sorted(opened)} ({name} lacks)"
            )
    index, features = found["index"], found[wanted]
    if features.ndim != 2 or index.shape != features.shape[:1] or features.shape[1] < 1:
        shapes = f"{list(index.shape)} and {list(features.shape)}"
        raise FileFormatError(f"{file}: expected index [n] and features [n, d], found {shapes}")
    if features.dtype.kind != "f" or h5py.check_string_dtype(index.dtype) is None:
        dtypes = f"{index.dtype} and {features.dtype}"
        raise FileFormatError(f"{file}: expected strings and float16 or float32 features, found {dtypes}")
    return index, features
