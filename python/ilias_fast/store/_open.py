"""Opening a store of whatever kind."""

from __future__ import annotations

from pathlib import Path

from ilias_fast import _core
from ilias_fast._files import StrPath, is_file
from ilias_fast.store._binary import BinaryStore
from ilias_fast.store._global import GlobalStore
from ilias_fast.store._local import LocalStore

__all__ = ["exists", "open_store"]

_FACADES: dict[str, type[GlobalStore] | type[BinaryStore] | type[LocalStore]] = {
    "global": GlobalStore,
    "binary": BinaryStore,
    "local": LocalStore,
}


def open_store(path: StrPath) -> GlobalStore | BinaryStore | LocalStore:
    """Open a store of any kind; errors as `GlobalStore.open`.

    Args:
        path: The folder.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> type(open_store("vectors")).__name__
        'GlobalStore'
    """
    return _FACADES[_core.Store(Path(path)).kind].open(path)


def exists(path: StrPath) -> bool:
    """Return whether there is a store: a folder with a manifest, whole or not.

    Args:
        path: The folder.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> exists("vectors"), exists("nowhere")
        (True, False)
    """
    return is_file(Path(path) / "manifest.json")
