"""Int8 planes beside the shards of a global store: searches with few queries read half the bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ilias_fast import _arrays, _core
from ilias_fast._files import StrPath
from ilias_fast.store._global import GlobalStore

__all__ = ["build_planes", "drop_planes"]


def build_planes(
    path: StrPath, *, threads: int | None = None, progress: Callable[[int, int], object] | None = None
) -> GlobalStore:
    """Rotate and quantise the rows of a global store once, and keep the result beside its shards.

    Each shard is a commit: killed, the work goes on where it stopped when called again, and after an append
    only the new shards are made. Answers of a search have the same bits with and without planes, which cost
    dim + 16 bytes a row on disk (dim rounded up to a multiple of 64). Memory is bounded.

    Args:
        path: The folder of a global store.
        threads: Number of threads; None for all cores.
        progress: Called now and then with (rows finished, rows in all).

    Returns:
        The store, opened with its planes.

    Raises:
        NotAStoreError, CorruptStoreError: There is no store, or it is damaged.
        IncompatibleStoreError: The store is not global.
        StoreLockedError: A writer has the store open.
        ParameterError: Vectors are longer than 65,536 values.
        StorageError: The operating system refused (disk full, read-only); the shards done so far keep theirs.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> [found.kind for found in build_planes("vectors").info().derived]
        ['planes']
    """
    total = len(GlobalStore.open(path))
    report = None if progress is None else lambda done: progress(min(done, total), total)
    _core.build_store_planes(Path(path), _arrays.threads(threads), report)
    return GlobalStore.open(path)


def drop_planes(path: StrPath) -> int:
    """Remove the planes of a store; return the number of shards that had some. `gc` removes their files.

    Args:
        path: The folder.

    Raises:
        NotAStoreError, CorruptStoreError: There is no store, or it is damaged.
        StoreLockedError: A writer has the store open.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> _ = build_planes("vectors")
        >>> drop_planes("vectors"), GlobalStore.open("vectors").info().derived
        (1, ())
    """
    writer = _core.StoreWriter.append_to(Path(path), None)
    try:
        return writer.detach("planes")
    finally:
        writer.close()
