"""Binary stores: one packed binary code an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.store._base import BaseStore, BaseWriter, id_list, row_indices

__all__ = ["BinaryStore", "BinaryWriter"]


class BinaryWriter(BaseWriter):
    """Appends packed codes; see `BinaryStore.create` and `BinaryStore.append_to`."""

    @property
    def bits(self) -> int:
        """Bits a code."""
        return self._core.spec()[2]

    def append(self, ids: Sequence[str], codes: ArrayLike) -> None:
        """Append one row an id; visible after the next `commit`.

        Args:
            ids: m unique ids: UTF-8 of 1 to 4096 bytes, without NUL or line breaks.
            codes: uint8 [m, ceil(bits / 8)], the first bit in the highest bit of the first byte, set where
                the value is at least 0; bits after the last one are zero.

        Raises:
            ShapeError, DtypeError, DuplicateIdError, ParameterError, StorageError: As `GlobalWriter.append`.
        """
        self._core.append_codes(id_list(ids), _arrays.codes("codes", codes))


class BinaryStore(BaseStore):
    """One packed binary code an image."""

    kind = "binary"

    @classmethod
    def create(
        cls,
        path: StrPath,
        *,
        bits: int,
        provenance: Mapping[str, object] | None = None,
        parent: BaseStore | None = None,
        parameters: Mapping[str, object] | None = None,
        overwrite: bool = False,
        shard_bytes: int | None = None,
    ) -> BinaryWriter:
        """Start a store of codes of `bits` bits; the rest is as in `GlobalStore.create`.

        Args:
            path: As in `GlobalStore.create`, and so are the others.
            bits: Bits a code.
            provenance: See there.
            parent: See there.
            parameters: See there.
            overwrite: See there.
            shard_bytes: See there.
        """
        return BinaryWriter._create(
            path, cls.kind, False, bits, (), provenance, parent, parameters, overwrite, shard_bytes
        )

    @classmethod
    def append_to(cls, path: StrPath, *, shard_bytes: int | None = None) -> BinaryWriter:
        """Open a store to append to it; errors as `GlobalStore.append_to`.

        Args:
            path: The folder.
            shard_bytes: New rows are cut into files of about this size; None for 128 MiB.
        """
        return BinaryWriter._append_to(path, cls.kind, shard_bytes)

    @property
    def bits(self) -> int:
        """Bits a code."""
        return self._core_store.bits

    @property
    def code_bytes(self) -> int:
        """Bytes a packed code."""
        return self._core_store.code_bytes

    @overload
    def __getitem__(self, row: SupportsIndex) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, row: slice | ArrayLike) -> NDArray[np.uint8]: ...
    def __getitem__(self, row: Any) -> NDArray[np.uint8]:
        """Return one row, uint8 [code_bytes], as a read-only view; several are copied, [m, code_bytes].

        Args:
            row: A row, which may count from the end; a slice; or row numbers, int [m].

        Raises:
            IndexError: The row is out of range.
        """
        if isinstance(row, slice):
            return self.rows(np.arange(*row.indices(len(self)), dtype=np.int64))
        if not isinstance(row, SupportsIndex) or isinstance(row, np.ndarray):
            return self.rows(row)
        return self._core_store.code(self._position(row))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the rows, uint8 [code_bytes], as read-only views of the map."""
        for _, rows in self.shards():
            yield from rows

    def shards(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (first row, uint8 [n_i, code_bytes]) a run of rows, in row order, as read-only views."""
        yield from zip(self._core_store.starts, self._core_store.codes(), strict=False)

    def rows(self, rows: ArrayLike) -> NDArray[np.uint8]:
        """Return copies of rows, uint8 [m, code_bytes], in the order asked for.

        Args:
            rows: int [m].

        Raises:
            ParameterError: A row is out of range.
        """
        return self._core_store.gather_codes(row_indices(rows))

    def _size(self) -> str:
        return f"{self.bits} bits"
