"""Deriving one store from another: adapted, binarised, cast or truncated, block by block."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, SupportsIndex, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from ilias_fast import __version__, _arrays
from ilias_fast._files import StrPath
from ilias_fast.adapt.adapter import VectorAdapter
from ilias_fast.adapt.itq import Itq
from ilias_fast.adapt.local import local_results
from ilias_fast.adapt.steps import Signs, Strongest, Unpack
from ilias_fast.errors import IliasFastError, IncompatibleStoreError, NonFiniteError
from ilias_fast.store import BinaryStore, GlobalStore, LocalStore, exists, open_store
from ilias_fast.store.formats.prefetch import prefetched

__all__ = ["Step", "derive", "sample_rows"]

Step: TypeAlias = VectorAdapter | Itq | Signs | Unpack | Strongest
"""What can be done to a store."""

_BLOCK_BYTES = 32 << 20
_COMMIT_BYTES = 256 << 20
_COMMIT_SECONDS = 60.0


@overload
def derive(
    source: GlobalStore,
    path: StrPath,
    step: Itq | Signs,
    *,
    threads: SupportsIndex | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> BinaryStore: ...
@overload
def derive(
    source: GlobalStore,
    path: StrPath,
    step: VectorAdapter,
    *,
    threads: SupportsIndex | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> GlobalStore: ...
@overload
def derive(
    source: BinaryStore,
    path: StrPath,
    step: Unpack,
    *,
    threads: SupportsIndex | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> GlobalStore: ...
@overload
def derive(
    source: LocalStore,
    path: StrPath,
    step: Step,
    *,
    threads: SupportsIndex | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> LocalStore: ...
@overload
def derive(
    source: GlobalStore | BinaryStore | LocalStore,
    path: StrPath,
    step: Step,
    *,
    threads: SupportsIndex | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> GlobalStore | BinaryStore | LocalStore: ...
def derive(
    source: GlobalStore | BinaryStore | LocalStore,
    path: StrPath,
    step: Step,
    *,
    threads: SupportsIndex | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> GlobalStore | BinaryStore | LocalStore:
    """Apply a step to every row of a store and write a derived store with the same ids in the same order.

    A thread computes the next block while the one before it is written. Run again after an interruption or a
    kill it goes on after the last commit; a finished store is opened as it is. The derived store records
    its parent with the step's parameters, and the step in its provenance (`adaptation`, a list: derivations
    of derived stores add up).

    Args:
        source: The store to derive from.
        path: Where the derived store goes.
        step: A `LinearAdapter` or whitening (global to global), an `Itq` or `Signs` (global to binary) or an
            `Unpack` (binary to global). They map the descriptors of a local store likewise, from float16 to
            float16, to codes, and back. A `Strongest` (local to local, of either) keeps fewer.
        threads: Number of threads that adapt; None for all cores.
        progress: Called with (rows done, rows in all).

    Returns:
        The derived store, opened.

    Raises:
        IncompatibleStoreError: The step is for stores of another kind or length, or the store at `path` was
            derived from something else or in another way.
        NonFiniteError: A result is beyond float16; the message names the image.
        StoreLockedError, CorruptStoreError, StorageError: The store cannot be written.

    Complexity: one pass over the rows; memory for three blocks of about 32 MiB and one shard.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=8) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], [[1.0] * 8, [1, -1] * 4])
        >>> codes = derive(GlobalStore.open("vectors"), "codes", Signs(8))
        >>> codes.rows([0, 1]).tolist(), list(codes.ids)
        ([[255], [170]], ['a.jpg', 'b.jpg'])
    """
    path, threads = Path(path), _arrays.threads(threads)
    _check(source, step)
    provenance = _provenance(source, step)
    kind: Any = _target(source, step)
    with closing(_writer(source, path, step, provenance)) as writer:
        if len(writer) > len(source):
            raise IncompatibleStoreError(
                f"{path}: has {len(writer)} rows, more than the {len(source)} of {source.path}"
            )
        done, uncommitted, last = len(writer), 0, time.monotonic()
        if progress is not None:
            progress(done, len(source))
        try:
            with prefetched(_results(source, step, done, threads)) as blocks:
                for ids, result, size in blocks:
                    _append(writer, ids, result)
                    done += len(ids)
                    uncommitted += size
                    if uncommitted >= _COMMIT_BYTES or time.monotonic() - last > _COMMIT_SECONDS:
                        writer.commit()
                        uncommitted, last = 0, time.monotonic()
                    if progress is not None:
                        progress(done, len(source))
        except BaseException:
            # What was computed need not be computed again.
            with suppress(IliasFastError):
                if uncommitted:
                    writer.commit()
            raise
        if uncommitted or not exists(path):
            writer.commit()
    derived: GlobalStore | BinaryStore | LocalStore = kind.open(path)
    return derived


def sample_rows(store: GlobalStore, count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return a random sample of a store's rows to fit an adapter on, in row order.

    Args:
        store: Where from.
        count: How many; all if there are fewer.
        seed: Of the sample.

    Returns:
        float32 [min(count, rows), dim].

    Raises:
        ParameterError: `count` is below 1, or `seed` below 0.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg", "c.jpg"], [[1.0, 0], [0, 1], [1, 1]])
        >>> sample_rows(GlobalStore.open("vectors"), 2).shape
        (2, 2)
    """
    count, seed = _arrays.at_least_one("count", count), _arrays.at_least("seed", seed, 0)
    chosen = np.random.default_rng(seed).permutation(len(store))[:count]
    return store.rows(np.sort(chosen).astype(np.int64)).astype(np.float32)


def _append(writer: Any, ids: list[str], result: Any) -> None:
    local = isinstance(result, dict)
    try:
        if local:
            writer.append_arrays(ids, **result)
        else:
            writer.append(ids, result)
    except NonFiniteError as cause:
        rows = result["descriptors"] if local else result
        with np.errstate(over="ignore"):
            bad = int(np.argmin(np.isfinite(rows.astype(np.float16)).all(axis=1)))
        image = int(np.searchsorted(result["offsets"], bad, side="right")) - 1 if local else bad
        raise NonFiniteError(
            f"{writer.path}: expected results within float16, found one beyond it for {ids[image]!r} "
            f"(scale the adapter, or delete the image)"
        ) from cause


def _check(source: GlobalStore | BinaryStore | LocalStore, step: Step) -> None:
    if isinstance(step, Strongest):
        if isinstance(source, LocalStore):
            source.require("weight")
            return
        wanted, found = "a local store", repr(source)
    elif isinstance(step, Unpack):
        if not isinstance(source, GlobalStore) and source.bits == step.bits:
            return
        wanted, found = f"codes of {step.bits} bits", repr(source)
    else:
        if not isinstance(source, BinaryStore) and source.dim == step.input_dim:
            return
        found = str(source.dim) if isinstance(source, GlobalStore) else repr(source)
        wanted = f"dimension {step.input_dim}"
    raise IncompatibleStoreError(
        f"{source.path}: expected {wanted} for this {step.kind} adapter, found {found}"
    )


def _target(
    source: GlobalStore | BinaryStore | LocalStore, step: Step
) -> type[GlobalStore] | type[BinaryStore] | type[LocalStore]:
    if isinstance(source, LocalStore):
        return LocalStore
    return BinaryStore if isinstance(step, (Itq, Signs)) else GlobalStore


def _results(
    source: GlobalStore | BinaryStore | LocalStore, step: Step, done: int, threads: int | None
) -> Generator[tuple[list[str], Any, int], None, None]:
    """Yield ids, what is made of their rows, and its size, from row `done` on. Runs in a thread."""
    if isinstance(source, LocalStore):
        yield from local_results(source, step, done, lambda rows: _mapped(step, rows, threads))
        return
    for numbers, rows in _blocks(source, done):
        result = _mapped(step, rows, threads)
        yield source.id_of(numbers), result, result.nbytes


def _blocks(
    source: GlobalStore | BinaryStore, start: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Yield numbers and rows from row `start` on; float16 rows as views of the map."""
    if isinstance(source, GlobalStore):
        size = max(1, _BLOCK_BYTES // (4 * source.dim))
        for first, rows in source.shards():
            for at in range(max(0, start - first), len(rows), size):
                part = rows[at : at + size]
                yield np.arange(first + at, first + at + len(part)), part
        return
    size = max(1, _BLOCK_BYTES // (4 * source.bits))
    for at in range(start, len(source), size):
        numbers = np.arange(at, min(at + size, len(source)))
        yield numbers, source.rows(numbers)


def _mapped(step: Step, rows: NDArray[Any], threads: int | None) -> NDArray[Any]:
    """Return what a step makes of rows."""
    if isinstance(step, VectorAdapter):
        return step.apply_half(rows, threads=threads)
    if isinstance(step, Unpack):
        return step.apply(rows)
    assert not isinstance(step, Strongest)
    return step.apply(rows, threads=threads)


def _provenance(source: GlobalStore | BinaryStore | LocalStore, step: Step) -> dict[str, Any]:
    inherited = source.provenance
    before = inherited.get("adaptation", [])
    steps = before if isinstance(before, list) else [before]
    return {**inherited, "adaptation": [*steps, step.provenance()], "ilias_fast": __version__}


def _writer(
    source: GlobalStore | BinaryStore | LocalStore, path: Path, step: Step, provenance: dict[str, Any]
) -> Any:
    kind: Any = _target(source, step)
    if not exists(path):
        options: dict[str, Any] = {
            "provenance": provenance,
            "parent": source,
            "parameters": step.provenance(),
        }
        if isinstance(source, LocalStore):
            options["optional"] = source.optional
        return kind.create(path, **_length(source, step), **options)
    there = open_store(path)
    same = {**there.provenance, "ilias_fast": None} == {**provenance, "ilias_fast": None}
    parent = there.parent or {}
    if not isinstance(there, kind) or not same or parent.get("checksum") != source.checksum:
        raise IncompatibleStoreError(
            f"{path}: expected a store derived from {source.path} as it is now by this {step.kind} "
            f"adapter, found another one; choose another path, or remove it to derive it anew"
        )
    return kind.append_to(path)


def _length(source: GlobalStore | BinaryStore | LocalStore, step: Step) -> dict[str, int]:
    """Return the length of what a step makes, as `create` takes it."""
    if isinstance(step, Strongest):
        assert isinstance(source, LocalStore)
        return {"dim": source.dim} if source.dim else {"bits": source.bits}
    if isinstance(step, (Itq, Signs)):
        return {"bits": step.bits}
    return {"dim": step.bits if isinstance(step, Unpack) else step.output_dim}
