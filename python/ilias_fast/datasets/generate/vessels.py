"""Round things to drink and eat from: mug, plate, can."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ilias_fast.datasets.generate.drawing import (
    Image,
    Mask,
    cv,
    disc,
    ellipse_points,
    mix,
    paragraph,
    pattern,
    rectangle,
    relief,
    ring,
    shade,
    shape,
    stroke,
    text,
)
from ilias_fast.datasets.generate.motifs import draw_motif
from ilias_fast.datasets.generate.sprites import Attributes, finish

__all__ = ["can", "mug", "pictured", "plate"]


def _cylinder(flat: Image, width: int, sag: float) -> Image:
    """Wrap the middle of a flat print around an upright cylinder seen from slightly above."""
    height = flat.shape[0]
    u = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1
    x = (np.arcsin(u) / np.pi + 0.5) * flat.shape[1]
    y = np.arange(height, dtype=np.float32)[:, None] - sag * np.sqrt(np.maximum(0, 1 - u * u))[None, :] + sag
    wrapped: Image = cv().remap(
        flat,
        np.broadcast_to(x, (height, width)).astype(np.float32),
        y.astype(np.float32),
        cv().INTER_LINEAR,
        borderMode=cv().BORDER_REPLICATE,
    )
    return wrapped


def _roundness(width: int) -> NDArray[np.float32]:
    """Brightness [W] across a glossy cylinder lit from the left."""
    u = np.linspace(-1, 1, width, dtype=np.float32)
    body = 0.45 + 0.62 * np.sqrt(np.maximum(0, 1 - (u + 0.25) ** 2 / 1.6))
    shine = np.exp(-((u + 0.45) ** 2) / 0.012)
    factor: NDArray[np.float32] = (body + 0.35 * shine).astype(np.float32)
    return factor


def pictured(a: Attributes) -> bool:
    """Whether a mug shows the picture, or else its emblem."""
    return a.layout % 100 < 55


def mug(a: Attributes) -> tuple[Image, Mask]:
    """Mug with handle, a band of pattern, the picture and a slogan."""
    h, w, body = 440, 512, 372
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    glaze = (p.paper, mix(main, p.paper, 0.15), mix(p.ink, main, 0.3))[int(rng.integers(3))]
    ink = p.paper if sum(glaze) < 380 else p.ink
    flat = np.empty((400, 560, 3), np.uint8)
    flat[:] = glaze
    flat[30:74] = pattern(a.pattern, 44, 560, 44, (second, third, p.paper))
    flat[352:384] = pattern(a.pattern, 32, 560, 32, (third, second, p.paper))
    if pictured(a):
        rectangle(flat, (156, 96, 404, 284), ink)
        flat[100:281, 160:401] = a.illustration(181, 241)
    else:
        draw_motif(
            flat,
            a.emblem(),
            (280, 188),
            88,
            (main if glaze != main else third, third, ink),
            mirrored=a.mirrored,
        )
        for x in (120, 440):
            draw_motif(flat, a.emblem(), (x, 200), 48, (second, main, ink), mirrored=a.mirrored)
    text(
        flat,
        f"{a.title[0]} {a.title[1]}",
        (280, 318),
        250,
        ink,
        font=int(rng.integers(3)),
        weight=1.7,
        height=30,
    )
    wrapped = shade(
        _cylinder(flat, body, 26), np.broadcast_to(_roundness(body), (400, body)).astype(np.float32)
    )
    rgb = np.zeros((h, w, 3), np.uint8)
    alpha = np.zeros((h, w), np.uint8)
    handle = ellipse_points((body - 6, 220), (118, 118), n=60)
    tone = mix(glaze, p.ink, 0.25)
    stroke(alpha, handle, 255, 40, closed=True)
    stroke(rgb, handle, tone, 40, closed=True)
    stroke(rgb, handle - 5, mix(glaze, (255, 255, 255), 0.25), 12, closed=True)
    side = np.zeros((h, w), np.uint8)
    rim, foot = (
        ellipse_points((body / 2, 34), (body / 2 - 1, 30), n=60),
        ellipse_points((body / 2, 400), (body / 2 - 8, 30), n=60),
    )
    shape(side, [(0, 34), (body - 1, 34), (body - 9, 400), (8, 400)], 255)
    shape(side, rim, 255)
    shape(side, foot, 255)
    rgb[:, :body][side[:, :body] > 0] = cv().copyMakeBorder(wrapped, 20, 20, 0, 0, cv().BORDER_REPLICATE)[:h][
        side[:, :body] > 0
    ]
    np.maximum(alpha, side, out=alpha)
    shape(rgb, rim, mix(glaze, (255, 255, 255), 0.45))
    shape(rgb, ellipse_points((body / 2, 36), (body / 2 - 10, 23), n=60), mix(glaze, p.ink, 0.55))
    shape(rgb, ellipse_points((body / 2, 42), (body / 2 - 24, 15), n=60), (86, 54, 34))
    return finish(rgb, alpha, bevel=0.006, gloss=0.08)


def plate(a: Attributes) -> tuple[Image, Mask]:
    """Plate with a painted rim and a picture or emblem in the middle."""
    n = 512
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    c = (n / 2, n / 2)
    rgb = np.empty((n, n, 3), np.uint8)
    rgb[:] = mix(p.paper, (255, 255, 255), 0.4)
    disc(rgb, c, 252, main if rng.random() < 0.5 else mix(p.paper, (255, 255, 255), 0.3))
    ring(rgb, c, 244, second, 6)
    emblem = a.emblem()
    count = int(rng.integers(9, 16))
    for i in range(count):
        t = 2 * np.pi * i / count
        place = (n / 2 + 208 * np.cos(t), n / 2 + 208 * np.sin(t))
        draw_motif(rgb, emblem, place, 30, (second, third, p.ink), angle=-t - np.pi / 2, mirrored=a.mirrored)
        t += np.pi / count
        disc(rgb, (n / 2 + 214 * np.cos(t), n / 2 + 214 * np.sin(t)), 8, third)
    for radius, colour, width in ((170, p.ink, 3), (162, third, 7)):
        ring(rgb, c, radius, colour, width)
    well = (
        a.illustration(320, 320)
        if rng.random() < 0.6
        else pattern(a.pattern, 320, 320, 32, (p.paper, mix(main, p.paper, 0.4), mix(second, p.paper, 0.4)))
    )
    mask = np.zeros((320, 320), np.uint8)
    disc(mask, (160, 160), 154, 255)
    cv().copyTo(well, mask, rgb[96:416, 96:416])
    if not rng.random() < 0.4:
        disc(rgb, c, 66, p.paper)
        ring(rgb, c, 66, p.ink, 3)
        draw_motif(rgb, emblem, c, 52, (main, third, p.ink), mirrored=a.mirrored)
    height = np.zeros((n, n), np.uint8)
    for radius, level in ((252, 120), (236, 255), (176, 170), (160, 90)):
        disc(height, c, radius, level)
    rgb = shade(rgb, relief(height, 0.0035, 4.0))
    alpha = np.zeros((n, n), np.uint8)
    disc(alpha, c, 253, 255)
    return finish(rgb, alpha, gloss=0.16, bevel=0.006)


def can(a: Attributes) -> tuple[Image, Mask]:
    """Drink can: brand, picture, emblem, small print and bar code on a cylinder with metal ends."""
    h, w = 512, 272
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    flat = np.empty((430, 420, 3), np.uint8)
    flat[:] = main
    band = int(rng.integers(40, 80))
    flat[:band] = pattern(a.pattern, band, 420, 30, (second, mix(second, p.paper, 0.4), third))
    flat[-band:] = pattern(a.pattern, band, 420, 30, (third, second, p.paper))
    picture = a.illustration(150, 420)
    y = 236 if rng.random() < 0.6 else 86
    flat[y : y + 150] = picture
    for edge in (y - 5, y + 150):
        flat[edge : edge + 5] = p.paper
    base = 158 if y > 200 else 318
    ink = p.paper if sum(main) < 430 else p.ink
    font = int(rng.integers(3))
    text(flat, a.title[0], (210, base - 28), 190, ink, font=font, weight=2.0, height=40)
    text(
        flat,
        a.title[1],
        (210, base + 24),
        170,
        ink,
        font=4 if rng.random() < 0.4 else font,
        weight=1.8,
        height=34,
    )
    shape(flat, ellipse_points((210, y + 75), (62, 56), n=40), p.paper)
    draw_motif(flat, a.emblem(), (210, y + 75), 46, (main, third, p.ink), mirrored=a.mirrored)
    text(flat, f"{a.number} ml", (210, 412 - band), 60, ink, height=15, weight=1.4)
    paragraph(flat, a.print(18), (66, base - 40, 116, base + 40), 6, ink)
    bars = np.cumsum(rng.integers(2, 6, 12))
    rectangle(flat, (310, base - 34, 312 + int(bars[-1]), base + 34), (250, 250, 250))
    for x in bars[:-1]:
        rectangle(flat, (310 + int(x), base - 30, 311 + int(x), base + 28), (20, 20, 20))
    wrapped = shade(_cylinder(flat, w, 16), np.broadcast_to(_roundness(w), (430, w)).astype(np.float32))
    rgb = np.zeros((h, w, 3), np.uint8)
    metal = np.clip(_roundness(w) * 190, 0, 255).astype(np.uint8)
    rgb[:] = metal[None, :, None]
    rgb[40:470] = wrapped
    neck = [(0, 62), (16, 34), (w - 17, 34), (w - 1, 62), (w - 1, 452), (w - 20, 486), (19, 486), (0, 452)]
    alpha = np.zeros((h, w), np.uint8)
    shape(alpha, neck, 255)
    top, base_ring = (
        ellipse_points((w / 2, 34), (w / 2 - 16, 18), n=50),
        ellipse_points((w / 2, 486), (w / 2 - 20, 16), n=50),
    )
    shape(alpha, top, 255)
    shape(alpha, base_ring, 255)
    shape(rgb, top, (206, 210, 214))
    shape(rgb, ellipse_points((w / 2, 36), (w / 2 - 26, 13), n=50), (150, 154, 160))
    shape(rgb, ellipse_points((w / 2, 38), (26, 7), n=30), (214, 218, 222))
    shape(rgb, ellipse_points((w / 2 + 8, 38), (8, 3), n=20), (90, 92, 96))
    stroke(rgb, [(4, 60), (w / 2, 70), (w - 5, 60)], (160, 162, 166), 2)
    return finish(rgb, alpha, bevel=0.004, gloss=0.06)
