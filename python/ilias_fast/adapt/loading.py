"""Reading an adapter of whatever kind."""

from __future__ import annotations

from pathlib import Path

from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._files import StrPath
from ilias_fast._tensors import read_header
from ilias_fast.adapt.itq import Itq
from ilias_fast.adapt.linear import LinearAdapter
from ilias_fast.adapt.whitening import PcaWhitening, SupervisedWhitening

__all__ = ["load_adapter"]


def load_adapter(path: StrPath) -> Itq | LinearAdapter | PcaWhitening | SupervisedWhitening:
    """Read an adapter that was saved here, or a published one.

    Args:
        path: A safetensors file of `Adapter.save`, an official linear layer (`.pth`), a whitening of cirtorch
            (`.pth` with `m` and `P`), or a published ITQ projection (`.npz` with an array `proj` [D, bits]).

    Raises:
        StorageError: The file is missing or cannot be read.
        FileFormatError: It is damaged, or holds no adapter.
        MissingExtraError: A `.pth` is to be read and torch is not installed.

    Examples:
        >>> LinearAdapter([[1.0, 0.0]], [0.5]).save("layer.safetensors")
        >>> adapter = load_adapter("layer.safetensors")
        >>> adapter.kind, adapter.input_dim, adapter.output_dim
        ('linear', 2, 1)
    """
    file = Path(path)
    if file.suffix in (".pth", ".pt"):
        whitening = "P" in read_checkpoint(file)
        return SupervisedWhitening.load(file) if whitening else LinearAdapter.load(file)
    if file.suffix == ".npz":
        return Itq.load(file)
    kind = read_header(file)[1].get("ilias_fast.adapter")
    for one in (Itq, PcaWhitening, SupervisedWhitening):
        if kind == one.kind:
            return one.load(file)
    return LinearAdapter.load(file)
