"""Steps on local stores: the descriptors of a block of images are mapped together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast.adapt.steps import Strongest
from ilias_fast.store import LocalImage, LocalStore

__all__ = ["local_results"]

_BLOCK_BYTES = 16 << 20
_BLOCK_IMAGES = 4096


def local_results(
    source: LocalStore, step: object, start: int, mapped: Callable[[NDArray[Any]], NDArray[Any]]
) -> Generator[tuple[list[str], dict[str, Any], int], None, None]:
    """Yield ids, arguments of `LocalWriter.append_arrays`, and their size, from image `start` on.

    A `Strongest` picks descriptors of each image; what any other step makes of rows, floats or packed codes
    (uint8), `mapped` tells.
    """
    for rows, images in _blocks(source, start):
        if isinstance(step, Strongest):
            arrays = _columns(source, [step.apply(image) for image in images])
        else:
            arrays = _columns(source, images)
            made = mapped(arrays["descriptors" if source.dim else "codes"])
            packed = made.dtype == np.uint8
            arrays |= {"codes": made if packed else None, "descriptors": None if packed else made}
        size = sum(array.nbytes for array in arrays.values() if array is not None)
        yield source.id_of(np.array(rows)), arrays, size


def _blocks(source: LocalStore, start: int) -> Iterator[tuple[range, list[LocalImage]]]:
    """Cut the images into blocks of about `_BLOCK_BYTES`, however many descriptors they have."""
    images: list[LocalImage] = []
    size = 0
    for row in range(start, len(source)):
        image = source.image(row)
        images.append(image)
        size += image.codes.nbytes + (0 if image.descriptors is None else image.descriptors.nbytes)
        if size >= _BLOCK_BYTES or len(images) == _BLOCK_IMAGES:
            yield range(row + 1 - len(images), row + 1), images
            images, size = [], 0
    if images:
        yield range(len(source) - len(images), len(source)), images


def _columns(source: LocalStore, images: Sequence[LocalImage]) -> dict[str, Any]:
    """Return images as the arrays of `LocalWriter.append_arrays`."""
    kept = ("xy", "descriptors" if source.dim else "codes", *source.optional)
    columns: dict[str, Any] = {"codes": None, "descriptors": None}
    columns |= {name: np.concatenate([getattr(image, name) for image in images]) for name in kept}
    counts = [len(image.xy) for image in images]
    columns["offsets"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    columns["size"] = np.array([image.size for image in images], dtype=np.int64)
    return columns
