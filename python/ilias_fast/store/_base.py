"""What the three kinds of stores share."""

from __future__ import annotations

import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _core
from ilias_fast._files import StrPath
from ilias_fast.errors import IncompatibleStoreError, UnknownIdError
from ilias_fast.store._ids import Ids, id_list, row_indices
from ilias_fast.store._info import DerivedInfo, StoreInfo
from ilias_fast.store._provenance import from_json
from ilias_fast.store._verify import VerifyReport, verify

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseStore"]

_NAMED = 5


class BaseStore(ABC):
    """One committed state of a store, memory-mapped and read-only. Pickles by path, to its current state."""

    kind: ClassVar[str]
    _core_store: _core.Store

    def __init__(self, path: StrPath):
        self._path = Path(path)
        self._core_store = _core.Store(self._path)
        if self._core_store.kind != self.kind:
            raise IncompatibleStoreError(
                f"{self._path}: expected a {self.kind} store, found a {self._core_store.kind} one"
            )

    @classmethod
    def open(cls, path: StrPath) -> Self:
        """Open the state that is committed now.

        Checks the manifest's checksum and every shard's size, header, dtypes and shapes, but reads no rows:
        O(number of shards). `verify` reads everything.

        Args:
            path: The folder.

        Raises:
            NotAStoreError: There is no store, or of a version this build cannot read.
            IncompatibleStoreError: It is of another kind.
            CorruptStoreError: A file is damaged, truncated or missing; the message names it.
            StorageError: The operating system refused to read it.
        """
        return cls(path)

    def __len__(self) -> int:
        return len(self._core_store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Nothing has to be closed: the maps go with the last array that looks at them.
        return None

    def _position(self, row: SupportsIndex) -> int:
        """Return a row number, which may count from the end, as one from 0 on; `IndexError` out of range."""
        number = operator.index(row)
        position = number + len(self) if number < 0 else number
        if not 0 <= position < len(self):
            raise IndexError(f"row {number} of a store of {len(self)} rows")
        return position

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def ids(self) -> Ids:
        """The ids in row order, as a lazy sequence."""
        return Ids(self._core_store)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the rows were made of and how."""
        return from_json(self._core_store.provenance, self.path)

    @property
    def parent(self) -> dict[str, Any] | None:
        """Path, checksum and parameters of the store this one was derived from, or None."""
        text = self._core_store.parent
        return None if text is None else from_json(text, self.path)

    @property
    def checksum(self) -> str:
        """Checksum of the manifest, as 16 hex digits: it names this committed state."""
        return self._core_store.checksum

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of ids, int64 [m].

        Args:
            ids: m ids.

        Raises:
            UnknownIdError: Some are not there; the message names the first ones.

        Complexity: O(m log n) for each shard; touches the id index only.
        """
        names = id_list(ids)
        rows = self._core_store.find(names)
        missing = np.flatnonzero(rows < 0)
        if missing.size:
            shown = ", ".join(repr(names[position]) for position in missing[:_NAMED])
            more = f" and {missing.size - _NAMED} more" if missing.size > _NAMED else ""
            raise UnknownIdError(f"{self._path}: unknown id {shown}{more} (the store has {len(self)} ids)")
        return rows

    def contains(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of the ids are there, bool [m].

        Args:
            ids: m ids.
        """
        found: NDArray[np.bool_] = self._core_store.find(id_list(ids)) >= 0
        return found

    def id_of(self, rows: ArrayLike) -> list[str]:
        """Return the ids of rows, int [m].

        Args:
            rows: int [m].

        Raises:
            ParameterError: A row is out of range.
        """
        return self._core_store.ids(row_indices(rows))

    def info(self) -> StoreInfo:
        """Return what the store is."""
        core = self._core_store
        return StoreInfo(
            path=self._path,
            kind=core.kind,
            rows=len(core),
            dim=core.dim,
            bits=core.bits,
            descriptors=core.descriptors,
            optional=tuple(core.optional),
            shards=core.shards,
            bytes=core.bytes,
            deleted=core.deleted,
            derived=tuple(DerivedInfo(*found) for found in core.derived),
            provenance=self.provenance,
            parent=self.parent,
            checksum=core.checksum,
        )

    def verify(
        self,
        *,
        quick: bool = False,
        threads: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> VerifyReport:
        """Check every byte of what is committed now; see `ilias_fast.store.verify`.

        Args:
            quick: Check only the manifest and the shards' sizes and headers, without reading their rows.
            threads: Number of threads; None for all cores.
            progress: Called now and then with (bytes checked, bytes in all).
        """
        return verify(self._path, quick=quick, threads=threads, progress=progress)

    @abstractmethod
    def _size(self) -> str:
        """Return the size of one row, for `repr`."""

    def __repr__(self) -> str:
        deleted = f", {self._core_store.deleted} deleted" if self._core_store.deleted else ""
        return f"<{type(self).__name__} {str(self._path)!r}: {len(self)} x {self._size()}{deleted}>"

    def _repr_html_(self) -> str:
        from ilias_fast.store._card import store_card

        return store_card(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (os.path.abspath(self._path),)  # noqa: PTH100 (keeps symlinks)
