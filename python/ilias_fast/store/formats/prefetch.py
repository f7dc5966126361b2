"""Blocks read ahead by one thread, so that reading and writing overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["prefetched"]

_T = TypeVar("_T")

_PATIENCE = 0.1


@contextmanager
def prefetched(items: Generator[_T, None, None]) -> Iterator[Iterator[_T]]:
    """Run an iterator in a thread, one item ahead of the one that waits to be taken.

    So at any time at most three items exist: one being made, one waiting, one in use. What the iterator
    raises is raised where its item would have come. Leaving the block stops the thread and waits for it.

    Args:
        items: Run in the thread alone, and closed there.
    """
    waiting: queue.Queue[tuple[_T | None, BaseException | None]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(entry: tuple[_T | None, BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, None))
        except BaseException as failure:  # raised by the consumer
            put((None, failure))
        finally:
            items.close()

    def taken() -> Iterator[_T]:
        while True:
            item, failure = waiting.get()
            if failure is not None:
                raise failure
            if item is None:
                return
            yield item

    thread = threading.Thread(target=run, name="ilias-fast-reader", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stopped.set()
        thread.join()
