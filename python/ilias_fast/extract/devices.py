"""How networks run: precision, and what makes them faster on their device without changing their answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ilias_fast import _arrays
from ilias_fast._extras import require
from ilias_fast._onednn import UNSUPPORTED, linear_layer, packed
from ilias_fast.errors import ParameterError

if TYPE_CHECKING:
    import torch

__all__ = ["Precision", "autocast", "overlapping", "pack_for_cpu"]

Precision = Literal["auto", "float32", "float16", "bfloat16"]
_PRECISIONS = ("auto", "float32", "float16", "bfloat16")


def autocast(
    device: torch.device, precision: Precision
) -> tuple[str, Callable[[], AbstractContextManager[Any]]]:
    """Return the precision that is used, and the context to compute in.

    Args:
        device: Where.
        precision: "auto" is float16 on CUDA, as in the protocol, and float32 elsewhere.

    Raises:
        ParameterError: There is no such precision, or the device has it not.
    """
    torch = require("torch", "run networks")
    _arrays.choice("precision", precision, _PRECISIONS)
    chosen = ("float16" if device.type == "cuda" else "float32") if precision == "auto" else precision
    if chosen == "float32":
        return chosen, partial(_without_tf32, torch) if device.type == "cuda" else nullcontext
    if chosen == "float16" and device.type == "cpu":
        raise ParameterError("precision: float16 is for GPUs; the CPU takes float32 or bfloat16")
    return chosen, partial(torch.autocast, device.type, getattr(torch, chosen))


@contextmanager
def _without_tf32(torch: Any) -> Iterator[None]:
    """Convolutions in float32: cuDNN's default, TF32, has 10 bits of mantissa."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def overlapping(device: torch.device, precision: str) -> int:
    """Return how many batches are best on their way at once.

    On a GPU one is put together while another is computed; but not in float32, where a setting of the whole
    process is changed meanwhile.

    Args:
        device: Where.
        precision: As `autocast` returned it.
    """
    return 1 if device.type == "cpu" or precision == "float32" else 2


def pack_for_cpu(module: torch.nn.Module) -> bool:
    """Let the linear layers of a module run on weights laid out for the CPU once, by oneDNN.

    The packed layers compute the same up to rounding. Weights are kept twice. Where this build of torch
    cannot do so, or does it wrongly, nothing is changed.

    Args:
        module: In float32, on the CPU; changed in place.

    Returns:
        Whether the layers are packed.
    """
    torch = require("torch", "run networks")
    layers = [layer for layer in module.modules() if type(layer) is torch.nn.Linear]
    try:
        with torch.inference_mode():
            for layer in layers:
                if "forward" not in vars(layer):
                    layer.forward = _packed(torch, layer)
    except UNSUPPORTED:
        for layer in layers:
            vars(layer).pop("forward", None)
        return False
    return True


def _packed(torch: Any, layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    bias = None if layer.bias is None else layer.bias.detach()
    weight, linear = packed(layer.weight.detach()), linear_layer("run networks")
    if linear is None:
        raise NotImplementedError("there is no such operator")
    plain = torch.nn.functional.linear

    def forward(x: torch.Tensor) -> Any:
        if x.dtype is not torch.float32 or torch.is_grad_enabled() or x.device.type != "cpu":
            return plain(x, layer.weight, layer.bias)
        return linear(x, weight, bias, False)

    probe = torch.linspace(-1, 1, 3 * layer.in_features).reshape(3, -1)
    if not torch.allclose(forward(probe), plain(probe, layer.weight, layer.bias), atol=1e-3, rtol=1e-3):
        raise RuntimeError("the packed layer computes something else")
    return forward
