"""What an import reads and what it makes: files as they were looked at first, and the kind of store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import ArrayLike, NDArray

from ilias_fast._files import storage_error
from ilias_fast.store._base import BaseStore
from ilias_fast.store._binary import BinaryStore
from ilias_fast.store._global import GlobalStore
from ilias_fast.store._local import LocalStore
from ilias_fast.store.formats.base import Kind

__all__ = ["AdapterLike", "SourceFile", "Target"]

_PROBE = 1 << 16


class AdapterLike(Protocol):
    """An `ilias_fast.adapt.Adapter`."""

    @property
    def input_dim(self) -> int:
        """Dimension it takes."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells it from others."""
        ...

    def apply(self, vectors: ArrayLike) -> NDArray[Any]:
        """Map vectors."""
        ...

    def provenance(self) -> dict[str, object]:
        """Return what a store records of it."""
        ...


@dataclass(frozen=True)
class SourceFile:
    """A file to import, as it was looked at before."""

    path: Path
    kind: Kind
    rows: int
    width: int
    dtype: str

    def identity(self) -> dict[str, object]:
        """What tells it from another file of that name: its size, and a hash of its ends."""
        try:
            with self.path.open("rb") as file:
                ends = file.read(_PROBE)
                size = file.seek(0, 2)
                file.seek(max(0, size - _PROBE))
                ends += file.read(_PROBE)
        except OSError as cause:
            raise storage_error(cause, self.path, "read") from cause
        return {"name": self.path.name, "bytes": size, "ends": hashlib.sha256(ends).hexdigest()}


@dataclass(frozen=True)
class Target:
    """The kind of store that an import makes.

    Attributes:
        kind: The kind.
        dim: Numbers a vector or descriptor; 0 for codes.
        bits: Bits a code; 0 for numbers.
    """

    kind: Kind
    dim: int
    bits: int

    @classmethod
    def of(cls, file: SourceFile, adapter: AdapterLike | None) -> Target:
        """Return what the rows of a file become."""
        if adapter is None:
            return cls(file.kind, *((0, file.width) if file.kind == "binary" else (file.width, 0)))
        bits = getattr(adapter, "bits", None)
        if bits is not None:
            return cls("local" if file.kind == "local" else "binary", 0, int(bits))
        return cls(file.kind, int(adapter.output_dim), 0)  # type: ignore[attr-defined]

    def open(self, place: Path) -> GlobalStore | BinaryStore | LocalStore:
        """Open the store."""
        if self.kind == "local":
            return LocalStore.open(place)
        return BinaryStore.open(place) if self.kind == "binary" else GlobalStore.open(place)

    def create(
        self, place: Path, provenance: Mapping[str, object], overwrite: bool, shard_bytes: int | None
    ) -> Any:
        """Start the store and return its writer."""
        options: dict[str, Any] = {
            "provenance": provenance,
            "overwrite": overwrite,
            "shard_bytes": shard_bytes,
        }
        options |= {"dim": self.dim} if self.dim else {"bits": self.bits}
        if self.kind == "local":
            return LocalStore.create(place, optional=["weight"], **options)
        return (BinaryStore if self.kind == "binary" else GlobalStore).create(place, **options)

    def append_to(self, place: Path, shard_bytes: int | None) -> Any:
        """Return a writer that goes on with the store."""
        kind: Any = {"local": LocalStore, "binary": BinaryStore, "global": GlobalStore}[self.kind]
        return kind.append_to(place, shard_bytes=shard_bytes)

    def fits(self, store: BaseStore) -> bool:
        """Return whether a store is of this kind and length."""
        found = store.info()
        return (found.kind, found.dim, found.bits) == (self.kind, self.dim, self.bits)
