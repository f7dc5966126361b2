"""What a camera does to a scene: light, shadows, colour cast, blur, noise, JPEG."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ilias_fast.datasets.generate.drawing import Image, cv, ellipse_points, shade, shape

__all__ = ["encode", "expose", "illuminate"]

_COARSE = 8  # light varies slowly: its map is drawn at this fraction of the resolution


def illuminate(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Uneven light: a gradient across the image, sometimes a cast shadow, sometimes a glare.

    `strength` runs from 0 (studio) to 1 (harsh).
    """
    height, width = image.shape[:2]
    rows, columns = -(-height // _COARSE), -(-width // _COARSE)
    angle, slope = rng.uniform(0, 2 * np.pi), strength * rng.uniform(0.0, 0.35)
    x = np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    light = (1 + slope * (np.cos(angle) * x + np.sin(angle) * y)).astype(np.float32)
    if rng.random() < 0.3 * strength:
        shadow = np.zeros((rows, columns), np.uint8)
        at, turn = rng.uniform((0, 0), (columns, rows)), rng.uniform(0, np.pi)
        shape(shadow, ellipse_points(at, (columns, rows * rng.uniform(0.12, 0.35)), turn, 24), 255)
        soft = cv().GaussianBlur(shadow, (0, 0), float(rng.uniform(0.8, 2.5)))
        light *= 1 - np.float32(rng.uniform(0.25, 0.55) / 255) * soft
    shaded = shade(image, cv().resize(light, (width, height), interpolation=cv().INTER_LINEAR))
    if rng.random() < 0.22 * strength:
        glare = np.zeros((rows, columns), np.uint8)
        at, turn = rng.uniform((0, 0), (columns, rows)), rng.uniform(0, np.pi)
        radii = rng.uniform(0.06, 0.22, 2) * (columns, rows)
        shape(glare, ellipse_points(at, radii, turn, 20), int(rng.integers(70, 190)))
        soft = cv().resize(cv().GaussianBlur(glare, (0, 0), 2.5), (width, height))
        shaded = cv().add(shaded, cv().merge([soft, soft, soft]))
    return shaded


def _tone_table(rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    ramp = np.linspace(0, 1, 256)
    gamma = np.exp(rng.normal(0, 0.28 * strength))
    gain = np.exp(rng.normal(0, 0.16 * strength, 1) + rng.normal(0, 0.07 * strength, 3))
    lift = rng.uniform(0, 0.06 * strength)
    table = np.clip(lift + (1 - lift) * gain[None, :] * ramp[:, None] ** gamma, 0, 1)
    rounded: NDArray[np.uint8] = np.rint(table * 255).astype(np.uint8)[None, :, :]
    return rounded


def expose(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Exposure, gamma and colour cast, then blur (focus or motion) and sensor noise."""
    image = cv().LUT(image, _tone_table(rng, strength))
    kind = rng.random()
    if kind < 0.35 * strength:
        image = cv().GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 0.6 + 1.1 * strength)))
    elif kind < 0.55 * strength:
        size = int(rng.integers(2, 5)) * 2 + 1
        kernel = np.zeros((size, size), np.uint8)
        middle, reach = (size - 1) / 2, rng.uniform(0, np.pi)
        ends = middle + np.outer((-middle, middle), (np.cos(reach), np.sin(reach)))
        cv().line(
            kernel,
            tuple(np.rint(ends[0]).astype(int).tolist()),
            tuple(np.rint(ends[1]).astype(int).tolist()),
            1,
        )
        image = cv().filter2D(image, -1, kernel.astype(np.float32) / np.float32(kernel.sum()))
    level = rng.uniform(0.5, 1.5 + 7 * strength**2)
    height, width = image.shape[:2]
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(level)
    noisy: Image = cv().add(image, cv().merge([grain, grain, grain]), dtype=cv().CV_8U)
    return noisy


def encode(image: Image, quality: int) -> bytes:
    """JPEG bytes of an RGB image."""
    _, data = cv().imencode(
        ".jpg", cv().cvtColor(image, cv().COLOR_RGB2BGR), [cv().IMWRITE_JPEG_QUALITY, quality]
    )
    return bytes(data)
