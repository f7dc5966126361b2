"""What the writers of the three kinds of stores share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays, _core
from ilias_fast._files import StrPath
from ilias_fast.errors import IncompatibleStoreError
from ilias_fast.store._base import BaseStore
from ilias_fast.store._ids import id_list
from ilias_fast.store._provenance import from_json, parent_record, to_json

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseWriter"]


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
        names = [str(name) for name in optional]
        replace = _arrays.flag("overwrite", overwrite)
        core = _core.StoreWriter.create(
            Path(path), kind, floats, length, names, text, record, replace, shard_bytes
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
        return from_json(self._core.provenance, self._path)

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
