"""Colours that go together, and the words the descriptions use for them.

A palette has five roles: paper (light), ink (dark), and three colours between which a design's parts are
split.
"""

from __future__ import annotations

from dataclasses import dataclass

from ilias_fast.datasets.generate.drawing import Colour

__all__ = ["METALS", "PALETTES", "Palette"]


@dataclass(frozen=True)
class Palette:
    """Five named colours by role."""

    names: tuple[str, str, str, str, str]
    colours: tuple[Colour, Colour, Colour, Colour, Colour]

    @property
    def paper(self) -> Colour:
        """The light ground."""
        return self.colours[0]

    @property
    def ink(self) -> Colour:
        """The dark of text and outlines."""
        return self.colours[1]

    @property
    def three(self) -> tuple[Colour, Colour, Colour]:
        """The main colour and two accents."""
        return self.colours[2:]

    def rotated(self, steps: int) -> Palette:
        """The same palette with main colour and accents exchanged."""
        order = [0, 1, *(2 + (i + steps) % 3 for i in range(3))]
        names = tuple(self.names[i] for i in order)
        colours = tuple(self.colours[i] for i in order)
        return Palette(names, colours)  # type: ignore[arg-type]


def _palette(line: str) -> Palette:
    pairs = [entry.split("#") for entry in line.split()]
    colours = tuple(tuple(bytes.fromhex(code)) for _, code in pairs)
    return Palette(tuple(name.replace("-", " ") for name, _ in pairs), colours)  # type: ignore[arg-type]


PALETTES: tuple[Palette, ...] = tuple(
    _palette(line)
    for line in (
        "cream#f4ead5 navy#1f2a44 coral#e2583e mustard#e3a72f teal#2a9d8f",
        "ivory#f3efe2 charcoal#2b2b2f brick-red#a63d2f sage#87a878 ochre#d8973c",
        "pale-pink#fbe4e0 plum#4a2545 raspberry#c2285a apricot#f2a365 lilac#9a79b8",
        "mint#e1f2e8 forest-green#1e4034 emerald#2d8f5b lemon#f2d349 orange#ea7a2e",
        "sky-blue#dcedf7 midnight-blue#15233f royal-blue#2f63b8 red#d63a3a gold#e9b93c",
        "sand#efe1c6 espresso#3d2a1f terracotta#c5633c olive#7d8040 turquoise#3fa7a0",
        "white#f7f6f2 black#1c1c1e scarlet#d62828 grey#9aa0a6 yellow#f5c93a",
        "lavender#ece6f6 indigo#2c2a5c violet#6b4fb3 rose#e58fa8 aqua#63bcc9",
        "vanilla#faf0cf dark-brown#40271b cherry#b0273a caramel#cf8a45 pistachio#a6bd70",
        "ice-blue#e4eff2 petrol#0f3b47 cyan#1f9bb5 salmon#ef8a72 sun-yellow#f6cf57",
        "linen#f0e8dd aubergine#361d3a magenta#b8337a copper#c87941 jade#3c9a7c",
        "peach#fce8d5 slate#333f4d tangerine#f0802a steel-blue#4f7fa8 lime#a8c545",
        "light-grey#e8e9ea graphite#2a2f36 blue#2c6fbb green#4a9b58 pink#e77fa0",
        "butter#f8edc2 wine-red#521824 crimson#b32134 fern-green#5c8f4c sky#6fb4d6",
    )
)

METALS: dict[str, tuple[Colour, Colour]] = {
    "gold": ((120, 84, 24), (250, 214, 120)),
    "silver": ((84, 88, 96), (232, 236, 240)),
    "bronze": ((84, 48, 26), (224, 158, 104)),
    "copper": ((104, 46, 28), (246, 164, 128)),
    "pewter": ((58, 62, 66), (184, 190, 192)),
}
"""Dark and light tone of each metal."""
