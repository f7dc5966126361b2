"""Image files made on the spot, and the resizing rule written as the published code writes it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode(pixels: NDArray[np.generic], image_format: str = "PNG", **options: object) -> bytes:
    """Encode an array with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def texture(rng: np.random.Generator, width: int, height: int, blobs: int = 120) -> NDArray[np.uint8]:
    """Draw random filled rectangles: something with corners, and different for each draw."""
    image = np.full((height, width, 3), rng.integers(0, 255, 3), np.uint8)
    for _ in range(blobs):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(3, max(4, width // 5)), rng.integers(3, max(4, height // 5))
        image[y : y + h, x : x + w] = rng.integers(0, 255, 3)
    return image


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar of the given members, in order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def large_size(width: int, height: int, resolution: int) -> tuple[int, int]:
    """Return the RESIZE_LARGE size as the published code computes it."""
    ratio = float(height) / float(width)
    size = (resolution, int(resolution * ratio)) if ratio <= 1 else (int(resolution / ratio), resolution)
    return max(size[0], 1), max(size[1], 1)
