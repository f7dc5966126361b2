"""The queries of the page, as compact JSON: what each method ranked where.

The page derives from it, for any two methods, the strips of results with their ranks before and after, the
positives missed and the hard negatives. Bodies are built when a query is opened, so thousands of queries cost
nothing until someone looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast.report.data import QueryResult, ReportData, ReportOptions
from ilias_fast.report.precision import RECALLS, interpolated_precision

__all__ = ["Explored", "Pictures", "choose_strips", "explore", "groupings_of"]

_SUMMARY = 88
"""Longer side of a query's picture in the list, in pixels, where the query is not shown larger."""

_MANY = 100
"""Positives of a query that are listed, at most; the best ranked of more."""

_DEEP = 50
"""Hard negatives are looked for among so many results of each method."""


class Pictures:
    """Numbers the images of the page in the order of use and keeps the largest size each is needed in."""

    def __init__(self) -> None:
        self.sides: dict[str, int] = {}
        self.numbers: dict[str, int] = {}

    def number(self, id_: str, side: int = 0) -> int:
        """Return the number of an image that is embedded with a longer side of `side` pixels, 0 for not."""
        if side:
            self.sides[id_] = max(side, self.sides.get(id_, 0))
        return self.numbers.setdefault(id_, len(self.numbers))


@dataclass(frozen=True)
class Explored:
    """What the rankings say.

    Attributes:
        queries: For each query what `report.js` reads (see `_entry`).
        failed: For each query and method, whether none of the results shown is a positive.
        precision: float64 [methods, 51], mean interpolated precision; NaN for a method without rankings.
    """

    queries: list[dict[str, Any]]
    failed: list[list[bool]]
    precision: NDArray[np.float64]


def choose_strips(queries: Sequence[QueryResult], deltas: Sequence[float | None], limit: int) -> set[int]:
    """Choose the queries whose pictures are embedded: all that have a ranking, or those that changed most."""
    ranked = [q for q, query in enumerate(queries) if query.rankings]
    if len(ranked) <= limit:
        return set(ranked)
    return set(sorted(ranked, key=lambda q: (-abs(deltas[q] or 0.0), q))[:limit])


def explore(data: ReportData, options: ReportOptions, pictures: Pictures, embedded: set[int]) -> Explored:
    """Collect the queries; `pictures` learns which images they show, `embedded` those shown from the page."""
    names = [method.name for method in data.methods]
    entries, failed = [], []
    precision = np.zeros((len(names), len(RECALLS)))
    counted = np.zeros((len(names), 1))
    for number, query in enumerate(data.queries):
        ranks = {
            m: dict(zip(query.rankings[name].ids, range(1, len(query.rankings[name].ids) + 1), strict=True))
            for m, name in enumerate(names)
            if name in query.rankings
        }
        positives = frozenset(query.positives)
        for m, known in ranks.items():
            if positives:
                found = np.array(sorted(known[id_] for id_ in positives if id_ in known), np.int64)
                precision[m] += interpolated_precision(found, len(positives))
                counted[m] += 1
        side = 0 if data.image is None else options.thumbnail if number in embedded else 0
        entry = _entry(data, query, ranks, options, pictures, side)
        if query.text is None and data.image is not None:
            entry["q"] = pictures.number(query.id, side or _SUMMARY)
        entries.append(entry)
        failed.append(
            [
                m in ranks and not any(ranks[m].get(id_, 1 << 62) <= options.results for id_ in positives)
                for m in range(len(names))
            ]
        )
    with np.errstate(invalid="ignore"):
        return Explored(entries, failed, precision / counted)


def _entry(
    data: ReportData,
    query: QueryResult,
    ranks: Mapping[int, Mapping[str, int]],
    options: ReportOptions,
    pictures: Pictures,
    side: int,
) -> dict[str, Any]:
    """Describe a query.

    i: numbers of the images it shows; k: their kinds, a letter each (positive, distractor, junk); r: for each
    its rank by every method, 0 where it is not ranked; s: for every method the scores of the results shown;
    d: the lengths of its lists; h: positions in `i` of hard negatives, hardest first; p: positives in all.
    """
    positives, junk = frozenset(query.positives), frozenset(query.junk)
    methods = range(len(data.methods))

    def best(id_: str) -> int:
        return min((known.get(id_, 1 << 62) for known in ranks.values()), default=1 << 62)

    listed = sorted(positives, key=lambda id_: (best(id_), id_))[:_MANY]
    shown = dict.fromkeys(listed)
    scores: list[list[float]] = []
    for m in methods:
        ranking = query.rankings.get(data.methods[m].name) if m in ranks else None
        top = [] if ranking is None else list(ranking.ids[: options.results])
        shown.update(dict.fromkeys(top))
        scores.append([] if ranking is None else [float(f"{s:.4g}") for s in ranking.scores[: len(top)]])
    hard = _hard_negatives(query, ranks, positives | junk, options.hard)
    shown.update(dict.fromkeys(hard))
    # A positive that nobody sees on the page needs no picture there.
    missed = set(
        listed[: len(listed) if len(listed) <= 2 * options.missed else options.results + options.missed]
    )
    top_or_hard = {
        id_ for known in ranks.values() for id_ in shown if known.get(id_, 1 << 62) <= options.results
    }
    pictured = missed | top_or_hard | set(hard)
    position = {id_: at for at, id_ in enumerate(shown)}
    return {
        "i": [pictures.number(id_, side if id_ in pictured else 0) for id_ in shown],
        "k": "".join("p" if id_ in positives else "j" if id_ in junk else "d" for id_ in shown),
        "r": [[ranks[m].get(id_, 0) if m in ranks else 0 for m in methods] for id_ in shown],
        "s": scores,
        "d": [len(ranks[m]) if m in ranks else 0 for m in methods],
        "h": [position[id_] for id_ in hard],
        "p": len(positives),
    }


def _hard_negatives(
    query: QueryResult,
    ranks: Mapping[int, Mapping[str, int]],
    others: frozenset[str],
    most: int,
) -> list[str]:
    """Return the distractors that the methods together rank highest, above a positive at least once."""
    weight: dict[str, float] = {}
    for known in ranks.values():
        last = max((known.get(id_, 1 << 62) for id_ in query.positives), default=0)
        for id_, rank in known.items():
            if rank > min(_DEEP, last):
                break
            if id_ not in others:
                weight[id_] = weight.get(id_, 0.0) + 1 / rank
    return sorted(weight, key=lambda id_: (-weight[id_], id_))[:most]


def groupings_of(data: ReportData) -> list[tuple[str, list[str]]]:
    """Return the groupings that queries can be filtered by, with the labels of their groups in order."""
    names = dict.fromkeys(name for query in data.queries for name in query.groups)
    found = []
    for name in names:
        scores = next((method.groups[name] for method in data.methods if name in method.groups), ())
        found.append((name, [score.label for score in scores]))
    return [(name, labels) for name, labels in found if labels]
