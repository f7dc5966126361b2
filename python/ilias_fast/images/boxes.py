"""Boxes: cropping an image to them, and masks that follow an image through its transform."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast.errors import DtypeError, ParameterError, ShapeError
from ilias_fast.images.resizing import Transform, centre_offset, resized_size

__all__ = ["box_mask", "crop_to_boxes", "resize_mask"]

_LARGEST = 10_000  # the published code clips the corners of boxes to this


def crop_to_boxes(image: NDArray[np.uint8], boxes: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Crop an image to the smallest rectangle that holds all boxes.

    Args:
        image: uint8 [height, width, 3].
        boxes: [n, 4], (x, y, width, height) in pixels; an image without boxes is returned whole.

    Returns:
        The crop, and the boxes in its pixels, int64 [n, 4].

    Raises:
        ShapeError: The boxes are not [n, 4].
        DtypeError: They are no numbers.
        ParameterError: The boxes lie outside the image, or are empty, NaN or infinite.

    Examples:
        >>> import numpy as np
        >>> crop, boxes = crop_to_boxes(np.zeros((60, 80, 3), np.uint8), [[10, 20, 30, 40]])
        >>> crop.shape, boxes.tolist()
        ((40, 30, 3), [[0, 0, 30, 40]])
    """
    rows = _checked(boxes)
    if not len(rows):
        return image, rows
    height, width = image.shape[:2]
    corners = np.clip(np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1), 0, _LARGEST)
    left, top = (int(value) for value in corners[:, :2].min(axis=0))
    right, bottom = (int(value) for value in np.minimum(corners[:, 2:].max(axis=0), [width, height]))
    if left >= right or top >= bottom:
        raise ParameterError(
            f"boxes: expected an area inside the image of {width} x {height}, found ({left}, {top}) to "
            f"({right}, {bottom})"
        )
    moved = rows.copy()
    moved[:, 0] -= left
    moved[:, 1] -= top
    return np.ascontiguousarray(image[top:bottom, left:right]), moved


def box_mask(width: int, height: int, boxes: ArrayLike) -> NDArray[np.bool_]:
    """Return which pixels lie inside a box.

    Args:
        width: Of the image.
        height: Of the image.
        boxes: [n, 4], (x, y, width, height) in pixels; parts outside the image count for nothing.

    Returns:
        bool [height, width]; all True without boxes.

    Raises:
        ShapeError: The boxes are not [n, 4].
        DtypeError: They are no numbers.
        ParameterError: One is NaN or infinite, or a side of the image is negative.

    Examples:
        >>> box_mask(4, 2, [[1, 0, 2, 1]]).astype(int).tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    rows = _checked(boxes)
    width, height = _arrays.at_least("width", width, 0), _arrays.at_least("height", height, 0)
    if not len(rows):
        return np.ones((height, width), np.bool_)
    mask = np.zeros((height, width), np.bool_)
    for x, y, w, h in rows.tolist():
        mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = True
    return mask


def resize_mask(
    mask: NDArray[np.bool_], resolution: int, transform: Transform | str = Transform.RESIZE_LARGE
) -> NDArray[np.bool_]:
    """Bring a mask to the size its image gets, nearest neighbour, cropped where the image is.

    Args:
        mask: bool [height, width].
        resolution: S in pixels.
        transform: The mode.

    Returns:
        bool [height', width'].

    Raises:
        ShapeError: The mask is not [height, width].
        ParameterError: The resolution is below 1, or there is no such mode.

    Examples:
        >>> mask = box_mask(80, 60, [[0, 0, 40, 60]])
        >>> resize_mask(mask, 40).shape, int(resize_mask(mask, 40).sum())
        ((30, 40), 600)
    """
    mask = _arrays.any_array("mask", mask, "height, width")
    height, width = mask.shape
    to_width, to_height = resized_size(width, height, resolution, transform)
    resized = mask[np.ix_(_nearest(height, to_height), _nearest(width, to_width))]
    if Transform(transform) is Transform.RESIZE_CENTER:
        top, left = centre_offset(to_height, resolution), centre_offset(to_width, resolution)
        resized = resized[top : top + resolution, left : left + resolution]
    return np.ascontiguousarray(resized)


def _nearest(of: int, to: int) -> NDArray[np.int64]:
    """Return the source of each of `to` pixels as torch's nearest interpolation finds it, in float32."""
    places = np.floor(np.arange(to, dtype=np.float32) * (np.float32(of) / np.float32(to)))
    found: NDArray[np.int64] = np.minimum(places.astype(np.int64), of - 1)
    return found


def _checked(boxes: ArrayLike) -> NDArray[np.int64]:
    if isinstance(boxes, Sized) and len(boxes) == 0:
        return np.zeros((0, 4), np.int64)
    rows = _arrays.any_array("boxes", boxes, "n, 4")
    if rows.shape[1] != 4:
        raise ShapeError(f"boxes: expected shape [n, 4], found {list(rows.shape)}")
    if rows.dtype.kind not in "fiu":
        raise DtypeError(f"boxes: expected numbers, found {rows.dtype}")
    if not (np.abs(rows.astype(np.float64)) < 2**31).all():
        raise ParameterError("boxes: expected pixels below 2^31, found larger ones, NaN or an infinity")
    return rows.astype(np.int64)
