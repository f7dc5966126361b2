"""Adapting a whole store: a derived store, made block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ilias_fast import __version__, _arrays
from ilias_fast._files import StrPath
from ilias_fast.adapt.adapter import Adapter
from ilias_fast.adapt.itq import Itq
from ilias_fast.adapt.linear import LinearAdapter
from ilias_fast.adapt.pca import PcaWhitening
from ilias_fast.errors import IncompatibleStoreError
from ilias_fast.store import BinaryStore, BinaryWriter, GlobalStore, GlobalWriter, exists, open_store

__all__ = ["adapt_store", "sample_rows"]

_BLOCK_BYTES = 32 << 20
_COMMIT_BYTES = 256 << 20


@overload
def adapt_store(
    source: GlobalStore,
    path: StrPath,
    adapter: Itq,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> BinaryStore: ...
@overload
def adapt_store(
    source: GlobalStore,
    path: StrPath,
    adapter: LinearAdapter | PcaWhitening,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> GlobalStore: ...
def adapt_store(
    source: GlobalStore,
    path: StrPath,
    adapter: Itq | LinearAdapter | PcaWhitening,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> GlobalStore | BinaryStore:
    """Apply an adapter to every row of a store and write a derived store with the same ids in the same order.

    Run again after an interruption it goes on after the last commit; a finished store is opened as it is. The
    derived store records its parent, and the adapter in its provenance (`adaptation`, a list: adaptations of
    adapted stores add up).

    Args:
        source: The store to adapt.
        path: Where the derived store goes.
        adapter: A `LinearAdapter` or `PcaWhitening` makes a global store, an `Itq` a binary store.
        progress: Called with (rows done, rows in all).

    Returns:
        The derived store, opened.

    Raises:
        IncompatibleStoreError: The dimension is not the adapter's, or the store at `path` was derived from
            something else or in another way.
        StoreLockedError, CorruptStoreError, StorageError: The store cannot be written.

    Complexity: one pass over the rows; memory for one block of about 32 MiB.
    """
    path = Path(path)
    if source.dim != adapter.input_dim:
        raise IncompatibleStoreError(
            f"{source.path}: expected dimension {adapter.input_dim} for this {adapter.kind} adapter, "
            f"found {source.dim}"
        )
    provenance = _provenance(source, adapter)
    with closing(_writer(source, path, adapter, provenance)) as writer:
        _check_prefix(source, path, len(writer))
        done, uncommitted = len(writer), 0
        if progress is not None:
            progress(done, len(source))
        for start, rows in _blocks(source, done):
            result = adapter.apply(rows)
            ids = source.id_of(np.arange(start, start + len(rows)))
            writer.append(ids, result)
            uncommitted += result.nbytes
            if uncommitted >= _COMMIT_BYTES:
                writer.commit()
                uncommitted = 0
            if progress is not None:
                progress(start + len(rows), len(source))
        if uncommitted or not exists(path):
            writer.commit()
    return BinaryStore.open(path) if isinstance(adapter, Itq) else GlobalStore.open(path)


def sample_rows(store: GlobalStore, count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return a random sample of a store's rows to fit an adapter on, in row order.

    Args:
        store: Where from.
        count: How many; all if there are fewer.
        seed: Of the sample.

    Returns:
        float32 [min(count, rows), dim].

    Raises:
        ParameterError: `count` is below 1.
    """
    count = _arrays.at_least_one("count", count)
    chosen = np.random.default_rng(seed).permutation(len(store))[:count]
    return store.rows(np.sort(chosen).astype(np.int64)).astype(np.float32)


def _provenance(source: GlobalStore, adapter: Adapter) -> dict[str, Any]:
    inherited = source.provenance
    before = inherited.get("adaptation", [])
    steps = before if isinstance(before, list) else [before]
    return {**inherited, "adaptation": [*steps, adapter.provenance()], "ilias_fast": __version__}


def _writer(source: GlobalStore, path: Path, adapter: Adapter, provenance: dict[str, Any]) -> Any:
    kind = BinaryStore if isinstance(adapter, Itq) else GlobalStore
    if not exists(path):
        parameters = adapter.provenance()
        if isinstance(adapter, Itq):
            return BinaryStore.create(
                path, bits=adapter.bits, provenance=provenance, parent=source, parameters=parameters
            )
        assert isinstance(adapter, (LinearAdapter, PcaWhitening))
        return GlobalStore.create(
            path, dim=adapter.output_dim, provenance=provenance, parent=source, parameters=parameters
        )
    there = open_store(path)
    same = {**there.provenance, "ilias_fast": None} == {**provenance, "ilias_fast": None}
    parent = there.parent or {}
    if not isinstance(there, kind) or not same or parent.get("checksum") != source.checksum:
        raise IncompatibleStoreError(
            f"{path}: expected a store derived from {source.path} as it is now by this {adapter.kind} "
            f"adapter, found another one; choose another path, or remove it to derive it anew"
        )
    writer: BinaryWriter | GlobalWriter = kind.append_to(path)
    return writer


def _check_prefix(source: GlobalStore, path: Path, done: int) -> None:
    if done > len(source):
        raise IncompatibleStoreError(f"{path}: has {done} rows, more than the {len(source)} of {source.path}")


def _blocks(source: GlobalStore, done: int) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Yield (first row, rows) from row `done` on."""
    step = max(1, _BLOCK_BYTES // (4 * source.dim))
    for first, shard in source.shards():
        for start in range(max(first, done), first + len(shard), step):
            yield start, shard[start - first : start - first + step]
