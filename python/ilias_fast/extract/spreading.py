"""One extraction over several devices: a process each, parts beside the store, merged when all are done."""

from __future__ import annotations

import multiprocessing
import queue
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ilias_fast import cpu
from ilias_fast.errors import IliasFastError, ParameterError, UnknownIdError
from ilias_fast.extract.features import Extractor
from ilias_fast.extract.scheduling import BoxesOf
from ilias_fast.extract.writing import ExtractReport, checked_ids, extract_to_stores, global_writer
from ilias_fast.images import ImageSource
from ilias_fast.store import GlobalStore, exists

__all__ = ["extract_on_devices"]

_MERGE_ROWS = 8192
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 15.0


def extract_on_devices(
    make: Callable[[str], Extractor],
    devices: Sequence[str],
    source: ImageSource,
    ids: Sequence[str] | None = None,
    *,
    global_store: Path,
    boxes: BoxesOf | None = None,
    options: Mapping[str, Any] | None = None,
    on_skip: Callable[[str, str], object] | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> ExtractReport:
    """Describe images on several devices, one process each.

    Each process continues a part beside the store (`<store>.part0`, ...); when all are done the rows are
    merged into the store in the order of `ids` and the parts are deleted. Run again after an interruption,
    with as many devices or others, what the parts hold is not computed again.

    Args:
        make: Makes the extractor for a device; sent to the processes, so a function of a module.
        devices: Their names; one may be named twice.
        source: Where the images' bytes come from; sent to the processes.
        ids: Which images; None for all of the source.
        global_store: Where the descriptors go.
        boxes: As in `extract_to_stores`; sent to the processes.
        options: Further arguments of `extract_to_stores`, by name.
        on_skip: Called with (id, reason) of each image that is skipped.
        threads: For all processes together; None for all cores.
        progress: Called with (images done, images in all).

    Raises:
        IliasFastError: What a process raised, or that it was killed. The others are stopped.
        ParameterError: There are no devices.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import load_dataset
        >>> from ilias_fast.datasets.generate import generate
        >>> def make(device):
        ...     network = load_network("test_vit", weights="random")
        ...     return NeuralExtractor(network, resolution=32, device=device)
        >>> _ = generate("toy", objects=1, images=10)
        >>> source, ids = load_dataset("toy").images("positives")
        >>> store = Path("vectors")
        >>> _ = extract_to_stores(make("cpu"), source, ids, global_store=store)
        >>> report = extract_on_devices(make, ["cuda:0", "cuda:1"], source, ids, global_store=store)
        >>> report.extracted, report.resumed == len(ids)  # all were there
        (0, True)
    """
    if not devices:
        raise ParameterError("devices: expected at least one, found none")
    names = checked_ids(source.ids() if ids is None else ids)
    store = Path(global_store)
    share = max(1, cpu.threads(threads) // len(devices))
    held = _held(names, [store, *_parts(store)])
    todo = [name for name, there in zip(names, held, strict=True) if not there]
    report = ExtractReport(0, len(names) - len(todo))
    if progress is not None:
        progress(report.resumed, len(names))
    extracted = 0
    skipped: list[tuple[str, str]] = []
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    messages: Any = context.Queue()
    cuts = np.linspace(0, len(todo), len(devices) + 1).astype(int).tolist()
    workers = {
        number: context.Process(
            target=_work,
            args=(messages, number, make, device, source, todo[cuts[number] : cuts[number + 1]]),
            kwargs={"path": _part(store, number), "boxes": boxes, "threads": share, **(options or {})},
            # Not a daemon: it may start processes that decode.
        )
        for number, device in enumerate(devices)
        if cuts[number] < cuts[number + 1]
    }
    try:
        for worker in workers.values():
            worker.start()
        running = set(workers)
        while running:
            try:
                number, kind, value = messages.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                for number in running:
                    if workers[number].exitcode is not None and messages.empty():
                        raise IliasFastError(
                            f"the process of {devices[number]} ended with exit code "
                            f"{workers[number].exitcode}; run again to go on where it stopped"
                        ) from None
                continue
            if kind == "error":
                raise value
            if kind == "done":
                running.discard(number)
                extracted += value.extracted
            elif kind == "skip":
                skipped.append(value)
                if on_skip is not None:
                    on_skip(*value)
            if kind == "progress":
                report = ExtractReport(report.extracted + value, report.resumed, skipped)
                if progress is not None:
                    progress(report.resumed + report.extracted, len(names))
    except BaseException:
        for worker in workers.values():
            if worker.is_alive():
                worker.terminate()
        raise
    finally:
        for worker in workers.values():
            if worker.pid is not None:  # it was started
                worker.join(_GRACE_SECONDS)
                if worker.is_alive():  # what it has committed is safe, and nothing else is waited for
                    worker.kill()
                    worker.join()
    _merge(store, names)
    order = {name: place for place, name in enumerate(names)}
    return ExtractReport(extracted, report.resumed, sorted(skipped, key=lambda one: order[one[0]]))


def _part(store: Path, number: int) -> Path:
    return store.with_name(f"{store.name}.part{number}")


def _parts(store: Path) -> list[Path]:
    found = [path for path in store.parent.glob(f"{store.name}.part*") if exists(path)]
    return sorted(found, key=lambda path: path.name)


def _held(names: list[str], paths: list[Path]) -> list[bool]:
    held = np.zeros(len(names), np.bool_)
    for path in paths:
        if exists(path) and names:
            held |= GlobalStore.open(path).contains(names)
    return [bool(there) for there in held]


def _work(
    messages: Any,
    number: int,
    make: Callable[[str], Extractor],
    device: str,
    source: ImageSource,
    ids: list[str],
    *,
    path: Path,
    **options: Any,
) -> None:
    """Run in a process of its own: extract a share of the images and report."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and says when to stop
    signal.signal(signal.SIGTERM, _stop)
    before = 0

    def progress(done: int, total: int) -> None:
        nonlocal before
        del total
        if done > before:
            messages.put((number, "progress", done - before))
        before = done

    try:
        report = extract_to_stores(
            make(device),
            source,
            ids,
            global_store=path,
            progress=progress,
            on_skip=lambda name, reason: messages.put((number, "skip", (name, reason))),
            **options,
        )
        messages.put((number, "done", report))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        messages.put((number, "error", error))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # told to stop while it ends, it is not a failure


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _merge(store: Path, names: list[str]) -> None:
    """Append the rows of the parts to the store, in the order of the ids, and delete the parts."""
    parts = [GlobalStore.open(path) for path in _parts(store)]
    if not parts:
        return
    provenance = {key: value for key, value in parts[0].provenance.items() if key != "ilias_fast"}
    with global_writer(provenance, parts[0].dim, store) as writer:
        there = writer.contains(names) if names else np.zeros(0, np.bool_)
        todo = [name for name, held in zip(names, there.tolist(), strict=True) if not held]
        for start in range(0, len(todo), _MERGE_ROWS):
            block = todo[start : start + _MERGE_ROWS]
            rows: dict[str, Any] = {}
            for part in parts:
                inside = [
                    name for name, held in zip(block, part.contains(block).tolist(), strict=True) if held
                ]
                rows.update(zip(inside, part.rows(part.find(inside)), strict=True))
            kept = [name for name in block if name in rows]  # the others were skipped
            if kept:
                writer.append(kept, np.stack([rows[name] for name in kept]))
        writer.commit()
    for part in parts:
        path = part.path
        if not GlobalStore.open(store).contains(list(part.ids)).all():
            raise UnknownIdError(f"{path}: its rows are not in {store}; the part is kept")
        shutil.rmtree(path)
