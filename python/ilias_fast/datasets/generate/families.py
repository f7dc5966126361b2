"""The fifteen families of objects: taxonomy, descriptions, the details near-duplicates change."""

from __future__ import annotations

import numpy as np

from ilias_fast.datasets.generate import goods, printed, solid, vessels
from ilias_fast.datasets.generate.sprites import Attributes, Family, Sprite, random_attributes, vary

__all__ = ["FAMILIES", "draw_sprite", "near_duplicate", "new_attributes"]


def _name(a: Attributes) -> str:
    return f"“{a.title[0].title()} {a.title[1].title()}”"


def _colours(a: Attributes) -> str:
    names = a.colours.names
    return f"{names[2]}, {names[3]} and {names[4]}"


def _an(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


FAMILIES: tuple[Family, ...] = (
    Family(
        "book",
        ("media", "book", "other"),
        printed.book,
        lambda a: (
            f"A hardcover book titled {_name(a)} in {_colours(a)}, "
            f"with {a.theme} on its cover and a round seal showing {_an(a.motif)}."
        ),
        ("title", "motif", "art", "palette", "mirror"),
    ),
    Family(
        "trading card",
        ("toy", "trading", "card"),
        printed.card,
        lambda a: (
            f"A collectible trading card named {_name(a)}, number {a.number}, with a picture of "
            f"{a.theme}, {_an(a.motif)} icon and {_an(a.colours.names[3])} border."
        ),
        ("title", "motif", "art", "palette", "mirror"),
    ),
    Family(
        "stamp",
        ("media", "stamp", "other"),
        printed.stamp,
        lambda a: (
            f"A postage stamp of value {a.number} inscribed {_name(a)}, showing {a.theme} "
            f"in {_colours(a)}, with {_an(a.motif)} in the upper right corner."
        ),
        ("title", "motif", "art", "palette", "mirror"),
    ),
    Family(
        "sign",
        ("landmark", "sign", "other"),
        goods.sign,
        lambda a: (
            f"{_an(a.colours.names[2]).capitalize()} enamel street sign reading {_name(a)} with "
            f"{_an(a.motif)} and {_an(a.colours.names[4])} strip saying {a.number} m."
        ),
        ("title", "motif", "palette", "mirror"),
    ),
    Family(
        "painting",
        ("art", "painting", "other"),
        printed.painting,
        lambda a: (
            f"A framed painting of {a.theme} in {_colours(a)}, with a brass plate that reads {_name(a)}."
        ),
        ("art", "palette", "mirror", "layout"),
    ),
    Family(
        "chocolate bar",
        ("product", "food", "bar"),
        goods.bar,
        lambda a: (
            f"A chocolate bar in {_an(a.colours.names[2])} wrapper with the brand {_name(a)}, "
            f"a small picture of {a.theme}, {_an(a.motif)} seal and a strip of {a.pattern}."
        ),
        ("title", "motif", "art", "pattern", "palette", "mirror"),
    ),
    Family(
        "cassette",
        ("technology", "multimedia", "audio"),
        goods.cassette,
        lambda a: (
            f"An audio cassette with a handwritten label {_name(a)}, {_an(a.motif)} on either side of "
            f"the reels and {a.pattern} in {a.colours.names[2]} and {a.colours.names[3]}."
        ),
        ("title", "motif", "pattern", "palette"),
    ),
    Family(
        "mug",
        ("household", "tableware", "cup"),
        vessels.mug,
        lambda a: (
            f"A ceramic mug with the words {_name(a)}, bands of {a.pattern} in {a.colours.names[3]} and "
            f"{a.colours.names[4]}, and a print of {a.theme if vessels.pictured(a) else _an(a.motif)}."
        ),
        ("title", "motif", "art", "pattern", "palette"),
    ),
    Family(
        "plate",
        ("household", "tableware", "plate"),
        vessels.plate,
        lambda a: f"A round decorative plate in {_colours(a)} whose rim repeats {_an(a.motif)} motif.",
        ("motif", "art", "palette", "layout"),
    ),
    Family(
        "can",
        ("product", "drink", "other"),
        vessels.can,
        lambda a: (
            f"{_an(a.colours.names[2]).capitalize()} drink can of the brand {_name(a)} with a band showing "
            f"{a.theme}, {_an(a.motif)} emblem and {a.pattern} at the top and bottom."
        ),
        ("title", "motif", "art", "pattern", "palette", "mirror"),
    ),
    Family(
        "coin",
        ("toy", "trading", "coin"),
        solid.coin,
        lambda a: (
            f"A {solid.metal(a)} commemorative coin with {_an(a.motif)} in relief, "
            f"the lettering {_name(a)} and the number {1000 + a.number}."
        ),
        ("title", "motif", "art", "mirror"),
    ),
    Family(
        "pin",
        ("fashion", "accessory", "pin"),
        solid.pin,
        lambda a: (
            f"An enamel pin in {_colours(a)} with {_an(a.motif)} on {a.theme} "
            f"and a ribbon that says {_name(a)}."
        ),
        ("title", "motif", "art", "palette"),
    ),
    Family(
        "circuit board",
        ("technology", "gadget", "other"),
        solid.board,
        lambda a: (
            f"A circuit board marked {a.title[0].title()}-{a.number} with chips, golden contacts "
            f"and the logo of {_an(a.motif)}."
        ),
        ("title", "motif", "layout"),
    ),
    Family(
        "toy van",
        ("toy", "vehicle", "other"),
        solid.van,
        lambda a: (
            f"{_an(a.colours.names[2]).capitalize()} toy delivery van of {_name(a)} with {a.theme} on its "
            f"side, {_an(a.motif)} logo and {a.colours.names[4]} wheels."
        ),
        ("title", "motif", "art", "palette", "mirror"),
    ),
    Family(
        "quilt",
        ("household", "textile", "other"),
        solid.quilt,
        lambda a: f"A patchwork textile of {a.pattern} and {a.motif} blocks in {_colours(a)}.",
        ("motif", "pattern", "palette", "layout"),
    ),
)


def new_attributes(rng: np.random.Generator) -> Attributes:
    """Draw the attributes of a new object of any family."""
    return random_attributes(rng)


def near_duplicate(family: Family, attributes: Attributes, rng: np.random.Generator) -> Attributes:
    """An object easily taken for another: it differs in two of the family's details."""
    for index in rng.permutation(len(family.details))[:2]:
        attributes = vary(attributes, family.details[int(index)], rng)
    return attributes


def draw_sprite(family: Family, attributes: Attributes, longest: int = 512) -> Sprite:
    """Draw an object; `longest` pixels on its longer side."""
    return Sprite.cut(*family.draw(attributes), longest)
