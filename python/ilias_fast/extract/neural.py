"""Global descriptors by a neural network: everything that does not depend on where the network comes from.

A family's module builds a `Network`; `NeuralExtractor` prepares images for it, keeps images of equal size
together, runs it on the device and normalises what comes out.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._devices import device_of
from ilias_fast._extras import require
from ilias_fast.errors import InputError, NonFiniteError, ParameterError
from ilias_fast.extract.devices import Precision, autocast, overlapping, pack_for_cpu
from ilias_fast.extract.network import Network, default_resolution, state_fingerprint
from ilias_fast.extract.preparing import Preparation, Prepared
from ilias_fast.images import Transform

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Network", "NeuralExtractor", "default_resolution", "state_fingerprint"]

_SCALES = (0.707, 1.0, 1.414)
_ANGLES = (0, 90, 180, 270)
# On the CPU a few images fill the cores' caches; on a GPU many fill the device.
_BATCH = {"cpu": 8, "mps": 32}
_GPU_BATCH = 128
_OUT_OF_MEMORY = "out of memory"  # in the words of every device's allocator


class NeuralExtractor:
    """Global descriptors of unit length by a network, as the benchmark's protocol extracts them.

    Images are resized, normalised, zero-padded and grouped by equal size; each descriptor is divided by
    max(norm, 1e-12). There are no local descriptors.

    With several scales or angles the descriptor of an image is the normalised mean of the normalised
    descriptors of its variants: the normalised image is scaled (bicubic, no antialias), then rotated on the
    same canvas (bilinear, corners lost), then padded to the patch.

    Args:
        network: From `load_network`.
        resolution: S of the transform, in pixels; None for the network's own or, without one, the benchmark's
            choice for its training size (`default_resolution`).
        transform: The resizing mode; None for the network's.
        batch_size: Most images in one forward pass; None for 8 on the CPU and 128 on a GPU.
        device: A torch device; None for CUDA or MPS if there is one, else the CPU.
        precision: "auto" runs under float16 autocast on CUDA, as the protocol does, and in float32 elsewhere;
            or "float32", "float16", "bfloat16".
        multiscale: Describe at scales 0.707, 1 and 1.414.
        multirotate: Describe at 0, 90, 180 and 270 degrees.
        min_size: Sides are zero-padded to at least this.
        crop: Crop images to their boxes.
        mask: Blank out what lies outside the boxes of an image.
        white_balance: Scale the channels of an image to one mean first.
        channels_last: Memory layout of convolutions; None for channels last where it is faster (networks that
            are mostly convolutions).
        compile: Run through `torch.compile`, which compiles anew for a size it has not seen.
        pack: On the CPU, lay the weights of linear layers out once; see `devices.pack_for_cpu`.

    Raises:
        ParameterError: A setting is out of its range, or the device does not exist.

    Examples:
        >>> import numpy as np
        >>> network = load_network("test_vit", weights="random")
        >>> extractor = NeuralExtractor(network, resolution=32, device="cpu")
        >>> vectors, _ = extractor.extract([np.zeros((60, 80, 3), np.uint8)])
        >>> vectors.shape, round(float(np.linalg.norm(vectors)), 3)
        ((1, 64), 1.0)
    """

    device: torch.device
    precision: str
    batch_size: int

    def __init__(
        self,
        network: Network,
        *,
        resolution: int | None = None,
        transform: Transform | str | None = None,
        batch_size: int | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        multiscale: bool = False,
        multirotate: bool = False,
        min_size: int = 0,
        crop: bool = False,
        mask: bool = False,
        white_balance: bool = False,
        channels_last: bool | None = None,
        compile: bool = False,  # noqa: A002 - torch's word
        pack: bool = True,
    ) -> None:
        torch = require("torch", "extract neural descriptors")
        self.network = network
        own = network.resolution or default_resolution(network.train_size)
        self.preparation: Preparation = Preparation(
            resolution=own if resolution is None else resolution,
            transform=network.transform if transform is None else transform,  # type: ignore[arg-type]
            mean=network.mean,
            std=network.std,
            pad_multiple=network.pad_multiple,
            min_size=min_size,
            crop=crop,
            mask=mask,
            white_balance=white_balance,
        )
        if batch_size is not None:
            batch_size = _arrays.at_least_one("batch_size", batch_size)
        self.device = device_of(device)
        self.batch_size = batch_size or _BATCH.get(self.device.type, _GPU_BATCH)
        self.precision, self._autocast = autocast(self.device, precision)
        self.scales: tuple[float, ...] = _SCALES if multiscale else (1.0,)
        self.angles: tuple[int, ...] = _ANGLES if multirotate else (0,)
        network.module.to(self.device)
        self._layout = (
            torch.channels_last
            if (_convolutional(network.module) if channels_last is None else channels_last)
            else torch.contiguous_format
        )
        if self._layout is torch.channels_last:
            network.module.to(memory_format=torch.channels_last)
        if pack and self.device.type == "cpu" and self.precision == "float32":
            pack_for_cpu(network.module)
        self._compiled = compile
        self._run = torch.compile(network.describe, dynamic=True) if compile else network.describe
        self._alone = threading.Lock()

    @property
    def resolution(self) -> int:
        """S of the transform, in pixels."""
        return self.preparation.resolution

    @property
    def transform(self) -> Transform:
        """The resizing mode."""
        return self.preparation.transform

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

    @property
    def best_batch(self) -> int:
        """Images in one forward pass."""
        return self.batch_size

    @property
    def concurrent(self) -> bool:
        """On the CPU: a thread a core, each with its own batch, beats all cores on one."""
        return self.device.type == "cpu" and not self._compiled

    @property
    def describers(self) -> int:
        """Batches on their way to a GPU at once."""
        return 1 if self._compiled else overlapping(self.device, self.precision)

    @property
    def uses_boxes(self) -> bool:
        """Whether boxes make a difference."""
        return self.preparation.uses_boxes

    @contextmanager
    def worker(self) -> Iterator[Callable[[], None]]:
        """Yield what a describing thread runs first: torch then uses one core in it. Undone afterwards."""
        torch = require("torch", "extract neural descriptors")
        threads = torch.get_num_threads()
        try:
            yield partial(torch.set_num_threads, 1)
        finally:
            torch.set_num_threads(threads)

    def provenance(self) -> dict[str, object]:
        """Return the network's provenance, the preparation of images, variants and precision."""
        return {
            "extractor": "neural-2",
            **self.network.provenance,
            **self.preparation.provenance(),
            **({"scales": list(self.scales)} if len(self.scales) > 1 else {}),
            **({"angles": list(self.angles)} if len(self.angles) > 1 else {}),
            "precision": self.precision,
        }

    def prepare(self, image: NDArray[np.uint8], boxes: NDArray[np.int64] | None = None) -> Prepared:
        """Crop, balance and resize one image.

        Args:
            image: uint8 [height, width, 3], RGB.
            boxes: int64 [n, 4], (x, y, width, height); None for none.

        Raises:
            ParameterError: The boxes lie outside the image.
        """
        return self.preparation(image, boxes)

    def bucket(self, prepared: Prepared) -> Hashable:
        """Return the size the network sees; with variants, the size that these are made from.

        Args:
            prepared: From `prepare`.
        """
        size = self.preparation.padded(*prepared.pixels.shape[:2])
        return size if self._varied else self.preparation.multiple(*size)

    @property
    def _varied(self) -> bool:
        return len(self.scales) > 1 or len(self.angles) > 1

    def inputs(self, prepared: Sequence[Prepared]) -> Iterator[Tensor]:
        """Yield what the network is given for images of one bucket: once, or once a variant.

        Args:
            prepared: From `prepare`.

        Yields:
            float32 [len(prepared), 3, H, W] on the device.
        """
        if not self._varied:
            yield self.preparation.batch(prepared, self.device)
            return
        images = self.preparation.batch(prepared, self.device, pad=False)
        for scale in self.scales:
            scaled = _scaled(images, scale)
            for angle in self.angles:
                yield self._padded(_rotated(scaled, angle))

    def _padded(self, batch: Tensor) -> Tensor:
        functional: Any = require("torch.nn.functional", "extract neural descriptors")
        height, width = batch.shape[2:]
        to_height, to_width = self.preparation.multiple(height, width)
        down, across = to_height - height, to_width - width
        sides = (across // 2, across - across // 2, down // 2, down - down // 2)
        padded: Tensor = functional.pad(batch, sides)
        return padded

    def extract(self, images: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], None]:
        """Describe images.

        Args:
            images: uint8 [height, width, 3] each, RGB.

        Returns:
            float32 [len(images), dim] of unit length, and None.

        Raises:
            ParameterError: As `describe`.
            NonFiniteError: As `describe`.
        """
        prepared = [self.prepare(image) for image in images]
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for row, image in enumerate(prepared):
            groups[self.bucket(image)].append(row)
        vectors = np.empty((len(images), self.global_dim), np.float32)
        for rows in groups.values():
            for start in range(0, len(rows), self.batch_size):
                chunk = rows[start : start + self.batch_size]
                vectors[chunk], _ = self.describe([prepared[row] for row in chunk])
        return vectors, None

    def describe(self, prepared: Sequence[Prepared]) -> tuple[NDArray[np.float32], None]:
        """Describe prepared images of one bucket.

        Args:
            prepared: From `prepare`.

        Returns:
            float32 [len(prepared), dim] of unit length, and None.

        Raises:
            ParameterError: The network cannot process an image of the prepared size, or it does not fit the
                device's memory. (A batch that does not is halved until it does.)
            NonFiniteError: The network's output is NaN or infinite.
        """
        vectors = self._forward(prepared)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise NonFiniteError(
                f"the network returned NaN or an infinity for image {int(np.argmin(finite))} of the batch; "
                f"try precision='float32', and check the weights"
            )
        return vectors, None

    def _at_once(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        torch = require("torch", "extract neural descriptors")
        with torch.inference_mode(), self._autocast():
            total = None
            for batch in self.inputs(prepared):
                one = _unit(self._run(batch.to(memory_format=self._layout)).float())
                total = one if total is None else total + one
            assert total is not None
            result: NDArray[np.float32] = (_unit(total) if self._varied else total).cpu().numpy()
            return result

    def _forward(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Run one batch; one that does not fit the device's memory is run in halves."""
        torch = require("torch", "extract neural descriptors")
        height, width = prepared[0].pixels.shape[:2]
        try:
            return self._at_once(prepared)
        except InputError:
            raise
        except (RuntimeError, AssertionError) as cause:
            reason = (str(cause) or type(cause).__name__).splitlines()[0]
            if _OUT_OF_MEMORY not in reason.lower():
                raise ParameterError(
                    f"the network cannot process {len(prepared)} images of {width} x {height} ({reason}); "
                    f"for one of fixed input size use transform='RESIZE_SQUARE' and "
                    f"resolution={self.network.train_size}"
                ) from cause
            if len(prepared) == 1:
                raise ParameterError(
                    f"resolution: one image of {width} x {height} does not fit the memory of {self.device}; "
                    f"use a lower resolution or device='cpu'"
                ) from cause
        with self._alone:  # outside the handler, which keeps what failed, and its tensors, alive
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.batch_size = min(self.batch_size, max(1, len(prepared) // 2))
        middle = len(prepared) // 2
        return np.concatenate([self._forward(prepared[:middle]), self._forward(prepared[middle:])])


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return unit


def _scaled(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    functional: Any = require("torch.nn.functional", "extract neural descriptors")
    scaled: Tensor = functional.interpolate(images, scale_factor=scale, mode="bicubic", align_corners=False)
    return scaled


def _rotated(images: Tensor, angle: int) -> Tensor:
    if angle == 0:
        return images
    transforms: Any = require("torchvision.transforms.functional", "rotate images")
    bilinear = require("torchvision.transforms", "rotate images").InterpolationMode.BILINEAR
    rotated: Tensor = transforms.rotate(images, angle, interpolation=bilinear)
    return rotated


def _convolutional(module: torch.nn.Module) -> bool:
    """Whether most weights are of convolutions."""
    torch = require("torch", "extract neural descriptors")
    convolutions = sum(
        layer.weight.numel() for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)
    )
    return bool(2 * convolutions > sum(parameter.numel() for parameter in module.parameters()))
