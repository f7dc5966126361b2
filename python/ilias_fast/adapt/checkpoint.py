"""The state of a training on disk, so that it goes on after a kill."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import StrPath, is_file
from ilias_fast._tensors import read_tensors, write_tensors
from ilias_fast.errors import FileFormatError, ParameterError

__all__ = ["Checkpoint"]

_FORMAT = "training-1"


class Checkpoint:
    """A safetensors file of a training's state; it appears complete or not at all.

    Args:
        path: The file; None to keep nothing.
        settings: What the state depends on; JSON types. Another training's file is refused by them.
        seconds: Time between two saves.

    Attributes:
        done: Steps taken.
        losses: Mean losses of the epochs that are over.
        lost: Sum of the losses of the epoch under way.
    """

    def __init__(self, path: StrPath | None, settings: dict[str, Any], seconds: float) -> None:
        self._path = None if path is None else Path(path)
        self._settings, self._seconds = settings, seconds
        self._last = time.monotonic()
        self.done = 0
        self.losses: list[float] = []
        self.lost = 0.0

    def load(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the saved state, or None if there is none.

        Raises:
            StorageError, FileFormatError: The file cannot be read, or is something else.
            ParameterError: It is another training's.
        """
        if self._path is None or not is_file(self._path):
            return None
        tensors, metadata = read_tensors(self._path)
        if metadata.get("ilias_fast.format") != _FORMAT:
            found = metadata.get("ilias_fast.format")
            raise FileFormatError(f"{self._path}: expected the state of a training, found {found!r}")
        try:
            there, progress = json.loads(metadata["settings"]), json.loads(metadata["progress"])
            self.done, self.losses, self.lost = progress["done"], progress["losses"], progress["lost"]
        except (KeyError, ValueError, TypeError) as cause:
            raise FileFormatError(f"{self._path}: damaged state of a training ({cause})") from cause
        differing = [key for key in self._settings if there.get(key) != self._settings[key]]
        if differing:
            listed = ", ".join(
                f"{key} {there.get(key)!r} there, {self._settings[key]!r} now" for key in differing
            )
            raise ParameterError(
                f"checkpoint: {self._path} is of another training ({listed}); "
                f"choose another file, or remove it to start anew"
            )
        return {name: tensor.copy() for name, tensor in tensors.items()}

    def is_due(self) -> bool:
        """Return whether it is time to save again."""
        return time.monotonic() - self._last >= self._seconds

    def save(self, state: dict[str, NDArray[np.float32]]) -> None:
        """Write the state.

        Args:
            state: The tensors, by name.

        Raises:
            StorageError: The file cannot be written.
        """
        if self._path is None:
            return
        progress = {"done": self.done, "losses": self.losses, "lost": self.lost}
        metadata = {
            "ilias_fast.format": _FORMAT,
            "settings": json.dumps(self._settings),
            "progress": json.dumps(progress),
        }
        write_tensors(self._path, state, metadata)
        self._last = time.monotonic()
