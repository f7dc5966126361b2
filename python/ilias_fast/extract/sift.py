"""RootSIFT: OpenCV's SIFT detector and descriptor, Hellinger-normalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilias_fast._extras import require
from ilias_fast.images.resizing import checked_image

__all__ = ["Sift", "detect"]

DIM = 128


@dataclass(frozen=True)
class Sift:
    """The RootSIFT descriptors of one image, by response, strongest first.

    Attributes:
        descriptors: float32 [m, 128], non-negative, of unit length.
        xy: float32 [m, 2], position divided by (width, height).
        scale: float32 [m], diameter in pixels of the given image.
        angle: float32 [m], radians in [0, 2 pi), y down.
        response: float32 [m], contrast of the detection.
        size: (width, height) of the given image.
    """

    descriptors: NDArray[np.float32]
    xy: NDArray[np.float32]
    scale: NDArray[np.float32]
    angle: NDArray[np.float32]
    response: NDArray[np.float32]
    size: tuple[int, int]

    def __len__(self) -> int:
        """Return m."""
        return int(self.descriptors.shape[0])


def detect(image: NDArray[np.uint8], *, longer_side: int, keypoints: int) -> Sift:
    """Detect and describe the strongest keypoints of an image.

    The image is shrunk (by area averaging) until its longer side is `longer_side`; it is never enlarged.
    RootSIFT is the element-wise square root of the L1-normalised descriptor (Arandjelovic and Zisserman,
    "Three things everyone should know to improve object retrieval", CVPR 2012).

    Args:
        image: uint8 [height, width, 3], RGB.
        longer_side: In pixels, at least 1.
        keypoints: How many to keep, at least 1.

    Raises:
        ShapeError, DtypeError: The image is no uint8 [height, width, 3].
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = require("cv2", "extract classical descriptors")
    height, width = checked_image(image).shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shrink = longer_side / max(height, width)
    if shrink < 1:
        target = max(1, round(width * shrink)), max(1, round(height * shrink))
        grey = cv2.resize(grey, target, interpolation=cv2.INTER_AREA)
    found, raw = cv2.SIFT_create(nfeatures=keypoints).detectAndCompute(grey, None)
    if raw is None or not len(found):
        return _nothing((width, height))
    table = np.array([(*point.pt, point.size, point.angle, point.response) for point in found], np.float32)
    # OpenCV keeps ties of the weakest response and lists them in no promised order: sort by everything.
    x, y, diameter, degrees, response = table.T
    order = np.lexsort((degrees, diameter, x, y, -response))[:keypoints]
    table, raw = table[order], raw[order]
    x, y, diameter, degrees, response = table.T
    # OpenCV puts (0, 0) at the centre of the first pixel; a position in [0, 1] counts from its corner.
    to_width, to_height = np.float32(1 / grey.shape[1]), np.float32(1 / grey.shape[0])
    xy = np.stack([(x + 0.5) * to_width, (y + 0.5) * to_height], axis=1).clip(0, 1)
    total = np.maximum(raw.sum(axis=1, keepdims=True), np.float32(1e-12))
    return Sift(
        descriptors=np.sqrt(raw / total),
        xy=xy,
        scale=diameter * np.float32(max(width, height) / max(grey.shape)),
        angle=np.deg2rad(degrees % np.float32(360)),
        response=response.copy(),
        size=(width, height),
    )


def _nothing(size: tuple[int, int]) -> Sift:
    none = np.empty(0, np.float32)
    return Sift(np.empty((0, DIM), np.float32), np.empty((0, 2), np.float32), none, none, none, size)
