"""Small named arrays in one file: the safetensors format, written atomically and read without trust.

For fitted models (adaptation layers, codebooks); descriptor stores have their own memory-mapped reader. The
format is a little-endian header length, a JSON header and raw arrays; any safetensors library reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import StrPath, read_bytes, storage_error, written
from ilias_fast.errors import FileFormatError, IliasFastError

__all__ = ["TensorEntry", "read_header", "read_tensors", "write_tensors"]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
# Bytes an element, of dtypes that NumPy lacks too.
_SIZES = {
    **{name: np.dtype(code).itemsize for name, code in _DTYPES.items()},
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "I8": 1,
    "U32": 4,
    "U64": 8,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_LARGEST_HEADER = 1 << 24


def write_tensors(path: StrPath, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write arrays and text metadata; the file appears complete or not at all.

    Raises:
        StorageError: The file cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
        end += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with written(Path(path)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)


class TensorEntry(NamedTuple):
    """Where a tensor lies in a safetensors file.

    Attributes:
        dtype: The format's name of it.
        shape: Its extents.
        start: Its first byte in the file.
        end: One past its last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype; `KeyError` if it has none."""
        return np.dtype(_DTYPES[self.dtype])


def read_header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Read what a safetensors file holds and its metadata, without its tensors.

    Raises:
        StorageError: The file is missing or cannot be read.
        FileFormatError: It is not a valid safetensors file; tensors overlap, leave gaps or end beyond it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(size - 8, _LARGEST_HEADER):
                raise FileFormatError(
                    f"{path}: expected a safetensors file, found {size} bytes without its header"
                )
            text = file.read(length)
    except IliasFastError:
        raise
    except (OSError, ValueError) as cause:
        raise storage_error(cause, path, "read") from cause
    try:
        header = json.loads(text)
        metadata = {str(key): str(value) for key, value in dict(header.pop("__metadata__", {})).items()}
        entries = [(name, _entry(entry)) for name, entry in header.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as cause:
        raise FileFormatError(f"{path}: damaged safetensors header ({cause})") from cause
    body = size - 8 - length
    tensors: dict[str, TensorEntry] = {}
    expected = 0
    for name, entry in sorted(entries, key=lambda entry: entry[1][2:]):
        bytes_ = _SIZES[entry.dtype]
        for extent in entry.shape:
            bytes_ *= extent
        if entry.start != expected or entry.end - entry.start != bytes_ or entry.end > body:
            raise FileFormatError(
                f"{path}: tensor {name} of shape {list(entry.shape)} at bytes {entry.start} to {entry.end} "
                f"does not fit the file ({body} bytes of data, {expected} taken before); "
                f"it is truncated or damaged"
            )
        expected = entry.end
        tensors[name] = entry._replace(start=entry.start + 8 + length, end=entry.end + 8 + length)
    if expected != body:
        raise FileFormatError(f"{path}: {body - expected} bytes behind the last tensor; the file is damaged")
    return tensors, metadata


def read_tensors(path: StrPath) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read all arrays of a safetensors file, and its metadata.

    Raises:
        StorageError: The file is missing or cannot be read.
        FileFormatError: It is not a valid safetensors file, or has a dtype that is not supported here.
    """
    entries, metadata = read_header(Path(path))
    for name, entry in entries.items():
        if entry.dtype not in _DTYPES:
            raise FileFormatError(f"{path}: tensor {name} is {entry.dtype}, which is not supported here")
    data = memoryview(read_bytes(Path(path)))
    tensors = {}
    for name, entry in entries.items():
        part = data[entry.start : entry.end]
        if len(part) != entry.end - entry.start:
            raise FileFormatError(f"{path}: became shorter while it was read")
        tensors[name] = np.frombuffer(part, entry.numpy).reshape(entry.shape)
    return tensors, metadata


def _entry(entry: Any) -> TensorEntry:
    shape = entry["shape"]
    start, end = entry["data_offsets"]
    for number in (*shape, start, end):
        if type(number) is not int or number < 0:
            raise ValueError(f"expected whole numbers, found {number!r}")
    if entry["dtype"] not in _SIZES:
        raise ValueError(f"unknown dtype {entry['dtype']!r}")
    return TensorEntry(entry["dtype"], tuple(shape), start, end)
