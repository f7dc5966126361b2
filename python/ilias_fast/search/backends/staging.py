"""Blocks of a database on a torch device, the next one on its way while one is searched."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["Staged", "staged"]

Staged = tuple[int, "torch.Tensor", Any]
"""First row; float16 [m, d] on the device; an event to wait for before it is used, or None."""

_COPIERS = min(8, os.cpu_count() or 1)
"""Threads that copy into pinned memory: few of them are slower than the bus to a GPU."""


def staged(
    torch: Any, array: NDArray[np.float16], rows: int, device: torch.device
) -> Generator[Staged, None, None]:
    """Yield blocks of at most `rows` rows, in order. To CUDA they go through pinned memory, asynchronously.

    Args:
        torch: The library.
        array: float16 [n, d].
        rows: Rows of a block.
        device: Where to.
    """
    if device.type == "cuda":
        yield from _through_pinned(torch, array, rows, device)
        return
    for first in range(0, len(array), rows):
        # A copy, as torch has no read-only tensors.
        yield first, torch.from_numpy(np.array(array[first : first + rows])).to(device), None


def _through_pinned(
    torch: Any, array: NDArray[np.float16], rows: int, device: torch.device
) -> Iterator[Staged]:
    shape = min(rows, len(array)), array.shape[1]
    pinned = [torch.empty(shape, dtype=torch.float16, pin_memory=True) for _ in range(2)]
    sent = [torch.cuda.Event() for _ in pinned]
    stream = torch.cuda.Stream(device)
    with ThreadPoolExecutor(_COPIERS) as copiers:
        for number, first in enumerate(range(0, len(array), rows)):
            block = array[first : first + rows]
            buffer, event = pinned[number % 2][: len(block)], sent[number % 2]
            event.synchronize()  # at once, before it was first recorded
            cuts = np.linspace(0, len(block), _COPIERS + 1).astype(int).tolist()
            into = buffer.numpy()
            copies = [
                copiers.submit(np.copyto, into[start:stop], block[start:stop])
                for start, stop in pairwise(cuts)
            ]
            for copy in copies:
                copy.result()
            with torch.cuda.stream(stream):
                there = buffer.to(device, non_blocking=True)
                event.record(stream)
            yield first, there, event
