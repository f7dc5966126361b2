"""Parquet and Arrow files: a column of equally long lists, and one of ids. Needs the extra `[parquet]`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._extras import require
from ilias_fast._files import storage_error
from ilias_fast.errors import FileFormatError, IliasFastError
from ilias_fast.store.formats.base import BLOCK_BYTES, Block, Format, Reader, ReadOptions, choose, matrix_kind
from ilias_fast.store.formats.ids import ids_of_rows

__all__ = ["Arrow"]

_ID_NAMES = ("ids", "id", "index", "name", "names", "image_id", "image_ids", "path", "filename")


class Arrow(Format):
    """Apache Parquet and Arrow IPC, the latter as a file or as a stream."""

    name = "arrow"
    title = "Parquet or Arrow"
    suffixes = (".parquet", ".pq", ".arrow", ".feather")

    def open(self, path: Path, options: ReadOptions) -> Reader:
        """Open a file; errors as `Format.open`."""
        return _ArrowReader(path, options)


class _ArrowReader(Reader):
    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path = path
        self._arrow = require("pyarrow", "read Parquet and Arrow files")
        with _reading(path), path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        with _reading(path):
            self._table = (_Parquet if parquet else _Ipc)(path)
        try:
            schema = self._table.schema
            described = {field.name: str(field.type) for field in schema}
            lists = [field.name for field in schema if self._is_list(field.type)]
            self._column = choose(path, options.array, described, lists)
            kind = schema.field(self._column).type
            if self._column not in lists:
                raise FileFormatError(
                    f"{path}: expected lists of floats or of uint8 in column {self._column!r}, found {kind}"
                )
            texts = [
                name
                for name in _ID_NAMES
                if name in described and described[name] in ("string", "large_string", "string_view")
            ]
            self._id_column = texts[0] if texts and options.ids is None else None
            self.rows = self._table.rows
            self._dtype = np.dtype(kind.value_type.to_pandas_dtype())
            self._dim = int(getattr(kind, "list_size", 0)) or self._first_length()
            self.kind, self.width = matrix_kind(path, (self.rows, max(self._dim, 1)), self._dtype)
            self.dtype = str(self._dtype)
            self._ids = None if self._id_column else ids_of_rows(path, self.rows, options)
        except BaseException:
            self._table.close()
            raise

    def _is_list(self, kind: Any) -> bool:
        types = self._arrow.types
        listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(listed and (types.is_floating(kind.value_type) or kind.value_type == self._arrow.uint8()))

    def _first_length(self) -> int:
        with _reading(self._path):
            for batch in self._table.batches(0, 1, [self._column]):
                batch.validate(full=True)
                if len(batch) and batch.column(0)[0].is_valid:
                    return len(batch.column(0)[0])
        return 1

    def blocks(self, start: int = 0) -> Generator[Block, None, None]:
        step = max(1, BLOCK_BYTES // (self._dtype.itemsize * self._dim))
        columns = [self._column, *([self._id_column] if self._id_column else [])]
        batches = self._table.batches(start, step, columns)
        while True:
            with _reading(self._path):
                batch = next(batches, None)
                if batch is None:
                    break
                # Offsets and lengths are taken on trust otherwise: a damaged file would crash the process.
                batch.validate(full=True)
                values = self._matrix(batch.column(self._column), start)
                names = self._names(batch, start)
            yield Block(start, names, values)
            start += len(batch)
        if start != self.rows:
            raise FileFormatError(f"{self._path}: expected {self.rows} rows, found {start}")

    def _names(self, batch: Any, start: int) -> list[str]:
        if self._id_column is None:
            assert self._ids is not None
            return next(iter(self._ids.take(start, iter([len(batch)]))))
        column = batch.column(self._id_column)
        names: list[str] = column.to_pylist()
        if column.null_count:
            raise FileFormatError(
                f"{self._path}: expected an id in every row of column {self._id_column!r}, found none in row "
                f"{start + names.index(None)}"  # type: ignore[arg-type]
            )
        return names

    def _matrix(self, column: Any, start: int) -> NDArray[Any]:
        kind = column.type
        missing = column.null_count
        if missing:
            row = start + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise FileFormatError(
                f"{self._path}: expected a list in every row of column {self._column!r}, found none in "
                f"row {row}"
            )
        if not self._arrow.types.is_fixed_size_list(kind):
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            wrong = np.flatnonzero(lengths != self._dim)
            if wrong.size:
                raise FileFormatError(
                    f"{self._path}: expected lists of {self._dim} numbers in column {self._column!r}, found "
                    f"{lengths[wrong[0]]} in row {start + int(wrong[0])}"
                )
        flat = column.flatten()
        if flat.null_count:
            place = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0])
            raise FileFormatError(
                f"{self._path}: expected numbers in column {self._column!r}, found none in row "
                f"{start + place // self._dim}"
            )
        values: NDArray[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(column), self._dim)
        return values

    def close(self) -> None:
        self._table.close()


class _Parquet:
    def __init__(self, path: Path) -> None:
        parquet = require("pyarrow.parquet", "read Parquet files")
        self._file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False, buffer_size=1 << 20)
        self.schema = self._file.schema_arrow
        self.rows = self._file.metadata.num_rows

    def batches(self, start: int, step: int, columns: list[str]) -> Iterator[Any]:
        metadata = self._file.metadata
        first = skipped = 0
        while first < metadata.num_row_groups and skipped + metadata.row_group(first).num_rows <= start:
            skipped += metadata.row_group(first).num_rows
            first += 1
        groups = list(range(first, metadata.num_row_groups))
        ahead = start - skipped
        for batch in self._file.iter_batches(step, groups, columns, use_threads=False):
            if ahead >= len(batch):
                ahead -= len(batch)
                continue
            yield batch.slice(ahead)
            ahead = 0

    def close(self) -> None:
        self._file.close()


class _Ipc:
    def __init__(self, path: Path) -> None:
        self._arrow = require("pyarrow", "read Arrow files")
        self._ipc = require("pyarrow.ipc", "read Arrow files")
        self._source = self._arrow.memory_map(str(path))
        try:
            self._file: Any = self._opened_file()
            self.schema = (self._file or self._ipc.open_stream(self._source)).schema
            self.rows = sum(len(batch) for batch in self._all())
        except BaseException:
            self._source.close()
            raise

    def _opened_file(self) -> Any:
        """Return the file with an index of its batches, or None if it is a stream of them."""
        try:
            return self._ipc.open_file(self._source)
        except self._arrow.ArrowInvalid:
            self._source.seek(0)
            return None

    def _all(self) -> Iterator[Any]:
        if self._file is not None:
            yield from map(self._file.get_batch, range(self._file.num_record_batches))
            return
        self._source.seek(0)
        yield from self._ipc.open_stream(self._source)

    def batches(self, start: int, step: int, columns: list[str]) -> Iterator[Any]:
        ahead = start
        for batch in self._all():
            if ahead >= len(batch):
                ahead -= len(batch)
                continue
            for first in range(ahead, len(batch), step):
                yield batch.slice(first, step).select(columns)
            ahead = 0

    def close(self) -> None:
        self._source.close()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except IliasFastError:
        raise
    except OSError as cause:
        if cause.errno is None:
            raise FileFormatError(
                f"{path}: expected a Parquet or Arrow file, found damage: {cause}"
            ) from cause
        raise storage_error(cause, path, "read") from cause
    except Exception as cause:  # ArrowInvalid is a ValueError, others are of the library's own
        raise FileFormatError(f"{path}: expected a Parquet or Arrow file, found damage: {cause}") from cause
