"""Single image files, each by its own name."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path

from ilias_fast._files import StrPath, is_file, is_folder
from ilias_fast.errors import DatasetError, DuplicateIdError, ImageError, StorageError

__all__ = ["FilesSource"]


class FilesSource:
    """Single image files; an id is the path as it was given, with forward slashes.

    Args:
        paths: The files, in the order in which they are offered. Any suffix is taken.

    Raises:
        DatasetError: There are none.
        DuplicateIdError: One is given twice.
        StorageError: One does not exist or is a folder.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("a.jpg").write_bytes(b"...")
        >>> source = FilesSource(["a.jpg"])
        >>> list(source.ids()), source.read("a.jpg")
        (['a.jpg'], b'...')
    """

    def __init__(self, paths: Iterable[StrPath]) -> None:
        self._paths: dict[str, Path] = {}
        for given in paths:
            path = Path(given)
            if path.as_posix() in self._paths:
                raise DuplicateIdError(f"{path}: the image is given twice")
            if not is_file(path):
                kind = "is not a file" if is_folder(path) else "does not exist"
                raise StorageError(f"{path}: expected an image, but it {kind}", errno.ENOENT, path)
            self._paths[path.as_posix()] = path
        if not self._paths:
            raise DatasetError("expected image files, found none")

    def ids(self) -> Sequence[str]:
        """Return the paths, in the order given."""
        return tuple(self._paths)

    def read(self, image_id: str, /) -> bytes:
        """Return the bytes of a file.

        Args:
            image_id: Its path as it was given.

        Raises:
            ImageError: It was not given, or cannot be read.
        """
        path = self._paths.get(image_id)
        if path is None:
            raise ImageError(f"{image_id}: no such image among the {len(self._paths)} files given")
        try:
            return path.read_bytes()
        except OSError as cause:
            raise ImageError(f"{image_id}: cannot be read ({cause.strerror or cause})") from cause
