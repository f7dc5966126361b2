"""AMES local-descriptor HDF5: `features` [n, T, 5 + D] and a text list. Needs the extra `[hdf5]`.

The five columns before a descriptor are: row and column of its centre, index of the scale, mask (0 valid, 1
padding), weight. Positions are relative to the image's sides (DINOv2) or in pixels (CVNet); a store keeps
x / width and y / height. The list has one image a line, `path,...,width,height`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._extras import require
from ilias_fast.errors import FileFormatError, NonFiniteError
from ilias_fast.store.formats._hdf5_file import Matrix, opened, translated
from ilias_fast.store.formats.base import BLOCK_BYTES, Block, Format, LocalRows, Reader, ReadOptions
from ilias_fast.store.formats.buffers import Buffers
from ilias_fast.store.formats.ids import ids_of_rows

__all__ = ["Ames"]

_COLUMNS = 5


class Ames(Format):
    """What the AMES code extracts. Its suffix is that of the global features, so it is asked for by name."""

    name = "ames"
    title = "AMES local descriptors"

    def open(self, path: Path, options: ReadOptions) -> Reader:
        """Open a file of local descriptors; errors as `Format.open`."""
        return _AmesReader(path, options)


class _AmesReader(Reader):
    kind = "local"

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path = path
        self._file = opened(path)
        try:
            with translated(path):
                dataset = _dataset(path, self._file, options.array or "features")
                self._slots = int(dataset.shape[1])
                self._matrix = Matrix(path, dataset, options.threads)
            self._kept = min(self._slots, options.descriptors or self._slots)
            self._columns = self._matrix.columns // self._slots
            self.rows, self.width = self._matrix.rows, self._columns - _COLUMNS
            self.dtype = str(self._matrix.dtype)
            self._list = ids_of_rows(path, self.rows, options)
        except BaseException:
            self._file.close()
            raise

    def blocks(self, start: int = 0) -> Generator[Block, None, None]:
        step = self._matrix.block_rows(BLOCK_BYTES)
        buffers = Buffers(0, min(step, self.rows), self._matrix.columns, self._matrix.dtype)
        for first, lines in self._lines(start, step):
            values = buffers.next(len(lines))
            self._matrix.read(first, values)
            named = [_image(line, self._path, first + number) for number, line in enumerate(lines)]
            names = [name for name, _ in named]
            sizes = np.array([size for _, size in named], np.int32).reshape(-1, 2)
            yield Block(first, names, self._local(values, names, sizes, first))

    def _lines(self, start: int, step: int) -> Iterator[tuple[int, list[str]]]:
        edges = [start, *range(start + step - start % step, self.rows, step), self.rows]
        counts = [after - before for before, after in pairwise(edges)]
        starts = [edge for edge, count in zip(edges, counts, strict=False) if count]
        yield from zip(starts, self._list.take(start, iter(filter(None, counts))), strict=True)

    def _local(
        self, values: NDArray[Any], names: list[str], sizes: NDArray[np.int32], first: int
    ) -> LocalRows:
        slots = values.reshape(len(names), self._slots, self._columns)
        mask, weight = slots[:, :, 3], slots[:, :, 4]
        wrong = (mask != 0) & (mask != 1)
        if wrong.any():
            image, slot = (int(place[0]) for place in np.nonzero(wrong))
            raise FileFormatError(
                f"{self._path}: expected a mask of 0 (valid) and 1 (padding), found {mask[image, slot]} "
                f"for descriptor {slot} of image {first + image} ({names[image]!r})"
            )
        valid = mask == 0
        unfit = ~np.isfinite(slots).all(axis=2) & valid
        if unfit.any():
            image, slot = (int(place[0]) for place in np.nonzero(unfit))
            raise NonFiniteError(
                f"{self._path}: descriptor {slot} of image {first + image} ({names[image]!r}) holds NaN "
                f"or an infinity (drop or repair the image)"
            )
        if self._kept < self._slots:
            # Those of most weight, which come first in the published files.
            order = np.argsort(np.where(valid, -weight.astype(np.float64), np.inf), axis=1, kind="stable")
            chosen = np.zeros_like(valid)
            np.put_along_axis(chosen, order[:, : self._kept], True, axis=1)
            valid &= chosen
        rows = slots[valid].astype(np.float32, copy=False)
        offsets = np.concatenate([[0], np.cumsum(valid.sum(axis=1))]).astype(np.int64)
        xy = np.ascontiguousarray(rows[:, 1::-1])
        if rows.size and (xy.max() > 1 or xy.min() < 0):
            xy = xy / np.repeat(sizes, np.diff(offsets), axis=0).astype(np.float32)
        outside = np.flatnonzero(((xy < 0) | (xy > 1)).any(axis=1))
        if outside.size:
            image = int(np.searchsorted(offsets, outside[0], side="right")) - 1
            raise FileFormatError(
                f"{self._path}: expected positions within {names[image]!r} of {sizes[image].tolist()} "
                f"pixels, found {rows[outside[0], 1::-1].tolist()} (are width and height those of the image?)"
            )
        return LocalRows(offsets, rows[:, _COLUMNS:], xy, np.ascontiguousarray(rows[:, 4]), sizes)

    def close(self) -> None:
        self._file.close()


def _dataset(path: Path, file: Any, name: str) -> Any:
    h5py = require("h5py", "read HDF5 files")
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise FileFormatError(f"{path}: expected a dataset {name}, found {sorted(file)}")
    if dataset.ndim != 3 or dataset.shape[1] < 1 or dataset.shape[2] <= _COLUMNS or dataset.dtype.kind != "f":
        raise FileFormatError(
            f"{path}: expected floats [n, T, {_COLUMNS} + D], found {dataset.dtype} {list(dataset.shape)}"
        )
    return dataset


def _image(line: str, path: Path, row: int) -> tuple[str, tuple[int, int]]:
    """Return path and size from a line of the list."""
    parts = line.split(",")
    try:
        width, height = int(parts[-2]), int(parts[-1])
        if len(parts) < 3 or width < 1 or height < 1 or max(width, height) > 1 << 30:
            raise ValueError
    except (ValueError, IndexError) as cause:
        raise FileFormatError(
            f"{path}: expected a list of lines `path,...,width,height`, found {line[:80]!r} for image {row}"
        ) from cause
    return parts[0], (width, height)
