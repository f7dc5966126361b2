"""What every adaptation offers: learned arrays, parameters, a fingerprint, saving and loading."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._files import StrPath
from ilias_fast._tensors import read_tensors, write_tensors
from ilias_fast.errors import FileFormatError, ShapeError

__all__ = ["Adapter", "MatrixAdapter", "VectorAdapter", "require_tensor"]

_Self = TypeVar("_Self", bound="Adapter")

_WORTH_THREADS = 1 << 24  # multiplications, about a tenth of a millisecond


class Adapter(ABC):
    """A fitted map from descriptors to descriptors or codes.

    Attributes:
        kind: The name of the method, in files and provenance.
        input_dim: Dimension of the descriptors it takes.

    Examples:
        >>> Signs(64).save("signs.safetensors")
        >>> adapter = Signs.load("signs.safetensors")
        >>> isinstance(adapter, Adapter), adapter.kind, adapter.input_dim, adapter.parameters()
        (True, 'signs', 64, {'input_dim': 64, 'bits': 64})
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def input_dim(self) -> int:
        """Dimension of the descriptors the adapter takes."""

    @abstractmethod
    def apply(self, vectors: ArrayLike, *, threads: SupportsIndex | None = None) -> NDArray[Any]:
        """Map descriptors float [n, input_dim] to float32 descriptors or packed uint8 codes, row by row.

        A row's result depends on that row alone: it has the same bits whatever the CPU level, the number of
        threads and the rows beside it.

        Args:
            vectors: float [n, input_dim]; float16 and float32 are taken as they are.
            threads: Number of threads; None for all cores.

        Raises:
            ShapeError: Another dimension than `input_dim`.
            NonFiniteError: A value is NaN or infinite, or a result is beyond float32.
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

    def _rows(self, vectors: ArrayLike) -> NDArray[np.float16] | NDArray[np.float32]:
        """Check descriptors against `input_dim` and return them as float16 or float32 [n, d]."""
        rows: NDArray[np.float16] | NDArray[np.float32]
        if isinstance(vectors, np.ndarray) and vectors.dtype == np.float16 and vectors.ndim == 2:
            rows = np.ascontiguousarray(vectors)
        else:
            rows = _arrays.float32_rows("vectors", vectors, "n, d")
        if rows.shape[1] != self.input_dim:
            raise ShapeError(
                f"vectors: expected shape [n, {self.input_dim}] for this {self.kind} adapter, "
                f"found {list(rows.shape)}"
            )
        return rows


class MatrixAdapter(Adapter):
    """An adapter that is an affine map, computed by the core."""

    @abstractmethod
    def _layer(self) -> _core.Layer:
        """Return the affine map behind `apply`, packed for the kernels."""

    @cached_property
    def _packed(self) -> _core.Layer:
        return self._layer()

    def _threads(self, rows: int, outputs: int, threads: SupportsIndex | None) -> int | None:
        """Return the threads asked for; one for what is done before a second would have begun."""
        if threads is None and rows * self.input_dim * outputs < _WORTH_THREADS:
            return 1
        return _arrays.threads(threads)


class VectorAdapter(MatrixAdapter):
    """A fitted map from descriptors to descriptors of unit length.

    Examples:
        >>> import numpy as np
        >>> whitening = PcaWhitening.fit(np.random.default_rng(0).standard_normal((100, 8)), 4)
        >>> isinstance(whitening, VectorAdapter), whitening.apply(np.eye(8)).shape
        (True, (8, 4))
    """

    @property
    @abstractmethod
    def output_dim(self) -> int:
        """Dimension of the descriptors the adapter returns."""

    def apply(self, vectors: ArrayLike, *, threads: SupportsIndex | None = None) -> NDArray[np.float32]:
        """Adapt descriptors; float32 [n, output_dim]; see `Adapter.apply`.

        Args:
            vectors: float [n, input_dim].
            threads: Number of threads; None for all cores.
        """
        rows = self._rows(vectors)
        return self._packed.vectors(rows, self._threads(len(rows), self.output_dim, threads))

    def apply_half(self, vectors: ArrayLike, *, threads: SupportsIndex | None = None) -> NDArray[np.float16]:
        """Adapt descriptors for a store: `apply`, rounded to the nearest float16, without a float32 copy.

        Args:
            vectors: float [n, input_dim].
            threads: Number of threads; None for all cores.
        """
        rows = self._rows(vectors)
        return self._packed.halves(rows, self._threads(len(rows), self.output_dim, threads))


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
