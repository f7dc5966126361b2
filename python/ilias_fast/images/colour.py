"""White balance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ilias_fast.images.resizing import checked_image

__all__ = ["white_balance"]


def white_balance(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale the channels so that their means agree: the grey-world assumption (Buchsbaum, 1980).

    The benchmark's photographs were white-balanced before they were published; photographs of one's own may
    need it. A channel that is black everywhere stays black.

    Args:
        image: uint8 [height, width, 3].

    Returns:
        uint8 [height, width, 3]; values that would exceed 255 are 255.

    Raises:
        ShapeError: The image is not [height, width, 3].
        DtypeError: The image is not uint8.

    Examples:
        >>> import numpy as np
        >>> image = np.full((2, 2, 3), (100, 50, 150), np.uint8)
        >>> white_balance(image)[0, 0].tolist()
        [100, 100, 100]
    """
    means = checked_image(image).reshape(-1, 3).mean(axis=0, dtype=np.float64)
    gains = np.divide(means.mean(), means, out=np.ones(3), where=means > 0)
    table = np.minimum(np.rint(np.arange(256)[:, None] * gains), 255).astype(
        np.uint8
    )  # a value's three images
    return np.ascontiguousarray(np.stack([table[image[..., c], c] for c in range(3)], axis=-1))
