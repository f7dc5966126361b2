"""Ids and row numbers: how they are given, and the ids of a store as a sequence."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast.errors import DtypeError, ParameterError

__all__ = ["Ids", "id_list", "row_indices"]

_ID_BLOCK = 4096


def id_list(ids: Sequence[str] | NDArray[Any]) -> list[str]:
    """Return ids as a list of `str`, or say what they are instead."""
    if isinstance(ids, (str, bytes)):
        raise DtypeError(f"ids: expected a sequence of str, found the single {type(ids).__name__} {ids!r}")
    names = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    # Nearly always; the loop is for those that have to be looked at one by one.
    if set(map(type, names)) <= {str} and "".join(names).isascii():
        return names
    for position, name in enumerate(names):
        if not isinstance(name, str):
            raise DtypeError(
                f"ids: expected str, found {type(name).__name__} {name!r} at position {position}"
            )
        if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
            raise ParameterError(
                f"ids: expected text that UTF-8 can hold, found {name!r} at position {position}"
            )
    return names


def row_indices(rows: ArrayLike) -> NDArray[np.int64]:
    """Return row numbers as a contiguous int64 vector."""
    array = _arrays.any_array("rows", rows, "m")
    if array.size and array.dtype.kind not in "iu":
        raise DtypeError(f"rows: expected int64, found {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.int64)


class Ids(Sequence[str]):
    """The ids of a store in row order, decoded from the map when asked for.

    Holds no strings: indexing reads one id, `in` and `index` use the store's id index.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], [[1.0, 0.0], [0.5, 0.5]])
        >>> ids = GlobalStore.open("vectors").ids
        >>> ids[1], ids.index("a.jpg"), "c.jpg" in ids, len(ids)
        ('b.jpg', 0, False, 2)
    """

    def __init__(self, core: _core.Store):
        self._core = core

    def __len__(self) -> int:
        return len(self._core)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return self._core.ids(np.arange(*row.indices(len(self)), dtype=np.int64))
        number = operator.index(row)
        position = number + len(self) if number < 0 else number
        if not 0 <= position < len(self):
            raise IndexError(f"row {number} of a store of {len(self)} rows")
        return self._core.ids(np.array([position], dtype=np.int64))[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _ID_BLOCK):
            yield from self[start : start + _ID_BLOCK]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._core.find(id_list([name]))[0] >= 0)

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """Return the row of an id; `ValueError` if it is not there.

        Args:
            value: The id.
            start: First row that counts.
            stop: One past the last row that counts; None for all.
        """
        row = int(self._core.find(id_list([value]))[0])
        if row < 0 or row not in range(*slice(start, stop).indices(len(self))):
            raise ValueError(f"{value!r} is not among the ids")
        return row

    def count(self, value: str) -> int:
        """Return 1 if the id is there, else 0: ids are unique.

        Args:
            value: The id.
        """
        return int(value in self)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3])) + (", ..." if len(self) > 3 else "")
        return f"<{len(self)} ids: {shown}>" if len(self) else "<0 ids>"
