"""Printed pictures: book, trading card, stamp, framed painting."""

from __future__ import annotations

import numpy as np

from ilias_fast.datasets.generate.drawing import (
    Image,
    Mask,
    disc,
    fractal,
    lay,
    mix,
    paragraph,
    pattern,
    rectangle,
    relief,
    ring,
    rounded_mask,
    shade,
    stroke,
    text,
)
from ilias_fast.datasets.generate.motifs import MOTIFS, draw_motif, make_motif
from ilias_fast.datasets.generate.sprites import Attributes, finish

__all__ = ["book", "card", "painting", "stamp"]


def book(a: Attributes) -> tuple[Image, Mask]:
    """Hardcover: cloth spine, title, picture, author, a seal with the emblem, page edges."""
    h, w = 512, 372
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    rgb = np.empty((h, w, 3), np.uint8)
    rgb[:] = main
    style = int(rng.integers(3))
    if style == 0:
        lay(
            rgb,
            pattern(a.pattern, h - 20, w - 60, 26, (main, mix(main, p.ink, 0.18), mix(main, p.paper, 0.2))),
            46,
            10,
        )
    top = 40 if rng.random() < 0.6 else 356
    picture_y = 146 if top == 40 else 40
    picture_h, picture_w = 288, 270
    rectangle(rgb, (58, picture_y - 6, 62 + picture_w + 4, picture_y + picture_h + 6), p.paper)
    lay(rgb, a.illustration(picture_h, picture_w), 63, picture_y)
    ink = p.paper if sum(main) < 430 else p.ink
    if style:
        rectangle(
            rgb,
            (58, top - 12, 338, top + 94),
            mix(main, p.ink, 0.25) if ink == p.paper else mix(main, p.paper, 0.4),
        )
    font = int(rng.integers(3))
    text(rgb, a.title[0], (198, top + 18), 250, ink, font=font, weight=1.5, height=36)
    text(rgb, a.title[1], (198, top + 62), 250, ink, font=font, weight=1.5, height=36)
    text(rgb, " ".join(a.print(4)).upper(), (198, 470), 220, ink, font=3, height=14)
    rectangle(rgb, (50, 14, w - 22, h - 26), ink, 2)
    seal = (float(rng.choice([96, 300])), picture_y + picture_h - 30.0)
    disc(rgb, seal, 44, p.ink)
    disc(rgb, seal, 40, third)
    draw_motif(rgb, a.emblem(), seal, 30, (p.paper, second, p.ink))
    rgb[:, :38] = mix(second, p.ink, 0.25)
    for y in (40, 52, 440, 452):
        rectangle(rgb, (0, y, 37, y + 5), p.paper if y % 8 else third)
    crease = np.ones((h, w), np.float32)
    crease[:, 36:48] = np.linspace(0.55, 1.0, 12, dtype=np.float32)
    crease[:, :36] *= np.linspace(0.75, 1.08, 36, dtype=np.float32)
    rgb = shade(rgb, crease)
    for i in range(10):
        tone = (236, 226, 204) if i % 3 else (196, 184, 160)
        rgb[:, w - 10 + i] = tone
        rgb[h - 12 + i, 6:] = tone
    return finish(rgb, rounded_mask(h, w, (1, 1, w - 2, h - 2), 7), grain=a.layout)


def card(a: Attributes) -> tuple[Image, Mask]:
    """Trading card: name, points, picture, emblem, powers in small print, number of the series."""
    h, w = 512, 366
    rng, p = a.rng(), a.colours
    main, second, third = p.three
    rgb = np.empty((h, w, 3), np.uint8)
    rgb[:] = mix(second, p.paper, 0.1)
    lay(
        rgb,
        pattern(
            a.pattern,
            h - 36,
            w - 36,
            22,
            (mix(main, p.paper, 0.35), mix(main, p.paper, 0.22), mix(main, p.paper, 0.5)),
        ),
        18,
        18,
    )
    rectangle(rgb, (18, 18, w - 18, h - 18), p.ink, 3)
    rectangle(rgb, (28, 28, w - 28, 70), p.paper)
    text(
        rgb,
        f"{a.title[0].title()} {a.title[1].title()}",
        (150, 48),
        220,
        p.ink,
        font=int(rng.integers(3)),
        weight=1.3,
        height=22,
    )
    text(rgb, str(a.number), (w - 68, 48), 56, mix(main, p.ink, 0.3), weight=1.8, height=24)
    powers, frame = (336, 80) if rng.random() < 0.6 else (84, 222)
    rectangle(rgb, (30, frame, w - 31, frame + 221), p.ink)
    lay(rgb, a.illustration(212, w - 70), 35, frame + 5)
    icon = (float(rng.uniform(60, w - 60)), frame + float(rng.choice([214, 20])))
    disc(rgb, icon, 40, p.ink)
    disc(rgb, icon, 36, third)
    draw_motif(rgb, a.emblem(), icon, 28, (p.paper, main, p.ink))
    rectangle(rgb, (30, powers, w - 31, powers + 104), mix(p.paper, main, 0.12))
    for row in range(2):
        y = powers + 18 + 50 * row
        token = make_motif(list(MOTIFS)[int(rng.integers(len(MOTIFS)))], rng)
        for i in range(int(rng.integers(1, 4))):
            draw_motif(
                rgb, token, (46 + 18 * i, y), 9, ((main, second, third)[(i + row) % 3], p.paper, p.ink)
            )
        name = a.print(8)[row * 3 : row * 3 + 2]
        text(rgb, " ".join(name).title(), (190, y), 140, p.ink, weight=1.3, height=17)
        text(rgb, str(int(rng.integers(1, 13)) * 10), (w - 58, y), 40, p.ink, weight=1.6, height=19)
        paragraph(
            rgb,
            a.print(26)[row * 9 + 8 : row * 9 + 17],
            (44, y + 12, w - 44, y + 34),
            1,
            mix(p.ink, p.paper, 0.2),
        )
    rarity, pitch = make_motif(list(MOTIFS)[int(rng.integers(len(MOTIFS)))], rng), float(rng.uniform(22, 34))
    for i in range(int(rng.integers(1, 6))):
        draw_motif(rgb, rarity, (52 + pitch * i, 466), 11, (third, p.paper, p.ink))
    text(rgb, f"No. {a.number} / 990", (w - 100, 466), 120, p.ink, font=3, height=15)
    return finish(rgb, rounded_mask(h, w, (1, 1, w - 2, h - 2), 18), bevel=0.006, gloss=0.18)


def stamp(a: Attributes) -> tuple[Image, Mask]:
    """Postage stamp: perforated edge, picture, value, issuer, a cancellation mark."""
    rng, p = a.rng(), a.colours
    upright = rng.random() < 0.5
    h, w = (512, 416) if upright else (416, 512)
    main, second, third = p.three
    rgb = np.empty((h, w, 3), np.uint8)
    rgb[:] = mix(p.paper, (255, 255, 255), 0.5)
    rectangle(rgb, (36, 36, w - 36, h - 36), mix(main, p.ink, 0.2))
    lay(rgb, a.illustration(h - 136, w - 84), 42, 42)
    text(rgb, str(a.number), (82, h - 64), 70, p.paper, font=1, weight=1.8, height=40)
    text(
        rgb,
        f"{a.title[0]} {a.title[1]}",
        (w / 2 + 40, h - 72),
        w - 190,
        p.paper,
        font=int(rng.integers(3)),
        weight=1.4,
        height=24,
    )
    text(rgb, " ".join(a.print(5)), (w / 2 + 40, h - 48), w - 210, mix(p.paper, main, 0.2), font=3, height=12)
    corner = (w - 86.0, 86.0)
    disc(rgb, corner, 40, p.paper)
    draw_motif(rgb, a.emblem(), corner, 32, (second, third, p.ink), mirrored=a.mirrored)
    mark = np.array([rng.uniform(0.25, 0.75) * w, rng.uniform(0.3, 0.7) * h])
    soot = mix(p.ink, (60, 60, 60), 0.5)
    reach, lines, swing, turns = (
        rng.uniform(44, 70),
        int(rng.integers(2, 7)),
        rng.uniform(2, 9),
        rng.uniform(6, 26),
    )
    for share in (1.0, rng.uniform(0.8, 0.94), rng.uniform(0.4, 0.7)):
        ring(rgb, mark, reach * share, soot, 2)
    for i in range(lines):
        t = np.linspace(0, 1, 40)
        level = mark[1] + reach * (1.2 * (i + 0.5) / lines - 0.6)
        stroke(rgb, np.stack([mark[0] + reach + 150 * t, level + swing * np.sin(turns * t)], axis=1), soot, 2)
    text(
        rgb, str(1900 + int(rng.integers(100))), mark, reach * 0.7, soot, font=int(rng.integers(3)), height=14
    )
    alpha = np.full((h, w), 255, np.uint8)
    pitch = float(rng.uniform(22, 34))
    for x in np.linspace(0, w, round(w / pitch) + 1):
        disc(alpha, (x, 0), 8, 0)
        disc(alpha, (x, h), 8, 0)
    for y in np.linspace(0, h, round(h / pitch) + 1):
        disc(alpha, (0, y), 8, 0)
        disc(alpha, (w, y), 8, 0)
    return finish(rgb, alpha, bevel=0.004, gloss=0.06, grain=a.layout)


def painting(a: Attributes) -> tuple[Image, Mask]:
    """Picture in a carved frame with a painterly surface, a small signature and a brass plate."""
    rng, p = a.rng(), a.colours
    h, w = (512, 420) if rng.random() < 0.4 else (400, 512)
    wood = ((122, 84, 46), (190, 150, 70), (54, 40, 34), (150, 152, 150), (176, 120, 70))[
        int(rng.integers(5))
    ]
    rgb = np.empty((h, w, 3), np.uint8)
    rgb[:] = wood
    width = int(rng.integers(44, 58))
    rgb = shade(rgb, 1 + 0.35 * fractal(rng, h, w, 14, 3, 3.0))
    profile = np.zeros((h, w), np.uint8)
    for i, level in enumerate((60, 150, 255, 170, 90)):
        inset = i * width // 6
        rectangle(profile, (inset, inset, w - 1 - inset, h - 1 - inset), level)
    step, bead = float(rng.uniform(18, 60)), float(rng.uniform(4, 9))
    carving = make_motif(list(MOTIFS)[int(rng.integers(len(MOTIFS)))], rng) if rng.random() < 0.5 else None
    along = [
        ((x, y), 0.0)
        for x in np.arange(width / 2, w - width / 3, step)
        for y in (width * 0.42, h - width * 0.42)
    ]
    along += [
        ((x, y), 1.57)
        for y in np.arange(width / 2, h - width / 3, step)
        for x in (width * 0.42, w - width * 0.42)
    ]
    for place, turn in along:
        if carving is None:
            disc(profile, place, bead, 80)
        else:
            draw_motif(profile, carving, place, bead * 2, (80, 200, 40), angle=turn)
    rgb = shade(rgb, relief(profile, 0.006, 1.6))
    inner = width + 6
    rectangle(rgb, (width - 4, width - 4, w - width + 3, h - width + 3), mix(p.paper, wood, 0.2))
    art = a.illustration(h - 2 * inner, w - 2 * inner)
    strokes = fractal(np.random.default_rng(a.art), art.shape[0], art.shape[1], 7, 2, 2.0)
    art = shade(
        art,
        np.clip(1 + 0.25 * strokes + 0.35 * (relief(strokes * 255, 0.002, 1.2) - 1), 0.6, 1.4).astype(
            np.float32
        ),
    )
    text(art, a.title[1].title(), (art.shape[1] - 46, art.shape[0] - 14), 70, p.ink, font=4, height=16)
    lay(rgb, art, inner, inner)
    rectangle(rgb, (w / 2 - 64, h - width + 8, w / 2 + 64, h - 8), (206, 172, 92))
    text(rgb, f"{a.title[0]} {a.title[1]}", (w / 2, h - width / 2 - 5), 110, (60, 40, 12), height=13)
    text(rgb, f"{1400 + a.number}", (w / 2, h - width / 2 + 11), 60, (60, 40, 12), height=10)
    return finish(rgb, np.full((h, w), 255, np.uint8), bevel=0.006, gloss=0.1)
