"""Global stores: one float16 vector an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.errors import DtypeError
from ilias_fast.store._base import BaseStore
from ilias_fast.store._ids import id_list
from ilias_fast.store._matrix import MatrixStore
from ilias_fast.store._writer import BaseWriter

__all__ = ["GlobalStore", "GlobalWriter"]


class GlobalWriter(BaseWriter):
    """Appends float16 vectors; see `GlobalStore.create` and `GlobalStore.append_to`.

    Examples:
        >>> writer = GlobalStore.create("vectors", dim=2)
        >>> writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> writer.commit()
        1
        >>> writer.append(["b.jpg"], [[0.0, 1.0]])  # never committed
        >>> writer.close()
        >>> list(GlobalStore.open("vectors").ids)
        ['a.jpg']
    """

    @property
    def dim(self) -> int:
        """Numbers a vector."""
        return self._core.spec()[1]

    def append(self, ids: Sequence[str], vectors: ArrayLike) -> None:
        """Append one row an id; visible after the next `commit`.

        Args:
            ids: m unique ids: UTF-8 of 1 to 4096 bytes, without NUL or line breaks.
            vectors: float16 [m, dim], finite. Other floats are rounded to the nearest float16.

        Raises:
            ShapeError: Not [m, dim].
            DtypeError: Not floats.
            NonFiniteError: A value is NaN, infinite, or too large for float16.
            DuplicateIdError: An id is given twice or is there already.
            ParameterError: An id breaks the rules.
            StorageError: The disk refused; the writer accepts nothing more.

        A refused batch leaves the writer as it was.
        """
        array = _arrays.any_array("vectors", vectors, f"m, {self.dim}")
        if array.dtype.kind != "f":
            raise DtypeError(f"vectors: expected float16 (or floats to round to it), found {array.dtype}")
        with np.errstate(over="ignore"):
            half = np.ascontiguousarray(array, dtype=np.float16)
        self._core.append_vectors(id_list(ids), half)


class GlobalStore(MatrixStore[np.float16]):
    """One float16 vector an image.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], [[1.0, 0.0], [0.5, 0.5]])
        >>> store = GlobalStore.open("vectors")
        >>> len(store), store.dim, store.rows(store.find(["b.jpg"])).tolist()
        (2, 2, [[0.5, 0.5]])
    """

    kind = "global"

    @classmethod
    def create(
        cls,
        path: StrPath,
        *,
        dim: int,
        provenance: Mapping[str, object] | None = None,
        parent: BaseStore | None = None,
        parameters: Mapping[str, object] | None = None,
        overwrite: bool = False,
        shard_bytes: int | None = None,
    ) -> GlobalWriter:
        """Start a store, which comes into being with the first commit.

        Args:
            path: A free path or an empty folder (or what a writer killed before its first commit left).
            dim: Numbers a vector.
            provenance: What the rows are made of and how; `IDENTITY_KEYS` lists the keys that are compared.
            parent: The store this one is derived from, whose path and checksum are recorded.
            parameters: How it is derived; recorded with the parent.
            overwrite: Replace a store that is there; it stays whole until the first commit.
            shard_bytes: Rows are cut into files of about this size; None for 128 MiB.

        Raises:
            StoreExistsError: Something is there already.
            StoreLockedError: Another writer is at work there.
            ParameterError, StorageError
        """
        return GlobalWriter._create(
            path, cls.kind, True, dim, (), provenance, parent, parameters, overwrite, shard_bytes
        )

    @classmethod
    def append_to(cls, path: StrPath, *, shard_bytes: int | None = None) -> GlobalWriter:
        """Open a store to append to it.

        Args:
            path: The folder.
            shard_bytes: New rows are cut into files of about this size; None for 128 MiB.

        Raises:
            NotAStoreError, CorruptStoreError, IncompatibleStoreError: As `open`.
            StoreLockedError: Another writer has it open.
        """
        return GlobalWriter._append_to(path, cls.kind, shard_bytes)

    @property
    def dim(self) -> int:
        """Numbers a vector."""
        return self._core_store.dim

    def _row(self, row: int) -> NDArray[np.float16]:
        return self._core_store.vector(row)

    def _runs(self) -> Sequence[NDArray[np.float16]]:
        return self._core_store.vectors()

    def _gather(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        return self._core_store.gather_vectors(rows)

    def _size(self) -> str:
        return f"{self.dim} float16"
