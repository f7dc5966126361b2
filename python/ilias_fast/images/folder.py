"""Images in a folder: ids are the paths below it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ilias_fast._files import StrPath, is_file, is_folder, storage_error
from ilias_fast.errors import DatasetError, ImageError, StorageError
from ilias_fast.images.source import IMAGE_SUFFIXES

__all__ = ["FolderSource"]


class FolderSource:
    """The images below a folder, in the order of their ids (Python string order).

    An id is the path relative to the folder, with forward slashes. Sub-folders are searched, symbolic links
    are followed (each folder once), and hidden files and folders (a name that starts with a dot) are left
    out.

    Args:
        root: The folder.
        ids: The ids to offer, in this order; None for every jpg, jpeg and png file (any case) below the
            folder.

    Raises:
        StorageError: The folder does not exist or cannot be listed.
        DatasetError: There is no image below it, or a file name is not valid Unicode.

    Examples:
        >>> from pathlib import Path
        >>> for name in ("mug/1.jpg", "lamp.PNG", "notes.txt"):
        ...     Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        ...     Path("photos", name).touch()
        >>> source = FolderSource("photos")
        >>> list(source.ids()), source.path("mug/1.jpg").name
        (['lamp.PNG', 'mug/1.jpg'], '1.jpg')
    """

    def __init__(self, root: StrPath, ids: Sequence[str] | None = None) -> None:
        self.root: Path = Path(root)
        if not is_folder(self.root):
            kind = "is not a folder" if is_file(self.root) else "does not exist"
            raise StorageError(
                f"{self.root}: expected a folder of images, but it {kind}", errno.ENOENT, self.root
            )
        self._ids = tuple(ids) if ids is not None else tuple(sorted(_walk(self.root)))
        if not self._ids and ids is None:
            raise DatasetError(
                f"{self.root}: expected images, found no file ending in {', '.join(IMAGE_SUFFIXES)}"
            )

    def ids(self) -> Sequence[str]:
        """Return the ids, in the order given or sorted."""
        return self._ids

    def path(self, image_id: str) -> Path:
        """Return the file of an id.

        Args:
            image_id: The id.

        Raises:
            ImageError: The id leads out of the folder.
        """
        relative = PurePosixPath(image_id)
        if relative.is_absolute() or ".." in relative.parts or "\0" in image_id:
            raise ImageError(
                f"{image_id!r}: an image id is a path below {self.root}, it must not lead out of it"
            )
        return self.root / relative

    def read(self, image_id: str, /) -> bytes:
        """Return the bytes of the file.

        Args:
            image_id: The id.

        Raises:
            ImageError: The file is missing or cannot be read.
        """
        try:
            return self.path(image_id).read_bytes()
        except OSError as cause:
            if isinstance(cause, ImageError):
                raise
            raise ImageError(
                f"{image_id}: cannot be read from {self.root} ({cause.strerror or cause})"
            ) from cause


def _walk(root: Path) -> Iterator[str]:
    def fail(cause: OSError) -> None:
        raise storage_error(cause, cause.filename, "list") from cause

    visited: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=fail):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in visited:  # a link back to a folder already searched
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(folder).relative_to(root)
        for name in files:
            if name.startswith(".") or not name.lower().endswith(
                tuple(f".{suffix}" for suffix in IMAGE_SUFFIXES)
            ):
                continue
            image_id = (below / name).as_posix()
            if any("\ud800" <= letter <= "\udfff" for letter in image_id):
                raise DatasetError(
                    f"{root}: the file name {image_id!r} is not valid Unicode; rename the file"
                )
            yield image_id
