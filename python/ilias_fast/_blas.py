"""One BLAS thread at a time, where the work is already spread over threads of our own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ilias_fast._extras import require

__all__ = ["single_threaded"]

_lock = threading.Lock()
_inside = 0
_limits: Any = None


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let NumPy's matrix products use one thread in the block, in the whole process.

    Products of several threads at once, each wanting all cores, wait for each other: describing images took
    1.6 times as long. Blocks may overlap; the last to end gives the threads back.

    Raises:
        MissingExtraError: threadpoolctl is not installed.
    """
    global _inside, _limits
    threadpoolctl = require("threadpoolctl", "describe images in several threads")
    with _lock:
        if _inside == 0:
            _limits = threadpoolctl.threadpool_limits(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limits.restore_original_limits()
