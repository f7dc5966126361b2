"""Local descriptors by a network: its features by position, the strongest kept, float16 or binarised.

The protocol is that of AMES: DINOv2 patch tokens, or CVNet's third stage, through an attention detector; the
top descriptors by weight over all positions and scales, without suppression of neighbours. Positions are
(x, y) of the whole image, also when it was cropped to a query's box. (The published code keeps (row, column),
and scales the wrong axis for cropped queries.)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._devices import device_of
from ilias_fast._extras import require
from ilias_fast.adapt.itq import Itq
from ilias_fast.errors import NonFiniteError, ParameterError
from ilias_fast.extract.devices import Precision, autocast, overlapping
from ilias_fast.extract.features import LocalFeatures
from ilias_fast.extract.local_networks import LocalNetwork
from ilias_fast.extract.network import state_fingerprint
from ilias_fast.images import crop_to_boxes

if TYPE_CHECKING:
    import torch

__all__ = ["LocalExtractor", "LocalPreparation", "LocalPrepared"]

_OUT_OF_MEMORY = "out of memory"
_LARGEST = 1 << 14


class LocalPrepared(NamedTuple):
    """An image at the sizes the network sees.

    Attributes:
        pixels: uint8 [height, width, 3] a scale, RGB.
        size: (width, height) of the whole image.
        area: (left, top, width, height) of what was described, in its pixels.
    """

    pixels: tuple[NDArray[np.uint8], ...]
    size: tuple[int, int]
    area: tuple[int, int, int, int]


@dataclass(frozen=True)
class LocalPreparation:
    """The way of an image into the network: cropped, resized, once a scale.

    Attributes:
        side: The whole image's longer side becomes this, in pixels, before it is cropped; None for its own.
        multiple: Sides of the result are the nearest multiple of this, at least one.
        scales: One result each.
        crop: Crop to the image's boxes.
    """

    side: int | None
    multiple: int
    scales: tuple[float, ...]
    crop: bool

    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[np.int64] | None = None) -> LocalPrepared:
        """Prepare one image.

        Args:
            image: uint8 [height, width, 3], RGB.
            boxes: int64 [n, 4], (x, y, width, height) in pixels; None for none.

        Raises:
            ParameterError: The boxes lie outside the image.
            MissingExtraError: OpenCV is not installed.
        """
        height, width = image.shape[:2]
        left, top, part = 0, 0, image
        if self.crop and boxes is not None and len(boxes):
            part, moved = crop_to_boxes(image, boxes)
            left, top = (int(value) for value in np.asarray(boxes)[0, :2] - moved[0, :2])
        base = 1.0 if self.side is None else self.side / max(height, width)
        pixels = tuple(self._resized(part, base * scale) for scale in self.scales)
        return LocalPrepared(pixels, (width, height), (left, top, part.shape[1], part.shape[0]))

    def _resized(self, image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
        cv2 = require("cv2", "resize images for local descriptors")
        sides = [self.multiple * max(round(scale * side / self.multiple), 1) for side in image.shape[:2]]
        factors = [target / side for target, side in zip(sides, image.shape[:2], strict=True)]
        if sides == list(image.shape[:2]):
            return image
        way = cv2.INTER_AREA if min(factors) < 1 else cv2.INTER_LINEAR
        resized: NDArray[np.uint8] = cv2.resize(image, (sides[1], sides[0]), interpolation=way)
        return resized


class LocalExtractor:
    """Local descriptors of images, strongest first; on request a global one as well.

    Args:
        network: From `local_network`.
        detector: From `attention_detector`; None to keep the features as they are and weigh them by their
            norm.
        itq: Binarises the descriptors; None to keep them as float16.
        most: Descriptors kept of an image.
        side: The image's longer side becomes this many pixels; None for its own size.
        crop: Crop images to their boxes, as queries are.
        global_by: The global descriptor: "cls", the class token; "attention", the mean of the descriptors by
            weight; None for none. Of unit length; the first scale's that is 1.
        device: A torch device; None for CUDA or MPS if there is one, else the CPU.
        precision: As for `NeuralExtractor`.
        batch_size: Images in one forward pass; None for 1 on the CPU and 16 elsewhere.

    Raises:
        ParameterError: A setting is out of its range, the network has no class token, or the device does not
            exist.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> module = torch.nn.Conv2d(3, 8, 4, stride=4).eval()
        >>> network = LocalNetwork(
        ...     module=module,
        ...     maps=lambda batch: (module(batch), None),
        ...     dim=8,
        ...     stride=4,
        ...     first=2.0,
        ...     diameter=4,
        ...     multiple=4,
        ...     scales=(1.0,),
        ...     mean=(0.5, 0.5, 0.5),
        ...     std=(0.5, 0.5, 0.5),
        ...     provenance={"model": "one layer"},
        ... )
        >>> extractor = LocalExtractor(network, most=10, device="cpu")
        >>> _, local = extractor.extract([np.zeros((32, 48, 3), np.uint8)])
        >>> local[0].descriptors.shape, local[0].xy.shape, local[0].size
        ((10, 8), (10, 2), (48, 32))
    """

    device: torch.device
    precision: str

    def __init__(
        self,
        network: LocalNetwork,
        detector: torch.nn.Module | None = None,
        itq: Itq | None = None,
        *,
        most: int = 700,
        side: int | None = None,
        crop: bool = False,
        global_by: Literal["cls", "attention"] | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        batch_size: int | None = None,
    ) -> None:
        require("cv2", "resize images for local descriptors")
        self.network: LocalNetwork = network
        self.detector: torch.nn.Module | None = detector
        self.itq: Itq | None = itq
        self.most: int = _arrays.at_least_one("most", most)
        if side is not None and not 1 <= side <= _LARGEST:
            raise ParameterError(f"side: expected a whole number from 1 to {_LARGEST}, found {side}")
        if itq is not None and itq.input_dim != network.dim:
            raise ParameterError(
                f"itq: expected a binarisation of dimension {network.dim}, found {itq.input_dim}"
            )
        if global_by is not None:
            _arrays.choice("global_by", global_by, ("cls", "attention"))
        if global_by == "cls" and len(network.scales) > 1:
            raise ParameterError("global_by: this network has no class token; expected attention or None")
        self.global_by = global_by
        self._preparation = LocalPreparation(side, network.multiple, network.scales, crop)
        self.device = device_of(device)
        self.precision, self._autocast = autocast(self.device, precision)
        self.batch_size: int = (
            _arrays.at_least_one("batch_size", batch_size)
            if batch_size is not None
            else 1
            if self.device.type == "cpu"
            else 16
        )
        network.module.to(self.device)
        if detector is not None:
            detector.to(self.device)

    @property
    def global_dim(self) -> int | None:
        """Dimension of the global descriptor, if there is one."""
        return None if self.global_by is None else self.network.dim

    @property
    def code_bits(self) -> int | None:
        """Length of the local codes; None if descriptors are float16."""
        return None if self.itq is None else self.itq.bits

    @property
    def local_dim(self) -> int | None:
        """Dimension of the float16 local descriptors; None if they are binarised."""
        return self.network.dim if self.itq is None else None

    @property
    def local_optional(self) -> tuple[str, ...]:
        """Scale and weight: all local descriptors have them."""
        return ("scale", "weight")

    @property
    def best_batch(self) -> int:
        """Images in one forward pass."""
        return self.batch_size

    @property
    def concurrent(self) -> bool:
        """One batch at a time, on all cores."""
        return False

    @property
    def describers(self) -> int:
        """Batches on their way to a GPU at once."""
        return overlapping(self.device, self.precision)

    @property
    def uses_boxes(self) -> bool:
        """Whether images are cropped."""
        return self._preparation.crop

    @property
    def preparation(self) -> LocalPreparation:
        """What `prepare` does."""
        return self._preparation

    def provenance(self) -> dict[str, object]:
        """Return the network's provenance, the detector's, the binarisation's, and the settings."""
        return {
            "extractor": "local-1",
            **self.network.provenance,
            "detector": None if self.detector is None else state_fingerprint(self.detector),
            "itq": None if self.itq is None else self.itq.fingerprint,
            "most": self.most,
            "side": self._preparation.side,
            "crop": self._preparation.crop,
            "scales": list(self.network.scales),
            "global_by": self.global_by,
            "precision": self.precision,
        }

    def prepare(self, image: NDArray[np.uint8], boxes: NDArray[np.int64] | None = None) -> LocalPrepared:
        """Crop and resize one image.

        Args:
            image: uint8 [height, width, 3], RGB.
            boxes: int64 [n, 4], (x, y, width, height); None for none.

        Raises:
            ParameterError: The boxes lie outside the image.
        """
        return self._preparation(image, boxes)

    def bucket(self, prepared: LocalPrepared) -> Hashable:
        """Return the sizes the network sees.

        Args:
            prepared: From `prepare`.
        """
        return tuple(pixels.shape for pixels in prepared.pixels)

    def extract(
        self, images: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32] | None, list[LocalFeatures]]:
        """Describe images; as `describe`.

        Args:
            images: uint8 [height, width, 3] each, RGB.
        """
        prepared = [self.prepare(image) for image in images]
        buckets: dict[Hashable, list[int]] = defaultdict(list)
        for row, image in enumerate(prepared):
            buckets[self.bucket(image)].append(row)
        vectors = None if self.global_dim is None else np.empty((len(images), self.global_dim), np.float32)
        found: dict[int, LocalFeatures] = {}
        for rows in buckets.values():
            for start in range(0, len(rows), self.batch_size):
                chunk = rows[start : start + self.batch_size]
                globals_, locals_ = self.describe([prepared[row] for row in chunk])
                found.update(zip(chunk, locals_, strict=True))
                if vectors is not None:
                    vectors[chunk] = globals_
        return vectors, [found[row] for row in range(len(images))]

    def describe(
        self, prepared: Sequence[LocalPrepared]
    ) -> tuple[NDArray[np.float32] | None, list[LocalFeatures]]:
        """Describe prepared images of one bucket.

        Args:
            prepared: From `prepare`.

        Returns:
            Global descriptors float32 [len(prepared), dim], or None; and the local ones of each image.

        Raises:
            ParameterError: One image does not fit the device's memory. (A batch that does not is halved.)
            NonFiniteError: The network returned NaN or an infinity.
        """
        try:
            return self._describe(prepared)
        except RuntimeError as cause:
            if _OUT_OF_MEMORY not in str(cause).lower():
                raise
            if len(prepared) == 1:
                width, height = prepared[0].size
                raise ParameterError(
                    f"side: one image of {width} x {height} does not fit the memory of {self.device}; "
                    f"use a smaller side or device='cpu'"
                ) from cause
        middle = len(prepared) // 2
        self.batch_size = max(1, middle)
        parts = [self.describe(part) for part in (prepared[:middle], prepared[middle:])]
        vectors = [part for part, _ in parts if part is not None]
        return np.concatenate(vectors) if vectors else None, [one for _, part in parts for one in part]

    def _describe(
        self, prepared: Sequence[LocalPrepared]
    ) -> tuple[NDArray[np.float32] | None, list[LocalFeatures]]:
        torch = require("torch", "extract local descriptors")
        found: list[tuple[Any, Any]] = []  # a scale: descriptors [B, n, C] and weights [B, n]
        grids: list[tuple[int, int]] = []
        vectors = None
        with torch.inference_mode():
            for level, scale in enumerate(self.network.scales):
                batch = self._batch([image.pixels[level] for image in prepared])
                with self._autocast():
                    maps, token = self.network.maps(batch)
                maps = maps.float()
                if self.detector is None:
                    descriptors, weights = maps, maps.norm(dim=1)
                else:
                    descriptors, weights = self.detector(maps)
                grids.append((int(maps.shape[2]), int(maps.shape[3])))
                found.append((descriptors.flatten(2).transpose(1, 2), weights.flatten(1)))
                if self.global_by is not None and scale == 1.0:
                    pooled = (descriptors * weights[:, None]).mean(dim=(2, 3))
                    one = pooled if self.global_by == "attention" or token is None else token.float()
                    vectors = torch.nn.functional.normalize(one).cpu().numpy()
            weight = torch.cat([weights for _, weights in found], dim=1).cpu().numpy()
            if not np.isfinite(weight).all():
                bad = int(np.argmin(np.isfinite(weight).all(axis=1)))
                raise NonFiniteError(
                    f"the network returned NaN or an infinity for image {bad} of the batch; "
                    f"try precision='float32', and check the weights"
                )
            # Stable: of equal weights the first position, in the order of scales and rows, comes first.
            order = np.argsort(-weight, axis=1, kind="stable")[:, : self.most]
            every = torch.cat([descriptors for descriptors, _ in found], dim=1)
            chosen = torch.from_numpy(order).to(every.device)
            kept = every.gather(1, chosen[..., None].expand(-1, -1, every.shape[2])).cpu().numpy()
        places = [self._places(image, grids) for image in prepared]
        locals_ = []
        for row, image in enumerate(prepared):
            xy, diameter = places[row]
            locals_.append(
                LocalFeatures(
                    xy=xy[order[row]],
                    size=image.size,
                    descriptors=kept[row] if self.itq is None else None,
                    codes=None if self.itq is None else self.itq.apply(kept[row]),
                    scale=diameter[order[row]],
                    weight=weight[row][order[row]],
                )
            )
        return vectors, locals_

    def _batch(self, pixels: list[NDArray[np.uint8]]) -> Any:
        torch = require("torch", "extract local descriptors")
        images = torch.from_numpy(np.stack(pixels)).to(self.device).permute(0, 3, 1, 2).float()
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (self.network.mean, self.network.std)
        )
        return (images / 255 - mean) / std

    def _places(
        self, image: LocalPrepared, grids: list[tuple[int, int]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return where the positions of all scales lie in the whole image, and diameters in its pixels."""
        left, top, width, height = image.area
        network = self.network
        xy, diameters = [], []
        for pixels, (rows, columns) in zip(image.pixels, grids, strict=True):
            x = (network.first + network.stride * np.arange(columns)) / pixels.shape[1]
            y = (network.first + network.stride * np.arange(rows)) / pixels.shape[0]
            grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=2).reshape(-1, 2)
            place = (grid * [width, height] + [left, top]) / image.size
            xy.append(place.clip(0, 1).astype(np.float32))
            shrunk = math.sqrt(pixels.shape[0] * pixels.shape[1] / (width * height))
            diameters.append(np.full(len(grid), network.diameter / shrunk, np.float32))
        return np.concatenate(xy), np.concatenate(diameters)
