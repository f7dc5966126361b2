"""Derivations that learn nothing: signs, casts, and fewer local descriptors.

Like the fitted adapters they say what they make of a store; `derive` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast.adapt.adapter import Adapter
from ilias_fast.errors import FileFormatError
from ilias_fast.store import LocalImage

__all__ = ["Signs", "Strongest", "Unpack"]


class Signs(Adapter):
    """Binarisation by sign alone: bit = (value >= 0).

    Args:
        dim: Dimension of the descriptors, and bits of the codes.

    Examples:
        >>> import numpy as np
        >>> codes = Signs(8).apply([[1, -1, -1, -1, 1, 1, 1, 1]])
        >>> np.unpackbits(codes, axis=1).tolist()
        [[1, 0, 0, 0, 1, 1, 1, 1]]
    """

    kind = "signs"

    def __init__(self, dim: int) -> None:
        self._dim = _arrays.at_least_one("dim", dim)

    @property
    def input_dim(self) -> int:
        """Dimension of the descriptors it takes."""
        return self._dim

    @property
    def bits(self) -> int:
        """Code length."""
        return self._dim

    def apply(self, vectors: ArrayLike, *, threads: SupportsIndex | None = None) -> NDArray[np.uint8]:  # noqa: ARG002
        """Binarise descriptors.

        Args:
            vectors: float [n, dim].
            threads: Not used: there is nothing to compute.

        Returns:
            uint8 [n, ceil(dim / 8)], the first bit the most significant; bits after the last are zero.

        Raises:
            ShapeError: Another dimension.
        """
        return np.packbits(self._rows(vectors) >= 0, axis=1)

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Return nothing but the dimension, so that fingerprints differ with it."""
        return {"dim": np.array([self._dim], np.int64)}

    def parameters(self) -> dict[str, object]:
        """Return the dimension."""
        return {"input_dim": self._dim, "bits": self._dim}

    @classmethod
    def _build(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Signs:  # noqa: ARG003
        dim = tensors["dim"]
        if dim.shape != (1,) or dim[0] < 1:
            raise FileFormatError(f"dim: expected one positive number, found {dim.tolist()}")
        return cls(int(dim[0]))


class Unpack:
    """Cast of binary codes to float16 vectors of unit length: each bit becomes plus or minus 1 / sqrt(bits).

    The inner product of two is 1 - 2 * hamming / bits, up to the rounding of 1 / sqrt(bits) to float16.

    Args:
        bits: Bits a code.

    Examples:
        >>> import numpy as np
        >>> Unpack(16).apply(np.array([[0b10000000, 255]], np.uint8))[0, :3].tolist()
        [0.25, -0.25, -0.25]
    """

    kind = "unpack"

    def __init__(self, bits: int) -> None:
        self.bits: int = _arrays.at_least_one("bits", bits)

    def apply(self, codes: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Cast codes.

        Args:
            codes: uint8 [n, ceil(bits / 8)].

        Returns:
            float16 [n, bits].
        """
        values = np.array([-1, 1]) / np.sqrt(self.bits)
        unpacked: NDArray[np.float16] = values.astype(np.float16)[
            np.unpackbits(codes, axis=1, count=self.bits)
        ]
        return unpacked

    def provenance(self) -> dict[str, object]:
        """Return what a derived store records."""
        return {"adapter": self.kind, "bits": self.bits}


class Strongest:
    """Only the n local descriptors of an image that weigh most; ties go to the first ones.

    Args:
        count: How many; images with fewer keep all.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.store import LocalImage
        >>> xy = np.array([[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]], np.float32)
        >>> weight = np.array([1, 3, 2], np.float32)
        >>> image = LocalImage(np.zeros((3, 16), np.uint8), xy, None, None, weight, (640, 480))
        >>> Strongest(2).apply(image).weight.tolist()
        [3.0, 2.0]
    """

    kind = "strongest"

    def __init__(self, count: int) -> None:
        self.count: int = _arrays.at_least_one("count", count)

    def apply(self, image: LocalImage) -> LocalImage:
        """Truncate one image; what is left stays in its order.

        Args:
            image: With weights.
        """
        assert image.weight is not None
        if len(image.weight) <= self.count:
            return image
        kept = np.sort(np.argsort(-image.weight, kind="stable")[: self.count])
        changed: dict[str, Any] = {
            name: value[kept] for name, value in image._asdict().items() if isinstance(value, np.ndarray)
        }
        return image._replace(**changed)

    def provenance(self) -> dict[str, object]:
        """Return what a derived store records."""
        return {"adapter": self.kind, "count": self.count}
