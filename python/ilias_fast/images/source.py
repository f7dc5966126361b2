"""What every source of images offers: the ids it has, and the bytes behind an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["IMAGE_SUFFIXES", "ImageSource"]

IMAGE_SUFFIXES = ("jpg", "jpeg", "png")
"""File name suffixes taken for images, in any case; the first ones are preferred where a tar has several."""


class ImageSource(Protocol):
    """Where image bytes come from, by id. `read` may be called from several threads at once.

    Examples:
        >>> from pathlib import Path
        >>> Path("photos").mkdir()
        >>> _ = Path("photos/a.jpg").write_bytes(b"...")
        >>> source = FolderSource("photos")
        >>> [source.read(name) for name in source.ids()]
        [b'...']
    """

    def ids(self) -> Sequence[str]:
        """Return the ids of all images, in the order in which they are to be processed."""
        ...

    def read(self, image_id: str, /) -> bytes:
        """Return the encoded bytes of one image.

        Args:
            image_id: The id.

        Raises:
            ImageError: The image is missing or cannot be read; the message names the id.
        """
        ...
