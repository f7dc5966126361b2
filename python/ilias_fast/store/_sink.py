"""A file that a library writes to which cannot bear failing writes."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

__all__ = ["Sink"]


class Sink(io.RawIOBase):
    """A new file whose writes always seem to succeed; the first failure is raised when the block is left.

    The HDF5 library crashes the process when a file cannot be closed because the disk is full. So it is told
    that everything was written, closes its file in peace, and the caller hears the truth. Call `check` now
    and then to end a long export early.

    Raises:
        OSError: On entering, the file cannot be created; in `check` and on leaving, it could not be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._position = 0
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong so far."""
        if self._failure is not None:
            raise self._failure

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position and return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: os.fstat(self._descriptor).st_size}
        self._position = start[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, data: Buffer, /) -> int:
        """Write everything, or remember why not; return the size in either case."""
        left = memoryview(data).cast("B")
        size = len(left)
        while len(left) and self._failure is None:
            try:
                done = os.pwrite(self._descriptor, left, self._position)
            except OSError as failure:
                self._failure = failure
                break
            self._position += done
            left = left[done:]
        self._position += len(left)
        return size

    def readinto(self, buffer: Any, /) -> int:
        """Read what was written."""
        view = memoryview(buffer).cast("B")
        data = os.pread(self._descriptor, len(view), self._position)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size, or remember why not."""
        length = self._position if size is None else size
        try:
            os.ftruncate(self._descriptor, length)
        except OSError as failure:
            self._failure = self._failure or failure
        return length

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None or issubclass(kind, Exception):
            self.check()
