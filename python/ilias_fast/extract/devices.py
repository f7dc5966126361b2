"""Where networks run: devices, precision, and what makes them faster there without changing their answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ilias_fast._extras import require
from ilias_fast.errors import ParameterError

if TYPE_CHECKING:
    import torch
    from torch import device as Device  # noqa: N812 - a class, whatever torch calls it

__all__ = ["Precision", "autocast", "device_of", "pack_for_cpu"]

Precision = Literal["auto", "float32", "float16", "bfloat16"]
_PRECISIONS = ("auto", "float32", "float16", "bfloat16")


def device_of(name: str | None) -> Device:
    """Return a torch device that works.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps", ...; None for CUDA or MPS if there is one, else the CPU.

    Raises:
        ParameterError: There is no such device, or it cannot be used.
    """
    torch = require("torch", "run networks")
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device: Device = torch.device(name)
        torch.empty(1, device=device).add_(1).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as cause:
        raise ParameterError(
            f"device: cannot use {name!r} ({(str(cause).splitlines() or [''])[0]}); 'cpu' always works"
        ) from cause
    return device


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
    if precision not in _PRECISIONS:
        raise ParameterError(f"precision: expected one of {', '.join(_PRECISIONS)}, found {precision!r}")
    chosen = ("float16" if device.type == "cuda" else "float32") if precision == "auto" else precision
    if chosen == "float32":
        return chosen, nullcontext
    if chosen == "float16" and device.type == "cpu":
        raise ParameterError("precision: float16 is for GPUs; the CPU takes float32 or bfloat16")
    return chosen, partial(torch.autocast, device.type, getattr(torch, chosen))


def pack_for_cpu(module: torch.nn.Module) -> bool:
    """Let the linear layers of a module run on weights laid out for the CPU once, by oneDNN.

    torch's own float32 matrix product may choose slower kernels, depending on who made the processor; the
    packed layers compute the same up to rounding. Weights are kept twice. Where this build of torch cannot
    do so, or does it wrongly, nothing is changed.

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
    except (RuntimeError, AttributeError, NotImplementedError):
        for layer in layers:
            vars(layer).pop("forward", None)
        return False
    return True


def _packed(torch: Any, layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    bias = None if layer.bias is None else layer.bias.detach()
    packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
    linear = torch.ops.mkldnn._linear_pointwise
    plain = torch.nn.functional.linear

    def forward(x: torch.Tensor) -> Any:
        if x.dtype is not torch.float32 or torch.is_grad_enabled() or x.device.type != "cpu":
            return plain(x, layer.weight, layer.bias)
        return linear(x, packed, bias, "none", [], "")

    probe = torch.linspace(-1, 1, 3 * layer.in_features).reshape(3, -1)
    if not torch.allclose(forward(probe), plain(probe, layer.weight, layer.bias), atol=1e-3, rtol=1e-3):
        raise RuntimeError("the packed layer computes something else")
    return forward
