"""Networks that describe every position of an image, and the attention that detects the best of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilias_fast import _arrays
from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._extras import require
from ilias_fast._files import StrPath
from ilias_fast.extract.network import Network, Weights, dimension, load_network
from ilias_fast.extract.weights import load_state

if TYPE_CHECKING:
    import torch

__all__ = ["LOCAL_MODELS", "LocalNetwork", "attention_detector", "local_network"]

LOCAL_MODELS = ("dinov2_vitb14_reg", "dinov2_vitl14_reg", "dinov2_vitb14", "dinov2_vitl14", "cvnet_resnet101")
"""Models of the registry whose features by position are used: patch tokens, or the third stage of CVNet."""


@dataclass(frozen=True)
class LocalNetwork:
    """A network with a feature at every position of a grid, and what it wants of its input.

    Attributes:
        module: The torch module, in evaluation mode.
        maps: Maps a batch float32 [B, 3, H, W], normalised RGB, to features [B, dim, h, w] and a class token
            [B, dim], or None without one.
        dim: Channels.
        stride: Pixels from one position to the next.
        first: Centre of the first position, in pixels from the image's edge.
        diameter: Of the region that a position stands for, in pixels.
        multiple: Sides are resized to a multiple of this.
        scales: The image is described at each of these.
        mean: Subtracted from each channel (RGB) of an image in [0, 1].
        std: Divides it then.
        provenance: Framework, model, weights and their fingerprint, in JSON types.

    Examples:
        >>> network = local_network("dinov2_vitb14", weights="none")
        >>> network.dim, network.stride, network.multiple, network.scales
        (768, 14, 14, (1.0,))
    """

    module: torch.nn.Module
    maps: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
    dim: int
    stride: int
    first: float
    diameter: int
    multiple: int
    scales: tuple[float, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    provenance: dict[str, object]


def local_network(name: str, *, weights: Weights = "pretrained", seed: int = 0) -> LocalNetwork:
    """Build a model whose positions become local descriptors.

    DINOv2 gives its normalised patch tokens at one scale; sides are resized to the nearest multiple of the
    patch. CVNet gives the features of its third stage (stride 16, receptive field 291) at scales 1 / sqrt(2),
    1 and sqrt(2).

    Args:
        name: One of `LOCAL_MODELS`.
        weights: As for `load_network`.
        seed: Of random weights.

    Raises:
        ParameterError: There is no such model, or its weights cannot be had.
        StorageError, FileFormatError: The checkpoint cannot be read or does not fit.
        MissingExtraError: A library is not installed.

    Examples:
        >>> local_network("dinov2_vitb14", weights="none").dim
        768
    """
    _arrays.choice("model", name, LOCAL_MODELS)
    network = load_network(name, weights=weights, seed=seed, pooling="head")
    return _cvnet(network) if name.startswith("cvnet") else _patches(network)


def _patches(network: Network) -> LocalNetwork:
    module: Any = network.module
    patch, prefix = network.pad_multiple, int(module.num_prefix_tokens)

    def maps(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens: torch.Tensor = module.forward_features(batch)
        count, _, channels = tokens.shape
        grid = (batch.shape[2] // patch, batch.shape[3] // patch)
        return tokens[:, prefix:].transpose(1, 2).reshape(count, channels, *grid), tokens[:, 0]

    return LocalNetwork(
        module=network.module,
        maps=maps,
        dim=network.dim,
        stride=patch,
        first=patch / 2,
        diameter=patch,
        multiple=patch,
        scales=(1.0,),
        mean=network.mean,
        std=network.std,
        provenance=network.provenance,
    )


def _cvnet(network: Network) -> LocalNetwork:
    module: Any = network.module

    def maps(batch: torch.Tensor) -> tuple[torch.Tensor, None]:
        features = module.stem(batch.flip(1))  # RGB to BGR
        for stage in (module.s1, module.s2, module.s3):
            features = stage(features)
        return features, None

    return LocalNetwork(
        module=network.module,
        maps=maps,
        dim=dimension(lambda batch: maps(batch)[0].mean(dim=(2, 3)), network.module, 64, 64),
        stride=16,
        # Padding 145, field 291: position i is centred on pixel 16 i, half a pixel from its edge.
        first=0.5,
        diameter=291,
        multiple=1,
        scales=(2**-0.5, 1.0, 2**0.5),
        mean=network.mean,
        std=network.std,
        provenance=network.provenance,
    )


def attention_detector(dim: int, path: StrPath | None = None, *, seed: int = 0) -> torch.nn.Module:
    """Return the detector published with AMES: a spatial attention of two 1 x 1 convolutions.

    With y = batch_norm(conv1(x)), a position's descriptor is y of unit length and its weight is
    softplus(conv2(relu(y))).

    Args:
        dim: Channels of the features.
        path: A checkpoint, loaded strictly; None for random weights.
        seed: Of random weights.

    Returns:
        A module [B, dim, h, w] -> descriptors [B, dim, h, w], weights [B, h, w].

    Raises:
        StorageError: The checkpoint cannot be read.
        FileFormatError: It is damaged, or lacks a tensor, or has one too many or of another shape (both are
            named).

    Examples:
        >>> import torch
        >>> detector = attention_detector(16)
        >>> descriptors, weights = detector(torch.ones(1, 16, 5, 6))
        >>> tuple(descriptors.shape), tuple(weights.shape)
        ((1, 16, 5, 6), (1, 5, 6))
    """
    torch = require("torch", "detect local descriptors")
    nn = torch.nn
    dim, seed = _arrays.at_least_one("dim", dim), _arrays.at_least("seed", seed, 0)

    class SpatialAttention(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(dim, dim, 1)
            self.bn = nn.BatchNorm2d(dim)
            self.conv2 = nn.Conv2d(dim, 1, 1)

        def forward(self, x: Any) -> tuple[Any, Any]:
            y = self.bn(self.conv1(x))
            weight = nn.functional.softplus(self.conv2(nn.functional.relu(y)))
            return nn.functional.normalize(y, dim=1, eps=1e-15), weight.squeeze(1)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        detector = SpatialAttention()
    if path is not None:
        load_state(detector, read_checkpoint(Path(path)), path, f"the detector of {dim} channels")
    return detector.eval()  # type: ignore[no-any-return]
