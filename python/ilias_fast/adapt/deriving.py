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
from ilias_fast.adapt.steps import Signs, Strongest, Unpack
from ilias_fast.errors import IliasFastError, IncompatibleStoreError
from ilias_fast.store import BinaryStore, GlobalStore, LocalImage, LocalStore, exists, open_store
from ilias_fast.store.formats.prefetch import prefetched

__all__ = ["Step", "derive", "sample_rows"]

Step: TypeAlias = VectorAdapter | Itq | Signs | Unpack | Strongest
"""What can be done to a store."""

_BLOCK_BYTES = 32 << 20
_BLOCK_IMAGES = 256
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
    step: Strongest | Itq,
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
        step: A `LinearAdapter` or whitening (global to global), an `Itq` (global to binary, or float16 local
            descriptors to codes), `Signs` (global to binary), an `Unpack` (binary to global) or a
            `Strongest` (local to local).
        threads: Number of threads that adapt; None for all cores.
        progress: Called with (rows done, rows in all).

    Returns:
        The derived store, opened.

    Raises:
        IncompatibleStoreError: The step is for stores of another kind or length, or the store at `path` was
            derived from something else or in another way.
        NonFiniteError: A result is beyond float16.
        StoreLockedError, CorruptStoreError, StorageError: The store cannot be written.

    Complexity: one pass over the rows; memory for three blocks of about 32 MiB and one shard.
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
                    writer.append(ids, result)
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
        ParameterError: `count` is below 1.
    """
    count = _arrays.at_least_one("count", count)
    chosen = np.random.default_rng(seed).permutation(len(store))[:count]
    return store.rows(np.sort(chosen).astype(np.int64)).astype(np.float32)


def _check(source: GlobalStore | BinaryStore | LocalStore, step: Step) -> None:
    if isinstance(step, Strongest):
        if isinstance(source, LocalStore):
            source.require("weight")
            return
        wanted, found = "a local store", repr(source)
    elif isinstance(source, LocalStore) and isinstance(step, Itq):
        if source.dim == step.input_dim:
            return
        wanted, found = f"float16 descriptors of dimension {step.input_dim}", repr(source)
    elif isinstance(step, Unpack):
        if isinstance(source, BinaryStore) and source.bits == step.bits:
            return
        wanted, found = f"a binary store of {step.bits} bits", repr(source)
    else:
        if isinstance(source, GlobalStore) and source.dim == step.input_dim:
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
        for start in range(done, len(source), _BLOCK_IMAGES):
            rows = range(start, min(start + _BLOCK_IMAGES, len(source)))
            images = [source.image(row) for row in rows]
            if isinstance(step, Strongest):
                images = [step.apply(image) for image in images]
            elif isinstance(step, Itq):
                images = _binarised(images, step, threads)
            size = sum(value.nbytes for image in images for value in image if isinstance(value, np.ndarray))
            yield source.id_of(np.array(rows)), images, size
        return
    for numbers, rows_there in _blocks(source, done):
        result: NDArray[Any]
        if isinstance(step, VectorAdapter):
            result = step.apply_half(rows_there, threads=threads)
        elif isinstance(step, Unpack):
            result = step.apply(rows_there)
        else:
            assert not isinstance(step, Strongest)
            result = step.apply(rows_there, threads=threads)
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


def _binarised(images: list[LocalImage], step: Itq, threads: int | None) -> list[LocalImage]:
    """Return images with codes in place of their float16 descriptors."""
    descriptors = [image.descriptors for image in images if image.descriptors is not None]
    codes = step.apply(np.concatenate(descriptors), threads=threads)
    ends = np.cumsum([len(one) for one in descriptors])
    parts = np.split(codes, ends[:-1])
    return [image._replace(codes=part, descriptors=None) for image, part in zip(images, parts, strict=True)]


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
            if isinstance(step, Itq):
                return LocalStore.create(path, optional=source.optional, bits=step.bits, **options)
            length: dict[str, Any] = {"dim": source.dim} if source.dim else {"bits": source.bits}
            return LocalStore.create(path, optional=source.optional, **length, **options)
        if isinstance(step, (Itq, Signs)):
            return BinaryStore.create(path, bits=step.bits, **options)
        if isinstance(step, Unpack):
            return GlobalStore.create(path, dim=step.bits, **options)
        assert isinstance(step, VectorAdapter)
        return GlobalStore.create(path, dim=step.output_dim, **options)
    there = open_store(path)
    same = {**there.provenance, "ilias_fast": None} == {**provenance, "ilias_fast": None}
    parent = there.parent or {}
    if not isinstance(there, kind) or not same or parent.get("checksum") != source.checksum:
        raise IncompatibleStoreError(
            f"{path}: expected a store derived from {source.path} as it is now by this {step.kind} "
            f"adapter, found another one; choose another path, or remove it to derive it anew"
        )
    return kind.append_to(path)
