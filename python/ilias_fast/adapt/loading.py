"""Reading an adapter of whatever kind."""

from __future__ import annotations

from pathlib import Path

from ilias_fast._files import StrPath
from ilias_fast._tensors import read_header
from ilias_fast.adapt.itq import Itq
from ilias_fast.adapt.linear import LinearAdapter
from ilias_fast.adapt.pca import PcaWhitening

__all__ = ["load_adapter"]


def load_adapter(path: StrPath) -> Itq | LinearAdapter | PcaWhitening:
    """Read an adapter that was saved here, or a published one.

    Args:
        path: A safetensors file of `Adapter.save`, an official linear layer (`.pth`), or a published ITQ
            projection (`.npz` with an array `proj` [D, bits]).

    Raises:
        StorageError: The file is missing or cannot be read.
        FileFormatError: It is damaged, or holds no adapter.
        MissingExtraError: A `.pth` is to be read and torch is not installed.
    """
    file = Path(path)
    if file.suffix in (".pth", ".pt"):
        return LinearAdapter.load(file)
    if file.suffix == ".npz":
        return Itq.load(file)
    kind = read_header(file)[1].get("ilias_fast.adapter")
    if kind == Itq.kind:
        return Itq.load(file)
    return PcaWhitening.load(file) if kind == PcaWhitening.kind else LinearAdapter.load(file)
