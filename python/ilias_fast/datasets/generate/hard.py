"""Hard cases for re-ranking, by name: what makes local descriptors say more than they know.

A case changes the camera (what a finished picture loses) and the ground (what lies behind an object), never
the objects. Every photograph of a benchmark of one case is of that case; with several, objects and
distractors take turns.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ilias_fast.datasets.generate.drawing import Image, cv, gradient, rectangle
from ilias_fast.datasets.generate.palettes import PALETTES
from ilias_fast.datasets.generate.scenes import SCENES, Scene, plain_scene
from ilias_fast.errors import ParameterError

__all__ = ["CASES", "HardCase", "check_cases"]

_LATTICES = ("bricks", "tiles", "facade", "fabric")


@dataclass(frozen=True)
class HardCase:
    """One hard case.

    Attributes:
        name: How it is asked for.
        about: What is hard about it, for people.
        longer_side: Of the pictures, in pixels.
        contrast: Share of the contrast that is left.
        blur: Standard deviation of the blur, in pixels.
        noise: Standard deviation of the sensor's noise, in grey values.
        stamp: Whether every picture carries the same caption and logo.
        clutter: Share of the usual clutter.
        near_duplicates: Least share of near-duplicates among the distractors.
    """

    name: str
    about: str
    longer_side: int = 500
    contrast: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    stamp: bool = False
    clutter: float = 1.0
    near_duplicates: float = 0.0

    def ground(self, rng: np.random.Generator, height: int, width: int, *, query: bool) -> Scene | None:
        """What lies behind the object; None for the usual."""
        if self.name == "repeated-structure":
            # Few walls, and many photographs of each: the wall matches wherever it turns up.
            wall = np.random.default_rng(int(rng.integers(8)))
            scene = SCENES[_LATTICES[int(wall.integers(len(_LATTICES)))]](wall, 640, 640)
            y, x = (int(rng.integers(640 - extent + 1)) for extent in (height, width))
            part = np.ascontiguousarray(scene.image[y : y + height, x : x + width])
            return Scene(part, scene.segments - (x, y))
        if self.name == "indoor" and not query:
            return _room(rng, height, width)
        if self.name == "low-texture":
            return plain_scene(rng, height, width)
        return None

    def develop(self, image: Image) -> Image:
        """What the camera leaves of a picture."""
        if self.blur:
            image = cv().GaussianBlur(image, (0, 0), self.blur)
        if self.contrast < 1:
            image = cv().convertScaleAbs(image, alpha=self.contrast, beta=128 * (1 - self.contrast))
        longest = max(image.shape[:2])
        if self.longer_side < longest:
            height, width = (max(1, round(n * self.longer_side / longest)) for n in image.shape[:2])
            image = cv().resize(image, (width, height), interpolation=cv().INTER_AREA)
        if self.noise:
            # A function of the picture, so that no other random number depends on it.
            grain = np.random.default_rng(zlib.crc32(image.tobytes())).normal(0, self.noise, image.shape)
            image = np.clip(image + grain, 0, 255).astype(np.uint8)
        if self.stamp:
            image = _stamped(image)
        return image


def _stamped(image: Image) -> Image:
    """The picture with a caption in a bar along its lower side and a logo in a corner: the same on all."""
    image = image.copy()
    height, width = image.shape[:2]
    top = height - 34
    rectangle(image, (0, top, width, height), (24, 26, 34))
    caption = "(c) 2024 MUSEUM COLLECTION  No. 4711  www.example.org"
    cv().putText(
        image, caption, (8, height - 12), cv().FONT_HERSHEY_DUPLEX, 0.45, (236, 232, 220), 1, cv().LINE_AA
    )
    for ring, colour in enumerate([(196, 60, 48), (240, 236, 226), (38, 84, 150), (240, 200, 60)]):
        rectangle(image, (width - 58 + 6 * ring, 10 + 4 * ring, width - 10 - 3 * ring, 58 - 7 * ring), colour)
    return image


def _room(rng: np.random.Generator, height: int, width: int) -> Scene:
    """A wall, a floor, and a few pieces of plain furniture: edges, and hardly a keypoint."""

    def tone(dark: float = 0.0) -> tuple[int, int, int]:
        palette = PALETTES[int(rng.integers(len(PALETTES)))]
        r, g, b = (
            int(0.6 * 210 * (1 - dark) + 0.4 * channel) for channel in palette.colours[int(rng.integers(5))]
        )
        return r, g, b

    image = gradient(height, width, tone(), tone(), float(rng.uniform(0, 3)))
    horizon = height * rng.uniform(0.55, 0.8)
    image[int(horizon) :] = gradient(height - int(horizon), width, tone(0.3), tone(0.4), 1.5)
    centres = []
    for _ in range(int(rng.integers(3, 8))):
        wide, high = rng.uniform(0.12, 0.4) * width, rng.uniform(0.15, 0.5) * height
        left, low = rng.uniform(-0.1, 0.9) * width, horizon + rng.uniform(0, 0.2) * height
        colour = tone(float(rng.uniform(0, 0.5)))
        rectangle(image, (left, low - high, left + wide, low), colour)
        for shelf in range(int(rng.integers(0, 4))):
            y = low - high * (shelf + 1) / 5
            rectangle(image, (left + 4, y, left + wide - 4, y + 2), tone(0.6))
        centres.append((left + wide / 2, low - high / 2))
    return Scene(image, np.asarray(centres, np.float64).reshape(-1, 2))


CASES: dict[str, HardCase] = {
    case.name: case
    for case in (
        HardCase(
            "low-texture", "smooth things on smooth ground: a handful of keypoints", contrast=0.3, blur=2.5
        ),
        HardCase("repeated-structure", "the same few walls behind everything, with and without the object"),
        HardCase("tiny", "pictures of 96 pixels: few keypoints, coarse positions", longer_side=96),
        HardCase("indoor", "plain rooms with furniture and few things", clutter=0.2, blur=1.2),
        HardCase(
            "near-duplicates", "most distractors differ from an object in two details", near_duplicates=0.9
        ),
        HardCase("blurred", "out of focus: few keypoints, large and alike", blur=4.0),
        HardCase("noisy", "noise makes hundreds of keypoints that mean nothing", blur=1.0, noise=24.0),
        HardCase("stamped", "every picture carries the same caption and logo", stamp=True),
    )
}
"""The hard cases."""


def check_cases(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of hard cases, sorted.

    Args:
        names: Names of `CASES`.

    Raises:
        ParameterError: One is unknown.
    """
    given = [names] if isinstance(names, str) else list(names)
    for name in given:
        if name not in CASES:
            raise ParameterError(f"hard: expected some of {', '.join(CASES)}, found {name!r}")
    return tuple(sorted(set(given)))
