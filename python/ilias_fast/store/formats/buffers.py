"""Memory for blocks, used again and again: its pages are fetched from the system once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Buffers"]


class Buffers:
    """A ring of equal matrices.

    Args:
        kept: A matrix handed out stays as it is until this many later ones were handed out.
        rows: The most rows expected.
        columns: Numbers a row.
        dtype: Of the numbers.
    """

    def __init__(self, kept: int, rows: int, columns: int, dtype: DTypeLike) -> None:
        self._ring: list[NDArray[Any]] = []
        self._shape = (rows, columns)
        self._dtype = dtype
        self._count = kept + 1

    def next(self, rows: int) -> NDArray[Any]:
        """Return the first rows of the next matrix, C-contiguous [rows, columns]."""
        if rows > self._shape[0]:
            self._ring, self._shape = [], (rows, self._shape[1])
        if len(self._ring) < self._count:
            self._ring.append(np.empty(self._shape, self._dtype))
            return self._ring[-1][:rows]
        # The one handed out longest ago.
        self._ring.append(self._ring.pop(0))
        return self._ring[-1][:rows]
