"""Optional dependencies, imported when first needed, with an error that names the extra to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from ilias_fast.errors import MissingExtraError

__all__ = ["require"]

_EXTRA_OF = {
    "PIL": "classical",
    "cv2": "classical",
    "h5py": "hdf5",
    "jinja2": "report",
    "open_clip": "torch",
    "safetensors": "torch",
    "timm": "torch",
    "torch": "torch",
    "torchvision": "torch",
}


def require(module: str, purpose: str) -> ModuleType:
    """Import `module`, or say which extra brings it.

    Args:
        module: Dotted module name.
        purpose: What it is needed for, to complete "... is needed to ..." ("read HDF5 files").

    Raises:
        MissingExtraError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        package = module.partition(".")[0]
        if missing.name is None or missing.name.partition(".")[0] != package:
            raise
        extra = _EXTRA_OF[package]
        raise MissingExtraError(
            f"{package} is needed to {purpose}; install it with: pip install 'ilias-fast[{extra}]'",
            name=missing.name,
        ) from missing
