"""Textured images to extract from, small enough that extracting takes no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilias_fast.extract import ClassicalOptions
from ilias_fast.images import FolderSource, decode

SMALL = ClassicalOptions(keypoints=60, global_keypoints=80, words=8)


def write_textures(root: Path) -> None:
    """Write twelve textured JPEGs of different sizes."""
    from tests.oracles import images as image_oracle  # needs Pillow

    generator = np.random.default_rng(3)
    for number in range(12):
        width, height = generator.integers(90, 180, 2)
        image = image_oracle.texture(generator, width, height, 60)
        (root / f"{number:02d}.jpg").write_bytes(image_oracle.encode(image, "JPEG", quality=92))


def images_of(folder: Path) -> list[NDArray[np.uint8]]:
    """Decode all images of a folder, in the order of their names."""
    source = FolderSource(folder)
    return [decode(source.read(name), name) for name in source.ids()]
