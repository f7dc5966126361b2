"""What worker processes have prepared comes in shared memory: a pipe costs the receiver twice the time.

The arrays of a result (pickle's out-of-band buffers) go into a slot of a file without a name in memory; only
what is left of the pickle goes through the pipe. Where the system has no such memory, or too little, or a
result does not fit a slot, all of it goes through the pipe.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["SLOT_BYTES", "Packed", "SharedSlots", "WorkerSlots"]

SLOT_BYTES = 4 << 20
_MEMORY = Path("/dev/shm")


class Packed(NamedTuple):
    """A result on its way.

    Attributes:
        data: Its pickle.
        sizes: Bytes of each of its arrays in the slot; None if they are in the pickle.
    """

    data: bytes
    sizes: tuple[int, ...] | None


class SharedSlots:
    """The slots, in the process that takes the results.

    Args:
        count: Number of slots.
    """

    def __init__(self, count: int) -> None:
        self._free: deque[int] = deque()
        self._map: mmap.mmap | None = None
        self.address: str | None = None
        """Where workers find the memory; None if there is none."""
        try:
            self._file = tempfile.TemporaryFile(dir=_MEMORY)  # noqa: SIM115 - closed by `close`
            # A file with holes would end the process that fills them when memory is full.
            os.posix_fallocate(self._file.fileno(), 0, count * SLOT_BYTES)
            self._map = mmap.mmap(self._file.fileno(), count * SLOT_BYTES)
        except (OSError, AttributeError, ValueError):
            return
        self.address = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        self._free.extend(range(count))

    def take(self) -> int | None:
        """Return a free slot; None if there is none."""
        return self._free.popleft() if self._free else None

    def unpack(self, packed: Packed, slot: int | None) -> Any:
        """Return the result, its arrays copied.

        Args:
            packed: What the worker returned.
            slot: The slot it was given.
        """
        if packed.sizes is None or slot is None:
            return pickle.loads(packed.data)
        assert self._map is not None
        at, buffers = slot * SLOT_BYTES, []
        for size in packed.sizes:
            buffers.append(bytearray(memoryview(self._map)[at : at + size]))
            at += size
        return pickle.loads(packed.data, buffers=buffers)

    def give(self, slot: int | None) -> None:
        """Free a slot.

        Args:
            slot: From `take`.
        """
        if slot is not None:
            self._free.append(slot)

    def close(self) -> None:
        """Give the memory back."""
        if self._map is not None:
            self._map.close()
            self._file.close()


class WorkerSlots:
    """The slots, in a worker process.

    Args:
        address: Of the memory.
    """

    def __init__(self, address: str | None) -> None:
        self._map: mmap.mmap | None = None
        if address is not None:
            try:
                with Path(address).open("r+b") as file:
                    self._map = mmap.mmap(file.fileno(), 0)
            except OSError:
                return

    def pack(self, result: Any, slot: int | None) -> Packed:
        """Put a result's arrays into a slot.

        Args:
            result: Anything that can be pickled.
            slot: Where to; None for nowhere.
        """
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        if self._map is None or slot is None or sum(view.nbytes for view in views) > SLOT_BYTES:
            return Packed(pickle.dumps(result, protocol=5), None)
        at = slot * SLOT_BYTES
        for view in views:
            self._map[at : at + view.nbytes] = view
            at += view.nbytes
        return Packed(data, tuple(view.nbytes for view in views))
