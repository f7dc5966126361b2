"""safetensors files: a matrix, with the ids as tensors `ids` and `id_offsets` or in a text file.

`ids` is U8, the ids in UTF-8 one after the other; id i is the bytes `id_offsets[i]` up to `id_offsets[i + 1]`
(I64 [n + 1]). The shards of our own stores are such files.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import replacing, storage_error
from ilias_fast._tensors import TensorEntry, read_header
from ilias_fast.errors import FileFormatError, ShapeError
from ilias_fast.store._base import BaseStore
from ilias_fast.store._binary import BinaryStore
from ilias_fast.store._global import GlobalStore
from ilias_fast.store.formats.base import (
    BLOCK_BYTES,
    Block,
    Format,
    Reader,
    ReadOptions,
    choose,
    matrix_kind,
)
from ilias_fast.store.formats.ids import decoded, ids_of_rows

__all__ = ["Safetensors"]

_FLOATS = ("F16", "F32", "F64", "BF16")


class Safetensors(Format):
    """The format of the Hugging Face library."""

    name = "safetensors"
    title = "safetensors"
    suffixes = (".safetensors",)
    writes = ("global", "binary")

    def open(self, path: Path, options: ReadOptions) -> Reader:
        """Map a file; errors as `Format.open`."""
        return _SafetensorsReader(path, options)

    def write(
        self,
        store: BaseStore,
        path: Path,
        options: Mapping[str, Any],  # noqa: ARG002
        progress: Any,
        overwrite: bool,
    ) -> None:
        """Write `vectors` or `codes`, `ids` and `id_offsets`; errors as `Format.write`."""
        assert isinstance(store, (GlobalStore, BinaryStore))
        lengths = np.zeros(len(store) + 1, np.int64)
        for start in range(0, len(store), _ID_BLOCK):
            names = store.ids[start : start + _ID_BLOCK]
            lengths[start + 1 : start + 1 + len(names)] = [len(name.encode()) for name in names]
        offsets = np.cumsum(lengths)
        if isinstance(store, GlobalStore):
            name, dtype, shape, item = "vectors", "F16", [len(store), store.dim], 2
        else:
            name, dtype, shape, item = "codes", "U8", [len(store), store.code_bytes], 1
        # By element size, so that every tensor is aligned.
        sizes = {
            "id_offsets": ("I64", [len(store) + 1], offsets.nbytes),
            name: (dtype, shape, item * shape[0] * shape[1]),
            "ids": ("U8", [int(offsets[-1])], int(offsets[-1])),
        }
        header: dict[str, object] = {
            "__metadata__": {"format": "np", "provenance": json.dumps(store.provenance)}
        }
        end = 0
        for tensor, (kind, extents, size) in sizes.items():
            header[tensor] = {"dtype": kind, "shape": extents, "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with replacing(path, overwrite=overwrite) as partial, partial.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.write(offsets.astype("<i8").tobytes())
            for first, rows in store.shards():
                file.write(rows.data)
                progress(first + len(rows), len(store))
            for start in range(0, len(store), _ID_BLOCK):
                file.write("".join(store.ids[start : start + _ID_BLOCK]).encode())


_ID_BLOCK = 65536


class _SafetensorsReader(Reader):
    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path = path
        tensors, _ = read_header(path)
        matrices = [
            name
            for name, entry in tensors.items()
            if len(entry.shape) == 2 and (entry.dtype in _FLOATS or entry.dtype == "U8")
        ]
        described = {name: f"{entry.dtype} {list(entry.shape)}" for name, entry in tensors.items()}
        chosen = tensors[choose(path, options.array, described, matrices)]
        bfloat = chosen.dtype == "BF16"
        self.kind, self.width = matrix_kind(path, chosen.shape, "bfloat16" if bfloat else chosen.numpy)
        self._bfloat = bfloat
        self.rows = chosen.shape[0]
        self.dtype = "bfloat16" if bfloat else str(chosen.numpy)
        self._matrix = _mapped(path, chosen)
        self._ids = self._find_ids(tensors, options)

    def _find_ids(self, tensors: Mapping[str, TensorEntry], options: ReadOptions) -> Any:
        ids, offsets = tensors.get("ids"), tensors.get("id_offsets")
        if options.ids is not None or ids is None or offsets is None:
            return ids_of_rows(self._path, self.rows, options)
        if ids.dtype != "U8" or len(ids.shape) != 1 or offsets.dtype != "I64" or len(offsets.shape) != 1:
            raise FileFormatError(
                f"{self._path}: expected ids U8 [k] and id_offsets I64 [n + 1], found {ids} and {offsets}"
            )
        if offsets.shape[0] != self.rows + 1:
            raise ShapeError(f"{self._path}: expected {self.rows + 1} id_offsets, found {offsets.shape[0]}")
        return _PackedIds(self._path, _mapped(self._path, ids), _mapped(self._path, offsets))

    def blocks(self, start: int = 0) -> Generator[Block, None, None]:
        step = max(1, BLOCK_BYTES // (self._matrix.itemsize * self._matrix.shape[1]))
        starts = range(start, self.rows, step)
        counts = (min(step, self.rows - first) for first in starts)
        for first, names in zip(starts, self._ids.take(start, counts), strict=True):
            values = np.asarray(self._matrix[first : first + len(names)])
            if self._bfloat:  # the upper half of a float32
                values = (values.astype(np.uint32) << 16).view(np.float32)
            yield Block(first, names, values)


class _PackedIds:
    """Ids one after the other, and where each starts."""

    def __init__(self, path: Path, ids: NDArray[Any], offsets: NDArray[Any]) -> None:
        self._path, self._ids, self._offsets = path, ids, offsets

    def take(self, start: int, counts: Iterator[int]) -> Iterator[list[str]]:
        for count in counts:
            edges = np.asarray(self._offsets[start : start + count + 1])
            if edges[0] < 0 or edges[-1] > len(self._ids) or (np.diff(edges) < 0).any():
                raise FileFormatError(
                    f"{self._path}: expected id_offsets that rise from 0 to {len(self._ids)}, "
                    f"found others in rows from {start}"
                )
            text = self._ids[edges[0] : edges[-1]].tobytes()
            places = (edges - edges[0]).tolist()
            raw = [text[one:two] for one, two in pairwise(places)]
            yield decoded(self._path, raw, start, "row")
            start += count


def _mapped(path: Path, entry: TensorEntry) -> NDArray[Any]:
    dtype = np.dtype("<u2") if entry.dtype == "BF16" else entry.numpy
    if 0 in entry.shape:
        return np.empty(entry.shape, dtype)
    try:
        return np.memmap(path, dtype, "r", entry.start, tuple(entry.shape))
    except OSError as cause:
        raise storage_error(cause, path, "read") from cause
