"""From the plan to the photographs of one object or one distractor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ilias_fast.datasets.generate.families import FAMILIES, draw_sprite, near_duplicate, new_attributes
from ilias_fast.datasets.generate.photographs import (
    ClutterPool,
    Photograph,
    cluttered_photograph,
    query_photograph,
)
from ilias_fast.datasets.generate.plan import Plan

__all__ = ["ObjectPhotographs", "Studio"]

_PLAIN_TWIN = 0.2  # of the near-duplicates stand alone on clean ground, like a query
_EMPTY = 0.4  # of the other distractors show clutter only, the others an object of their own


@dataclass(frozen=True)
class ObjectPhotographs:
    """All photographs of one object and its description."""

    number: int
    text: str
    queries: list[Photograph]
    positives: list[Photograph]


class Studio:
    """Draws what a plan asks for; safe to use from many threads, the same pixels in any order."""

    def __init__(self, plan: Plan):
        self._plan = plan
        size = min(160, 24 + plan.parameters.images // 4)
        self._pool = ClutterPool(int(plan.rng(99).integers(1 << 60)), size)

    def photograph_object(self, number: int) -> ObjectPhotographs:
        """Draw an object and take its queries and positives."""
        planned = self._plan.objects[number]
        family = FAMILIES[planned.family]
        attributes = new_attributes(self._plan.object_rng(number))
        sprite = draw_sprite(family, attributes)
        case = self._plan.case_of(number)
        return ObjectPhotographs(
            number,
            family.describe(attributes),
            [query_photograph(self._plan.query_rng(number, i), sprite, case) for i in range(planned.queries)],
            [
                cluttered_photograph(self._plan.positive_rng(number, i), self._pool, sprite, case)
                for i in range(planned.positives)
            ],
        )

    def photograph_distractor(self, number: int) -> Photograph:
        """Take a picture without any query object: a near-duplicate, another object, or clutter."""
        rng = self._plan.distractor_rng(number)
        twin = self._plan.twin_of(number)
        case = self._plan.case_of(number if twin is None else twin)
        if twin is not None:
            family = FAMILIES[self._plan.objects[twin].family]
            original = new_attributes(self._plan.object_rng(twin))
            sprite = draw_sprite(family, near_duplicate(family, original, rng))
            if rng.random() < _PLAIN_TWIN:
                return query_photograph(rng, sprite, case)
            return cluttered_photograph(rng, self._pool, sprite, case)
        if rng.random() < _EMPTY:
            return cluttered_photograph(rng, self._pool, None, case)
        family = FAMILIES[int(rng.integers(len(FAMILIES)))]
        sprite = draw_sprite(family, new_attributes(np.random.default_rng(rng.integers(1 << 60))))
        if rng.random() < _PLAIN_TWIN:
            return query_photograph(rng, sprite, case)
        return cluttered_photograph(rng, self._pool, sprite, case)
