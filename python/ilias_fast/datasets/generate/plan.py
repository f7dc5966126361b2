"""Which images a benchmark has: objects, their queries and positives, and the kinds of distractors.

The plan costs nothing to make and is a pure function of the parameters; pictures are drawn from it in any
order.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from ilias_fast.datasets.generate import words
from ilias_fast.datasets.generate.hard import CASES, HardCase, check_cases
from ilias_fast.errors import ParameterError

__all__ = ["MAX_IMAGES", "MIN_IMAGES", "Parameters", "Plan", "PlannedObject", "check_parameters"]

MIN_IMAGES, MAX_IMAGES = 10, 100_000
SHARD = 512
"""Distractors per tar."""

_IMAGES_PER_OBJECT = 25
_MOST_OBJECTS = 1000  # as many as ILIAS has; beyond it, more images mean more distractors
_CORE_SHARE = 0.6

# First elements of the seeds, so that no two kinds of things share random numbers.
_OBJECT, _COUNTS, _QUERY, _POSITIVE, _DISTRACTOR, _KINDS, _FAMILIES = range(7)


@dataclass(frozen=True)
class Parameters:
    """What a benchmark is generated from; see `generate`."""

    objects: int
    images: int
    seed: int
    near_duplicates: float
    hard: str = ""  # names of hard cases, joined by commas


def _whole(name: str, value: SupportsIndex, low: int, high: int) -> int:
    try:
        number = index(value)
    except TypeError:
        raise ParameterError(f"{name}: expected an integer, found {value!r}") from None
    if isinstance(value, bool) or not low <= number <= high:
        raise ParameterError(f"{name}: expected an integer from {low:,} to {high:,}, found {value!r}")
    return number


def check_parameters(
    objects: int | None,
    images: int | None,
    seed: int,
    near_duplicates: float,
    hard: Sequence[str] = (),
) -> Parameters:
    """Fill in what was left open and refuse what cannot be generated.

    Raises:
        ParameterError: A value is out of range, or there are too few images for the objects.
    """
    if images is not None:
        images = _whole("images", images, MIN_IMAGES, MAX_IMAGES)
    if objects is not None:
        objects = _whole("objects", objects, 1, MAX_IMAGES // 4)
    elif images is not None:
        objects = min(_MOST_OBJECTS, max(images // _IMAGES_PER_OBJECT, min(images // 5, 10)))
    else:
        objects = 40
    if images is None:
        images = min(MAX_IMAGES, max(MIN_IMAGES, objects * _IMAGES_PER_OBJECT))
    if images < 4 * objects:
        raise ParameterError(
            f"images: {objects:,} objects need at least {4 * objects:,} images (a query, two positives and a "
            f"distractor each), found {images:,}; ask for more images or fewer objects"
        )
    try:
        share = float(near_duplicates)
    except (TypeError, ValueError):
        raise ParameterError(
            f"near_duplicates: expected a number from 0 to 1, found {near_duplicates!r}"
        ) from None
    if not 0 <= share <= 1:
        raise ParameterError(f"near_duplicates: expected a share from 0 to 1, found {near_duplicates!r}")
    cases = check_cases(hard)
    share = max([share, *(CASES[name].near_duplicates for name in cases)])
    return Parameters(objects, images, _whole("seed", seed, 0, 2**63 - 1), share, ",".join(cases))


@dataclass(frozen=True)
class PlannedObject:
    """One object: its number, instance id, family, and how many queries and positives it has."""

    number: int
    name: str
    family: int
    queries: int
    positives: int

    @property
    def _digits(self) -> str:
        return self.name.rpartition("_")[2]

    @property
    def query_ids(self) -> list[str]:
        """Official ids of the image queries."""
        return [f"{self.name}/query/Q{self._digits}_{i:02d}.jpg" for i in range(self.queries)]

    @property
    def positive_ids(self) -> list[str]:
        """Official ids of the positives."""
        return [f"{self.name}/pos/P{self._digits}_{i:02d}.jpg" for i in range(self.positives)]

    @property
    def text_id(self) -> str:
        """Official id of the text query."""
        return f"{self.name}/query/T{self._digits}.txt"


class Plan:
    """Everything about a benchmark but the pixels."""

    def __init__(self, parameters: Parameters, families: int):
        self.parameters = parameters
        self.objects = self._objects(families)
        self.distractors = parameters.images - sum(o.queries + o.positives for o in self.objects)
        self.near_duplicates = round(parameters.near_duplicates * self.distractors)
        self._kinds = self._distractor_kinds()

    def rng(self, kind: int, *where: int) -> np.random.Generator:
        """Generator of one thing, independent of all others."""
        return np.random.default_rng([self.parameters.seed, kind, *where])

    def object_rng(self, number: int) -> np.random.Generator:
        """Generator of an object's attributes."""
        return self.rng(_OBJECT, number)

    def query_rng(self, number: int, image: int) -> np.random.Generator:
        """Generator of one query photograph."""
        return self.rng(_QUERY, number, image)

    def positive_rng(self, number: int, image: int) -> np.random.Generator:
        """Generator of one positive photograph."""
        return self.rng(_POSITIVE, number, image)

    def distractor_rng(self, number: int) -> np.random.Generator:
        """Generator of one distractor."""
        return self.rng(_DISTRACTOR, number)

    def _objects(self, families: int) -> list[PlannedObject]:
        count = self.parameters.objects
        rng = self.rng(_COUNTS)
        queries = 1 + (rng.random(count) < 0.25)
        positives = np.clip(rng.binomial(12, 0.4, count), 2, 8)
        # Every object keeps a query and two positives; the rest is granted in turns while the budget lasts.
        budget = max(0, int(_CORE_SHARE * self.parameters.images) - 3 * count)
        granted = np.zeros(count, np.int64)
        wanted = queries + positives - 3
        while budget > 0 and (granted < wanted).any():
            open_ones = np.flatnonzero(granted < wanted)[:budget]
            granted[open_ones] += 1
            budget -= len(open_ones)
        kept_positives = np.minimum(positives, 2 + granted)
        kept_queries = 1 + granted - (kept_positives - 2)
        order = self.rng(_FAMILIES).permutation(families)
        digits = max(3, len(str(count - 1)))
        return [
            PlannedObject(
                number=i,
                name=words.instance_name(i, self.parameters.seed, digits),
                family=int(order[i % families]),
                queries=int(kept_queries[i]),
                positives=int(kept_positives[i]),
            )
            for i in range(count)
        ]

    def _distractor_kinds(self) -> NDArray[np.int64]:
        """For each distractor the object it nearly duplicates, or -1."""
        kinds = np.full(self.distractors, -1, np.int64)
        rng = self.rng(_KINDS)
        places = rng.permutation(self.distractors)[: self.near_duplicates]
        kinds[places] = (np.arange(len(places)) + rng.integers(len(self.objects))) % len(self.objects)
        return kinds

    def twin_of(self, distractor: int) -> int | None:
        """The number of the object a distractor nearly duplicates, or None."""
        twin = int(self._kinds[distractor])
        return None if twin < 0 else twin

    @property
    def cases(self) -> tuple[HardCase, ...]:
        """The hard cases; none for an ordinary benchmark."""
        return tuple(CASES[name] for name in self.parameters.hard.split(",") if name)

    def case_of(self, number: int) -> HardCase | None:
        """The hard case of an object or a distractor, in turns."""
        return self.cases[number % len(self.cases)] if self.cases else None

    @property
    def shards(self) -> int:
        """Number of tars."""
        return -(-self.distractors // SHARD)

    def shard_name(self, shard: int) -> str:
        """File name of a tar."""
        return f"yfcc100m_{shard:05d}.tar"

    def shard_members(self, shard: int) -> range:
        """Numbers of the distractors in a tar."""
        return range(shard * SHARD, min((shard + 1) * SHARD, self.distractors))

    def key(self, distractor: int) -> str:
        """WebDataset key of a distractor: 32 hexadecimal digits, like those of YFCC100M."""
        text = f"{self.parameters.seed}/{distractor}".encode()
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def taxonomy(self, paths: list[tuple[str, str, str]]) -> dict[str, dict[str, dict[str, list[str]]]]:
        """Instances by coarse, mid and fine category; `paths` is the category of each family."""
        tree: dict[str, dict[str, dict[str, list[str]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for planned in sorted(self.objects, key=lambda o: (paths[o.family], o.name)):
            coarse, mid, fine = paths[planned.family]
            tree[coarse][mid][fine].append(planned.name)
        return {coarse: {mid: dict(fine) for mid, fine in mids.items()} for coarse, mids in tree.items()}
