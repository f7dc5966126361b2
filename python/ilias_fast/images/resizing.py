"""The benchmark's resizing modes, and centred padding.

The size rules are those of the published extraction code, in double precision and truncating, because a
descriptor depends on the last pixel row: 500 x 333 at 512 is 512 x 340, not 341.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._extras import require
from ilias_fast.errors import DtypeError, ParameterError, ShapeError

__all__ = [
    "Transform",
    "centre_offset",
    "centre_pad",
    "checked_image",
    "fit_longer_side",
    "mode_of",
    "pad_to_multiple",
    "padding",
    "resize",
    "resized_size",
]

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Transform(str, Enum):
    """How an image is brought to a resolution S. Sides are width x height in pixels.

    Attributes:
        RESIZE_LARGE: The longer side becomes S; bicubic. The benchmark's mode.
        RESIZE_SMALL: The shorter side becomes S; bilinear.
        RESIZE_CENTER: As RESIZE_SMALL, then the central S x S pixels.
        RESIZE_SQUARE: S x S, whatever the aspect ratio; bilinear.
        RESIZE_PAD: As RESIZE_LARGE, then centred padding to S x S, which belongs after the normalisation:
            `resize` does not pad, `centre_pad` does.

    Examples:
        >>> Transform("RESIZE_PAD") is Transform.RESIZE_PAD
        True
        >>> resized_size(800, 600, 384, "RESIZE_SMALL")
        (512, 384)
    """

    RESIZE_LARGE = "RESIZE_LARGE"
    RESIZE_SMALL = "RESIZE_SMALL"
    RESIZE_CENTER = "RESIZE_CENTER"
    RESIZE_SQUARE = "RESIZE_SQUARE"
    RESIZE_PAD = "RESIZE_PAD"


def resized_size(
    width: int, height: int, resolution: int, transform: Transform | str = Transform.RESIZE_LARGE
) -> tuple[int, int]:
    """Return the (width, height) an image is resampled to, before any crop or padding.

    Args:
        width: Of the image, at least 1.
        height: Of the image, at least 1.
        resolution: S, at least 1.
        transform: The mode.

    Raises:
        ParameterError: A size is below 1, or there is no such mode.

    Examples:
        >>> resized_size(800, 600, 384), resized_size(600, 800, 384, "RESIZE_SMALL")
        ((384, 288), (384, 512))
    """
    mode = mode_of(transform)
    width, height = _arrays.at_least_one("width", width), _arrays.at_least_one("height", height)
    resolution = _arrays.at_least_one("resolution", resolution)
    if mode is Transform.RESIZE_SQUARE:
        return resolution, resolution
    if mode in (Transform.RESIZE_LARGE, Transform.RESIZE_PAD):
        ratio = height / width
        if ratio <= 1:
            return resolution, max(1, int(resolution * ratio))
        return max(1, int(resolution / ratio)), resolution
    if width <= height:
        return resolution, int(resolution * height / width)
    return int(resolution * width / height), resolution


def resize(
    image: NDArray[np.uint8], resolution: int, transform: Transform | str = Transform.RESIZE_LARGE
) -> NDArray[np.uint8]:
    """Resample an image as the protocol does: Pillow, antialiased, up or down.

    Args:
        image: uint8 [height, width, 3].
        resolution: S in pixels.
        transform: The mode.

    Returns:
        uint8 [height', width', 3].

    Raises:
        ShapeError: The image is not [height, width, 3].
        DtypeError: The image is not uint8.
        ParameterError: The resolution is below 1, or there is no such mode.

    Examples:
        >>> import numpy as np
        >>> resize(np.zeros((600, 800, 3), np.uint8), 384).shape
        (288, 384, 3)
        >>> resize(np.zeros((600, 800, 3), np.uint8), 384, "RESIZE_CENTER").shape
        (384, 384, 3)
    """
    mode = mode_of(transform)
    height, width = checked_image(image).shape[:2]
    bicubic = mode in (Transform.RESIZE_LARGE, Transform.RESIZE_PAD)
    resized = _resample(
        image, resized_size(width, height, resolution, mode), "BICUBIC" if bicubic else "BILINEAR"
    )
    if mode is Transform.RESIZE_CENTER:
        top, left = (centre_offset(side, resolution) for side in resized.shape[:2])
        resized = np.ascontiguousarray(resized[top : top + resolution, left : left + resolution])
    return resized


def centre_offset(side: int, resolution: int) -> int:
    """Return where the central `resolution` pixels of a side begin: half to even, as published.

    Args:
        side: In pixels.
        resolution: In pixels, at most `side`.
    """
    return round((side - resolution) / 2)


def fit_longer_side(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Shrink an image so that its longer side is at most `size` pixels; a smaller image is returned as it is.

    Args:
        image: uint8 [height, width, 3].
        size: In pixels, at least 1.

    Raises:
        ShapeError: The image is not [height, width, 3].
        DtypeError: The image is not uint8.
        ParameterError: `size` is below 1.

    Examples:
        >>> import numpy as np
        >>> image = np.zeros((600, 800, 3), np.uint8)
        >>> fit_longer_side(image, 400).shape, fit_longer_side(image, 1000) is image
        ((300, 400, 3), True)
    """
    height, width = checked_image(image).shape[:2]
    fitted = resized_size(width, height, size)
    return image if max(height, width) <= size else _resample(image, fitted, "BICUBIC")


def padding(width: int, height: int, to_width: int, to_height: int) -> tuple[int, int, int, int]:
    """Return the centred padding (left, top, right, bottom): left and top get the smaller half.

    Args:
        width: Width of the image in pixels.
        height: Height of the image.
        to_width: Width to reach.
        to_height: Height to reach.

    Raises:
        ParameterError: The target is smaller than the image.

    Examples:
        >>> padding(5, 4, 8, 8)
        (1, 2, 2, 2)
    """
    width, height = _arrays.at_least("width", width, 0), _arrays.at_least("height", height, 0)
    to_width, to_height = _arrays.count("to_width", to_width), _arrays.count("to_height", to_height)
    across, down = to_width - width, to_height - height
    if across < 0 or down < 0:
        raise ParameterError(f"cannot pad {width} x {height} to the smaller {to_width} x {to_height}")
    return across // 2, down // 2, across - across // 2, down - down // 2


def centre_pad(image: NDArray[_Scalar], width: int, height: int) -> NDArray[_Scalar]:
    """Pad an array [height, width, ...] with zeros to the given size, the image in the centre.

    Zero is the mean colour of a normalised image, which is where the protocol pads.

    Args:
        image: [height, width, ...].
        width: Width to reach, in pixels.
        height: Height to reach.

    Raises:
        ShapeError: The array has fewer than two dimensions.
        ParameterError: The target is smaller than the image.

    Examples:
        >>> import numpy as np
        >>> centre_pad(np.ones((1, 2), np.uint8), 4, 3).tolist()
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    if np.ndim(image) < 2:
        raise ShapeError(f"image: expected shape [height, width, ...], found {list(np.shape(image))}")
    left, top, right, bottom = padding(image.shape[1], image.shape[0], width, height)
    if not left + top + right + bottom:
        return image
    return np.pad(image, [(top, bottom), (left, right), *[(0, 0)] * (image.ndim - 2)])


def pad_to_multiple(image: NDArray[_Scalar], multiple: int) -> NDArray[_Scalar]:
    """Pad an array [height, width, ...] with zeros, centred, to the next multiple of `multiple` on each side.

    Args:
        image: [height, width, ...].
        multiple: What each side becomes a multiple of, in pixels.

    Raises:
        ShapeError: The array has fewer than two dimensions.
        ParameterError: `multiple` is below 1.

    Examples:
        >>> import numpy as np
        >>> pad_to_multiple(np.zeros((384, 288, 3), np.uint8), 14).shape
        (392, 294, 3)
    """
    multiple = _arrays.at_least_one("multiple", multiple)
    if np.ndim(image) < 2:
        raise ShapeError(f"image: expected shape [height, width, ...], found {list(np.shape(image))}")
    height, width = (-(-side // multiple) * multiple for side in image.shape[:2])
    return centre_pad(image, width, height)


def mode_of(transform: Transform | str) -> Transform:
    """Return the mode of a name; refuse what is none, with the one that was probably meant."""
    if not isinstance(transform, Transform):
        _arrays.choice("transform", transform, [mode.value for mode in Transform])
    return Transform(transform)


def checked_image(image: NDArray[Any]) -> NDArray[Any]:
    """Refuse what is no uint8 [height, width, 3]."""
    if not isinstance(image, np.ndarray):
        raise DtypeError(f"image: expected a uint8 array, found {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ShapeError(f"image: expected shape [height, width, 3], found {list(image.shape)}")
    if image.dtype != np.uint8:
        raise DtypeError(f"image: expected uint8, found {image.dtype}")
    return image


def _resample(image: NDArray[np.uint8], size: tuple[int, int], method: str) -> NDArray[np.uint8]:
    if size == (image.shape[1], image.shape[0]):
        return image
    pillow = require("PIL.Image", "resize images")
    return np.array(pillow.fromarray(image).resize(size, pillow.Resampling[method]))
