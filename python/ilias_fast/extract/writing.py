"""Extraction of a whole source of images into stores, batch by batch, resumable at any point."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ilias_fast import __version__, _arrays, cpu
from ilias_fast.errors import DuplicateIdError, ImageError, IncompatibleStoreError, ParameterError
from ilias_fast.extract.features import Extractor
from ilias_fast.images import ImageSource, decode
from ilias_fast.store import GlobalStore, GlobalWriter, LocalStore, LocalWriter, exists

__all__ = ["ExtractReport", "extract_to_stores"]

_log = logging.getLogger(__name__)

_Pixels = NDArray[np.uint8]
_Writer = TypeVar("_Writer", GlobalWriter, LocalWriter)

_PIXEL_BUDGET = 100_000_000  # decoded at the same time, about: 300 MB
_COMMIT_IMAGES = 2048
_NAMED = 3  # differing settings that an error names


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did.

    Attributes:
        extracted: Images described and stored by this run.
        resumed: Images that were in the stores already.
        skipped: (id, reason) of each image that could not be read or decoded.
    """

    extracted: int
    resumed: int
    skipped: list[tuple[str, str]] = field(default_factory=list)


def extract_to_stores(
    extractor: Extractor,
    source: ImageSource,
    ids: Sequence[str] | None = None,
    *,
    global_store: Path | None = None,
    local_store: Path | None = None,
    batch_size: int = 32,
    commit_every: int = _COMMIT_IMAGES,
    strict: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> ExtractReport:
    """Describe images and append them to stores, in the order of `ids`.

    Run again after an interruption, it goes on where it stopped: ids that are in the stores are left alone,
    and when the two stores differ (a crash between their commits) each gets what it lacks. The rows are then
    those of an uninterrupted run, in the same order. Images skipped before are tried again.

    Args:
        extractor: What describes the images.
        source: Where their bytes come from.
        ids: Which images; None for all of the source.
        global_store: Where the global descriptors go; created, or continued if it is there. None for nowhere.
        local_store: The same for the local ones.
        batch_size: Images given to the extractor at once.
        commit_every: Images between commits: what a crash can cost. Each commit makes a file, so not too few.
        strict: Raise on the first image that cannot be decoded, instead of skipping it. What came before it
            is committed.
        threads: Threads that read and decode ahead; None for all cores.
        progress: Called with (images done, images in all), resumed and skipped ones included.

    Raises:
        ImageError: An image cannot be read or decoded, and `strict` is set.
        IncompatibleStoreError: A store was made by other settings, or is of another kind or dimension.
        DuplicateIdError: An id is given twice.
        ParameterError: No store is given, one the extractor has nothing for, or a number is below 1.
        StoreLockedError, CorruptStoreError, StorageError: A store cannot be written to.
    """
    _check(extractor, global_store, local_store, batch_size, commit_every)
    names = list(source.ids() if ids is None else ids)
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DuplicateIdError(f"ids: {twice!r} is given twice")
    with ExitStack() as stack:
        # Plain closing, not the writers' own blocks: those would commit on leaving, even when only one of
        # the two got its batch.
        to_global = None if global_store is None else _global_writer(extractor, Path(global_store), stack)
        to_local = None if local_store is None else _local_writer(extractor, Path(local_store), stack)
        in_global = _held(to_global, names)
        in_local = _held(to_local, names)
        todo = [name for name in names if name not in in_global or name not in in_local]
        resumed = len(names) - len(todo)
        _log.debug("extract: %d images, %d are in the stores already", len(names), resumed)
        skipped: list[tuple[str, str]] = []
        extracted = 0
        pending = 0

        def commit() -> None:
            for writer in (to_global, to_local):
                if writer is not None:
                    writer.commit()

        def tell() -> None:
            if progress is not None:
                progress(resumed + extracted + len(skipped), len(names))

        tell()
        pool = stack.enter_context(ThreadPoolExecutor(cpu.threads(threads)))
        # Entered after the pool and so left before it: what is still queued is dropped, not decoded.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        try:
            for batch in _batches(_decoded(source, todo, pool, batch_size), batch_size):
                readable: list[tuple[str, _Pixels]] = []
                failure: ImageError | None = None
                for name, outcome in batch:
                    if isinstance(outcome, ImageError):
                        if strict:
                            failure = outcome
                            break
                        skipped.append((name, str(outcome)))
                    else:
                        readable.append((name, outcome))
                if readable:
                    vectors, locals_ = extractor.extract([pixels for _, pixels in readable])
                    if to_global is not None and vectors is not None:
                        rows = [row for row, (name, _) in enumerate(readable) if name not in in_global]
                        to_global.append([readable[row][0] for row in rows], vectors[rows])
                    if to_local is not None and locals_ is not None:
                        rows = [row for row, (name, _) in enumerate(readable) if name not in in_local]
                        to_local.append([readable[row][0] for row in rows], [locals_[row] for row in rows])
                extracted += len(readable)
                pending += len(readable)
                if failure is not None:
                    raise failure
                if pending >= commit_every:
                    commit()
                    pending = 0
                tell()
        except (ImageError, KeyboardInterrupt):
            commit()  # stopped on purpose: keep what is finished
            raise
        commit()
    return ExtractReport(extracted, resumed, skipped)


def _check(
    extractor: Extractor,
    global_store: Path | None,
    local_store: Path | None,
    batch_size: int,
    commit_every: int,
) -> None:
    if global_store is None and local_store is None:
        raise ParameterError("expected global_store or local_store or both, found neither")
    if global_store is not None and local_store is not None and Path(global_store) == Path(local_store):
        raise ParameterError(f"expected two stores, found {global_store} for both descriptors")
    if global_store is not None and extractor.global_dim is None:
        raise ParameterError("global_store: this extractor has no global descriptors")
    if local_store is not None and extractor.code_bits is None:
        raise ParameterError("local_store: this extractor has no local codes")
    for name, value in (("batch_size", batch_size), ("commit_every", commit_every)):
        _arrays.at_least_one(name, value)


def _held(writer: GlobalWriter | LocalWriter | None, names: list[str]) -> frozenset[str]:
    """Return which images a store has; all of them if there is no store to fill."""
    if writer is None:
        return frozenset(names)
    there = writer.contains(names)
    return frozenset(name for name, held in zip(names, there.tolist(), strict=True) if held)


def _global_writer(extractor: Extractor, path: Path, stack: ExitStack) -> GlobalWriter:
    assert extractor.global_dim is not None
    if not exists(path):
        writer = GlobalStore.create(path, dim=extractor.global_dim, provenance=_provenance(extractor))
        stack.callback(writer.close)
        return writer
    writer = _continued(extractor, path, GlobalStore.append_to(path), stack)
    if writer.dim != extractor.global_dim:
        raise IncompatibleStoreError(f"{path}: expected dimension {extractor.global_dim}, found {writer.dim}")
    return writer


def _local_writer(extractor: Extractor, path: Path, stack: ExitStack) -> LocalWriter:
    assert extractor.code_bits is not None
    if not exists(path):
        writer = LocalStore.create(
            path,
            bits=extractor.code_bits,
            optional=extractor.local_optional,
            provenance=_provenance(extractor),
        )
        stack.callback(writer.close)
        return writer
    writer = _continued(extractor, path, LocalStore.append_to(path), stack)
    if writer.bits != extractor.code_bits:
        raise IncompatibleStoreError(
            f"{path}: expected codes of {extractor.code_bits} bits, found {writer.bits}"
        )
    return writer


def _provenance(extractor: Extractor) -> dict[str, object]:
    return {**extractor.provenance(), "ilias_fast": __version__}


def _continued(extractor: Extractor, path: Path, writer: _Writer, stack: ExitStack) -> _Writer:
    """Check that the rows of a store were made by the same settings: all that `provenance` says."""
    stack.callback(writer.close)
    there = writer.provenance
    now = extractor.provenance()
    differing = [key for key, value in now.items() if key not in there or there[key] != value]
    if differing:
        listed = "; ".join(f"{key}: {there.get(key)!r} there, {now[key]!r} now" for key in differing[:_NAMED])
        listed += f"; and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise IncompatibleStoreError(
            f"{path}: its rows were made with other settings ({listed}); extract with the same settings, "
            f"or into another store"
        )
    return writer


def _load(source: ImageSource, name: str) -> _Pixels | ImageError:
    try:
        return decode(source.read(name), name)
    except ImageError as error:
        return error


def _decoded(
    source: ImageSource, names: list[str], pool: ThreadPoolExecutor, batch_size: int
) -> Iterator[tuple[str, _Pixels | ImageError]]:
    """Yield images in order, decoded ahead as far as a budget of pixels allows."""
    queue: deque[tuple[str, Future[_Pixels | ImageError]]] = deque()
    ahead, window, pixels, finished = iter(names), 8, 0, 0
    while True:
        while len(queue) < window and (name := next(ahead, None)) is not None:
            queue.append((name, pool.submit(_load, source, name)))
        if not queue:
            return
        name, future = queue.popleft()
        outcome = future.result()
        if not isinstance(outcome, ImageError):
            pixels += outcome.shape[0] * outcome.shape[1]
            finished += 1
            window = max(2, min(2 * batch_size, _PIXEL_BUDGET * finished // (2 * pixels)))
        yield name, outcome


def _batches(
    images: Iterator[tuple[str, _Pixels | ImageError]], batch_size: int
) -> Iterator[list[tuple[str, _Pixels | ImageError]]]:
    """Collect images until there are `batch_size` of them, or half the budget of pixels."""
    batch: list[tuple[str, _Pixels | ImageError]] = []
    pixels = 0
    for name, outcome in images:
        batch.append((name, outcome))
        pixels += 0 if isinstance(outcome, ImageError) else outcome.shape[0] * outcome.shape[1]
        if len(batch) >= batch_size or pixels >= _PIXEL_BUDGET // 2:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
