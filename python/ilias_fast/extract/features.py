"""What an extractor takes and gives."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Extractor", "LocalFeatures", "StagedExtractor"]


@dataclass(frozen=True)
class LocalFeatures:
    """The local descriptors of one image, m of them, strongest first; m may be 0.

    Attributes:
        xy: float32 [m, 2], positions divided by (width, height): in [0, 1], x to the right, y down.
        size: (width, height) of the decoded image, in pixels.
        descriptors: float32 [m, d], or None if there are codes.
        codes: uint8 [m, bits / 8], packed binary descriptors, or None if there are float ones.
        scale: float32 [m], diameter of the described region in pixels of the image of `size`, or None.
        angle: float32 [m], orientation in radians in [0, 2 pi): the direction (cos, sin) in (x, y), y down;
            or None.
        weight: float32 [m], strength of the detection, or None.

    Examples:
        >>> import numpy as np
        >>> xy, codes = np.full((3, 2), 0.5, np.float32), np.zeros((3, 16), np.uint8)
        >>> features = LocalFeatures(xy, (640, 480), codes=codes)
        >>> len(features), features.codes.shape
        (3, (3, 16))
    """

    xy: NDArray[np.float32]
    size: tuple[int, int]
    descriptors: NDArray[np.float32] | None = None
    codes: NDArray[np.uint8] | None = None
    scale: NDArray[np.float32] | None = None
    angle: NDArray[np.float32] | None = None
    weight: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return m."""
        return int(self.xy.shape[0])


class Extractor(Protocol):
    """Turns decoded images into descriptors: one global descriptor, local ones, or both.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from ilias_fast.datasets import load_dataset
        >>> from ilias_fast.datasets.generate import generate
        >>> class MeanColour:
        ...     global_dim, code_bits, local_optional = 3, None, ()
        ...     def provenance(self):
        ...         return {"model": "mean colour"}
        ...     def extract(self, images):
        ...         colours = np.stack([image.mean(axis=(0, 1)) for image in images])
        ...         return np.float32(colours / np.linalg.norm(colours, axis=1, keepdims=True)), None
        >>> _ = generate("toy", objects=1, images=10)
        >>> source, ids = load_dataset("toy").images("positives")
        >>> extractor: Extractor = MeanColour()
        >>> extract_to_stores(extractor, source, ids, global_store=Path("colours")).skipped
        []
    """

    @property
    def global_dim(self) -> int | None:
        """Dimension of the global descriptor, or None if there is none."""
        ...

    @property
    def code_bits(self) -> int | None:
        """Length of the local binary codes, or None if there are none."""
        ...

    @property
    def local_optional(self) -> tuple[str, ...]:
        """Which of "scale", "angle" and "weight" all local descriptors have."""
        ...

    def provenance(self) -> dict[str, object]:
        """Return everything the descriptors depend on, in JSON types: equal provenance, equal descriptors."""
        ...

    def extract(
        self, images: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32] | None, list[LocalFeatures] | None]:
        """Describe images.

        Args:
            images: uint8 [height, width, 3] each, RGB, of any sizes.

        Returns:
            Global descriptors float32 [len(images), global_dim] of unit length (zero for an image that shows
            nothing to describe) or None, and one `LocalFeatures` an image or None. The descriptors of an
            image do not depend on the others in the batch, rounding aside.
        """
        ...


@runtime_checkable
class StagedExtractor(Extractor, Protocol):
    """An extractor whose work on one image is separate from its work on a batch.

    Images are prepared in threads or processes ahead of the device; what is prepared waits until there is a
    batch of one bucket, however far apart its images are.

    Examples:
        >>> network = load_network("test_vit", weights="random")
        >>> extractor = NeuralExtractor(network, resolution=32, device="cpu")
        >>> isinstance(extractor, StagedExtractor)
        True
    """

    @property
    def best_batch(self) -> int:
        """Images of one bucket that are described at once with the least time an image."""
        ...

    @property
    def concurrent(self) -> bool:
        """Whether batches are described in several threads at once, each using one core."""
        ...

    @property
    def uses_boxes(self) -> bool:
        """Whether `prepare` looks at boxes."""
        ...

    @property
    def preparation(self) -> Any:
        """What `prepare` does, as a function (image, boxes) that can be sent to another process."""
        ...

    def prepare(self, image: NDArray[np.uint8], boxes: NDArray[np.int64] | None = None) -> Any:
        """Do what needs one image only.

        Args:
            image: uint8 [height, width, 3], RGB.
            boxes: int64 [n, 4], (x, y, width, height); None for none.
        """
        ...

    def bucket(self, prepared: Any) -> Hashable:
        """Return the bucket of a prepared image: batches are of one bucket.

        Args:
            prepared: What `prepare` returned.
        """
        ...

    def describe(
        self, prepared: Sequence[Any]
    ) -> tuple[NDArray[np.float32] | None, list[LocalFeatures] | None]:
        """Describe prepared images of one bucket; returns what `extract` returns.

        Args:
            prepared: What `prepare` returned.
        """
        ...
