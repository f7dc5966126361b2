"""Global descriptors by a neural network: everything that does not depend on where the network comes from.

A framework module (`timm_models`) builds a `Network`; `NeuralExtractor` prepares images for it, keeps images
of equal size together, runs it on the device and normalises what comes out.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._extras import require
from ilias_fast.errors import InputError, NonFiniteError, ParameterError
from ilias_fast.images import Transform, centre_pad, pad_to_multiple, resize

if TYPE_CHECKING:
    import torch

__all__ = ["Network", "NeuralExtractor", "default_resolution", "state_fingerprint"]

_LARGEST = 1 << 14  # of a resolution, in pixels: beyond it a single prepared image takes gigabytes


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
        provenance: Framework, model, weights and their fingerprint, in JSON types.
    """

    module: torch.nn.Module
    describe: Callable[[torch.Tensor], torch.Tensor]
    dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train_size: int
    pad_multiple: int = 1
    provenance: dict[str, object] = field(default_factory=dict)


class NeuralExtractor:
    """Global descriptors of unit length by a network, as the benchmark's protocol extracts them.

    Images are resized, normalised, zero-padded, grouped by exactly equal size, run in chunks, and each
    descriptor is divided by max(norm, 1e-12). There are no local descriptors.

    Args:
        network: From `timm_network` or another framework's function.
        resolution: S of the transform, in pixels; None for the benchmark's choice for the network's
            training size (`default_resolution`).
        transform: The resizing mode.
        batch_size: Most images in one forward pass.
        device: A torch device; None for CUDA if there is one, else the CPU.
        half: Run under float16 autocast on CUDA, as the protocol does. The CPU always computes in float32.

    Raises:
        ParameterError: A setting is out of its range, or the device does not exist.
    """

    def __init__(
        self,
        network: Network,
        *,
        resolution: int | None = None,
        transform: Transform | str = Transform.RESIZE_LARGE,
        batch_size: int = 32,
        device: str | None = None,
        half: bool = True,
    ) -> None:
        torch = require("torch", "extract neural descriptors")
        self.network = network
        self.resolution = default_resolution(network.train_size) if resolution is None else resolution
        if not 1 <= self.resolution <= _LARGEST:
            raise ParameterError(
                f"resolution: expected a whole number from 1 to {_LARGEST}, found {self.resolution}"
            )
        if batch_size < 1:
            raise ParameterError(f"batch_size: expected at least 1, found {batch_size}")
        try:
            self.transform = Transform(transform)
        except ValueError:
            known = ", ".join(mode.value for mode in Transform)
            raise ParameterError(f"transform: expected one of {known}, found {transform!r}") from None
        self.batch_size = batch_size
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            network.module.to(self.device)
        except (RuntimeError, AssertionError) as cause:
            raise ParameterError(f"device: cannot use {device!r} ({str(cause).splitlines()[0]})") from cause
        self.half = half and self.device.type == "cuda"
        self._mean = np.asarray(network.mean, np.float32)
        self._std = np.asarray(network.std, np.float32)

    @property
    def global_dim(self) -> int:
        """Dimension of the descriptor."""
        return self.network.dim

    @property
    def code_bits(self) -> None:
        """None: there are no local descriptors."""
        return None

    @property
    def local_optional(self) -> tuple[str, ...]:
        """Nothing: there are no local descriptors."""
        return ()

    def provenance(self) -> dict[str, object]:
        """Return the network's provenance, the preparation of images and the precision."""
        return {
            "extractor": "neural-1",
            **self.network.provenance,
            "resolution": self.resolution,
            "transform": self.transform.value,
            "mean": list(self.network.mean),
            "std": list(self.network.std),
            "pad_multiple": self.network.pad_multiple,
            "precision": "float16" if self.half else "float32",
        }

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Resize, normalise and pad one image.

        Args:
            image: uint8 [height, width, 3], RGB.

        Returns:
            float32 [3, height', width'].
        """
        pixels = resize(image, self.resolution, self.transform)
        normal = (pixels.astype(np.float32) / np.float32(255) - self._mean) / self._std
        if self.transform is Transform.RESIZE_PAD:
            normal = centre_pad(normal, self.resolution, self.resolution)
        return np.ascontiguousarray(pad_to_multiple(normal, self.network.pad_multiple).transpose(2, 0, 1))

    def extract(self, images: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], None]:
        """Describe images.

        Args:
            images: uint8 [height, width, 3] each, RGB.

        Returns:
            float32 [len(images), dim] of unit length, and None.

        Raises:
            ParameterError: The network cannot process an image of the prepared size, or it does not fit the
                device's memory. (A batch that does not is halved until it does.)
            NonFiniteError: The network's output is NaN or infinite.
        """
        prepared = [self.prepare(image) for image in images]
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, image in enumerate(prepared):
            groups[image.shape].append(row)
        vectors = np.empty((len(images), self.global_dim), np.float32)
        for rows in groups.values():
            for start in range(0, len(rows), self.batch_size):
                chunk = rows[start : start + self.batch_size]
                vectors[chunk] = self._forward(np.stack([prepared[row] for row in chunk]))
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise NonFiniteError(
                f"the network returned NaN or an infinity for image {int(np.argmin(finite))} of the batch; "
                f"try half=False, and check the weights"
            )
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return vectors, None

    def _forward(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one chunk; one that does not fit the device's memory is run in halves."""
        torch = require("torch", "extract neural descriptors")
        height, width = batch.shape[2:]
        try:
            with torch.inference_mode(), torch.autocast(self.device.type, torch.float16, enabled=self.half):
                output = self.network.describe(torch.from_numpy(batch).to(self.device))
                result: NDArray[np.float32] = output.float().cpu().numpy()
                return result
        except InputError:
            raise
        except torch.cuda.OutOfMemoryError as cause:
            if len(batch) == 1:
                raise ParameterError(
                    f"resolution: one image of {width} x {height} does not fit the memory of {self.device}; "
                    f"use a lower resolution or device='cpu'"
                ) from cause
        except (RuntimeError, AssertionError) as cause:
            reason = (str(cause) or type(cause).__name__).splitlines()[0]
            raise ParameterError(
                f"the network cannot process {len(batch)} images of {width} x {height} ({reason}); for one "
                f"of fixed input size use transform='RESIZE_SQUARE' and resolution={self.network.train_size}"
            ) from cause
        middle = len(batch) // 2  # outside the handler, which keeps the failed tensors alive
        return np.concatenate([self._forward(batch[:middle]), self._forward(batch[middle:])])


def default_resolution(train_size: int) -> int:
    """Return the benchmark's test resolution for a training size: one level up.

    The nearest of 224, 384 and 512 on a logarithmic scale decides: 224 is tested at 384, 384 at 512 and 512
    at 724.

    Args:
        train_size: Side of the images the network was trained on, in pixels.
    """
    levels = {224: 384, 384: 512, 512: 724}
    return levels[min(levels, key=lambda level: abs(math.log(train_size / level)))]


def state_fingerprint(module: Any) -> str:
    """Return the SHA-256 over a module's parameters and buffers, by name."""
    torch = require("torch", "fingerprint weights")
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"\0{name} {plain.dtype} {list(plain.shape)}\0".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
