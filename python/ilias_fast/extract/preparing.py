"""What happens to a decoded image before it is a network's input, and the input made of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._extras import require
from ilias_fast.errors import ParameterError
from ilias_fast.images import Transform, box_mask, crop_to_boxes, padding, resize, resize_mask, white_balance

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Preparation", "Prepared"]

_LARGEST = 1 << 14  # of a resolution, in pixels: beyond it a single prepared image takes gigabytes


class Prepared(NamedTuple):
    """An image of the size the network sees, before normalisation and padding.

    Attributes:
        pixels: uint8 [height, width, 3], RGB.
        mask: bool [height, width], False where the image is blanked out; None to keep it all.

    Examples:
        >>> import numpy as np
        >>> network = load_network("test_vit", weights="random")
        >>> extractor = NeuralExtractor(network, resolution=32, device="cpu")
        >>> prepared = extractor.prepare(np.zeros((60, 80, 3), np.uint8))
        >>> prepared.pixels.shape, prepared.mask is None
        ((24, 32, 3), True)
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Preparation:
    """The way of an image into a network, as the benchmark's protocol prescribes.

    Attributes:
        resolution: S of the transform, in pixels, 1 to 16384.
        transform: The resizing mode.
        mean: Subtracted from each channel (RGB) of an image in [0, 1].
        std: Divides it then.
        pad_multiple: Sides are zero-padded, centred, to a multiple of this.
        min_size: Sides are zero-padded, centred, to at least this.
        crop: Crop an image to its boxes, which is then resized to S.
        mask: Blank out what lies outside an image's boxes, after normalisation.
        white_balance: Scale the channels to one mean first.

    Raises:
        ParameterError: A setting is out of its range.

    Examples:
        >>> Preparation(384, pad_multiple=14).multiple(384, 288)
        (392, 294)
    """

    resolution: int
    transform: Transform = Transform.RESIZE_LARGE
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pad_multiple: int = 1
    min_size: int = 0
    crop: bool = False
    mask: bool = False
    white_balance: bool = False

    def __post_init__(self) -> None:
        for name, low in (("resolution", 1), ("pad_multiple", 1), ("min_size", 0)):
            value = _arrays.count(name, getattr(self, name))
            if not low <= value <= _LARGEST:
                raise ParameterError(
                    f"{name}: expected a whole number from {low} to {_LARGEST}, found {value}"
                )
        try:
            object.__setattr__(self, "transform", Transform(self.transform))
        except ValueError:
            known = ", ".join(mode.value for mode in Transform)
            raise ParameterError(f"transform: expected one of {known}, found {self.transform!r}") from None

    @property
    def uses_boxes(self) -> bool:
        """Whether boxes make a difference."""
        return self.crop or self.mask

    def provenance(self) -> dict[str, object]:
        """Return the settings, in JSON types; those that are off are left out."""
        extra = {name: getattr(self, name) for name in ("min_size", "crop", "mask", "white_balance")}
        return {
            "resolution": self.resolution,
            "transform": self.transform.value,
            "mean": list(self.mean),
            "std": list(self.std),
            "pad_multiple": self.pad_multiple,
            **{name: value for name, value in extra.items() if value},
        }

    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[np.int64] | None = None) -> Prepared:
        """Crop, balance and resize one image.

        Args:
            image: uint8 [height, width, 3], RGB.
            boxes: int64 [n, 4], (x, y, width, height); looked at if `crop` or `mask` is set. None for none.

        Raises:
            ParameterError: The boxes lie outside the image.
        """
        rows = np.zeros((0, 4), np.int64) if boxes is None else boxes
        if self.white_balance:
            image = white_balance(image)
        if self.crop:
            image, rows = crop_to_boxes(image, rows)
        mask = None
        if self.mask and len(rows):
            mask = resize_mask(
                box_mask(image.shape[1], image.shape[0], rows), self.resolution, self.transform
            )
        return Prepared(resize(image, self.resolution, self.transform), mask)

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that a prepared image is padded to, before any multiple.

        Args:
            height: Of the prepared image.
            width: Of the prepared image.
        """
        low = self.resolution if self.transform is Transform.RESIZE_PAD else 0
        return max(height, low, self.min_size), max(width, low, self.min_size)

    def multiple(self, height: int, width: int) -> tuple[int, int]:
        """Return the next (height, width) that `pad_multiple` divides.

        Args:
            height: Of the padded image.
            width: Of the padded image.
        """
        step = self.pad_multiple
        return -(-height // step) * step, -(-width // step) * step

    def batch(self, images: Sequence[Prepared], device: torch.device, *, pad: bool = True) -> Tensor:
        """Normalise, mask and pad images into one tensor on a device.

        The pixels travel as bytes and are normalised where the network runs.

        Args:
            images: Of sizes that are padded to the same one.
            device: Where.
            pad: To `pad_multiple` as well; without it only to `min_size` and what the transform asks for.

        Returns:
            float32 [len(images), 3, H, W].
        """
        torch = require("torch", "extract neural descriptors")
        first = self.padded(*images[0].pixels.shape[:2])
        to_height, to_width = self.multiple(*first) if pad else first
        # Pinned memory travels to a GPU without waiting for what is computed there.
        pin = device.type == "cuda"
        shape = len(images), to_height, to_width
        whole = all(mask is None and pixels.shape[:2] == shape[1:] for pixels, mask in images)
        bytes_ = (torch.empty if whole else torch.zeros)((*shape, 3), dtype=torch.uint8, pin_memory=pin)
        canvas = bytes_.numpy()
        shown = None if whole else torch.zeros(shape, dtype=torch.bool, pin_memory=pin)
        inside = None if shown is None else shown.numpy()
        for row, (pixels, mask) in enumerate(images):
            height, width = pixels.shape[:2]
            between = self.padded(height, width)
            # Centred twice, as published: the halves of two odd paddings are not those of their sum.
            left, top = (
                one + other
                for one, other in zip(
                    padding(width, height, between[1], between[0])[:2],
                    padding(between[1], between[0], to_width, to_height)[:2],
                    strict=True,
                )
            )
            place = (row, slice(top, top + height), slice(left, left + width))
            canvas[place] = pixels
            if inside is not None:
                inside[place] = True if mask is None else mask
        out: Tensor = bytes_.to(device, non_blocking=pin)
        out = out.permute(0, 3, 1, 2).to(torch.float32)
        mean, std = (
            torch.tensor(values, pin_memory=pin).to(device, non_blocking=pin).reshape(3, 1, 1)
            for values in (self.mean, self.std)
        )
        out.div_(255).sub_(mean).div_(std)
        return out if shown is None else out.mul_(shown.to(device, non_blocking=pin)[:, None])
