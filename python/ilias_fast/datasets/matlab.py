"""Ground truth in MATLAB files, as INSTRE's `gnd_instre.mat`: read as data, in the pickles' layout."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ilias_fast._extras import require
from ilias_fast._files import read_bytes
from ilias_fast.errors import FileFormatError

__all__ = ["mat_content"]

_INDICES = ("ok", "easy", "hard", "junk")


def mat_content(path: Path) -> dict[str, Any]:
    """Read `imlist`, `qimlist` and `gnd` of a MATLAB file; its indices, which start at 1, then start at 0.

    The file is parsed, never evaluated: objects and functions in it are refused as everything that is no
    text, number, cell or structure.

    Args:
        path: A MATLAB 5 file (what `save` writes unless told `-v7.3`).

    Raises:
        MissingExtraError: scipy is not installed.
        FileFormatError: The file is damaged, of another version, or not of this layout.
        StorageError: It cannot be read.
    """
    scipy_io = require("scipy.io", "read MATLAB files")
    data = read_bytes(path)
    try:
        content = scipy_io.loadmat(io.BytesIO(data), simplify_cells=True)
    except NotImplementedError as cause:
        raise FileFormatError(
            f"{path}: a MATLAB file of version 7.3, which is HDF5; save it with -v7"
        ) from cause
    # scipy reports damaged files by whatever its parser stumbled on.
    except Exception as cause:
        raise FileFormatError(f"{path}: not a MATLAB file: {cause or type(cause).__name__}") from cause
    found: dict[str, Any] = {}
    for key in ("imlist", "qimlist"):
        found[key] = _cells(content.get(key), str, lambda text: text.strip())
        if found[key] is None:
            raise FileFormatError(f"{path}: {key}: expected a cell array of image names")
    entries = _cells(content.get("gnd"), dict, lambda entry: entry)
    if entries is None:
        raise FileFormatError(f"{path}: gnd: expected a structure array, one entry a query")
    found["gnd"] = [
        {
            key: _from_zero(f"{path}: gnd({number}).{key}", value) if key in _INDICES else value
            for key, value in entry.items()
        }
        for number, entry in enumerate(entries, 1)
    ]
    return found


def _cells(value: object, kind: type, clean: Callable[[Any], Any]) -> list[Any] | None:
    """Return the elements of a cell or structure array; a single one comes without its array."""
    if isinstance(value, kind):
        return [clean(value)]
    if not isinstance(value, (np.ndarray, list)):
        return None
    items = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else value
    return [clean(item) for item in items] if all(isinstance(item, kind) for item in items) else None


def _from_zero(where: str, value: object) -> list[int]:
    """Return indices as a list that counts from 0."""
    numbers = np.asarray(value)
    if numbers.size == 0:
        return []
    whole = numbers.dtype.kind in "iu" or (
        numbers.dtype.kind == "f"
        and bool(np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all())
    )
    if not whole or numbers.min() < 1 or numbers.max() > 2**53:
        raise FileFormatError(f"{where}: expected whole numbers from 1 on, found {numbers.reshape(-1)[:5]}")
    return [int(number) - 1 for number in numbers.reshape(-1).tolist()]
