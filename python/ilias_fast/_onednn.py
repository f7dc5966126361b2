"""Linear layers by oneDNN, which torch brings along.

On a CPU torch hands float32 products to a library that takes slower kernels on processors of other makers;
the oneDNN operator that torch's own compiler calls takes those the processor has, and adds bias and ReLU in
passing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from ilias_fast._extras import require

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["UNSUPPORTED", "Linear", "linear_layer", "packed"]

Linear = Callable[["Tensor", "Tensor", "Tensor | None", bool], "Tensor"]
"""(x [..., in], weight [out, in] or packed, bias [out] or None, whether ReLU follows) -> [..., out]."""

UNSUPPORTED = (RuntimeError, AttributeError, NotImplementedError)
"""What a build of torch without the operators raises."""


@cache
def linear_layer(purpose: str) -> Linear | None:
    """Return the operator; None where this build of torch has it not, or it computes something else.

    Args:
        purpose: What torch is needed for, as in `require`.
    """
    torch = require("torch", purpose)
    if not torch.backends.mkldnn.is_available():
        return None
    try:
        pointwise: Any = torch.ops.mkldnn._linear_pointwise

        def linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
            done: Tensor = pointwise(x, weight, bias, "relu" if relu else "none", [], "")
            return done

        with torch.no_grad():
            a, b = (torch.linspace(-1, 1, 40 * rows).reshape(rows, 40) for rows in (3, 5))
            bias = torch.linspace(-1, 1, 5)
            for left, right in ((a, b), (a.T.contiguous().T, b.T.contiguous().T)):
                for relu in (False, True):
                    expected = left @ right.T + bias
                    expected = expected.relu() if relu else expected
                    if not torch.allclose(linear(left, right, bias, relu), expected, atol=1e-4):
                        return None
    except UNSUPPORTED:
        return None
    return linear


def packed(weight: Tensor) -> Tensor:
    """Return a weight laid out for the operator once; raises what is `UNSUPPORTED`.

    Args:
        weight: float32 [out, in].
    """
    torch = require("torch", "lay out weights")
    done: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return done
