"""Optional dependencies, imported when first needed, with an error that names the extra to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from ilias_fast.errors import MissingExtraError

__all__ = ["EXTRAS_OF", "require"]

EXTRAS_OF = {
    "PIL": ("classical", "report", "torch"),
    "cv2": ("classical",),
    "h5py": ("hdf5",),
    "jinja2": ("report",),
    "pyarrow": ("parquet",),
    "faiss": ("faiss",),
    "open_clip": ("torch",),
    "safetensors": ("torch",),
    "scipy": ("mat",),
    "threadpoolctl": ("classical",),
    "timm": ("torch",),
    "torch": ("torch", "gpu"),
    "torchvision": ("torch",),
    "transformers": ("text",),
}
"""The extras that bring a package, the smallest first."""


def require(module: str, purpose: str, *, extra: str | None = None) -> ModuleType:
    """Import `module`, or say which extra brings it.

    Args:
        module: Dotted module name.
        purpose: What it is needed for, to complete "... is needed to ..." ("read HDF5 files").
        extra: The extra whose business the purpose is; None to name all that bring the package.

    Raises:
        MissingExtraError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        package = module.partition(".")[0]
        if missing.name is None or missing.name.partition(".")[0] != package:
            raise
        first, *others = EXTRAS_OF[package] if extra is None else (extra,)
        alternatives = f" (or, instead of [{first}]: {', '.join(f'[{o}]' for o in others)})" if others else ""
        raise MissingExtraError(
            f"{package} is needed to {purpose}; "
            f"install it with: pip install 'ilias-fast[{first}]'{alternatives}",
            name=missing.name,
        ) from missing
