"""How kernels say how far they are."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[int], object]
"""Called now and then, by the calling thread, with the number of items done so far."""
