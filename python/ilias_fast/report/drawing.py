"""A picture of a matched pair: keypoints, correspondences, inliers, and where the model puts the query."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast._extras import require
from ilias_fast.rerank import Correspondences
from ilias_fast.rerank.correspondences import outline

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["draw_match"]

_PURPOSE = "draw matched images"
_HEIGHT, _WIDTH, _GAP, _HEADER = 520, 1000, 16, 34
_MANY = 80  # inliers; more are drawn fainter
_INK, _QUIET, _INLIER_TEXT, _TENTATIVE_TEXT = (30, 30, 30), (110, 110, 110), (15, 120, 50), (175, 80, 15)
_KEYPOINT, _TENTATIVE, _INLIER, _FRAME = (250, 210, 60), (235, 120, 40), (40, 200, 90), (60, 150, 255)


def draw_match(
    query: NDArray[np.uint8],
    database: NDArray[np.uint8],
    found: Correspondences,
    *,
    keypoints: tuple[ArrayLike, ArrayLike] | None = None,
    most: int = 300,
) -> bytes:
    """Draw a pair of images side by side, the query on the left.

    Args:
        query: uint8 [H, W, 3], RGB.
        database: uint8 [H, W, 3], RGB.
        found: Their correspondences, in pixels of the images.
        keypoints: All keypoints of both, [m, 2] in pixels; None draws those of the correspondences only.
        most: How many correspondences that are no inliers are drawn, evenly chosen; inliers all are.

    Returns:
        The picture as PNG: yellow dots are keypoints, orange lines tentative correspondences, green lines
        inliers, the blue frame is the query's frame as the model maps it.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    pillow = require("PIL.Image", _PURPOSE)
    # A panorama must not make the other image a stripe.
    scales = [min(_HEIGHT / image.shape[0], _WIDTH / image.shape[1]) for image in (query, database)]
    sizes = [
        (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        for scale, image in zip(scales, (query, database), strict=True)
    ]
    width = max(sizes[0][0] + _GAP + sizes[1][0], 640)
    canvas = pillow.new("RGB", (width, _HEADER + max(high for _, high in sizes)), (255, 255, 255))
    corners = [(0, _HEADER), (sizes[0][0] + _GAP, _HEADER)]
    for image, size, corner in zip((query, database), sizes, corners, strict=True):
        canvas.paste(pillow.fromarray(image).resize(size, pillow.Resampling.LANCZOS), corner)
    overlay = pillow.new("RGBA", canvas.size, (0, 0, 0, 0))
    pen = require("PIL.ImageDraw", _PURPOSE).Draw(overlay)

    def placed(points: ArrayLike, side: int) -> NDArray[np.float64]:
        rows = np.asarray(points, np.float64).reshape(-1, 2)
        return np.asarray(rows * scales[side] + corners[side])

    if keypoints is None:
        keypoints = found.query_xy, found.database_xy
    for side, points in enumerate(keypoints):
        for x, y in placed(points, side).tolist():
            pen.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=(*_KEYPOINT, 210))
    ends = placed(found.query_xy, 0), placed(found.database_xy, 1)
    others = np.flatnonzero(~found.inliers)
    others = others[np.linspace(0, len(others) - 1, min(most, len(others))).astype(int)]
    inliers = np.flatnonzero(found.inliers)
    # Hundreds of lines side by side would hide what they join.
    clear = (220, 2) if len(inliers) <= _MANY else (110, 1)
    for rows, colour, (opacity, line) in ((others, _TENTATIVE, (130, 1)), (inliers, _INLIER, clear)):
        for row in rows.tolist():
            a, b = (tuple(end[row].tolist()) for end in ends)
            pen.line((a, b), fill=(*colour, opacity), width=line)
            for x, y in (a, b):
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), outline=(*colour, 255), width=1)
    picture = pillow.alpha_composite(canvas.convert("RGBA"), overlay)
    if found.model is not None:
        # On a sheet of its own, so that what lies outside the database image is cut off there.
        sheet = pillow.new("RGBA", sizes[1], (0, 0, 0, 0))
        high, wide = query.shape[:2]
        mapped = np.clip(outline(found.model, wide, high) * scales[1], -1e4, 1e4)
        require("PIL.ImageDraw", _PURPOSE).Draw(sheet).line(
            [(float(x), float(y)) for x, y in mapped], fill=(*_FRAME, 255), width=3, joint="curve"
        )
        picture.alpha_composite(sheet, corners[1])
    _write_header(picture, found)
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _write_header(picture: Image.Image, found: Correspondences) -> None:
    """Write what was found above the images."""
    pen = require("PIL.ImageDraw", _PURPOSE).Draw(picture)
    font = require("PIL.ImageFont", _PURPOSE).load_default(size=17)
    x = 8.0
    for text, colour in (
        (f"{int(found.inliers.sum())} inliers", _INLIER_TEXT),
        (f"of {len(found.inliers)} tentative correspondences", _TENTATIVE_TEXT),
        (f"score {found.score:.1f}", _INK),
        ("" if found.model is not None else "no model", _QUIET),
    ):
        pen.text((x, 7), text, fill=colour, font=font)
        x += pen.textlength(text, font=font) + 14
