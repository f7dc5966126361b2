"""What every adaptation offers: learned arrays, parameters, a fingerprint, saving and loading."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast._tensors import read_tensors, write_tensors
from ilias_fast.errors import FileFormatError, NonFiniteError, ShapeError

__all__ = ["Adapter"]

_Self = TypeVar("_Self", bound="Adapter")


class Adapter(ABC):
    """A fitted map from descriptors to descriptors or codes.

    Attributes:
        kind: The name of the method, in files and provenance.
        input_dim: Dimension of the descriptors it takes.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def input_dim(self) -> int:
        """Dimension of the descriptors the adapter takes."""

    @abstractmethod
    def apply(self, vectors: ArrayLike) -> NDArray[Any]:
        """Map descriptors float [n, input_dim] to float32 descriptors or packed uint8 codes, row by row.

        Args:
            vectors: float [n, input_dim].

        Raises:
            ShapeError: Another dimension than `input_dim`.
        """

    @abstractmethod
    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Return the learned arrays, by name."""

    @abstractmethod
    def parameters(self) -> dict[str, object]:
        """Return what the adapter was fitted with, for provenance; JSON types only."""

    @classmethod
    @abstractmethod
    def _build(cls: type[_Self], tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> _Self:
        """Make the adapter from what `tensors` and `parameters` returned.

        Raises:
            FileFormatError: The arrays do not fit each other.
        """

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the method and every learned value: equal if and only if the answers are."""
        digest = hashlib.sha256(self.kind.encode())
        for name, tensor in sorted(self.tensors().items()):
            little = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
            digest.update(f"\0{name} {little.dtype.str} {list(little.shape)}\0".encode())
            digest.update(little.tobytes())
        return digest.hexdigest()

    def provenance(self) -> dict[str, object]:
        """Return what a derived store records of the adapter."""
        return {"adapter": self.kind, "fingerprint": self.fingerprint, **self.parameters()}

    def save(self, path: StrPath) -> None:
        """Write the adapter as a safetensors file; it appears complete or not at all.

        Args:
            path: The file; replaced if it exists.

        Raises:
            StorageError: The file cannot be written.
        """
        metadata = {"ilias_fast.adapter": self.kind, "ilias_fast.parameters": json.dumps(self.parameters())}
        write_tensors(path, self.tensors(), metadata)

    @classmethod
    def load(cls: type[_Self], path: StrPath) -> _Self:
        """Read an adapter that `save` wrote.

        Args:
            path: The file.

        Raises:
            StorageError: The file is missing or cannot be read.
            FileFormatError: It is damaged, or holds another kind of adapter.
        """
        tensors, metadata = read_tensors(path)
        kind = metadata.get("ilias_fast.adapter")
        if kind != cls.kind:
            raise FileFormatError(f"{path}: expected an adapter of kind {cls.kind!r}, found {kind!r}")
        try:
            return cls._build(tensors, json.loads(metadata.get("ilias_fast.parameters", "{}")))
        except KeyError as missing:
            raise FileFormatError(f"{path}: {missing} is missing from this {cls.kind} adapter") from missing
        except FileFormatError as cause:
            raise FileFormatError(f"{path}: {cause}") from cause
        except (ValueError, TypeError, AttributeError) as cause:
            raise FileFormatError(f"{path}: damaged {cls.kind} adapter ({cause})") from cause

    def _rows(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Check descriptors against `input_dim` and return them as float32 [n, d]."""
        rows = _arrays.float32_rows("vectors", vectors, "n, d")
        if rows.shape[1] != self.input_dim:
            raise ShapeError(
                f"vectors: expected shape [n, {self.input_dim}] for this {self.kind} adapter, "
                f"found {list(rows.shape)}"
            )
        return rows


def finite_rows(name: str, vectors: ArrayLike, at_least: int) -> NDArray[np.float32]:
    """Return training vectors as a finite float32 [n, d] with enough rows.

    Raises:
        ShapeError: Not a matrix, or fewer than `at_least` rows, or no columns.
        NonFiniteError: A value is NaN or infinite.
    """
    rows = _arrays.float32_rows(name, vectors, "n, d")
    if rows.shape[0] < at_least or rows.shape[1] < 1:
        raise ShapeError(
            f"{name}: expected at least {at_least} vectors to learn from, found {list(rows.shape)}"
        )
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise NonFiniteError(f"{name}: row {int(np.argmin(finite))} holds NaN or an infinity")
    return rows


def require_tensor(
    tensors: Mapping[str, NDArray[Any]], name: str, shape: tuple[int | None, ...]
) -> NDArray[np.float32]:
    """Return a float32 tensor of a file, checked against a shape (None: any extent).

    Raises:
        FileFormatError: Another shape or dtype, or values that are not finite.
    """
    tensor = tensors[name]
    fits = tensor.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, tensor.shape, strict=False)
    )
    if not fits or tensor.dtype.kind != "f":
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise FileFormatError(
            f"{name}: expected floats of shape [{wanted}], found {tensor.dtype} {list(tensor.shape)}"
        )
    if not np.isfinite(tensor).all():
        raise FileFormatError(f"{name}: holds NaN or infinities")
    return np.ascontiguousarray(tensor, dtype=np.float32)
