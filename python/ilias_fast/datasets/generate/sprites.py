"""What an object is made of, and the picture of it: attributes in, RGBA sprite out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ilias_fast.datasets.generate import words
from ilias_fast.datasets.generate.drawing import PATTERNS, Image, Mask, cv, relief, shade
from ilias_fast.datasets.generate.illustrations import THEMES, illustrate
from ilias_fast.datasets.generate.motifs import MOTIFS, Motif, make_motif
from ilias_fast.datasets.generate.palettes import PALETTES, Palette

__all__ = ["Attributes", "Family", "Sprite", "finish", "random_attributes", "vary"]


@dataclass(frozen=True)
class Attributes:
    """Everything that tells one object of a family from another; a drawing is a pure function of it."""

    layout: int
    """Seed of where the parts are."""
    art: int
    """Seed of the illustration."""
    motif_seed: int
    palette: int
    turned: int
    """Steps by which the palette's three colours are exchanged."""
    theme: str
    motif: str
    pattern: str
    title: tuple[str, str]
    number: int
    mirrored: bool = False

    @property
    def colours(self) -> Palette:
        """The palette with its colours exchanged as the object has them."""
        return PALETTES[self.palette].rotated(self.turned)

    def rng(self) -> np.random.Generator:
        """Generator of the layout: two objects with the same layout seed share it."""
        return np.random.default_rng(self.layout)

    def illustration(self, height: float, width: float) -> Image:
        """The object's picture at a size."""
        return illustrate(self.theme, self.art, self.colours, int(height), int(width), mirrored=self.mirrored)

    def emblem(self) -> Motif:
        """The object's motif."""
        return make_motif(self.motif, np.random.default_rng(self.motif_seed))

    def print(self, n: int) -> list[str]:
        """The object's small print."""
        return words.small_print(np.random.default_rng([self.layout, self.number]), n)


@dataclass(frozen=True)
class Family:
    """A kind of object: how it is drawn, described and classified."""

    name: str
    taxonomy: tuple[str, str, str]
    draw: Callable[[Attributes], tuple[Image, Mask]]
    describe: Callable[[Attributes], str]
    details: tuple[str, ...]
    """What near-duplicates may change: some of title, motif, art, pattern, palette, mirror, layout."""


def random_attributes(rng: np.random.Generator) -> Attributes:
    """Draw the attributes of a new object."""
    themes, motifs = list(THEMES), list(MOTIFS)
    seeds = rng.integers(1 << 40, size=3)
    return Attributes(
        layout=int(seeds[0]),
        art=int(seeds[1]),
        motif_seed=int(seeds[2]),
        palette=int(rng.integers(len(PALETTES))),
        turned=int(rng.integers(3)),
        theme=themes[int(rng.integers(len(themes)))],
        motif=motifs[int(rng.integers(len(motifs)))],
        pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
        title=words.title(rng),
        number=int(rng.integers(2, 990)),
    )


def vary(attributes: Attributes, detail: str, rng: np.random.Generator) -> Attributes:
    """The same object but for one detail, as a near-duplicate has it."""
    fresh = random_attributes(rng)
    if detail == "title":
        return replace(attributes, title=fresh.title, number=fresh.number)
    if detail == "motif":
        others = [name for name in MOTIFS if name != attributes.motif]
        return replace(attributes, motif=others[int(rng.integers(len(others)))], motif_seed=fresh.motif_seed)
    if detail == "art":
        return replace(attributes, art=fresh.art)
    if detail == "pattern":
        others = [name for name in PATTERNS if name != attributes.pattern]
        return replace(attributes, pattern=others[int(rng.integers(len(others)))])
    if detail == "palette":
        return replace(attributes, turned=(attributes.turned + 1 + int(rng.integers(2))) % 3)
    if detail == "mirror":
        return replace(attributes, mirrored=not attributes.mirrored)
    return replace(attributes, layout=fresh.layout)


@dataclass(frozen=True)
class Sprite:
    """An object cut out: premultiplied RGBA at halving sizes, and its outline.

    Attributes:
        levels: uint8 [H, W, 4] images, each half the size of the one before.
        outline: float64 [n, 2] convex hull of the opaque part, in pixels of the first level.
    """

    levels: tuple[Image, ...]
    outline: NDArray[np.float64]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the first level."""
        height, width = self.levels[0].shape[:2]
        return width, height

    @classmethod
    def cut(cls, rgb: Image, alpha: Mask, longest: int = 512) -> Sprite:
        """Cut an RGB drawing out by its coverage; at most `longest` pixels on the longer side."""
        ratio = longest / max(alpha.shape)
        if ratio < 1:
            size = (round(alpha.shape[1] * ratio), round(alpha.shape[0] * ratio))
            rgb = cv().resize(rgb, size, interpolation=cv().INTER_AREA)
            alpha = cv().resize(alpha, size, interpolation=cv().INTER_AREA)
        flat = cv().multiply(rgb, cv().merge([alpha, alpha, alpha]), scale=1 / 255)
        level = cv().merge([*cv().split(flat), alpha])
        levels = [level]
        while max(level.shape[:2]) > 32:
            size = (max(1, level.shape[1] // 2), max(1, level.shape[0] // 2))
            level = cv().resize(level, size, interpolation=cv().INTER_AREA)
            levels.append(level)
        return cls(tuple(levels), _outline(alpha > 127))


def _outline(opaque: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Convex hull [n, 2] of a mask, from the two ends of each row (the hull of all pixels costs far more)."""
    rows = np.flatnonzero(opaque.any(axis=1))
    left = opaque[rows].argmax(axis=1)
    right = opaque.shape[1] - opaque[rows, ::-1].argmax(axis=1)
    corners = [(x, y) for x in (left, right) for y in (rows, rows + 1)]
    points = np.concatenate([np.stack(corner, axis=1) for corner in corners])
    hull: NDArray[np.float64] = cv().convexHull(points.astype(np.float32))[:, 0, :].astype(np.float64)
    return hull


def finish(
    rgb: Image, alpha: Mask, *, bevel: float = 0.012, gloss: float = 0.12, grain: int = 0
) -> tuple[Image, Mask]:
    """Make a flat drawing look like a thing: a lit rim, light falling off from the upper left, paper grain.

    `bevel` is the strength of the rim, `gloss` the share of light on the bright side, `grain` a seed or 0.
    """
    height, width = alpha.shape
    factor = relief(alpha, bevel, blur=3.0)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    factor *= 1 - np.float32(gloss) * (x + y) * np.float32(0.5)
    if grain:
        noise = np.random.default_rng(grain).random((height // 2, width // 2), dtype=np.float32)
        factor *= np.float32(0.97) + np.float32(0.06) * cv().resize(noise, (width, height))
    return shade(rgb, factor), alpha
