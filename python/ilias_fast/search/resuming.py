"""Unfinished searches on disk: what a killed run had found, so that the next one goes on from there.

The state is one safetensors file for each pass, named by a fingerprint of everything the answer depends on
and replaced
atomically after a part of the database. A file that is damaged, or of another search, is not used.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np

from ilias_fast._files import StrPath, storage_error
from ilias_fast._tensors import read_tensors, write_tensors
from ilias_fast.errors import FileFormatError
from ilias_fast.kernels import TopK

__all__ = ["Checkpoint", "discard"]

_SECONDS = 2.0
"""No more often than this is a state written, but at the end of the pass."""


def _digest(found: TopK) -> str:
    digest = hashlib.sha256(found.scores.tobytes())
    digest.update(found.indices.tobytes())
    return digest.hexdigest()


class Checkpoint:
    """The state of one pass over a database."""

    def __init__(self, folder: StrPath, fingerprint: str):
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as cause:
            raise storage_error(cause, folder, "make the folder") from cause
        self.path = folder / f"search-{fingerprint[:32]}.safetensors"
        self.fingerprint = fingerprint
        self._written = time.monotonic()

    def load(self) -> tuple[int, TopK] | None:
        """Return (rows searched, best so far), or None to begin at the beginning."""
        if not self.path.exists():
            return None
        try:
            tensors, about = read_tensors(self.path)
            found = TopK(tensors["scores"], tensors["indices"])
            same = about["fingerprint"] == self.fingerprint and about["sha256"] == _digest(found)
            whole = found.scores.dtype == np.float32 and found.indices.dtype == np.int64
            return (int(about["rows"]), found) if same and whole else None
        except (FileFormatError, KeyError, ValueError):
            return None

    def save(self, rows: int, best: TopK, *, last: bool) -> None:
        """Record that the first `rows` rows are searched.

        Raises:
            StorageError: The file cannot be written.
        """
        if last or time.monotonic() - self._written >= _SECONDS:
            about = {"fingerprint": self.fingerprint, "rows": str(rows), "sha256": _digest(best)}
            write_tensors(self.path, {"scores": best.scores, "indices": best.indices}, about)
            self._written = time.monotonic()


def discard(folder: StrPath) -> None:
    """Remove the states in a folder, and the folder if nothing else is in it.

    Args:
        folder: Given to `search` as `resume`.
    """
    folder = Path(folder)
    for path in folder.glob("search-*.safetensors"):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
