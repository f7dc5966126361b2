"""Words for titles, small print, instance names and descriptions."""

from __future__ import annotations

import numpy as np

__all__ = ["instance_name", "small_print", "title"]


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_FIRST = _list(
    "amber autumn bitter blue bright broken clever copper coral crooked crystal dancing distant dusty "
    "eager electric emerald endless fading feral floating forgotten frozen gentle gilded golden hidden "
    "hollow honest humble idle iron ivory jolly lazy little lonely lucky lunar magic mellow merry "
    "midnight misty modern noble northern odd paper patient polar proud quiet rapid restless rising royal "
    "rusty sacred salty scarlet secret silent silver simple sleepy slow small solar southern spiral "
    "stormy sunny sweet tender tiny twin velvet wandering warm wild winter wooden young zesty"
)
_SECOND = _list(
    "anchor apple arrow atlas avenue badger bakery balloon beacon bell bridge brook cactus canyon caravan "
    "castle cedar cherry cinema circus cloud comet compass cottage crane dragon drum eagle ember engine "
    "falcon feather fiddle forest fountain fox garden ginger glacier harbor harvest hazel heron honey "
    "horizon island jungle kettle kite lagoon lantern lemon lighthouse lion lotus maple marble meadow "
    "melon mirror monkey mountain museum needle oasis ocean olive orchard otter owl palace panda parade "
    "pepper pilot pioneer planet pocket prairie puzzle rabbit railway raven ribbon river robin rooster "
    "saddle sailor sparrow station summit swallow temple thunder tiger tower trumpet tulip turtle valley "
    "village violin walnut willow window wizard zebra"
)
_SMALL = _list(
    "the of and with from over under made in since fresh pure original quality best keep dry series first "
    "edition net weight no. batch serve cold warm press here limited print store handle care model type "
    "output volume natural classic finest by hand trade mark reg. store away light sun shake open side "
    "total code lot"
)
_ADJECTIVES = _list(
    "bold breezy bubbly cheery chirpy cosmic crinkly curious dapper dizzy dreamy fizzy fluffy frisky "
    "fuzzy giddy glimmery goofy groovy jaunty jazzy jiggly jumpy kooky loopy lively mellow nifty nimble "
    "peppy perky plucky quirky rascally rowdy rumbly sassy silly snappy snazzy snoozy spunky squiggly "
    "swirly tipsy twinkly wacky whimsy wiggly wobbly wonky woozy zany zesty zingy zippy"
)
_NOUNS = _list(
    "bimble blonk bobbin boffle bramblet bumpkin clumpet crumble dingle doodad doodle fidget flapjack "
    "flibbet fluffkin frobble gadgle gizmo glimmer gobble grumble gubbin hobnob jangle jibber jingle "
    "kazoo kerfuffle mingle muffin nibble noodle nuzzle oddle paddle pickle pippin pondle puddle quibble "
    "quiggle rumpus scribble snaffle snickle snorkle spindle sprocket squibble squiggle swizzle thimble "
    "tickle tinkle toodle trinket twiddle waffle whatsit whistle widget wimble wobble zigzag zootle"
)


def title(rng: np.random.Generator) -> tuple[str, str]:
    """Two words in capitals."""
    first = _FIRST[int(rng.integers(len(_FIRST)))]
    return first.upper(), _SECOND[int(rng.integers(len(_SECOND)))].upper()


def small_print(rng: np.random.Generator, n: int) -> list[str]:
    """Filler words for paragraphs, with some numbers among them."""
    indices = rng.integers(len(_SMALL), size=n)
    numbers = rng.integers(10, 990, size=n)
    return [
        str(number) if number % 6 == 0 else _SMALL[int(i)] for i, number in zip(indices, numbers, strict=True)
    ]


def instance_name(number: int, seed: int, digits: int) -> str:
    """Whimsical instance id in the official form: adjective, noun, number, unique by the number."""
    rng = np.random.default_rng([seed, 97, number])
    adjective = _ADJECTIVES[int(rng.integers(len(_ADJECTIVES)))]
    return f"{adjective}_{_NOUNS[int(rng.integers(len(_NOUNS)))]}_{number:0{digits}d}"
