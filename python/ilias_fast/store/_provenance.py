"""Provenance: what a store's rows are, and whether those of two stores can be compared."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ilias_fast.errors import CorruptStoreError, IncompatibleStoreError, ParameterError

if TYPE_CHECKING:
    from ilias_fast.store._base import BaseStore

__all__ = ["IDENTITY_KEYS", "check_compatible", "from_json", "parent_record", "to_json"]

IDENTITY_KEYS = (
    "extractor",
    "model",
    "weights",
    "pooling",
    "transform",
    "adaptation",
    "whitening",
    "binarisation",
    "vocabulary",
)
"""The provenance keys that decide what a descriptor means; the others (source, time, version) do not."""


def _plain(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def to_json(what: str, value: Mapping[str, object]) -> str:
    """Return a mapping as a JSON object."""
    if not isinstance(value, Mapping):
        raise ParameterError(f"{what}: expected a mapping that JSON can hold, found {type(value).__name__}")
    try:
        return json.dumps(dict(value), allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as cause:
        raise ParameterError(f"{what}: expected a mapping that JSON can hold ({cause})") from cause


def from_json(text: str, store: Path) -> dict[str, Any]:
    """Return the mapping of a JSON object in the manifest of a store."""
    try:
        value: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as cause:
        # Written by another program: numbers of too many digits, or mappings in each other without end.
        raise CorruptStoreError(
            f"{store}: expected a provenance that Python can hold, found {len(text)} characters of JSON "
            f"({cause}); the rows can be read: write them to a new store with one of your own"
        ) from cause
    return value


def parent_record(parent: BaseStore | None, parameters: Mapping[str, object] | None) -> str | None:
    """Return what a derived store records of its parent, as a JSON object."""
    if parent is None:
        if parameters is not None:
            raise ParameterError("parameters: expected none without a parent, found a mapping")
        return None
    record = {
        "path": os.path.abspath(parent.path),  # noqa: PTH100 (keeps symlinks)
        "checksum": parent.checksum,
        "parameters": dict(parameters or {}),
    }
    return to_json("parameters", record)


def check_compatible(first: BaseStore, second: BaseStore, *, force: bool = False) -> None:
    """Check that rows of two stores can be compared with each other.

    Kind and length must agree, and so must every key of `IDENTITY_KEYS` that both provenances have. A key
    that only one of them has says nothing: features imported from elsewhere often come without.

    Args:
        first: For example the queries.
        second: For example the database.
        force: Accept different provenance (not a different kind or length).

    Raises:
        IncompatibleStoreError: They cannot be compared; the message names the keys and both values.

    Examples:
        >>> for name, model in (("a", "one"), ("b", "another")):
        ...     with GlobalStore.create(name, dim=2, provenance={"model": model}) as writer:
        ...         writer.append([f"{name}.jpg"], [[1.0, 0.0]])
        >>> first, second = GlobalStore.open("a"), GlobalStore.open("b")
        >>> check_compatible(first, first)
        >>> try:
        ...     check_compatible(first, second)
        ... except Exception as error:
        ...     print(type(error).__name__)
        IncompatibleStoreError
    """
    one, other = first.info(), second.info()
    if (one.kind, one.dim, one.bits) != (other.kind, other.dim, other.bits):
        raise IncompatibleStoreError(
            f"expected stores of one kind and length, found {first!r} and {second!r}"
        )
    if force:
        return
    mine, theirs = one.provenance, other.provenance
    differing = [key for key in IDENTITY_KEYS if key in mine and key in theirs and mine[key] != theirs[key]]
    if differing:
        listed = "; ".join(f"{key}: {mine[key]!r} and {theirs[key]!r}" for key in differing)
        raise IncompatibleStoreError(
            f"{one.path} and {other.path}: expected descriptors made alike, found different {listed} "
            f"(extract both alike, or force the comparison if you know that they mean the same)"
        )
