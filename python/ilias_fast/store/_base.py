"""What the three kinds of stores and their writers share."""

from __future__ import annotations

import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._files import StrPath
from ilias_fast.errors import DtypeError, IncompatibleStoreError, ParameterError, ShapeError, UnknownIdError
from ilias_fast.store._provenance import from_json, parent_record, to_json
from ilias_fast.store._verify import VerifyReport, verify

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseStore", "BaseWriter", "DerivedInfo", "Ids", "StoreInfo", "id_list", "row_indices"]

_ID_BLOCK = 4096
_NAMED = 5


def id_list(ids: Sequence[str] | NDArray[Any]) -> list[str]:
    """Return ids as a list of `str`, or say what they are instead."""
    if isinstance(ids, (str, bytes)):
        raise DtypeError(f"ids: expected a sequence of str, found the single {type(ids).__name__} {ids!r}")
    names = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
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
    array = np.asarray(rows)
    if array.ndim != 1:
        raise ShapeError(f"rows: expected shape [m], found {list(array.shape)}")
    if array.size and array.dtype.kind not in "iu":
        raise DtypeError(f"rows: expected int64, found {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.int64)


class Ids(Sequence[str]):
    """The ids of a store in row order, decoded from the map when asked for.

    Holds no strings: indexing reads one id, `in` and `index` use the store's id index.
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
        position = int(row) + len(self) if row < 0 else int(row)
        if not 0 <= position < len(self):
            raise IndexError(f"row {row} of a store of {len(self)} rows")
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


class DerivedInfo(NamedTuple):
    """Tensors computed from shards and stored beside them.

    Attributes:
        kind: What they are, for example "planes".
        shards: Number of shards that have them.
        bytes: Size of their files.
    """

    kind: str
    shards: int
    bytes: int


@dataclass(frozen=True)
class StoreInfo:
    """What a store is.

    Attributes:
        path: The folder.
        kind: "global", "binary" or "local".
        rows: Number of images.
        dim: Numbers a vector; 0 for codes.
        bits: Bits a code; 0 for vectors.
        descriptors: Local descriptors of all images; 0 for the other kinds.
        optional: Optional tensors of a local store: some of "scale", "angle", "weight".
        shards: Number of shard files.
        bytes: Their size.
        deleted: Rows that are deleted and still take room, until `compact`; not counted in `rows`.
        derived: What was computed from shards and stored beside them (for example search planes).
        provenance: What the rows were made of and how.
        parent: Path, checksum and parameters of the store this one was derived from, or None.
        checksum: Names the committed state, as 16 hex digits.
    """

    path: Path
    kind: str
    rows: int
    dim: int
    bits: int
    descriptors: int
    optional: tuple[str, ...]
    shards: int
    bytes: int
    deleted: int
    derived: tuple[DerivedInfo, ...]
    provenance: dict[str, Any]
    parent: dict[str, Any] | None
    checksum: str


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
        return from_json(self._core_store.provenance)

    @property
    def parent(self) -> dict[str, Any] | None:
        """Path, checksum and parameters of the store this one was derived from, or None."""
        text = self._core_store.parent
        return None if text is None else from_json(text)

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


class BaseWriter:
    """Appends to a store; rows become visible, all at once, with `commit`.

    As a context manager it commits on leaving the block, unless an exception leaves it: then what was not
    committed is dropped, and what was committed before stays. Killing the process has the same effect.
    """

    def __init__(self, core: _core.StoreWriter, path: StrPath):
        self._core = core
        self._path = Path(path)

    @classmethod
    def _create(
        cls,
        path: StrPath,
        kind: str,
        floats: bool,
        length: int,
        optional: Sequence[str],
        provenance: Mapping[str, object] | None,
        parent: BaseStore | None,
        parameters: Mapping[str, object] | None,
        overwrite: bool,
        shard_bytes: int | None,
    ) -> Self:
        length = _arrays.at_least_one("dim" if floats else "bits", length)
        record = parent_record(parent, parameters)
        text = to_json("provenance", {} if provenance is None else provenance)
        if shard_bytes is not None:
            shard_bytes = _arrays.at_least_one("shard_bytes", shard_bytes)
        core = _core.StoreWriter.create(
            Path(path), kind, floats, length, list(optional), text, record, overwrite, shard_bytes
        )
        return cls(core, path)

    @classmethod
    def _append_to(cls, path: StrPath, kind: str, shard_bytes: int | None) -> Self:
        if shard_bytes is not None:
            shard_bytes = _arrays.at_least_one("shard_bytes", shard_bytes)
        core = _core.StoreWriter.append_to(Path(path), shard_bytes)
        found = core.spec()[0]
        if found != kind:
            core.close()
            raise IncompatibleStoreError(f"{Path(path)}: expected a {kind} store, found a {found} store")
        return cls(core, path)

    def __len__(self) -> int:
        """Return the number of rows, committed or not."""
        return len(self._core)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def closed(self) -> bool:
        """Whether the writer has ended."""
        return self._core.closed

    @property
    def provenance(self) -> dict[str, Any]:
        """What the next commit records as provenance; assign a mapping to change it."""
        return from_json(self._core.provenance)

    @provenance.setter
    def provenance(self, value: Mapping[str, object]) -> None:
        self._core.set_provenance(to_json("provenance", value))

    def contains(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of the ids are there already, committed or not, bool [m].

        Args:
            ids: m ids.
        """
        return np.array(self._core.contains(id_list(ids)), dtype=np.bool_)

    def commit(self) -> int:
        """Make everything appended so far durable and visible, at once; return the number of rows.

        Raises:
            StorageError: The disk refused. The store is as it was before, nothing appended is lost, and
                `commit` may be called again.
        """
        return self._core.commit()

    def delete(self, ids: Sequence[str]) -> int:
        """Delete rows by id and commit, at once; return how many.

        Later rows move up, so that the store is as if it never had them; their ids may be appended again. The
        rows take room until `compact`. Stores opened before keep them.

        Args:
            ids: What to delete.

        Raises:
            UnknownIdError: The store lacks one of them; nothing is deleted.
            ParameterError: Rows wait for a commit.
            StorageError: The disk refused; the store is as it was.
        """
        return self._core.delete(id_list(ids))

    def detach(self, kind: str) -> int:
        """Drop what was computed from the shards and commit; return the number of shards that had it.

        Args:
            kind: What to drop, as `StoreInfo.derived` names it.

        Raises:
            ParameterError: Rows wait for a commit.
            StorageError: The disk refused; the store is as it was.
        """
        return self._core.detach(kind)

    def close(self) -> None:
        """End the writer and release the lock; what was not committed is dropped. May be called again."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self.closed:
                self.commit()
        finally:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self)} rows"
        return f"<{type(self).__name__} {str(self._path)!r}: {state}>"
