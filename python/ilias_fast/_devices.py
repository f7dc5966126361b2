"""The torch device a name means, tried out before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilias_fast._extras import require
from ilias_fast.errors import ParameterError

if TYPE_CHECKING:
    from torch import device as Device  # noqa: N812 - a class, whatever torch calls it

__all__ = ["device_of"]


def device_of(name: str | None, purpose: str = "run networks") -> Device:
    """Return a torch device that works.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps", ...; None for CUDA or MPS if there is one, else the CPU.
        purpose: What torch is needed for, as in `require`.

    Raises:
        ParameterError: There is no such device, or it cannot be used.
    """
    torch = require("torch", purpose)
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device: Device = torch.device(name)
        torch.empty(1, device=device).add_(1).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as cause:
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        raise ParameterError(f"device: cannot use {name!r} ({reason}); 'cpu' always works") from cause
    return device
