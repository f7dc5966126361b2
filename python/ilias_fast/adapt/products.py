"""The matrix product of training: oneDNN's where torch's own would choose a slower kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ilias_fast._onednn import linear_layer

if TYPE_CHECKING:
    import torch

__all__ = ["Product", "product_on"]

Product = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]


def product_on(device: torch.device) -> Product:
    """Return the function (a [m, k], b [n, k]) -> a b^T [m, n], float32, for a device.

    On the CPU oneDNN multiplies, where it can (`linear_layer`), elsewhere torch as it likes.

    Args:
        device: Where the matrices are.
    """
    linear = linear_layer("train adaptation layers") if device.type == "cpu" else None

    def plain(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b.T

    def fast(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert linear is not None
        return linear(a, b, None, False)

    return plain if linear is None else fast
