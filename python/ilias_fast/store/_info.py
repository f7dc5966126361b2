"""What a store is, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["DerivedInfo", "StoreInfo"]


class DerivedInfo(NamedTuple):
    """Tensors computed from shards and stored beside them.

    Attributes:
        kind: What they are, for example "planes".
        shards: Number of shards that have them.
        bytes: Size of their files.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> found = build_planes("vectors").info().derived[0]
        >>> found.kind, found.shards
        ('planes', 1)
    """

    kind: str
    shards: int
    bytes: int


@dataclass(frozen=True)
class StoreInfo:
    """What a store is.

    Attributes:
        path: The folder.
        kind: "global", "binary" or "local".
        rows: Number of images.
        dim: Numbers a vector; 0 for codes.
        bits: Bits a code; 0 for vectors.
        descriptors: Local descriptors of all images; 0 for the other kinds.
        optional: Optional tensors of a local store: some of "scale", "angle", "weight".
        shards: Number of shard files.
        bytes: Their size.
        deleted: Rows that are deleted and still take room, until `compact`; not counted in `rows`.
        derived: What was computed from shards and stored beside them (for example search planes).
        provenance: What the rows were made of and how.
        parent: Path, checksum and parameters of the store this one was derived from, or None.
        checksum: Names the committed state, as 16 hex digits.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2, provenance={"model": "mine"}) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> info = GlobalStore.open("vectors").info()
        >>> info.kind, info.rows, info.dim, info.shards, info.provenance
        ('global', 1, 2, 1, {'model': 'mine'})
    """

    path: Path
    kind: str
    rows: int
    dim: int
    bits: int
    descriptors: int
    optional: tuple[str, ...]
    shards: int
    bytes: int
    deleted: int
    derived: tuple[DerivedInfo, ...]
    provenance: dict[str, Any]
    parent: dict[str, Any] | None
    checksum: str
