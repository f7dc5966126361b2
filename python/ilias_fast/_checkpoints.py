"""Torch checkpoints, read without executing what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilias_fast._extras import require
from ilias_fast._files import storage_error
from ilias_fast.errors import FileFormatError, MissingExtraError

if TYPE_CHECKING:
    import torch

__all__ = ["read_checkpoint"]

_WRAPPERS = ("state_dict", "model", "model_state", "state")


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read the state dict of a `.pth` or `.safetensors` checkpoint, unwrapped, on the CPU.

    Raises:
        StorageError: The file is missing or cannot be read.
        FileFormatError: It is damaged, or holds anything but a state dict of tensors.
        MissingExtraError: torch (or, for `.safetensors`, safetensors) is not installed.
    """
    torch = require("torch", "read checkpoints")
    try:
        if path.suffix == ".safetensors":
            state: Any = require("safetensors.torch", "read safetensors checkpoints").load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as cause:
        raise storage_error(cause, path, "read") from cause
    except MissingExtraError:
        raise
    except Exception as cause:
        if path.suffix == ".safetensors":
            raise FileFormatError(f"{path}: expected a safetensors file, found damage: {cause}") from cause
        # Damage makes torch raise nearly anything, and its words advise to load again with execution allowed.
        raise FileFormatError(
            f"{path}: not a checkpoint of plain tensors (damaged, or of objects that would run code)"
        ) from cause
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise FileFormatError(f"{path}: expected a state dict of tensors, found {type(state).__name__}")
    return {str(name): tensor for name, tensor in state.items()}
