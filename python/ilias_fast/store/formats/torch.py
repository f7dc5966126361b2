"""Torch tensors in `.pt` files, read without executing what they hold. Needs the extra `[torch]`.

A tensor alone (ids in a text file), or a dict with a tensor and a list of `ids`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ilias_fast._extras import require
from ilias_fast._files import storage_error
from ilias_fast.errors import FileFormatError, ShapeError
from ilias_fast.store.formats.base import (
    BLOCK_BYTES,
    Block,
    Format,
    Reader,
    ReadOptions,
    choose,
    matrix_kind,
)
from ilias_fast.store.formats.ids import ids_of_rows

__all__ = ["Torch"]

_ID_NAMES = ("ids", "id", "index", "names", "image_ids", "paths", "filenames")
# Files of before torch 1.6 cannot be mapped and are read whole.
_MOST_UNMAPPED = 256 << 20


class Torch(Format):
    """What `torch.save` writes."""

    name = "torch"
    title = "torch tensor"
    suffixes = (".pt", ".pth")

    def open(self, path: Path, options: ReadOptions) -> Reader:
        """Map a tensor; errors as `Format.open`."""
        return _TorchReader(path, options)


class _TorchReader(Reader):
    def __init__(self, path: Path, options: ReadOptions) -> None:
        torch = require("torch", "read torch tensors")
        self._torch = torch
        content = _load(path, torch)
        tensors = content if isinstance(content, dict) else {"tensor": content}
        described = {
            str(name): f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
            if torch.is_tensor(value)
            else type(value).__name__
            for name, value in tensors.items()
        }
        floats = (torch.float16, torch.float32, torch.float64, torch.bfloat16)
        matrices = [
            str(name)
            for name, value in tensors.items()
            if torch.is_tensor(value)
            and value.dim() == 2
            and (value.dtype in floats or value.dtype == torch.uint8)
        ]
        chosen = choose(path, options.array, described, matrices)
        tensor = next(value for name, value in tensors.items() if str(name) == chosen)
        if not torch.is_tensor(tensor) or tensor.layout != torch.strided or tensor.is_quantized:
            raise FileFormatError(f"{path}: expected a dense tensor, found {described[chosen]}")
        self.dtype = str(tensor.dtype).removeprefix("torch.")
        shape = tuple(tensor.shape)
        known = "bfloat16" if self.dtype == "bfloat16" else _numpy_dtype(self.dtype)
        self.kind, self.width = matrix_kind(path, shape, known)
        self.rows = shape[0]
        self._tensor = tensor.detach()
        self._ids = _find_ids(path, tensors, self.rows, options)

    def blocks(self, start: int = 0) -> Generator[Block, None, None]:
        row = self._tensor.element_size() * self._tensor.shape[1]
        step = max(1, BLOCK_BYTES // row)
        starts = range(start, self.rows, step)
        counts = (min(step, self.rows - first) for first in starts)
        for first, names in zip(starts, self._ids.take(start, counts), strict=True):
            rows = self._tensor[first : first + len(names)]
            if rows.dtype == self._torch.bfloat16:
                rows = rows.float()
            yield Block(first, names, rows.resolve_conj().resolve_neg().numpy())


class _Listed:
    def __init__(self, names: list[str]) -> None:
        self._names = names

    def take(self, start: int, counts: Iterator[int]) -> Iterator[list[str]]:
        for count in counts:
            yield self._names[start : start + count]
            start += count


def _find_ids(path: Path, tensors: dict[Any, Any], rows: int, options: ReadOptions) -> Any:
    if options.ids is None:
        for name in _ID_NAMES:
            names = tensors.get(name)
            if isinstance(names, (list, tuple)) and all(isinstance(entry, str) for entry in names):
                if len(names) != rows:
                    raise ShapeError(f"{path}: expected {rows} {name}, found {len(names)}")
                return _Listed(list(names))
    return ids_of_rows(path, rows, options)


def _numpy_dtype(name: str) -> np.dtype[Any] | str:
    try:
        return np.dtype(name)
    except TypeError:
        return name


def _load(path: Path, torch: Any) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(4)
        mapped = zipfile.is_zipfile(path)
        if not mapped and path.stat().st_size > _MOST_UNMAPPED:
            raise FileFormatError(
                f"{path}: expected a file of torch.save, found something else (it starts {start!r}) or one "
                f"of before torch 1.6, too large to be read whole (numbers without a header are the format "
                f"raw)"
            )
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError as cause:
        raise storage_error(cause, path, "read") from cause
    except FileFormatError:
        raise
    except Exception as cause:
        # Damage makes torch raise nearly anything, and its words advise to load again with execution allowed.
        raise FileFormatError(
            f"{path}: expected plain tensors of torch.save, found damage, objects that would run code, or "
            f"numbers without a header (the format raw)"
        ) from cause
