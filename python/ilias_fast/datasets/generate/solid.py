"""Things with a body: coin, pin badge, circuit board, toy van, quilt."""

from __future__ import annotations

import numpy as np

from ilias_fast.datasets.generate.drawing import (
    PATTERNS,
    Image,
    Mask,
    cv,
    disc,
    fractal,
    mix,
    paragraph,
    pattern,
    rectangle,
    relief,
    ring,
    rounded_mask,
    shade,
    shape,
    stroke,
    text,
    text_on_circle,
)
from ilias_fast.datasets.generate.motifs import MOTIFS, draw_motif, make_motif
from ilias_fast.datasets.generate.palettes import METALS
from ilias_fast.datasets.generate.sprites import Attributes, finish

__all__ = ["board", "coin", "metal", "pin", "quilt", "van"]


def coin(a: Attributes) -> tuple[Image, Mask]:
    """Commemorative coin: struck relief of emblem, lettering and beads."""
    n = 512
    rng = a.rng()
    c = (n / 2, n / 2)
    height = np.zeros((n, n), np.uint8)
    disc(height, c, 252, 190)
    disc(height, c, 236, 90)
    beads, rim = int(rng.integers(24, 72)), make_motif(tuple(MOTIFS)[int(rng.integers(len(MOTIFS)))], rng)
    beaded = rng.random() < 0.4
    for i in range(beads):
        t = 2 * np.pi * i / beads
        place = (n / 2 + 226 * np.cos(t), n / 2 + 226 * np.sin(t))
        if beaded:
            disc(height, place, 6, 200)
        elif beads < 48:
            draw_motif(height, rim, place, 13, (200, 120, 60), angle=-t - np.pi / 2)
    text_on_circle(height, f"{a.title[0]} {a.title[1]}", c, 192, 32, 220)
    text_on_circle(height, str(1000 + a.number), c, 192, 36, 220, below=True)
    ring(height, c, 160, 190, int(rng.integers(2, 9)))
    picture = cv().cvtColor(a.illustration(300, 300), cv().COLOR_RGB2GRAY)
    mask = np.zeros((300, 300), np.uint8)
    disc(mask, (150, 150), 150, 255)
    field = cv().addWeighted(picture, 0.7, picture, 0.0, 30.0)
    cv().copyTo(field, mask, height[106:406, 106:406])
    draw_motif(height, a.emblem(), c, 112, (235, 150, 60), mirrored=a.mirrored)
    for i in range(int(rng.integers(3, 7))):
        t = rng.uniform(0, 2 * np.pi)
        draw_motif(
            height,
            a.emblem(),
            (n / 2 + 136 * np.cos(t), n / 2 + 136 * np.sin(t)),
            20,
            (200, 120, 60),
            angle=i,
        )
    light = relief(height, 0.0062, 1.5)
    polish = 0.5 + 0.4 * fractal(rng, n, n, 220, 3) + 0.14 * (height.astype(np.float32) / 255 - 0.5)
    share = np.clip(polish + (light - 1) * 0.55, 0, 1)[..., None]
    dark, bright = (np.asarray(tone, np.float32) for tone in METALS[metal(a)])
    rgb = (dark + share * (bright - dark)).astype(np.uint8)
    alpha = np.zeros((n, n), np.uint8)
    disc(alpha, c, 253, 255)
    return finish(rgb, alpha, bevel=0.008, gloss=0.22)


def metal(a: Attributes) -> str:
    """Name of the metal a coin or pin is made of."""
    return tuple(METALS)[a.palette % len(METALS)]


def pin(a: Attributes) -> tuple[Image, Mask]:
    """Enamel pin: gilt outline, coloured cells, emblem, and a ribbon with the title."""
    n = 512
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    t = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    kind = int(rng.integers(4))
    lobes = int(rng.integers(5, 11))
    radius = (
        np.full(180, 236.0),
        214 + 24 * np.cos(lobes * t),
        250 - 46 * np.abs(np.sin(lobes * t / 2)),
        228 / np.maximum(np.abs(np.cos(t)) ** 3 + np.abs(np.sin(t)) ** 3, 0.5) ** (1 / 3),
    )[kind]
    outline = np.stack([n / 2 + radius * np.cos(t), n / 2 + radius * np.sin(t)], axis=1)
    dark, bright = METALS[metal(a)]
    gilt = mix(dark, bright, 0.72)
    c = np.array([n / 2, n / 2])
    rgb = np.zeros((n, n, 3), np.uint8)
    shape(rgb, outline, gilt)
    shape(rgb, c + (outline - c) * 0.94, main)
    spokes = int(rng.integers(8, 15))
    for i in range(spokes):
        first, last = 2 * np.pi * i / spokes, 2 * np.pi * (i + 0.5) / spokes
        wedge = [
            c,
            c + 190 * np.array([np.cos(first), np.sin(first)]),
            c + 190 * np.array([np.cos(last), np.sin(last)]),
        ]
        shape(rgb, wedge, mix(main, second, 0.55))
        disc(
            rgb, c + 182 * np.array([np.cos(first + 0.12), np.sin(first + 0.12)]), 9, (third, p.paper)[i % 2]
        )
    picture = a.illustration(270, 270)
    mask = np.zeros((270, 270), np.uint8)
    disc(mask, (135, 135), 132, 255)
    cv().copyTo(picture, mask, rgb[105:375, 121:391])
    for width, r in ((7, 134), (3, 150)):
        ring(rgb, (n / 2, 240), r, gilt, width)
    draw_motif(rgb, a.emblem(), (n / 2, 226), 84, (gilt, gilt, gilt), mirrored=a.mirrored)
    draw_motif(rgb, a.emblem(), (n / 2, 226), 77, (second, p.paper, p.ink), mirrored=a.mirrored)
    ribbon = np.array([(40, 356), (472, 356), (440, 396), (472, 440), (40, 440), (72, 396)], np.float64)
    shape(rgb, ribbon, gilt)
    shape(rgb, [(66, 364), (446, 364), (446, 432), (66, 432)], third)
    text(rgb, f"{a.title[0]} {a.title[1]}", (n / 2, 388), 350, p.ink, font=1, weight=2.0, height=28)
    text(rgb, f"{' '.join(a.print(2))} {a.number}", (n / 2, 420), 200, p.ink, height=15)
    alpha = np.zeros((n, n), np.uint8)
    shape(alpha, outline, 255)
    shape(alpha, ribbon, 255)
    grey = cv().cvtColor(rgb, cv().COLOR_RGB2GRAY)
    rgb = shade(rgb, relief(grey, 0.0012, 1.2))
    return finish(rgb, alpha, gloss=0.25, bevel=0.012)


def board(a: Attributes) -> tuple[Image, Mask]:
    """Circuit board: traces, chips with print, small parts, sockets, mounting holes."""
    h, w = 380, 512
    rng, p = a.rng(), a.colours
    ground = ((22, 92, 58), (22, 62, 120), (34, 34, 38), (128, 26, 34), (92, 40, 110))[a.palette % 5]
    trace = mix(ground, (220, 220, 160), 0.25)
    silk, gold = (236, 238, 232), (214, 176, 84)
    rgb = np.empty((h, w, 3), np.uint8)
    rgb[:] = ground
    for _ in range(46):
        x, y = rng.uniform(10, w - 10), rng.uniform(10, h - 10)
        points = [(x, y)]
        for _ in range(3):
            step = rng.uniform(20, 90) * rng.choice([-1, 1])
            if rng.random() < 0.5:
                x += step
            else:
                y += step
            points.append((x, y))
            x, y = x + step * 0.2, y + abs(step) * 0.2
            points.append((x, y))
        stroke(rgb, points, trace, 3)
        disc(rgb, points[0], 5, gold)
        disc(rgb, points[0], 2, ground)
    for _ in range(26):
        x, y = rng.uniform(24, w - 50), rng.uniform(24, h - 40)
        if rng.random() < 0.5:
            rectangle(rgb, (x, y, x + 22, y + 10), (200, 200, 204))
            rectangle(rgb, (x + 5, y, x + 17, y + 10), (46, 42, 40) if rng.random() < 0.6 else (180, 140, 96))
        else:
            rectangle(rgb, (x, y, x + 10, y + 22), (200, 200, 204))
            rectangle(rgb, (x, y + 5, x + 10, y + 17), (46, 42, 40))
        text(
            rgb,
            f"{'RCLQ'[int(rng.integers(4))]}{int(rng.integers(99))}",
            (x + 12, y + 31),
            20,
            silk,
            font=3,
            height=8,
        )
    slots = [(60, 56), (300, 50), (70, 216), (292, 226), (190, 130)]
    for i in rng.permutation(len(slots))[:4]:
        x, y = slots[int(i)]
        cw, ch = int(rng.integers(64, 132)), int(rng.integers(56, 98))
        for j in range(6):
            rectangle(rgb, (x - 8, y + 6 + j * ch / 6.5, x + cw + 8, y + 11 + j * ch / 6.5), (206, 208, 212))
            rectangle(rgb, (x + 6 + j * cw / 6.5, y - 8, x + 11 + j * cw / 6.5, y + ch + 8), (206, 208, 212))
        rectangle(rgb, (x, y, x + cw, y + ch), (30, 30, 34))
        rectangle(rgb, (x, y, x + cw, y + ch), (66, 66, 72), 2)
        disc(rgb, (x + 11, y + 11), 4, (90, 90, 96))
        paragraph(
            rgb,
            [a.title[int(i) % 2], f"X{a.number * 7}", *a.print(12)[int(i) : int(i) + 2]],
            (x + 10, y + 18, x + cw - 10, y + ch - 8),
            3,
            (190, 192, 196),
        )
    for _ in range(int(rng.integers(3, 6))):
        at = (rng.uniform(50, w - 50), rng.uniform(50, h - 50))
        disc(rgb, at, 21, (24, 26, 32))
        disc(rgb, at, 18, (176, 180, 186))
        stroke(rgb, [(at[0] - 12, at[1]), (at[0] + 12, at[1])], (110, 112, 118), 2)
        stroke(rgb, [(at[0], at[1] - 12), (at[0], at[1] + 12)], (110, 112, 118), 2)
    for x in range(96, 420, 18):
        rectangle(rgb, (x, h - 26, x + 10, h), gold)
    spot = (w - 76.0, h - 92.0) if rng.random() < 0.5 else (76.0, h - 92.0)
    disc(rgb, spot, 46, ground)
    draw_motif(rgb, a.emblem(), spot, 42, (silk, p.three[0], p.three[1]), mirrored=a.mirrored)
    text(rgb, f"{a.title[0]}-{a.number}", (w / 2, 22), 190, silk, weight=1.5, height=18)
    for x in (22, w - 22):
        for y in (22, h - 22):
            disc(rgb, (x, y), 14, gold)
            disc(rgb, (x, y), 8, (18, 18, 20))
    grey = cv().cvtColor(rgb, cv().COLOR_RGB2GRAY)
    return finish(
        shade(rgb, relief(grey, 0.0015, 1.0)), rounded_mask(h, w, (1, 1, w - 2, h - 2), 12), gloss=0.14
    )


def van(a: Attributes) -> tuple[Image, Mask]:
    """Toy delivery van seen from the side, with the company's picture, name and emblem."""
    h, w = 330, 512
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    nose = float(rng.uniform(0.0, 60.0))
    body = [(14, 30), (346, 30), (392, 40), (444 + nose / 6, 128), (500, 150), (506, 250), (14, 250)]
    rgb = np.zeros((h, w, 3), np.uint8)
    alpha = np.zeros((h, w), np.uint8)
    shape(alpha, body, 255)
    rgb[:] = main
    rectangle(rgb, (0, 186, w, 222), second)
    rectangle(rgb, (0, 226, w, 234), p.paper)
    rgb[236:262] = mix(main, p.ink, 0.4)
    rectangle(rgb, (26, 42, 344, 178), p.paper)
    rgb[46:176, 30:342] = a.illustration(130, 312)
    rectangle(rgb, (52, 78, 250, 144), p.paper)
    rectangle(rgb, (52, 78, 250, 144), p.ink, 2)
    font = int(rng.integers(3))
    text(rgb, a.title[0], (150, 98), 180, mix(main, p.ink, 0.3), font=font, weight=1.8, height=24)
    text(rgb, a.title[1], (150, 128), 160, p.ink, font=font, weight=1.8, height=20)
    disc(rgb, (296, 112), 48, p.ink)
    disc(rgb, (296, 112), 44, third)
    draw_motif(rgb, a.emblem(), (296, 112), 36, (p.paper, main, p.ink), mirrored=a.mirrored)
    text(
        rgb,
        f"tel {a.number}-{a.number * 3 % 997}  {' '.join(a.print(3))}",
        (170, 204),
        270,
        p.ink,
        weight=1.2,
        height=17,
    )
    shape(rgb, [(362, 56), (388, 56), (426, 128), (362, 128)], (150, 196, 214))
    shape(rgb, [(366, 60), (380, 60), (396, 124), (380, 124)], (206, 232, 240))
    stroke(rgb, [(354, 44), (354, 244), (444, 244), (446, 132)], mix(main, p.ink, 0.5), 2)
    rectangle(rgb, (366, 146, 390, 152), p.ink)
    disc(rgb, (492, 182), 13, (250, 232, 160))
    rectangle(rgb, (14, 160, 24, 186), (206, 40, 40))
    rectangle(rgb, (460, 226, 508, 242), (180, 184, 188))
    spokes = int(rng.integers(5, 9))
    for x in (112, 410):
        disc(rgb, (x, 250), 62, mix(main, p.ink, 0.7))
        for r, tone in ((54, (28, 28, 32)), (36, (196, 198, 202)), (30, third), (12, p.paper)):
            disc(rgb, (x, 258), r, tone)
        disc(alpha, (x, 258), 54, 255)
        for i in range(spokes):
            t = 2 * np.pi * i / spokes + 0.2
            disc(rgb, (x + 22 * np.cos(t), 258 + 22 * np.sin(t)), 4, p.ink)
    return finish(rgb, alpha, gloss=0.2)


def quilt(a: Attributes) -> tuple[Image, Mask]:
    """Patchwork: blocks of patterns and motifs, stitched, with a fringe or a hem."""
    rng, p = a.rng(), a.colours
    columns, rows = int(rng.integers(3, 5)), int(rng.integers(3, 5))
    size = 460 // max(columns, rows)
    h, w = rows * size + 48, columns * size + 48
    ground = [p.paper, mix(p.paper, p.ink, 0.75), *p.three]
    rgb = np.empty((h, w, 3), np.uint8)
    rgb[:] = mix(p.three[0], p.ink, 0.3)
    emblem = a.emblem()
    own = PATTERNS.index(a.pattern)
    for row in range(rows):
        for column in range(columns):
            x, y = 24 + column * size, 24 + row * size
            order = rng.permutation(5)
            first, second, third = (ground[int(i)] for i in order[:3])
            kind = rng.random()
            if kind < 0.4:
                rectangle(rgb, (x, y, x + size, y + size), first)
                draw_motif(
                    rgb,
                    emblem,
                    (x + size / 2, y + size / 2),
                    size * 0.4,
                    (second, third, ground[int(order[3])]),
                    angle=float(rng.integers(4)) * np.pi / 2,
                    mirrored=a.mirrored,
                )
            else:
                name = PATTERNS[(own + int(rng.integers(3))) % len(PATTERNS)]
                rgb[y : y + size, x : x + size] = pattern(
                    name, size, size, size / float(rng.integers(3, 6)), (first, second, third)
                )
            for k in range(3, size - 3, 10):
                for u, v in ((x + k, y + 4), (x + k, y + size - 5), (x + 4, y + k), (x + size - 5, y + k)):
                    horizontal = v in (y + 4, y + size - 5)
                    rectangle(
                        rgb, (u, v, u + (4 if horizontal else 0), v + (0 if horizontal else 4)), p.paper
                    )
    weave = pattern("checks", h, w, 3, ((235, 235, 235), (255, 255, 255), (245, 245, 245)))[..., 0]
    rgb = shade(rgb, (weave.astype(np.float32) / 250) * (1 + 0.16 * fractal(rng, h, w, 120, 3)))
    alpha = np.zeros((h, w), np.uint8)
    edge = 3 * np.sin(np.linspace(0, 24, 60)) + rng.uniform(-1, 1, 60)
    along_x, along_y = np.linspace(6, w - 6, 60), np.linspace(6, h - 6, 60)
    border = np.concatenate(
        [
            np.stack([along_x, 6 + edge], 1),
            np.stack([w - 6 + edge, along_y], 1),
            np.stack([along_x[::-1], h - 6 + edge], 1),
            np.stack([6 + edge, along_y[::-1]], 1),
        ]
    )
    shape(alpha, border, 255)
    return finish(rgb, alpha, bevel=0.006, gloss=0.06)
