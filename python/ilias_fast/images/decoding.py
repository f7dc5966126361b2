"""Encoded bytes to RGB pixels; every failure is an `ImageError` that names the image."""

from __future__ import annotations

import io
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ilias_fast._extras import require
from ilias_fast.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode"]

_ORIENTATION = 0x0112


def decode(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image to RGB, upright.

    The EXIF orientation is applied (an unreadable EXIF block is ignored). Grey, palette and CMYK images
    become RGB, 16-bit grey is scaled to 8 bits, an alpha channel is dropped, and of an animation the first
    frame is taken.

    Args:
        data: The file's bytes: JPEG, PNG or anything else Pillow reads.
        name: The image's id or file name, for error messages.

    Returns:
        uint8 [height, width, 3], C-contiguous and writable.

    Raises:
        ImageError: The bytes are not an image, are truncated or damaged, or hold more pixels than Pillow's
            protection against decompression bombs allows (about 179 million).
        MissingExtraError: Pillow is not installed.

    Examples:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("L", (80, 60), 7).save(file, "PNG")
        >>> image = decode(file.getvalue(), "grey.png")
        >>> image.shape, image.dtype, image[0, 0].tolist()
        ((60, 80, 3), dtype('uint8'), [7, 7, 7])
    """
    pillow = require("PIL.Image", "decode images")
    if not data:
        raise ImageError(f"{name}: the file is empty")
    try:
        with pillow.open(io.BytesIO(data)) as image:
            image.load()
            array = np.array(_upright(_rgb(image, pillow), _orientation(image), pillow), dtype=np.uint8)
    except MemoryError:
        raise
    except pillow.UnidentifiedImageError as cause:
        raise ImageError(f"{name}: not an image of a known format ({len(data)} bytes)") from cause
    except Exception as cause:  # Pillow's readers raise whatever a damaged file provokes, even SyntaxError
        raise ImageError(f"{name}: cannot be decoded ({cause})") from cause
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(f"{name}: expected pixels, found an image of shape {array.shape}")
    return array


def _rgb(image: Image.Image, pillow: ModuleType) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, or 32 that hold 16: Pillow would clip at 255 instead of scaling
        grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        scaled: Image.Image = pillow.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
        return scaled.convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        # The same pixels as a direct conversion, without Pillow's warning about transparency given as bytes.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the orientation; the pixels are fine
        return 1


def _upright(image: Image.Image, orientation: int, pillow: ModuleType) -> Image.Image:
    transpose = pillow.Transpose
    method = {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_270,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_90,
    }.get(orientation)
    return image if method is None else image.transpose(method)
