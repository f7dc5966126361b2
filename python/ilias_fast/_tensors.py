"""Small named arrays in one file: the safetensors format, written atomically and read without trust.

For fitted models (adaptation layers, codebooks); descriptor stores have their own memory-mapped reader. The
format is a little-endian header length, a JSON header and raw arrays; any safetensors library reads it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast.errors import FileFormatError, StorageError

__all__ = ["read_tensors", "write_tensors"]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_LARGEST_HEADER = 1 << 24


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write arrays and text metadata; the file appears complete or not at all.

    Raises:
        StorageError: The file cannot be written.
    """
    path = Path(path)
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    parts: list[bytes] = []
    end = 0
    for name, tensor in tensors.items():
        part = np.ascontiguousarray(tensor).tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(part)],
        }
        parts.append(part)
        end += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(len(text).to_bytes(8, "little") + text)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as cause:
        raise StorageError(f"{path}: cannot be written ({cause.strerror})", cause.errno, path) from cause
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)  # there only if an exception came before the renaming


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read all arrays of a safetensors file, and its metadata.

    Raises:
        StorageError: The file is missing or cannot be read.
        FileFormatError: It is not a valid safetensors file, or has a dtype that is not supported here.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as cause:
        raise StorageError(f"{path}: cannot be read ({cause.strerror})", cause.errno, path) from cause
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _LARGEST_HEADER):
        raise FileFormatError(
            f"{path}: expected a safetensors file, found {len(data)} bytes without its header"
        )
    try:
        header = json.loads(data[8 : 8 + length])
        metadata = {str(key): str(value) for key, value in dict(header.pop("__metadata__", {})).items()}
        entries = [(name, *_entry(entry)) for name, entry in header.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as cause:
        raise FileFormatError(f"{path}: damaged safetensors header ({cause})") from cause
    body = memoryview(data)[8 + length :]
    tensors: dict[str, NDArray[Any]] = {}
    expected = 0
    for name, dtype, shape, start, end in sorted(entries, key=lambda entry: entry[3:]):
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if start != expected or end - start != size or end > len(body):
            raise FileFormatError(
                f"{path}: tensor {name} of shape {shape} at bytes {start} to {end} does not fit the file "
                f"({len(body)} bytes of data, {expected} taken before); it is truncated or damaged"
            )
        expected = end
        tensors[name] = np.frombuffer(body[start:end], dtype).reshape(shape)
    if expected != len(body):
        raise FileFormatError(
            f"{path}: {len(body) - expected} bytes behind the last tensor; the file is damaged"
        )
    return tensors, metadata


def _entry(entry: Any) -> tuple[np.dtype[Any], list[int], int, int]:
    shape = entry["shape"]
    start, end = entry["data_offsets"]
    for number in (*shape, start, end):
        if type(number) is not int or number < 0:
            raise ValueError(f"expected whole numbers, found {number!r}")
    return np.dtype(_DTYPES[entry["dtype"]]), list(shape), start, end
