"""Optional dependencies, imported when first needed, with an error that names the extra to install."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from ilias_fast.errors import MissingExtraError

__all__ = ["EXTRAS_OF", "SIGN_OF", "installed", "require"]

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

SIGN_OF = {
    "classical": "cv2",
    "faiss": "faiss",
    "gpu": "torch",
    "hdf5": "h5py",
    "mat": "scipy",
    "parquet": "pyarrow",
    "report": "jinja2",
    "text": "transformers",
    "torch": "torch",
}
"""The package whose version stands for an extra."""

_DISTRIBUTIONS = {
    "cv2": (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python-headless",
        "opencv-contrib-python",
    ),
    "faiss": ("faiss-cpu", "faiss-gpu"),
}
"""What brings a package, where that is not the distribution of its name."""


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


def installed() -> dict[str, str | None]:
    """Return for each extra the version of the package that stands for it; None unless all of it is there.

    Packages are looked for, not imported.
    """
    return {
        extra: _version(sign)
        if all(_is_there(package) for package, extras in EXTRAS_OF.items() if extra in extras)
        else None
        for extra, sign in SIGN_OF.items()
    }


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    for distribution in _DISTRIBUTIONS.get(package, (package,)):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "installed"
