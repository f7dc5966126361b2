"""Small stores with random content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast.store import (
    GlobalStore,
    LocalImage,
)


def vectors(rng: np.random.Generator, rows: int, dim: int = 8) -> NDArray[np.float16]:
    return rng.standard_normal((rows, dim)).astype(np.float16)


def make_global(path: Path, rng: np.random.Generator, rows: int = 10, **options: Any) -> NDArray[np.float16]:
    matrix = vectors(rng, rows)
    with GlobalStore.create(path, dim=8, **options) as writer:
        writer.append([f"id{row}" for row in range(rows)], matrix)
    return matrix


def make_images(rng: np.random.Generator, counts: list[int], width: int = 16) -> list[LocalImage]:
    def numbers(count: int) -> NDArray[np.float32]:
        return rng.random(count, dtype=np.float32) + np.float32(0.1)

    return [
        LocalImage(
            rng.integers(0, 256, (count, width), dtype=np.uint8),
            rng.random((count, 2), dtype=np.float32),
            numbers(count),
            numbers(count),
            numbers(count),
            (640 + row, 480),
        )
        for row, count in enumerate(counts)
    ]


def shards_of(path: Path) -> list[Path]:
    """Return the shard files of a store, oldest first."""
    return sorted((path / "shards").glob("*.safetensors"))
