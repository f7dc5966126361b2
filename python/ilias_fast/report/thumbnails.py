"""Small JPEG pictures for the page: each image is read once and embedded once, within a bound on bytes."""

from __future__ import annotations

import base64
import io
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ilias_fast._extras import require
from ilias_fast.errors import DtypeError, ShapeError

if TYPE_CHECKING:
    from PIL import Image

    from ilias_fast.report.data import ImageLoader

__all__ = ["Thumbnail", "make_thumbnails"]

_PURPOSE = "draw the pictures of a report"

# Steps tried in turn when the pictures are over their bound: (factor on the longer side, JPEG quality).
_SMALLER = ((0.85, 60), (0.7, 55), (0.55, 50), (0.45, 40), (0.35, 35), (0.25, 30))
_MAX_PIXELS = 200_000_000
_WORKERS = 4

# Pillow reports damaged files by whatever the decoder stumbled on, SyntaxError for PNG among them.
_FAILURES = (OSError, KeyError, ValueError, TypeError, SyntaxError, EOFError, IndexError)


@dataclass(frozen=True)
class Thumbnail:
    """One picture of the page.

    Attributes:
        jpeg: The encoded picture, or None if the image could not be read.
        size: Width and height in pixels; 4:3 for a placeholder.
        problem: Why there is no picture, or "".
        original: Width and height of the image, turned upright, in pixels.
    """

    jpeg: bytes | None
    size: tuple[int, int]
    problem: str = ""
    original: tuple[int, int] = (4, 3)

    @property
    def data_uri(self) -> str:
        """The picture as a `data:` URI; "" for a placeholder."""
        if self.jpeg is None:
            return ""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


def make_thumbnails(
    image: ImageLoader,
    sides: Mapping[str, int],
    *,
    quality: int,
    max_bytes: int,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Thumbnail]:
    """Read and shrink the images of `sides`.

    Args:
        image: Gives an image by id.
        sides: Id -> longer side of its picture in pixels. Smaller images are not enlarged.
        quality: JPEG quality.
        max_bytes: Bound on the sum of the pictures' bytes. When it is exceeded all are shrunk alike, step by
            step; when even the smallest step is too large, the last ones are left out and say so.
        progress: Called with (done, total).

    Returns:
        One entry for each id, in the order of `sides`.
    """
    thumbnails: dict[str, Thumbnail] = {}
    # Images are read one after the other, for nobody promised that `image` may be called from two threads;
    # decoding and shrinking, most of the work, run beside it, a few images ahead.
    with ThreadPoolExecutor(_WORKERS) as workers:
        waiting: deque[tuple[str, Future[Thumbnail]]] = deque()

        def finish() -> None:
            id_, made = waiting.popleft()
            thumbnails[id_] = made.result()
            if progress is not None:
                progress(len(thumbnails), len(sides))

        for id_, side in sides.items():
            waiting.append((id_, workers.submit(_make, _read(image, id_), side, quality)))
            if len(waiting) > 4 * _WORKERS:
                finish()
        while waiting:
            finish()
    for factor, lower in _SMALLER:
        total = _total(thumbnails)
        if total <= max_bytes:
            break
        # A few pictures tell whether this step can be enough; if not, the rest is spared the work.
        loaded = [id_ for id_, thumbnail in thumbnails.items() if thumbnail.jpeg is not None]
        sample = {id_: thumbnails[id_] for id_ in loaded[:: max(1, len(loaded) // 24)]}
        smaller = _shrink_all(sample, sides, factor, min(quality, lower))
        if _total(smaller) * total <= 1.05 * max_bytes * _total(sample) or factor == _SMALLER[-1][0]:
            thumbnails = _shrink_all(thumbnails, sides, factor, min(quality, lower))
    total = _total(thumbnails)
    for id_ in reversed(list(thumbnails)):
        if total <= max_bytes:
            break
        dropped = thumbnails[id_]
        total -= len(dropped.jpeg or b"")
        thumbnails[id_] = Thumbnail(
            None, dropped.size, dropped.problem or "left out to bound the size of the page", dropped.original
        )
    return thumbnails


def _total(thumbnails: Mapping[str, Thumbnail]) -> int:
    return sum(len(thumbnail.jpeg or b"") for thumbnail in thumbnails.values())


def _shrink_all(
    thumbnails: Mapping[str, Thumbnail], sides: Mapping[str, int], factor: float, quality: int
) -> dict[str, Thumbnail]:
    def smaller(id_: str) -> Thumbnail:
        thumbnail = thumbnails[id_]
        if thumbnail.jpeg is None:
            return thumbnail
        made = _shrink(thumbnail.jpeg, max(16, round(sides[id_] * factor)), quality)
        return replace(made, original=thumbnail.original)

    with ThreadPoolExecutor(_WORKERS) as workers:
        return dict(zip(thumbnails, workers.map(smaller, thumbnails), strict=True))


def _read(image: ImageLoader, id_: str) -> bytes | np.ndarray | Thumbnail:
    """Return an image as `image` gives it, or the placeholder that says why not."""
    try:
        return image(id_)
    except _FAILURES as cause:
        return Thumbnail(None, (4, 3), f"{type(cause).__name__}: {cause}")


def _make(loaded: bytes | np.ndarray | Thumbnail, side: int, quality: int) -> Thumbnail:
    if isinstance(loaded, Thumbnail):
        return loaded
    pil_image = require("PIL.Image", _PURPOSE, extra="report")
    try:
        if isinstance(loaded, np.ndarray):
            picture = pil_image.fromarray(_rgb(loaded))
            original = picture.size
        else:
            picture = pil_image.open(io.BytesIO(loaded))
            width, height = picture.size
            if width * height > _MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels are more than {_MAX_PIXELS}")
            picture.draft("RGB", (2 * side, 2 * side))  # JPEG: decode at a fraction of the size
            picture = require("PIL.ImageOps", _PURPOSE, extra="report").exif_transpose(picture)
            # Drafted sizes are rounded; only whether it was turned is to be read off them.
            turned = (picture.width > picture.height) != (width > height)
            original = (height, width) if turned else (width, height)
        return replace(_encode(picture, side, quality), original=original)
    except (*_FAILURES, pil_image.DecompressionBombError) as cause:
        # Pillow names its own buffer there, not the image.
        unknown = isinstance(cause, pil_image.UnidentifiedImageError)
        text = "not an image file of a known format" if unknown else f"{type(cause).__name__}: {cause}"
        return Thumbnail(None, (4, 3), text)


def _rgb(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        raise DtypeError(f"expected an image of dtype uint8, found {array.dtype}")
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ShapeError(f"expected an image of shape [H, W, 3], found {list(array.shape)}")
    return np.ascontiguousarray(array)


def _shrink(jpeg: bytes, side: int, quality: int) -> Thumbnail:
    picture = require("PIL.Image", _PURPOSE, extra="report").open(io.BytesIO(jpeg))
    return _encode(picture, side, quality)


def _encode(picture: Image.Image, side: int, quality: int) -> Thumbnail:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        canvas = require("PIL.Image", _PURPOSE, extra="report").new("RGBA", picture.size, "white")
        canvas.alpha_composite(picture)
        picture = canvas
    picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return Thumbnail(buffer.getvalue(), picture.size)
