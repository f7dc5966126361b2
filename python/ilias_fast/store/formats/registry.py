"""The formats there are, by name and by suffix."""

from __future__ import annotations

from pathlib import Path

from ilias_fast import _arrays
from ilias_fast.errors import ParameterError
from ilias_fast.store.formats.ames import Ames
from ilias_fast.store.formats.arrow import Arrow
from ilias_fast.store.formats.base import Format
from ilias_fast.store.formats.faiss import Faiss
from ilias_fast.store.formats.hdf5 import Hdf5
from ilias_fast.store.formats.npy import Npy, Raw
from ilias_fast.store.formats.npz import Npz
from ilias_fast.store.formats.safetensors import Safetensors
from ilias_fast.store.formats.torch import Torch

__all__ = ["FORMATS", "format_of", "is_features"]

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (Hdf5(), Npy(), Npz(), Safetensors(), Torch(), Arrow(), Raw(), Ames(), Faiss())
}
"""By name. A new format is a file with one class, and its name here."""


def format_of(path: Path, name: str | None = None) -> Format:
    """Return the format of a file.

    Args:
        path: The file, whose name decides.
        name: The name of the format, which decides if given.

    Raises:
        ParameterError: There is no such format, or the suffix says nothing.
    """
    if name is not None:
        _arrays.choice("format", name, tuple(FORMATS))
        return FORMATS[name]
    for each in FORMATS.values():
        if path.suffix.lower() in each.suffixes:
            return each
    known = ", ".join(suffix for each in FORMATS.values() for suffix in each.suffixes)
    raise ParameterError(
        f"{path}: expected a name that ends in one of {known}, found {path.suffix!r} (or name the format)"
    )


def is_features(path: Path) -> bool:
    """Return whether a name is that of a file of features."""
    return any(path.suffix.lower() in each.suffixes for each in FORMATS.values())
