"""Stores written as files of other formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.errors import IncompatibleStoreError, ParameterError
from ilias_fast.store._base import BaseStore
from ilias_fast.store.formats.registry import FORMATS, format_of

__all__ = ["export_store"]


def export_store(
    store: BaseStore,
    path: StrPath,
    *,
    format: str | None = None,  # noqa: A002
    overwrite: bool = False,
    escape: bool = True,
    compression: int = 0,
    index: str | None = None,
    ids: StrPath | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write a store as one file of another format; it appears under its name when it is complete.

    Args:
        store: What to write.
        path: The file.
        format: "ilias-hdf5", "npy", "safetensors" or "faiss"; None to go by the suffix.
        overwrite: Replace a file that is there.
        escape: HDF5: escape ids as the official writer does; otherwise they are stored as UTF-8.
        compression: HDF5: gzip level, 0 to 9.
        index: faiss: "fp16" (IndexScalarQuantizer, the default) or "flat" (IndexFlatIP, float32).
        ids: npy and faiss: the text file of ids; None for the same name with `.txt`.
        progress: Called with (rows done, rows in all).

    Raises:
        StorageError: The disk refused, or a file exists.
        IncompatibleStoreError: The format cannot hold a store of this kind.
        ParameterError: The format is not known, or an option is out of range.
        MissingExtraError: A library is not installed.

    Complexity: one pass over the rows, in blocks of at most 64 MiB.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], [[1.0, 0.0], [0.5, 0.5]])
        >>> export_store(GlobalStore.open("vectors"), "vectors.npy")
        >>> np.load("vectors.npy").tolist(), Path("vectors.txt").read_text().split()
        ([[1.0, 0.0], [0.5, 0.5]], ['a.jpg', 'b.jpg'])
    """
    path = Path(path)
    chosen = format_of(path, format)
    kind = getattr(store, "kind", type(store).__name__)
    if kind not in chosen.writes:
        if not chosen.writes:
            able = ", ".join(name for name, each in FORMATS.items() if kind in each.writes) or "none"
            raise ParameterError(
                f"{path}: expected a format that can be exported ({able} for this store), "
                f"found {chosen.title}, which is only read"
            )
        able = ", ".join(chosen.writes)
        raise IncompatibleStoreError(f"{path}: expected a {able} store for {chosen.title}, found {store!r}")
    options: dict[str, Any] = {"escape": escape, "compression": compression, "index": index, "ids": ids}
    chosen.write(store, path, options, progress or _silent, _arrays.flag("overwrite", overwrite))


def _silent(done: int, total: int) -> None:
    del done, total
