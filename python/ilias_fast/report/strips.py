"""Image strips: what each method ranked for a query, where it was before, and which positives were missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ilias_fast.report.data import QueryResult, ReportData, ReportOptions
from ilias_fast.report.plots import change_of

__all__ = [
    "Cell",
    "MethodStrip",
    "Missed",
    "Pictures",
    "Strip",
    "build_strip",
    "choose_strips",
    "groupings_of",
]


class Pictures:
    """Numbers the images of the page in the order of use and keeps the largest size each is needed in."""

    def __init__(self) -> None:
        self.sides: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

    def number(self, id_: str, side: int) -> int:
        """Return the number of an image that is shown with a longer side of `side` pixels."""
        self.sides[id_] = max(side, self.sides.get(id_, 0))
        return self._numbers.setdefault(id_, len(self._numbers))


@dataclass(frozen=True)
class Cell:
    """A ranked result.

    Attributes:
        kind: "positive", "distractor" or "junk".
        before: Rank in the baseline's list as text; "" when this is the baseline or the rank is the same,
            "new" when the baseline did not list it.
        moved: "up", "down" or "" for results whose rank changed.
    """

    image: int
    id: str
    rank: int
    score: float
    kind: str
    before: str
    moved: str


@dataclass(frozen=True)
class MethodStrip:
    """The first results of one method."""

    method: int
    label: str
    ap: float | None
    cells: list[Cell]


@dataclass(frozen=True)
class Missed:
    """A positive that the compared method did not rank among the results shown."""

    image: int
    id: str
    rank: str
    before: str


@dataclass(frozen=True)
class Strip:
    """A query with its results. `failed`: none of the compared method's results shown is a positive."""

    number: int
    id: str
    text: str | None
    category: str
    subcategory: str
    image: int | None
    positives: int
    before: float | None
    after: float | None
    delta: float | None
    change: str
    failed: bool
    methods: list[MethodStrip]
    missed: list[Missed]
    missed_total: int
    groups: list[str]


def choose_strips(queries: Sequence[QueryResult], deltas: Sequence[float | None], limit: int) -> list[int]:
    """Choose the queries shown with pictures: all that have a ranking, or those whose AP changed most."""
    ranked = [q for q, query in enumerate(queries) if query.rankings]
    if len(ranked) <= limit:
        return ranked
    by_change = sorted(ranked, key=lambda q: (-abs(deltas[q] or 0.0), q))
    return sorted(by_change[:limit])


def build_strip(
    data: ReportData,
    query: QueryResult,
    number: int,
    *,
    base: int,
    focus: int,
    delta: float | None,
    options: ReportOptions,
    pictures: Pictures,
) -> Strip:
    """Derive ranks, frames, ranks before and missed positives of a query from its ranked lists."""
    positives, junk = set(query.positives), set(query.junk)
    image = pictures.number(query.id, options.thumbnail) if query.text is None and data.image else None
    ranks: dict[int, dict[str, int]] = {}
    for m, method in enumerate(data.methods):
        if method.name in query.rankings:
            ranks[m] = {id_: rank for rank, id_ in enumerate(query.rankings[method.name].ids, 1)}
    strips = []
    for m in ranks:
        method = data.methods[m]
        ranking = query.rankings[method.name]
        cells = []
        for rank, (id_, score) in enumerate(
            zip(ranking.ids[: options.results], ranking.scores, strict=False), 1
        ):
            before, moved = (
                ("", "") if m == base or base not in ranks else _movement(rank, ranks[base].get(id_))
            )
            kind = "positive" if id_ in positives else "junk" if id_ in junk else "distractor"
            picture = pictures.number(id_, options.thumbnail)
            cells.append(Cell(picture, id_, rank, float(score), kind, before, moved))
        strips.append(MethodStrip(m, method.label, method.aps.get(query.id), cells))

    compared = focus if focus in ranks else next(iter(ranks))
    missed = _missed(query, ranks[compared], None if compared == base else ranks.get(base), options.results)
    shown = [
        Missed(pictures.number(id_, options.thumbnail), id_, rank, before)
        for id_, rank, before in missed[: options.missed]
    ]
    return Strip(
        number=number,
        id=query.id,
        text=query.text,
        category=query.category,
        subcategory=query.subcategory,
        image=image,
        positives=len(positives),
        before=data.methods[base].aps.get(query.id),
        after=data.methods[focus].aps.get(query.id),
        delta=delta,
        change="" if delta is None else change_of(delta),
        failed=not any(ranks[compared].get(id_, options.results + 1) <= options.results for id_ in positives),
        methods=strips,
        missed=shown,
        missed_total=len(missed),
        groups=[
            f"{number}:{labels.index(label)}"
            for number, (name, labels) in enumerate(groupings_of(data))
            for label in query.groups.get(name, ())
            if label in labels
        ],
    )


def groupings_of(data: ReportData) -> list[tuple[str, list[str]]]:
    """Return the groupings that queries can be filtered by, with the labels of their groups in order."""
    names = dict.fromkeys(name for query in data.queries for name in query.groups)
    found = []
    for name in names:
        scores = next((method.groups[name] for method in data.methods if name in method.groups), ())
        found.append((name, [score.label for score in scores]))
    return [(name, labels) for name, labels in found if labels]


def _movement(rank: int, before: int | None) -> tuple[str, str]:
    if before is None:
        return "new", "up"
    if before == rank:
        return "", ""
    return f"{before:,}", "up" if rank < before else "down"


def _missed(
    query: QueryResult, ranks: dict[str, int], before: dict[str, int] | None, results: int
) -> list[tuple[str, str, str]]:
    """List (id, rank, rank before) of positives beyond the results shown, best ranked first."""
    beyond = [id_ for id_ in dict.fromkeys(query.positives) if ranks.get(id_, results + 1) > results]
    beyond.sort(key=lambda id_: (ranks.get(id_, 1 << 62), id_))

    def text(known: dict[str, int], id_: str) -> str:
        return f"{known[id_]:,}" if id_ in known else f"> {len(known):,}"

    return [(id_, text(ranks, id_), "" if before is None else text(before, id_)) for id_ in beyond]
