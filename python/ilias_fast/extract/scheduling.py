"""Images through an extractor: prepared ahead in threads or processes, described in batches, out in order."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ilias_fast.errors import ImageError
from ilias_fast.extract.batching import Batch, Batcher
from ilias_fast.extract.features import Extractor, LocalFeatures, StagedExtractor
from ilias_fast.extract.sharing import SLOT_BYTES, Packed, SharedSlots, WorkerSlots
from ilias_fast.images import ImageSource, decode

__all__ = ["BoxesOf", "Described", "Schedule", "decoders", "described"]

BoxesOf = Callable[[str], NDArray[np.int64]]
_Pixels = NDArray[np.uint8]

_CORES_FOR_PROCESSES = 4
_SLOTS = 64  # of shared memory, for what processes have prepared
_TOGETHER = 8  # images prepared by a process at once: handing over costs the threads that feed a device
_AHEAD_BYTES = 300_000_000  # prepared and not yet in a bucket, about
_WINDOW_BYTES = 512_000_000  # waiting in buckets, about
_BATCH_BYTES = 150_000_000  # images as large as this make a batch of few


class Described(NamedTuple):
    """What an extractor made of one image: float32 [dim] or None, local descriptors or None."""

    vector: NDArray[np.float32] | None
    local: LocalFeatures | None


class Schedule(NamedTuple):
    """How the work is spread.

    Attributes:
        threads: That read, decode and prepare; they also describe where the extractor allows it.
        processes: That read, decode and prepare in place of the threads; 0 for none.
        batch_size: Images in a batch; None for the extractor's best.
        window: Images that may wait for a batch of their bucket to fill up.
    """

    threads: int
    processes: int
    batch_size: int | None
    window: int


def decoders(extractor: Extractor, threads: int) -> int:
    """Return how many processes should decode for an extractor; 0 if threads can.

    Python's threads take turns in part of the work; some hundred images a second, which a GPU outruns.

    Args:
        extractor: What describes the images.
        threads: Cores that may be used.
    """
    device = getattr(getattr(extractor, "device", None), "type", "cpu")
    return threads if device != "cpu" and threads >= _CORES_FOR_PROCESSES else 0


def described(
    extractor: Extractor,
    source: ImageSource,
    names: Sequence[str],
    schedule: Schedule,
    boxes: BoxesOf | None,
    settled: Callable[[int], object],
) -> Iterator[tuple[str, Described | ImageError | BaseException]]:
    """Yield what becomes of each image, in the order of `names`.

    Which images share a batch depends on the images and the schedule alone, not on which thread was faster.

    Args:
        extractor: What describes them.
        source: Where their bytes come from.
        names: Their ids.
        schedule: How the work is spread.
        boxes: The boxes of an image; None if there are none or they are not used.
        settled: Called with a number of images whenever it is known what becomes of so many more; they may
            wait for one before them to be yielded.

    Yields:
        (id, what was made of it; or the `ImageError` of an image that cannot be read; or what the extractor
        raised for its batch).
    """
    staged = isinstance(extractor, StagedExtractor)
    stages: StagedExtractor = extractor if isinstance(extractor, StagedExtractor) else _Whole(extractor)
    with ExitStack() as stack:
        concurrent = staged and stages.concurrent
        worker = getattr(stages, "worker", nullcontext)  # what the describing threads need around them
        enter = stack.enter_context(worker()) if concurrent else None
        pool: Executor = ThreadPoolExecutor(schedule.threads, initializer=enter)
        overlapping = getattr(stages, "describers", 1)  # batches on their way to a device at once
        describers: Executor = pool if concurrent else ThreadPoolExecutor(overlapping)
        _closed(stack, pool)
        if not concurrent:
            _closed(stack, describers)
        load = partial(_load, source, boxes if stages.uses_boxes else None, stages.preparation)

        def submit(names: Sequence[str]) -> Callable[[], list[Any]]:
            return pool.submit(load, names).result

        if schedule.processes:
            slots = SharedSlots(min(4 * schedule.processes, _SLOTS))
            stack.callback(slots.close)
            # In a file: a pipe that is full makes each process wait until the one before has started.
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ilias-fast-"))) / "work"
            work.write_bytes(pickle.dumps(load))
            workers = ProcessPoolExecutor(
                schedule.processes,
                mp_context=multiprocessing.get_context("spawn"),  # forks of threads that hold locks may hang
                initializer=_start_worker,
                initargs=(work, slots.address),
            )
            _closed(stack, workers)

            def submit(names: Sequence[str]) -> Callable[[], list[Any]]:
                slot = slots.take()
                future = workers.submit(_work, names, slot)

                def outcomes() -> list[Any]:
                    try:
                        prepared: list[Any] = slots.unpack(future.result(), slot)
                        return prepared
                    finally:
                        slots.give(slot)

                return outcomes

        yield from _ordered(
            stages,
            names,
            submit,
            describers,
            schedule,
            settled,
            ahead=4 * (schedule.processes or schedule.threads),
            together=_TOGETHER if schedule.processes else 1,
            in_flight=2 * schedule.threads if concurrent else overlapping + 1,
        )


def _closed(stack: ExitStack, pool: Executor) -> None:
    stack.callback(pool.shutdown, wait=True, cancel_futures=True)


def _ordered(
    stages: StagedExtractor,
    names: Sequence[str],
    submit: Callable[[Sequence[str]], Callable[[], list[Any]]],
    describers: Executor,
    schedule: Schedule,
    settled: Callable[[int], object],
    *,
    ahead: int,
    together: int,
    in_flight: int,
) -> Iterator[tuple[str, Described | ImageError | BaseException]]:
    batcher: Batcher[Any] = Batcher(
        schedule.batch_size or stages.best_batch,
        window=schedule.window,
        window_bytes=_WINDOW_BYTES,
        batch_bytes=_BATCH_BYTES,
    )
    waiting: deque[Callable[[], list[Any]]] = deque()
    running: deque[tuple[Batch[Any], Future[Any]]] = deque()
    results: dict[int, Described | BaseException] = {}
    submitted = taken = given = 0
    seen, nbytes = 0, 0

    def collect() -> None:
        batch, future = running.popleft()
        results.update(zip(batch.places, _outcomes(len(batch.places), future), strict=True))
        settled(len(batch.places))

    while given < len(names):
        # As many at once as fit a slot, and one as long as it is not known how large they are.
        several = max(1, min(together, SLOT_BYTES * seen // nbytes)) if nbytes else 1
        most = max(2, min(ahead * several, _AHEAD_BYTES * seen // nbytes)) if nbytes else ahead
        while submitted < len(names) and submitted - taken < most:
            part = names[submitted : submitted + several]
            waiting.append(submit(part))
            submitted += len(part)
        ready: list[Batch[Any]] = []
        for outcome in waiting.popleft()() if waiting else ():
            if isinstance(outcome, ImageError):
                results[taken] = outcome
                settled(1)
            else:
                cost = _size(outcome)
                seen, nbytes = seen + 1, nbytes + cost
                batcher.size = schedule.batch_size or stages.best_batch  # it shrinks when memory runs out
                ready += batcher.add(taken, outcome, stages.bucket(outcome), cost)
            taken += 1
        if taken == len(names):
            ready += batcher.finish()
        for batch in ready:
            while len(running) >= in_flight:
                collect()
            running.append((batch, describers.submit(stages.describe, batch.items)))
        while running and (running[0][1].done() or (taken == len(names) and given not in results)):
            collect()
        while given in results:
            yield names[given], results.pop(given)
            given += 1


def _outcomes(count: int, future: Future[Any]) -> list[Described | BaseException]:
    try:
        vectors, locals_ = future.result()
    except BaseException as error:  # raised when its place in the order comes: what is before it is kept
        return [error] * count
    return [
        Described(None if vectors is None else vectors[row], None if locals_ is None else locals_[row])
        for row in range(count)
    ]


def _size(prepared: Any) -> int:
    if isinstance(prepared, np.ndarray):
        return prepared.nbytes
    if isinstance(prepared, tuple):
        return sum(_size(part) for part in prepared)
    return 64


def _load(source: ImageSource, boxes: BoxesOf | None, prepare: Any, names: Sequence[str]) -> list[Any]:
    outcomes: list[Any] = []
    for name in names:
        try:
            image = decode(source.read(name), name)
            outcomes.append(prepare(image, None if boxes is None else boxes(name)))
        except ImageError as error:
            outcomes.append(error)
    return outcomes


def _start_worker(work: Path, address: str | None) -> None:
    global _working
    _working = pickle.loads(work.read_bytes()), WorkerSlots(address)


_working: tuple[Callable[[Sequence[str]], list[Any]], WorkerSlots] | None = None


def _work(names: Sequence[str], slot: int | None) -> Packed:
    assert _working is not None
    load, slots = _working
    return slots.pack(load(names), slot)


def _as_it_is(image: _Pixels, boxes: NDArray[np.int64] | None = None) -> _Pixels:
    del boxes
    return image


class _Whole:
    """An extractor that does everything at once, as one with stages: nothing is prepared, one bucket."""

    best_batch = 32
    concurrent = False
    uses_boxes = False
    preparation = staticmethod(_as_it_is)

    def __init__(self, extractor: Extractor) -> None:
        self.global_dim = extractor.global_dim
        self.code_bits = extractor.code_bits
        self.local_optional = extractor.local_optional
        self.provenance = extractor.provenance
        self.extract = extractor.extract

    def prepare(self, image: _Pixels, boxes: NDArray[np.int64] | None = None) -> _Pixels:
        return _as_it_is(image, boxes)

    def bucket(self, prepared: _Pixels) -> None:
        del prepared

    def describe(self, prepared: Sequence[_Pixels]) -> Any:
        return self.extract(prepared)
