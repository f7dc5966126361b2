"""A network ready for inference, whatever family it is of, and how one is built from a name.

A family is one module of this package with a function `build(wanted: Wanted) -> Network`, named in
`_FAMILIES` and imported when a model of it is first asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ilias_fast import _arrays
from ilias_fast._extras import require
from ilias_fast._files import StrPath
from ilias_fast.errors import ParameterError
from ilias_fast.extract.pooling import POOLINGS, REGIONAL, pool
from ilias_fast.extract.registry import Model, find_model, near
from ilias_fast.images import Transform

if TYPE_CHECKING:
    import torch

__all__ = [
    "STATISTICS",
    "Network",
    "Wanted",
    "Weights",
    "default_resolution",
    "describe_by",
    "dimension",
    "load_network",
    "state_fingerprint",
]

Weights = Literal["pretrained", "random", "none"] | StrPath
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]

STATISTICS: dict[str, Statistics] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of the channels (RGB, in [0, 1]), by the registry's names."""

_FAMILIES = {
    "timm": "timm_models",
    "och": "open_clip_models",
    "open_clip": "open_clip_models",
    "tv": "torchvision_models",
    "torchvision": "torchvision_models",
    "fb": "hub_models",
    "hier": "hub_models",
    "unc": "hub_models",
    "cvn": "cvnet_models",
    "unicom": "unicom_models",
}
_PREFIXES = ("timm", "open_clip", "torchvision")
_LARGEST_SEED = (1 << 63) - 1


@dataclass(frozen=True)
class Network:
    """A network ready for inference, and what it wants of its input.

    Attributes:
        module: The torch module, in evaluation mode.
        describe: Maps a batch float32 [B, 3, H, W], normalised, to descriptors [B, dim].
        dim: Dimension of the descriptor.
        mean: Subtracted from each channel (RGB) of an image in [0, 1].
        std: Divides it then.
        train_size: Side of the images the network was trained on, in pixels.
        pad_multiple: Sides are zero-padded to a multiple of this (a transformer's patch); 1 for none.
        resolution: What to extract at, in pixels; None for `default_resolution(train_size)`.
        transform: How images are brought to that resolution, unless something else is asked for.
        provenance: Framework, model, weights and their fingerprint, in JSON types.

    Examples:
        >>> network = load_network("test_vit", weights="random")
        >>> network.dim, network.train_size, network.pad_multiple
        (64, 160, 16)
    """

    module: torch.nn.Module
    describe: Callable[[torch.Tensor], torch.Tensor]
    dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train_size: int
    pad_multiple: int = 1
    resolution: int | None = None
    transform: Transform = Transform.RESIZE_LARGE
    provenance: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What a family is asked to build.

    Attributes:
        name: The model's name in its framework, or in the registry.
        row: Its row of the registry; None for a model the benchmark does not have.
        weights: "pretrained", "random", "none", or the path of a checkpoint.
        pooling: "head" or a pooling of the final features.
        seed: Of random weights.
        official: Reproduce the published code where it errs.
    """

    name: str
    row: Model | None
    weights: Weights
    pooling: str
    seed: int
    official: bool

    @property
    def checkpoint(self) -> StrPath | None:
        """The path of the checkpoint, if that is where the weights come from."""
        return None if self.weights in ("pretrained", "random", "none") else self.weights

    def provenance(self, framework: str, version: str, module: Any) -> dict[str, object]:
        """Return what the descriptors depend on, in JSON types."""
        source = "checkpoint" if self.checkpoint is not None else str(self.weights)
        return {
            "framework": framework,
            "framework_version": version,
            "model": self.name,
            "pooling": self.pooling,
            "weights_source": source,
            **({"seed": self.seed} if source == "random" else {}),
            **({"official": True} if self.official else {}),
            **({} if source == "none" else {"weights": state_fingerprint(module)}),
        }


def load_network(
    name: str,
    *,
    weights: Weights = "pretrained",
    pooling: str | None = None,
    seed: int = 0,
    official: bool = False,
) -> Network:
    """Build a model of the benchmark, or any other of timm, open_clip or torchvision, by name.

    A name of the registry (`ilias-fast models` lists them) is built with the settings it was published with.
    Another name is looked for in timm, then in open_clip, and used with its own configuration; a prefix
    ("timm:", "open_clip:", "torchvision:") says which library is meant, also for a name of the registry. An
    open_clip name may be followed by a weights tag: "open_clip:ViT-B-32/laion2b_s34b_b79k".

    Args:
        name: The model.
        weights: "pretrained" (downloaded unless cached), "random" (drawn from `seed`), "none" (shapes only,
            on torch's meta device: nothing can be computed), or the path of a checkpoint of this model
            (`.safetensors`, or a torch file of plain tensors, which is read without executing code).
        pooling: "head" for the model's own, or a pooling of its final features: "cls" (the class token),
            "gap", "gem", "mac", "spoc", "spoc-centre", "rmac", "rgem" or "crow" over the positions, prefix
            tokens left out. None for the benchmark's choice.
        seed: Of random weights, from 0 to 2^63 - 1.
        official: Reproduce the published extraction code where it errs (CVNet with SuperGlobal's ReLUP).

    Raises:
        ParameterError: There is no such model, the pooling does not exist or does not suit it, the seed is
            out of range, or the pretrained weights cannot be had.
        StorageError: The checkpoint cannot be read.
        FileFormatError: The checkpoint is damaged or does not fit the model.
        MissingExtraError: A library is not installed.

    Examples:
        >>> network = load_network("test_vit", weights="random", pooling="gem")
        >>> network.dim
        64
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _LARGEST_SEED:
        raise ParameterError(f"seed: expected a whole number from 0 to 2^63 - 1, found {seed!r}")
    require("torch", "build networks")
    family, name, row = _resolve(name)
    if row is not None and weights == "pretrained" and row.needs_checkpoint is not None:
        raise ParameterError(
            f"{name}: {row.needs_checkpoint}; give the file (weights=PATH), or weights='random' to try it out"
        )
    chosen = pooling or (row.pooling if row is not None else "head")
    _arrays.choice("pooling", chosen, ("head", "cls", *POOLINGS, *REGIONAL))
    module = importlib.import_module(f"ilias_fast.extract.{family}")
    network: Network = module.build(Wanted(name, row, weights, chosen, seed, official))
    return network


def _resolve(name: str) -> tuple[str, str, Model | None]:
    """Return the family's module, the name in it, and the row of the registry if it has one."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix in _PREFIXES:
        return _FAMILIES[prefix], rest, None
    try:
        row = find_model(name)
    except ParameterError as unknown:
        timm = require("timm", "build networks")
        if timm.is_model(name):
            return _FAMILIES["timm"], name, None
        try:
            open_clip = require("open_clip", "build open_clip models")
        except ImportError:
            raise unknown from None
        if name.partition("/")[0] in open_clip.list_models():
            return _FAMILIES["open_clip"], name, None
        raise ParameterError(
            f"{unknown}, and neither timm nor open_clip has it{near(name, timm.list_models())}"
        ) from None
    return _FAMILIES[row.framework], name, row


def default_resolution(train_size: int) -> int:
    """Return the benchmark's test resolution for a training size: one level up.

    The nearest of 224, 384 and 512 on a logarithmic scale decides: 224 is tested at 384, 384 at 512 and 512
    at 724.

    Args:
        train_size: Side of the images the network was trained on, in pixels.

    Raises:
        ParameterError: It is below 1.

    Examples:
        >>> [default_resolution(size) for size in (224, 384, 518)]
        [384, 512, 724]
    """
    levels = {224: 384, 384: 512, 512: 724}
    train_size = _arrays.at_least_one("train_size", train_size)
    return levels[min(levels, key=lambda level: abs(math.log(train_size / level)))]


def describe_by(
    wanted: Wanted,
    *,
    head: Callable[[torch.Tensor], torch.Tensor] | None,
    features: Callable[[torch.Tensor], torch.Tensor] | None = None,
    token: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function that makes descriptors by the pooling asked for.

    Args:
        wanted: Its pooling decides.
        head: The model's own descriptor, [B, dim]; None if it has none.
        features: Its final features by position, [B, positions, C]; None if they are not to be had.
        token: Its class token, [B, C]; None if it has none.

    Raises:
        ParameterError: The model has not what the pooling needs.
    """
    has = {"head": head, "cls": token}
    if wanted.pooling in has:
        function = has[wanted.pooling]
    elif features is None:
        function = None
    else:
        name, positions = wanted.pooling, features

        def function(batch: torch.Tensor) -> torch.Tensor:
            return pool(name, positions(batch), (batch.shape[2], batch.shape[3]))

    if function is None:
        what = "class token" if wanted.pooling == "cls" else "features of that kind"
        fitting = [name for name, held in has.items() if held is not None]
        fitting += [] if features is None else [*POOLINGS, *REGIONAL]
        raise ParameterError(
            f"pooling: {wanted.name} has no {what}; expected one of {', '.join(fitting)}, found "
            f"{wanted.pooling!r}"
        )
    return function


def dimension(
    describe: Callable[[torch.Tensor], torch.Tensor], module: torch.nn.Module, height: int, width: int
) -> int:
    """Return the dimension of the descriptor, by describing one black image where the weights are."""
    torch = require("torch", "build networks")
    device = next(module.parameters()).device
    with torch.inference_mode():
        return int(describe(torch.zeros(1, 3, height, width, device=device)).shape[-1])


def state_fingerprint(module: Any) -> str:
    """Return the SHA-256 over a module's parameters and buffers, by name."""
    torch = require("torch", "fingerprint weights")
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"\0{name} {plain.dtype} {list(plain.shape)}\0".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
