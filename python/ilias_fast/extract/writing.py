"""Extraction of a whole source of images into stores, batch by batch, resumable at any point."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ilias_fast import __version__, _arrays, cpu
from ilias_fast.errors import (
    DuplicateIdError,
    ImageError,
    IncompatibleStoreError,
    InputError,
    ParameterError,
)
from ilias_fast.extract.features import Extractor
from ilias_fast.extract.scheduling import BoxesOf, Described, Schedule, decoders, described
from ilias_fast.images import ImageSource
from ilias_fast.store import GlobalStore, GlobalWriter, LocalStore, LocalWriter, exists

__all__ = ["ExtractReport", "checked_ids", "extract_to_stores", "global_writer"]

_log = logging.getLogger(__name__)

_COMMIT_IMAGES = 2048
_APPEND_IMAGES = 64
_WINDOW = 4096
_NAMED = 3  # differing settings that an error names


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did.

    Attributes:
        extracted: Images described and stored by this run.
        resumed: Images that were in the stores already.
        skipped: (id, reason) of each image that could not be read or decoded.

    Examples:
        >>> report = ExtractReport(extracted=10, resumed=2, skipped=[("a.jpg", "cannot be decoded")])
        >>> len(report.skipped)
        1
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
    boxes: BoxesOf | None = None,
    batch_size: int | None = None,
    window: int = _WINDOW,
    commit_every: int = _COMMIT_IMAGES,
    strict: bool = False,
    processes: int | None = 0,
    on_skip: Callable[[str, str], object] | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> ExtractReport:
    """Describe images and append them to stores, in the order of `ids`.

    Images are read, decoded and prepared ahead of the device. Batches are of images of one size, collected
    over a window of many: they stay full whatever the order of sizes.

    Run again after an interruption, it goes on where it stopped: ids that are in the stores are left alone,
    and when the two stores differ (a crash between their commits) each gets what it lacks. The rows are then
    those of an uninterrupted run, in the same order. Images skipped before are tried again.

    Args:
        extractor: What describes the images.
        source: Where their bytes come from.
        ids: Which images; None for all of the source.
        global_store: Where the global descriptors go; created, or continued if it is there. None for nowhere.
        local_store: The same for the local ones.
        boxes: Returns the boxes of an image, int64 [n, 4], for an extractor that crops to or masks by them.
        batch_size: Images given to the extractor at once; None for what suits it.
        window: Images that may wait, at most, until there is a batch of their size.
        commit_every: Images between commits: with the window, what a crash can cost. Each commit makes a
            file, so not too few.
        strict: Raise on the first image that cannot be decoded, instead of skipping it. What came before it
            is committed.
        processes: Processes that read and decode in place of the threads: for a device that outruns what
            Python's threads can feed. The source (and `boxes`) are then sent to them, and the program's own
            work must stand behind `if __name__ == "__main__"`. None for one a core for a GPU, else none.
        on_skip: Called with (id, reason) as soon as an image is skipped.
        threads: Threads that read and decode ahead, and compute where the CPU does; None for all cores.
        progress: Called with (images done, images in all) after each batch and each image that was skipped;
            those that were in the stores count, and those that wait for one before them to be stored.

    Raises:
        ImageError: An image cannot be read or decoded, and `strict` is set.
        IncompatibleStoreError: A store was made by other settings, or is of another kind or dimension.
        DuplicateIdError: An id is given twice.
        ParameterError: No store is given, one the extractor has nothing for, or a number is below 1; or the
            extractor needs boxes and none are given.
        StoreLockedError, CorruptStoreError, StorageError: A store cannot be written to.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import load_dataset
        >>> from ilias_fast.datasets.generate import generate
        >>> from ilias_fast.store import GlobalStore
        >>> _ = generate("toy", objects=1, images=10)
        >>> source, ids = load_dataset("toy").images("positives")
        >>> options = ClassicalOptions(longer_side=200, words=4, bits=8)
        >>> extractor = ClassicalExtractor.fit(source, ids, options=options)
        >>> report = extract_to_stores(extractor, source, ids, global_store=Path("vectors"))
        >>> report.extracted == len(GlobalStore.open("vectors")) == len(ids)
        True
    """
    _check(extractor, global_store, local_store, boxes)
    cores = cpu.threads(threads)
    schedule = Schedule(
        threads=cores,
        processes=decoders(extractor, cores)
        if processes is None
        else _arrays.at_least("processes", processes, 0),
        batch_size=None if batch_size is None else _arrays.at_least_one("batch_size", batch_size),
        window=_arrays.at_least_one("window", window),
    )
    commit_every = _arrays.at_least_one("commit_every", commit_every)
    names = checked_ids(source.ids() if ids is None else ids)
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
        extracted = settled = 0
        pending: list[tuple[str, Described]] = []

        def append() -> None:
            batch, pending[:] = list(pending), []  # first: interrupted in between, nothing is appended twice
            rows = [(name, made.vector) for name, made in batch if name not in in_global]
            if to_global is not None and rows:
                to_global.append(
                    [name for name, _ in rows], np.stack([row for _, row in rows if row is not None])
                )
            features = [(name, made.local) for name, made in batch if name not in in_local]
            if to_local is not None and features:
                to_local.append(
                    [name for name, _ in features], [row for _, row in features if row is not None]
                )

        def commit() -> None:
            append()
            for writer in (to_global, to_local):
                if writer is not None:
                    writer.commit()

        def tell(count: int) -> None:
            nonlocal settled
            settled += count
            if progress is not None:
                progress(resumed + settled, len(names))

        tell(0)
        uncommitted = 0
        outcomes = described(extractor, source, todo, schedule, boxes, tell)
        stack.callback(outcomes.close)  # type: ignore[attr-defined]
        try:
            for name, outcome in outcomes:
                if isinstance(outcome, ImageError):
                    if strict:
                        raise outcome
                    skipped.append((name, str(outcome)))
                    if on_skip is not None:
                        on_skip(name, str(outcome))
                elif isinstance(outcome, BaseException):
                    raise outcome
                else:
                    pending.append((name, outcome))
                    extracted += 1
                    uncommitted += 1
                if len(pending) >= _APPEND_IMAGES:
                    append()
                if uncommitted >= commit_every:
                    commit()
                    uncommitted = 0
        except (ImageError, InputError, KeyboardInterrupt):
            commit()  # stopped on purpose, or by an image: keep what is finished
            raise
        commit()
    return ExtractReport(extracted, resumed, skipped)


def checked_ids(ids: Iterable[str]) -> list[str]:
    """Return ids as a list.

    Args:
        ids: The ids.

    Raises:
        DuplicateIdError: An id is given twice.
    """
    names = list(ids)
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DuplicateIdError(f"ids: {twice!r} is given twice")
    return names


def _check(
    extractor: Extractor, global_store: Path | None, local_store: Path | None, boxes: BoxesOf | None
) -> None:
    if global_store is None and local_store is None:
        raise ParameterError("expected global_store or local_store or both, found neither")
    if global_store is not None and local_store is not None and Path(global_store) == Path(local_store):
        raise ParameterError(f"expected two stores, found {global_store} for both descriptors")
    if global_store is not None and extractor.global_dim is None:
        raise ParameterError("global_store: this extractor has no global descriptors")
    if local_store is not None and not _local_length(extractor):
        raise ParameterError("local_store: this extractor has no local codes or descriptors")
    if getattr(extractor, "uses_boxes", False) and boxes is None:
        raise ParameterError("boxes: the extractor crops to boxes or masks by them, found none given")


def _held(writer: GlobalWriter | LocalWriter | None, names: list[str]) -> frozenset[str]:
    """Return which images a store has; all of them if there is no store to fill."""
    if writer is None:
        return frozenset(names)
    there = writer.contains(names)
    return frozenset(name for name, held in zip(names, there.tolist(), strict=True) if held)


def _global_writer(extractor: Extractor, path: Path, stack: ExitStack) -> GlobalWriter:
    assert extractor.global_dim is not None
    writer = global_writer(extractor.provenance(), extractor.global_dim, path)
    stack.callback(writer.close)
    return writer


def global_writer(provenance: dict[str, object], dim: int, path: Path) -> GlobalWriter:
    """Return a writer of a new store, or one that continues a store whose rows were made alike.

    Args:
        provenance: What the rows are made of.
        dim: Their dimension.
        path: The store.

    Raises:
        IncompatibleStoreError: The store was made by other settings, or is of another kind or dimension.
        StoreLockedError, CorruptStoreError, StorageError: It cannot be written to.
    """
    if not exists(path):
        return GlobalStore.create(path, dim=dim, provenance={**provenance, "ilias_fast": __version__})
    writer = GlobalStore.append_to(path)
    try:
        _check_continued(provenance, path, writer)
        if writer.dim != dim:
            raise IncompatibleStoreError(f"{path}: expected dimension {dim}, found {writer.dim}")
    except IncompatibleStoreError:
        writer.close()
        raise
    return writer


def _local_length(extractor: Extractor) -> dict[str, Any]:
    """Return the length of the local descriptors, codes or float16, as a store is created with it."""
    if extractor.code_bits is not None:
        return {"bits": extractor.code_bits}
    dim = getattr(extractor, "local_dim", None)
    return {} if dim is None else {"dim": dim}


def _local_writer(extractor: Extractor, path: Path, stack: ExitStack) -> LocalWriter:
    length = _local_length(extractor)
    if not exists(path):
        writer = LocalStore.create(
            path,
            **length,
            optional=extractor.local_optional,
            provenance={**extractor.provenance(), "ilias_fast": __version__},
        )
        stack.callback(writer.close)
        return writer
    writer = LocalStore.append_to(path)
    stack.callback(writer.close)
    _check_continued(extractor.provenance(), path, writer)
    if {"bits": writer.bits or None, "dim": writer.dim or None} != {"bits": None, "dim": None, **length}:
        found = f"{writer.bits} bits" if writer.bits else f"{writer.dim} float16 numbers"
        raise IncompatibleStoreError(f"{path}: expected local descriptors of {length}, found {found}")
    return writer


def _check_continued(now: dict[str, object], path: Path, writer: GlobalWriter | LocalWriter) -> None:
    """Check that the rows of a store were made by the same settings: all that `provenance` says."""
    there = writer.provenance
    differing = [key for key, value in now.items() if key not in there or there[key] != value]
    if differing:
        listed = "; ".join(f"{key}: {there.get(key)!r} there, {now[key]!r} now" for key in differing[:_NAMED])
        listed += f"; and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise IncompatibleStoreError(
            f"{path}: its rows were made with other settings ({listed}); extract with the same settings, "
            f"or into another store"
        )
