"""What stores of one row an image share: they behave like a sequence of rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast.store._base import BaseStore
from ilias_fast.store._ids import row_indices

__all__ = ["MatrixStore"]

_Scalar = TypeVar("_Scalar", bound=np.generic)


class MatrixStore(BaseStore, Generic[_Scalar]):
    """A store that is a matrix: row i is what image i has, all rows are equally long."""

    @abstractmethod
    def _row(self, row: int) -> NDArray[_Scalar]:
        """Return one row as a view of the map."""

    @abstractmethod
    def _runs(self) -> Sequence[NDArray[_Scalar]]:
        """Return all rows as views of the map, a run of consecutive rows of a shard each."""

    @abstractmethod
    def _gather(self, rows: NDArray[np.int64]) -> NDArray[_Scalar]:
        """Return copies of rows."""

    @overload
    def __getitem__(self, row: SupportsIndex) -> NDArray[_Scalar]: ...
    @overload
    def __getitem__(self, row: slice | ArrayLike) -> NDArray[_Scalar]: ...
    def __getitem__(self, row: Any) -> NDArray[_Scalar]:
        """Return one row as a read-only view of the map; several are copied, [m, row length].

        Args:
            row: A row, which may count from the end; a slice; or row numbers, int [m].

        Raises:
            IndexError: The row is out of range.
        """
        if isinstance(row, slice):
            return self.rows(np.arange(*row.indices(len(self)), dtype=np.int64))
        if not isinstance(row, SupportsIndex) or isinstance(row, np.ndarray):
            return self.rows(row)
        return self._row(self._position(row))

    def __iter__(self) -> Iterator[NDArray[_Scalar]]:
        """Yield the rows as read-only views of the map."""
        for _, rows in self.shards():
            yield from rows

    def shards(self) -> Iterator[tuple[int, NDArray[_Scalar]]]:
        """Yield (first row, [n_i, row length]) a run of rows, in row order, without a copy.

        A run is a shard, or what lies between deleted rows of one. The arrays are read-only views of the
        memory map, which lives as long as any of them; `torch.from_dlpack` takes them without a copy.
        """
        yield from zip(self._core_store.starts, self._runs(), strict=False)

    def rows(self, rows: ArrayLike) -> NDArray[_Scalar]:
        """Return copies of rows, [m, row length], in the order asked for.

        Args:
            rows: int [m].

        Raises:
            ParameterError: A row is out of range.
        """
        return self._gather(row_indices(rows))
