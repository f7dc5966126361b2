"""The photographs of the benchmark: queries on clean ground, positives and distractors in clutter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilias_fast.datasets.generate.compose import (
    Patch,
    View,
    bounds,
    paste,
    project,
    render,
    scatter_bits,
    view_matrix,
)
from ilias_fast.datasets.generate.distortions import encode, expose, illuminate
from ilias_fast.datasets.generate.drawing import Image, Mask
from ilias_fast.datasets.generate.families import FAMILIES, draw_sprite, new_attributes
from ilias_fast.datasets.generate.hard import HardCase
from ilias_fast.datasets.generate.knickknacks import knickknack
from ilias_fast.datasets.generate.scenes import Scene, busy_scene, plain_scene
from ilias_fast.datasets.generate.sprites import Sprite

__all__ = ["ClutterPool", "Photograph", "cluttered_photograph", "query_photograph"]

LONGER_SIDE = 500
_RELATIVES = 0.3  # of the clutter is of the families the query objects are of
_SHORTER_SIDES = (333, 375, 375, 400, 500)


@dataclass(frozen=True)
class Photograph:
    """A finished picture.

    Attributes:
        jpeg: The encoded file.
        width, height: Pixels; the longer side is 500 but for hard cases.
        box: x, y, w, h of the visible part of the object, or None when there is none.
        clutter: Segments whose middle lies outside the box.
    """

    jpeg: bytes
    width: int
    height: int
    box: tuple[int, int, int, int] | None
    clutter: int

    @property
    def scale(self) -> float:
        """Share of the image the box covers; 0 without a box."""
        return 0.0 if self.box is None else self.box[2] * self.box[3] / (self.width * self.height)


class ClutterPool:
    """Things that lie around, never a query object: drawn when first needed, then kept.

    Two threads may draw the same one at the same time; both get the same pixels.
    """

    def __init__(self, seed: int, size: int):
        self._seed = seed
        self._sprites: list[Sprite | None] = [None] * size

    def pick(self, rng: np.random.Generator) -> Sprite:
        """A random member."""
        index = int(rng.integers(len(self._sprites)))
        sprite = self._sprites[index]
        if sprite is None:
            own = np.random.default_rng([self._seed, index])
            if own.random() < _RELATIVES:
                family = FAMILIES[int(own.integers(len(FAMILIES)))]
                sprite = draw_sprite(family, new_attributes(own), longest=256)
            else:
                sprite = knickknack(own)
            self._sprites[index] = sprite
        return sprite


def _image_size(rng: np.random.Generator, upright: bool) -> tuple[int, int]:
    shorter = _SHORTER_SIDES[int(rng.integers(len(_SHORTER_SIDES)))]
    return (shorter, LONGER_SIDE) if upright else (LONGER_SIDE, shorter)


def _placed(
    rng: np.random.Generator, sprite: Sprite, view: View, width: int, height: int, share: float, cut: float
) -> NDArray[np.float64]:
    """Homography that shows the object with a box of about `share` of the image.

    Up to `cut` of the box's extent may leave the image on a side; where a box of that size cannot fit, it is
    enlarged until the visible part is as large as asked, or half as large again.
    """
    x0, y0, x1, y1 = bounds(project(view_matrix(sprite, view, (0, 0), 1.0), sprite.outline))
    wide, high = x1 - x0, y1 - y0
    scale = np.sqrt(share * width * height / (wide * high))
    spot = rng.random(2)
    centre, limit = np.zeros(2), 1.5 * scale
    for _ in range(6):
        size = scale * np.array([wide, high])
        frame = np.array([width, height], np.float64)
        slack = np.maximum(frame - size, 0) + 2 * cut * size
        start = np.minimum((frame - size) / 2 - slack / 2, (frame - size) / 2) + slack * spot
        centre = start - scale * np.array([x0, y0])
        visible = np.prod(np.maximum(np.minimum(start + size, frame) - np.maximum(start, 0), 1))
        ratio = np.sqrt(share * width * height / visible)
        if abs(ratio - 1) < 0.02 or scale >= limit:
            break
        scale = min(scale * ratio, limit)
    return view_matrix(sprite, view, centre, scale)


def _shadow_reach(patch_size: float) -> int:
    return int(np.clip(patch_size * 0.03, 2, 9))


def _put(image: Image, sprite: Sprite, matrix: NDArray[np.float64], rng: np.random.Generator) -> Patch | None:
    height, width = image.shape[:2]
    box = bounds(project(matrix, sprite.outline))
    reach = _shadow_reach(max(box[2] - box[0], box[3] - box[1]))
    patch = render(sprite, matrix, width, height, 2 * reach)
    if patch is not None:
        paste(
            image,
            patch,
            shadow=float(rng.uniform(0.3, 0.6)),
            reach=reach,
            offset=(reach // 2 + 1, reach // 2 + 2),
        )
    return patch


def _visible_box(mask: Mask) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def query_photograph(rng: np.random.Generator, sprite: Sprite, case: HardCase | None = None) -> Photograph:
    """The object alone, nearly frontal, on a clean background."""
    view = View(float(rng.normal(0, 0.08)), *rng.normal(0, 0.1, 2))
    tall = sprite.size[1] > sprite.size[0]
    width, height = _image_size(rng, tall)
    ground = None if case is None else case.ground(rng, height, width, query=True)
    image = (ground or plain_scene(rng, height, width)).image
    x0, y0, x1, y1 = bounds(project(view_matrix(sprite, view, (0, 0), 1.0), sprite.outline))
    largest = (
        min(0.94 * width / (x1 - x0), 0.94 * height / (y1 - y0)) ** 2
        * (x1 - x0)
        * (y1 - y0)
        / (width * height)
    )
    matrix = _placed(rng, sprite, view, width, height, min(float(rng.uniform(0.35, 0.68)), largest), 0.0)
    patch = _put(image, sprite, matrix, rng)
    mask = np.zeros((height, width), np.uint8)
    if patch is not None:
        mask[patch.window] = patch.coverage > 127
    image = expose(illuminate(image, rng, 0.3), rng, 0.25)
    return _developed(image, int(rng.integers(86, 96)), _visible_box(mask), 0, case)


def _developed(
    image: Image, quality: int, box: tuple[int, int, int, int] | None, clutter: int, case: HardCase | None
) -> Photograph:
    """The finished picture, as the camera of a hard case leaves it."""
    before = image.shape[0]
    if case is not None:
        image = case.develop(image)
    height, width = image.shape[:2]
    if box is not None and height != before:
        x, y, w, h = (side * height / before for side in box)
        left, top = min(int(x), width - 1), min(int(y), height - 1)
        box = left, top, min(width - left, max(1, round(w))), min(height - top, max(1, round(h)))
    return Photograph(encode(image, quality), width, height, box, clutter)


def _strew(
    scene: Scene, rng: np.random.Generator, pool: ClutterPool, number: int
) -> list[NDArray[np.float64]]:
    """Lay `number` things on a scene; return their centres."""
    image = scene.image
    height, width = image.shape[:2]
    sprites = min(int(rng.integers(2, 12)), number)
    bits = scatter_bits(image, rng, number - sprites)
    centres = []
    for _ in range(sprites):
        sprite = pool.pick(rng)
        view = View(float(rng.uniform(-np.pi, np.pi)), *rng.normal(0, 0.2, 2))
        centre = rng.uniform((-10, -10), (width + 10, height + 10))
        _put(image, sprite, view_matrix(sprite, view, centre, float(rng.uniform(0.22, 0.6))), rng)
        centres.append(centre)
    return [*bits, *centres]


def _occlude(
    image: Image,
    mask: Mask,
    rng: np.random.Generator,
    pool: ClutterPool,
    box: tuple[int, int, int, int],
    most: float,
) -> list[NDArray[np.float64]]:
    """Lay one to three things over the rim of the object, hiding at most the share `most` of it."""
    height, width = image.shape[:2]
    whole = int(np.count_nonzero(mask))
    centres = []
    for _ in range(int(rng.integers(1, 4))):
        sprite = pool.pick(rng)
        side = np.sqrt(box[2] * box[3]) * rng.uniform(0.3, 0.65)
        edge = rng.uniform(-0.5, 0.5, 2)
        edge[int(rng.integers(2))] = rng.choice([-0.5, 0.5])
        centre = np.array([box[0] + box[2] / 2, box[1] + box[3] / 2]) + edge * (box[2], box[3])
        matrix = view_matrix(sprite, View(float(rng.uniform(-np.pi, np.pi))), centre, side / max(sprite.size))
        reach = _shadow_reach(side)
        patch = render(sprite, matrix, width, height, 2 * reach)
        if patch is None:
            continue
        left = mask.copy()
        left[patch.window][patch.coverage > 127] = 0
        if np.count_nonzero(left) < (1 - most) * whole:
            continue
        mask[:] = left
        paste(image, patch, reach=reach)
        centres.append(centre)
    return centres


def _share(rng: np.random.Generator) -> float:
    """Share of the image an object takes: 5% to 90%, most of them small, as in ILIAS."""
    low, high = np.log(0.055), np.log(0.88)
    return float(np.exp(low + (high - low) * rng.random() ** 1.1))


def cluttered_photograph(
    rng: np.random.Generator, pool: ClutterPool, sprite: Sprite | None, case: HardCase | None = None
) -> Photograph:
    """An object (or none) among other things, in any light, from any side, partly hidden or cut off."""
    share = _share(rng)
    angle = rng.uniform(-1.05, 1.05) if rng.random() < 0.82 else rng.uniform(-np.pi, np.pi)
    view = View(float(angle), *np.clip(rng.normal(0, 0.28, 2), -0.7, 0.7))
    upright = rng.random() < 0.35
    if sprite is not None and share > 0.3:
        x0, y0, x1, y1 = bounds(project(view_matrix(sprite, view, (0, 0), 1.0), sprite.outline))
        upright = y1 - y0 > x1 - x0
    width, height = _image_size(rng, upright)
    scene = None if case is None else case.ground(rng, height, width, query=False)
    scene = scene or busy_scene(rng, height, width)
    image = scene.image
    wanted = int(np.clip(np.exp(rng.normal(np.log(36), 0.7)), 3, 120))
    number = int(np.clip(wanted - len(scene.segments) * (1 - share), 4, 70))
    if case is not None:
        number = max(1, round(number * case.clutter))
    segments = [*scene.segments, *_strew(scene, rng, pool, number)]
    box = None
    if sprite is not None:
        cut = float(rng.uniform(0.1, 0.3)) if rng.random() < 0.3 else 0.0
        patch = _put(image, sprite, _placed(rng, sprite, view, width, height, share, cut), rng)
        mask = np.zeros((height, width), np.uint8)
        if patch is not None:
            mask[patch.window] = patch.coverage > 127
        box = _visible_box(mask)
        if box is not None and rng.random() < 0.5:
            segments += _occlude(image, mask, rng, pool, box, 0.35)
            box = _visible_box(mask)
    strength = float(rng.beta(1.6, 2.4))
    image = expose(illuminate(image, rng, strength), rng, strength)
    outside = [not _inside(centre, box) for centre in segments]
    return _developed(image, int(rng.integers(40, 96)), box, sum(outside), case)


def _inside(point: NDArray[np.float64], box: tuple[int, int, int, int] | None) -> bool:
    if box is None:
        return False
    return bool(box[0] <= point[0] < box[0] + box[2] and box[1] <= point[1] < box[1] + box[3])
