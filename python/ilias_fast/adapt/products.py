"""The matrix product of training: oneDNN's where torch's own would choose a slower kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ilias_fast._extras import require

if TYPE_CHECKING:
    import torch

__all__ = ["Product", "product_on"]

Product = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]


def product_on(device: torch.device) -> Product:
    """Return the function (a [m, k], b [n, k]) -> a b^T [m, n], float32, for a device.

    On the CPU torch multiplies by a library that takes slower kernels on processors of other makers; oneDNN,
    which torch brings as well, takes those the processor has. Where this build has it not, or it errs, torch
    multiplies.

    Args:
        device: Where the matrices are.
    """
    library = require("torch", "train adaptation layers")

    def plain(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b.T

    if device.type != "cpu":
        return plain
    try:
        linear: Any = library.ops.mkldnn._linear_pointwise

        def packed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            product: torch.Tensor = linear(a, b, None, "none", [], "")
            return product

        a, b = (library.linspace(-1, 1, 40 * rows).reshape(rows, 40) for rows in (3, 5))
        for left, right in ((a, b), (a.T.contiguous().T, b.T.contiguous().T)):
            if not library.allclose(packed(left, right), plain(left, right), atol=1e-4):
                return plain
    except (RuntimeError, AttributeError, NotImplementedError):
        return plain
    return packed
