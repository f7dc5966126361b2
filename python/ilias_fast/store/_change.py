"""Changing stores as a whole: deleting, compacting, selecting, merging."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays, _core
from ilias_fast._files import StrPath
from ilias_fast.errors import IncompatibleStoreError, ParameterError, ShapeError
from ilias_fast.store._binary import BinaryStore, BinaryWriter
from ilias_fast.store._global import GlobalStore, GlobalWriter
from ilias_fast.store._ids import id_list
from ilias_fast.store._local import LocalStore, LocalWriter
from ilias_fast.store._open import open_store
from ilias_fast.store._provenance import IDENTITY_KEYS, check_compatible
from ilias_fast.store._writer import BaseWriter

__all__ = ["Compaction", "Progress", "compact", "delete", "merge", "select"]

AnyStore: TypeAlias = GlobalStore | BinaryStore | LocalStore
Progress: TypeAlias = Callable[[int, int], object]
_SHARD_BYTES = 128 << 20
# Row numbers handed to the core at once.
_BLOCK = 1 << 20


class Compaction(NamedTuple):
    """What `compact` did.

    Attributes:
        rewritten: Shards that were rewritten.
        written: Shards that took their place.
        dropped: Deleted rows that were dropped.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], [[1.0, 0.0], [0.0, 1.0]])
        >>> delete("vectors", ["a.jpg"])
        1
        >>> compact("vectors").dropped
        1
    """

    rewritten: int
    written: int
    dropped: int


def delete(path: StrPath, ids: Sequence[str]) -> int:
    """Delete rows of a store by id, in one commit; return how many. See `BaseWriter.delete`.

    Args:
        path: The folder.
        ids: What to delete.

    Raises:
        UnknownIdError: The store lacks one of them; nothing is deleted.
        StoreLockedError: A writer has the store open.
        NotAStoreError, CorruptStoreError, StorageError

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], [[1.0, 0.0], [0.0, 1.0]])
        >>> delete("vectors", ["a.jpg"]), list(GlobalStore.open("vectors").ids)
        (1, ['b.jpg'])
    """
    core = _core.StoreWriter.append_to(Path(path), None)
    try:
        return core.delete(id_list(ids))
    finally:
        core.close()


def compact(path: StrPath, *, shard_bytes: int | None = None, progress: Progress | None = None) -> Compaction:
    """Drop deleted rows and merge small shards; rows keep their numbers and order.

    Goes from shard to shard with a commit each, so it can be interrupted (or killed) and called again. Shards
    are read back against their checksums before they are given up. Readers keep what they opened.

    Args:
        path: The folder.
        shard_bytes: Size of the shards to make; shards of less than half of it are merged. None for 128 MiB.
        progress: Called now and then with (rows done, rows in all).

    Raises:
        StoreLockedError: A writer has the store open.
        CorruptStoreError: A shard is damaged; it stays as it is, and so do those after it.
        NotAStoreError, StorageError

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     for number in range(3):
        ...         writer.append([f"{number}.jpg"], [[1.0, float(number)]])
        ...         _ = writer.commit()
        >>> compact("vectors"), GlobalStore.open("vectors").info().shards
        (Compaction(rewritten=3, written=1, dropped=0), 1)
    """
    size = _SHARD_BYTES if shard_bytes is None else _arrays.at_least_one("shard_bytes", shard_bytes)
    report = None
    if progress is not None:
        total = _core.compactable_rows(Path(path), size)
        report = _report(progress, 0, total)
    return Compaction(*_core.compact_store(Path(path), size, report))


def select(
    store: AnyStore,
    path: StrPath,
    chosen: Sequence[str] | NDArray[Any],
    *,
    overwrite: bool = False,
    shard_bytes: int | None = None,
    progress: Progress | None = None,
) -> AnyStore:
    """Make a store of some rows of another; return it. It records its parent.

    Args:
        store: Where the rows are.
        path: The store to make.
        chosen: Ids (the new store has their order), or a bitmap, bool [n] (row order).
        overwrite: Replace a store that is there.
        shard_bytes: Rows are cut into files of about this size; None for 128 MiB.
        progress: Called now and then with (rows done, rows in all).

    Raises:
        UnknownIdError: The store lacks one of the ids.
        DuplicateIdError: An id is chosen twice.
        ShapeError: A bitmap of another length.
        StoreExistsError, StoreLockedError, StorageError

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg", "c.jpg"], [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
        >>> list(select(GlobalStore.open("vectors"), "some", ["c.jpg", "a.jpg"]).ids)
        ['c.jpg', 'a.jpg']
    """
    if isinstance(chosen, np.ndarray) and chosen.dtype == np.bool_:
        if chosen.shape != (len(store),):
            raise ShapeError(f"chosen: expected bool [{len(store)}], found {list(chosen.shape)}")
        total, by = int(np.count_nonzero(chosen)), "bitmap"
        blocks: Iterator[NDArray[np.int64]] = (
            start + np.flatnonzero(chosen[start : start + _BLOCK]) for start in range(0, len(store), _BLOCK)
        )
    else:
        rows = store.find(id_list(chosen))
        total, by = len(rows), "ids"
        blocks = (rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK))
    parameters = {"operation": "select", "by": by, "rows": total}
    with _like(store, path, store.provenance, parameters, overwrite, shard_bytes) as writer:
        done = 0
        for block in blocks:
            writer._core.append_rows(store._core_store, block, _report(progress, done, total))
            done += len(block)
    return open_store(path)


def merge(
    stores: Sequence[AnyStore],
    path: StrPath,
    *,
    force: bool = False,
    overwrite: bool = False,
    shard_bytes: int | None = None,
    progress: Progress | None = None,
) -> AnyStore:
    """Make a store of all rows of several, one after the other; return it.

    It records the first store as its parent, and the others in the parent's parameters. Of the provenance it
    keeps what no two of them contradict.

    Args:
        stores: Stores of one kind and length.
        path: The store to make.
        force: Merge stores whose provenance differs.
        overwrite: Replace a store that is there.
        shard_bytes: Rows are cut into files of about this size; None for 128 MiB.
        progress: Called now and then with (rows done, rows in all).

    Raises:
        DuplicateIdError: An id is in two of them; the message names it, and no store is made.
        IncompatibleStoreError: They differ in kind, length, optional tensors or provenance.
        StoreExistsError, StoreLockedError, StorageError

    Examples:
        >>> for name in ("a", "b"):
        ...     with GlobalStore.create(name, dim=2) as writer:
        ...         writer.append([f"{name}.jpg"], [[1.0, 0.0]])
        >>> list(merge([GlobalStore.open("a"), GlobalStore.open("b")], "both").ids)
        ['a.jpg', 'b.jpg']
    """
    if not (stores := list(stores)):
        raise ParameterError("stores: expected at least one, found none")
    first, *others = stores
    for other in others:
        check_compatible(first, other, force=force)
        if (
            isinstance(first, LocalStore)
            and isinstance(other, LocalStore)
            and first.optional != other.optional
        ):
            raise IncompatibleStoreError(
                f"expected local stores with the same optional tensors, found {first!r} and {other!r}"
            )
    parameters = {
        "operation": "merge",
        "others": [{"path": str(other.path.absolute()), "checksum": other.checksum} for other in others],
    }
    total = sum(map(len, stores))
    with _like(first, path, _common(stores), parameters, overwrite, shard_bytes) as writer:
        done = 0
        for store in stores:
            for start in range(0, len(store), _BLOCK):
                rows = np.arange(start, min(start + _BLOCK, len(store)), dtype=np.int64)
                writer._core.append_rows(store._core_store, rows, _report(progress, done, total))
                done += len(rows)
    return open_store(path)


def _like(
    store: AnyStore,
    path: StrPath,
    provenance: Mapping[str, object],
    parameters: Mapping[str, object],
    overwrite: bool,
    shard_bytes: int | None,
) -> BaseWriter:
    """Start a store of the same kind and length, derived from `store`."""
    writer: type[BaseWriter] = {"global": GlobalWriter, "binary": BinaryWriter, "local": LocalWriter}[
        store.kind
    ]
    core = store._core_store
    length = core.dim or core.bits
    return writer._create(
        path,
        store.kind,
        core.dim > 0,
        length,
        core.optional,
        provenance,
        store,
        parameters,
        overwrite,
        shard_bytes,
    )


def _common(stores: Sequence[AnyStore]) -> dict[str, Any]:
    """Return what the stores agree on; of the identity keys only those that all of them have."""
    all_of_them = [store.provenance for store in stores]
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for provenance in all_of_them for key in provenance):
        values = [provenance[key] for provenance in all_of_them if key in provenance]
        known_to_all = len(values) == len(stores)
        if all(value == values[0] for value in values) and (known_to_all or key not in IDENTITY_KEYS):
            merged[key] = values[0]
    return merged


def _report(progress: Progress | None, before: int, total: int) -> Callable[[int], object] | None:
    if progress is None:
        return None
    return lambda done: progress(min(before + done, total), total)
