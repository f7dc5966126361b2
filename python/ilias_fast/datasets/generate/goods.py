"""Labelled goods: street sign, chocolate bar, cassette."""

from __future__ import annotations

import numpy as np

from ilias_fast.datasets.generate.drawing import (
    Image,
    Mask,
    disc,
    ellipse_points,
    fractal,
    lay,
    mix,
    pattern,
    rectangle,
    relief,
    rounded_mask,
    shade,
    shape,
    stroke,
    text,
)
from ilias_fast.datasets.generate.motifs import draw_motif
from ilias_fast.datasets.generate.sprites import Attributes, finish

__all__ = ["bar", "cassette", "sign"]


def sign(a: Attributes) -> tuple[Image, Mask]:
    """Street sign: enamel board of several outlines with rim, emblem, two lines of text and bolts."""
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    kind = int(rng.integers(4))
    h, w = ((512, 512), (400, 512), (512, 430), (340, 512))[kind]
    if kind == 0:
        outline = ellipse_points((w / 2, h / 2), (250, 250), n=90)
    elif kind == 2:
        outline = np.array(
            [(10, 10), (w - 10, 10), (w - 10, h * 0.62), (w / 2, h - 8), (10, h * 0.62)], np.float64
        )
    elif kind == 1:
        outline = np.array(
            [(70, 8), (w - 70, 8), (w - 8, h / 2), (w - 70, h - 8), (70, h - 8), (8, h / 2)], np.float64
        )
    else:
        outline = np.array([(8, 8), (w - 8, 8), (w - 8, h - 8), (8, h - 8)], np.float64)
    centre = np.array([w / 2, h * (0.46 if kind == 2 else 0.5)])
    rgb = np.zeros((h, w, 3), np.uint8)
    for share, colour in ((1.0, p.paper), (0.96, main), (0.88, p.paper), (0.865, mix(main, p.ink, 0.1))):
        shape(rgb, centre + (outline - centre) * share, colour)
    light = p.paper
    if kind == 3:
        draw_motif(rgb, a.emblem(), (104, h / 2), 84, (light, second, p.ink), mirrored=a.mirrored)
        box, lines = (w / 2 + 78, h / 2 - 24), (250.0, 56)
    else:
        y = h * 0.29
        draw_motif(
            rgb,
            a.emblem(),
            (w / 2, y),
            h * (0.19 if kind != 1 else 0.17),
            (light, second, p.ink),
            mirrored=a.mirrored,
        )
        box, lines = (w / 2, h * (0.62 if kind != 2 else 0.57)), (w * 0.6, 42)
    font = int(rng.integers(3))
    text(
        rgb,
        a.title[0],
        (box[0], box[1] - lines[1] * 0.7),
        lines[0],
        light,
        font=font,
        weight=1.7,
        height=lines[1],
    )
    text(
        rgb,
        a.title[1],
        (box[0], box[1] + lines[1] * 0.7),
        lines[0],
        light,
        font=font,
        weight=1.7,
        height=lines[1],
    )
    strip = box[1] + lines[1] * 1.25 + 24
    rectangle(rgb, (box[0] - lines[0] * 0.42, strip - 16, box[0] + lines[0] * 0.42, strip + 16), third)
    text(
        rgb,
        f"{a.number} m  {' '.join(a.print(2))}",
        (box[0], strip),
        lines[0] * 0.75,
        p.ink,
        weight=1.3,
        height=20,
    )
    slot = np.array([5.0, 3.0])
    for _ in range(int(rng.integers(1, 4))):
        bolt = centre + np.array((rng.choice([-1, 1]) * w * 0.34, rng.uniform(-0.12, 0.12) * h))
        disc(rgb, bolt, 9, (120, 122, 126))
        stroke(rgb, [bolt - slot, bolt + slot], (60, 60, 64), 2)
    for _ in range(int(rng.integers(3, 8))):
        spot = centre + rng.uniform(-0.4, 0.4, 2) * (w, h)
        blob = ellipse_points(spot, rng.uniform(4, 13, 2), rng.uniform(0, 3), 12) + rng.uniform(
            -2, 2, (12, 2)
        )
        shape(rgb, blob, (138, 84, 52))
    alpha = np.zeros((h, w), np.uint8)
    shape(alpha, outline, 255)
    return finish(rgb, alpha, gloss=0.25)


def bar(a: Attributes) -> tuple[Image, Mask]:
    """Chocolate bar in a foil wrapper with crimped ends."""
    h, w = 236, 512
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    rgb = np.empty((h, w, 3), np.uint8)
    rgb[:] = main
    lay(rgb, pattern(a.pattern, 64, w, float(rng.uniform(20, 30)), (second, third, p.paper)), 0, h - 74)
    flip = rng.random() < 0.5
    picture = a.illustration(148, 132)
    px = 46 if flip else w - 46 - 132
    rectangle(rgb, (px - 4, 12, px + 135, 167), p.paper)
    lay(rgb, picture, px, 16)
    cx = 318 if flip else 194
    ink = p.paper if sum(main) < 430 else p.ink
    text(rgb, a.title[0], (cx + 3, 51), 240, mix(main, p.ink, 0.6), font=1, weight=2.2, height=44)
    text(rgb, a.title[0], (cx, 48), 240, ink, font=1, weight=2.2, height=44)
    text(rgb, a.title[1].lower(), (cx, 96), 200, third, font=4, weight=2.2, height=34)
    text(rgb, " ".join(a.print(5)), (cx, 132), 220, ink, font=3, height=13)
    seal = (w * (0.9 if flip else 0.12), 150.0)
    disc(rgb, seal, 38, p.paper)
    draw_motif(rgb, a.emblem(), seal, 32, (main, second, p.ink), mirrored=a.mirrored)
    text(rgb, f"{a.number} g", (w / 2, h - 18), 60, p.ink, height=16, weight=1.5)
    height = np.zeros((h, w), np.float32)
    for x in (*range(4, 30, 6), *range(w - 30, w - 2, 6)):
        height[:, x : x + 3] = 120
    height += 70 * fractal(rng, h, w, 60, 3, 0.7)
    rgb = shade(rgb, relief(height, 0.004, 1.4))
    alpha = np.zeros((h, w), np.uint8)
    teeth = np.arange(6, h - 6, 12.0)
    left = [(6 if i % 2 else 0, y) for i, y in enumerate(teeth)]
    right = [(w - 7 if i % 2 else w - 1, y) for i, y in enumerate(teeth[::-1])]
    shape(alpha, [*left, (30, h - 5), (w - 30, h - 5), *right, (w - 30, 5), (30, 5)], 255)
    return finish(rgb, alpha, gloss=0.2)


def cassette(a: Attributes) -> tuple[Image, Mask]:
    """Audio cassette: shell, printed label with emblem and handwriting, reels, screws."""
    h, w = 330, 512
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    shell = (p.ink, mix(p.paper, p.ink, 0.12), mix(main, p.ink, 0.45))[int(rng.integers(3))]
    rgb = np.empty((h, w, 3), np.uint8)
    rgb[:] = shell
    label = pattern(
        a.pattern,
        200,
        440,
        float(rng.uniform(24, 40)),
        (mix(main, p.paper, 0.15), main, mix(second, p.paper, 0.2)),
    )
    label[:74] = p.paper
    for i in range(3):
        label[80 + 9 * i : 85 + 9 * i] = (second, third, p.ink)[i]
    label[186:] = third
    text(
        label,
        f"{a.title[0].title()} {a.title[1].title()}",
        (244, 28),
        320,
        p.ink,
        font=4,
        weight=1.3,
        height=32,
    )
    stroke(label, [(70, 48), (430, 48)], mix(p.paper, p.ink, 0.4), 1)
    text(label, " ".join(a.print(7)), (250, 60), 330, mix(p.ink, p.paper, 0.2), font=3, height=12)
    text(label, "AB"[a.number % 2], (40, 38), 40, second, weight=2.0, height=40)
    lay(rgb, label, 36, 28)
    hub_y = 152
    apart, window = float(rng.uniform(62, 92)), float(rng.uniform(20, 52))
    rectangle(rgb, (136, hub_y - 36, w - 136, hub_y + 36), p.ink)
    rectangle(rgb, (w / 2 - window, hub_y - 24, w / 2 + window, hub_y + 24), mix(shell, (90, 60, 40), 0.6))
    disc(rgb, (214, hub_y), float(rng.uniform(24, 40)), (58, 40, 32))
    teeth, turn = int(rng.integers(3, 9)), rng.uniform(0, 2)
    for x in (w / 2 - apart, w / 2 + apart):
        disc(rgb, (x, hub_y), 30, p.paper)
        disc(rgb, (x, hub_y), 22, p.ink)
        for i in range(teeth):
            t = 2 * np.pi * i / teeth + turn
            disc(rgb, (x + 20 * np.cos(t), hub_y + 20 * np.sin(t)), 5, p.paper)
    for x in (88, w - 88):
        disc(rgb, (x, 158), 36, p.paper)
        draw_motif(rgb, a.emblem(), (x, 158), 30, (main, second, p.ink), mirrored=a.mirrored ^ (x > 100))
    text(rgb, f"C-{a.number}", (w / 2, 222), 80, p.ink, weight=1.6, height=14)
    shape(rgb, [(110, h), (130, 250), (w - 130, 250), (w - 110, h)], mix(shell, p.paper, 0.15))
    for x, y in ((18, 18), (w - 18, 18), (18, h - 18), (w - 18, h - 18), (w / 2, 270)):
        disc(rgb, (x, y), 8, (150, 150, 152))
        t = rng.uniform(0, 3)
        stroke(
            rgb,
            [(x - 6 * np.cos(t), y - 6 * np.sin(t)), (x + 6 * np.cos(t), y + 6 * np.sin(t))],
            (60, 60, 60),
            2,
        )
    for x in (150, 200, w - 200, w - 150):
        disc(rgb, (x, 300), 9, (24, 24, 26))
    return finish(rgb, rounded_mask(h, w, (1, 1, w - 2, h - 2), 16), gloss=0.16, bevel=0.008)
