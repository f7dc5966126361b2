"""From report data to what the template shows: every number formatted once, every picture numbered once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ilias_fast.report.data import GroupScore, MethodResult, QueryResult, ReportData, ReportOptions
from ilias_fast.report.plots import Columns, Dot, Rows, Scatter, change_of, columns, dot_strip, rows, scatter
from ilias_fast.report.strips import Pictures, Strip, build_strip, choose_strips, groupings_of

__all__ = [
    "Breakdown",
    "MethodRow",
    "Page",
    "QueryRow",
    "Table",
    "TableRow",
    "build_page",
    "provenance_sections",
]


@dataclass(frozen=True)
class MethodRow:
    """A row of the results table; `best` marks the highest mAP."""

    number: int
    label: str
    map: float
    interval: tuple[float, float] | None
    p: float | None
    oracle: float | None
    delta: float | None
    best: bool
    best_oracle: bool
    missing: int


@dataclass(frozen=True)
class QueryRow:
    """A row of the per-query table. `change` compares the compared method with the baseline."""

    number: int
    id: str
    category: str
    positives: int
    aps: list[float | None]
    best: float | None
    delta: float | None
    change: str
    dots: list[Dot]
    has_strip: bool


@dataclass(frozen=True)
class TableRow:
    """A group in a table of groups: mAP of each method."""

    label: str
    note: str
    values: list[float | None]
    best: float | None
    dots: list[Dot]


@dataclass(frozen=True)
class Table:
    """The numbers behind a chart, or instead of one where there are too many."""

    title: str
    rows: list[TableRow]


@dataclass(frozen=True)
class Breakdown:
    """A grouping of the queries: its chart (vertical or horizontal) and its numbers."""

    title: str
    chart: Columns | Rows
    vertical: bool
    table: Table


@dataclass(frozen=True)
class Page:
    """Everything the template needs, apart from the pictures."""

    title: str
    metric: str
    headline: str
    facts: list[tuple[str, str]]
    notes: list[str]
    methods: list[MethodRow]
    baseline: MethodRow
    focus: MethodRow
    overview: Rows
    queries: list[QueryRow]
    with_categories: bool
    with_intervals: bool
    with_junk: bool
    scatters: list[tuple[MethodRow, Scatter]]
    breakdowns: list[Breakdown]
    subcategories: Table | None
    strips: list[Strip]
    categories: list[str]
    groupings: list[tuple[str, list[str]]]
    counts: dict[str, int]
    provenance: list[tuple[str, list[tuple[str, str]]]]
    results: int


def build_page(data: ReportData, options: ReportOptions, pictures: Pictures) -> Page:
    """Compute the page; `pictures` collects the ids of the images that it shows."""
    names = [method.name for method in data.methods]
    labels = [method.label for method in data.methods]
    base = 0 if data.baseline is None else names.index(data.baseline)
    others = [m for m in range(len(names)) if m != base]
    # max keeps the first of equals, so a tie goes to the row higher in the table.
    focus = max(others, key=lambda m: data.methods[m].map, default=base)

    methods = _method_rows(data, base)
    deltas = [_delta(query.id, data.methods[base], data.methods[focus]) for query in data.queries]
    chosen = choose_strips(data.queries, deltas, options.strips)
    strips = [
        build_strip(
            data,
            data.queries[q],
            q,
            base=base,
            focus=focus,
            delta=deltas[q],
            options=options,
            pictures=pictures,
        )
        for q in chosen
    ]
    shown = set(chosen)
    query_rows = [
        _query_row(
            query, q, [method.aps.get(query.id) for method in data.methods], labels, deltas[q], q in shown
        )
        for q, query in enumerate(data.queries)
    ]
    subcategories = _table("Mid-level categories", data.methods, [m.subcategories for m in data.methods])
    return Page(
        title=data.title,
        metric=_metric(data.k),
        headline=_headline(data, base, focus),
        facts=_facts(data),
        notes=[*data.notes, *_missing_notes(data, methods)],
        methods=methods,
        baseline=methods[base],
        focus=methods[focus],
        overview=rows(
            labels,
            [""] * len(labels),
            [[m.map if g == n else None for g in range(len(labels))] for n, m in enumerate(data.methods)],
            labels,
            oracles=[method.oracle for method in data.methods],
        ),
        queries=query_rows,
        with_categories=any(query.category for query in data.queries),
        with_intervals=any(method.interval for method in data.methods),
        with_junk=any(query.junk for query in data.queries),
        scatters=_scatters(data, methods, base, others),
        breakdowns=_breakdowns(data),
        subcategories=subcategories if subcategories.rows else None,
        strips=strips,
        categories=sorted({strip.category for strip in strips if strip.category}),
        groupings=groupings_of(data),
        counts={
            "all": len(strips),
            "gained": sum(strip.change == "up" for strip in strips),
            "lost": sum(strip.change == "down" for strip in strips),
            "failed": sum(strip.failed for strip in strips),
        },
        provenance=provenance_sections(data.provenance),
        results=options.results,
    )


def _method_rows(data: ReportData, base: int) -> list[MethodRow]:
    best = _best([method.map for method in data.methods])
    best_oracle = _best([method.oracle for method in data.methods])
    return [
        MethodRow(
            number=number,
            label=method.label,
            map=method.map,
            interval=method.interval,
            p=method.p,
            oracle=method.oracle,
            delta=None if number == base else method.map - data.methods[base].map,
            best=round(method.map, 1) == best,
            best_oracle=method.oracle is not None and round(method.oracle, 1) == best_oracle,
            missing=len(data.queries) - len(method.aps),
        )
        for number, method in enumerate(data.methods)
    ]


def _delta(id_: str, base: MethodResult, focus: MethodResult) -> float | None:
    before, after = base.aps.get(id_), focus.aps.get(id_)
    return None if before is None or after is None else after - before


def _query_row(
    query: QueryResult,
    number: int,
    aps: list[float | None],
    labels: Sequence[str],
    delta: float | None,
    has_strip: bool,
) -> QueryRow:
    return QueryRow(
        number=number,
        id=query.id,
        category=" / ".join(part for part in (query.category, query.subcategory) if part),
        positives=len(set(query.positives)),
        aps=aps,
        best=_best(aps),
        delta=delta,
        change="" if delta is None else change_of(delta),
        dots=dot_strip(aps, labels),
        has_strip=has_strip,
    )


def _best(values: Sequence[float | None]) -> float | None:
    """Return the highest value at the precision shown, if it distinguishes anything."""
    known = [round(value, 1) for value in values if value is not None]
    return max(known) if len(set(known)) > 1 else None


def _metric(k: int) -> str:
    """Name mAP at depth `k` as the field does: mAP@1k."""
    return f"mAP@{k // 1000}k" if k % 1000 == 0 else f"mAP@{k}"


def _headline(data: ReportData, base: int, focus: int) -> str:
    before, after = data.methods[base], data.methods[focus]
    if base == focus:
        return f"{before.label} reaches {before.map:.1f} {_metric(data.k)}."
    if after.map <= before.map:
        return f"No method improves on {before.label}, which reaches {before.map:.1f} {_metric(data.k)}."
    return (
        f"{after.label} raises {_metric(data.k)} from {before.map:.1f} ({before.label}) to {after.map:.1f}."
    )


def _facts(data: ReportData) -> list[tuple[str, str]]:
    text = sum(query.text is not None for query in data.queries)
    positives = len({id_ for query in data.queries for id_ in query.positives})
    queries = f"{len(data.queries):,}" if not text else f"{len(data.queries) - text:,} image + {text:,} text"
    return [("queries", queries), ("positives", f"{positives:,}"), ("distractors", f"{data.distractors:,}")]


def _missing_notes(data: ReportData, methods: Sequence[MethodRow]) -> list[str]:
    return [
        f"{row.label}: no AP for {row.missing:,} of {len(data.queries):,} queries; they show as a dash."
        for row in methods
        if row.missing
    ]


def _scatters(
    data: ReportData, methods: Sequence[MethodRow], base: int, others: Sequence[int]
) -> list[tuple[MethodRow, Scatter]]:
    """Return a scatter plot of each method against the baseline, the best method first."""
    before = data.methods[base].aps
    plots = []
    for m in sorted(others, key=lambda m: -data.methods[m].map):
        after = data.methods[m].aps
        common = [
            (q, query.id) for q, query in enumerate(data.queries) if query.id in before and query.id in after
        ]
        ids = [id_ for _, id_ in common]
        plot = scatter([before[i] for i in ids], [after[i] for i in ids], ids, [q for q, _ in common])
        plots.append((methods[m], plot))
    return plots


def _breakdowns(data: ReportData) -> list[Breakdown]:
    keys = list(dict.fromkeys(key for method in data.methods for key in method.groups))
    result = []
    labels = [method.label for method in data.methods]
    for key in keys:
        table = _table(f"By {key}", data.methods, [method.groups.get(key, ()) for method in data.methods])
        if table.rows:
            chart = columns(*_series(table, len(labels)), labels)
            result.append(Breakdown(table.title, chart, True, table))
    table = _table("By category", data.methods, [method.categories for method in data.methods])
    if table.rows:
        result.append(Breakdown(table.title, rows(*_series(table, len(labels)), labels), False, table))
    return result


def _series(table: Table, methods: int) -> tuple[list[str], list[str], list[list[float | None]]]:
    return (
        [row.label for row in table.rows],
        [f"({row.note})" if row.note else "" for row in table.rows],
        [[row.values[m] for row in table.rows] for m in range(methods)],
    )


def _table(title: str, methods: Sequence[MethodResult], scores: Sequence[Sequence[GroupScore]]) -> Table:
    """Join the methods' groups by label, in the order of first appearance."""
    by_label = [{score.label: score for score in series} for series in scores]
    labels = list(dict.fromkeys(label for series in by_label for label in series))
    names = [method.label for method in methods]
    result = []
    for label in labels:
        found = [series.get(label) for series in by_label]
        values = [None if score is None else score.map for score in found]
        count = next(
            (score.queries for score in found if score is not None and score.queries is not None), None
        )
        note = "" if count is None else f"{count:,}"
        result.append(TableRow(label, note, values, _best(values), dot_strip(values, names)))
    return Table(title, result)


def provenance_sections(provenance: Mapping[str, object]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Arrange provenance as sections of key and text; keys outside a section come first, under ""."""
    loose = [(str(key), _text(value)) for key, value in provenance.items() if not isinstance(value, Mapping)]
    sections = [
        (str(name), [(str(key), _text(value)) for key, value in section.items()])
        for name, section in provenance.items()
        if isinstance(section, Mapping)
    ]
    return ([("", loose)] if loose else []) + [section for section in sections if section[1]]


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_text(item) for item in value)
    return str(value)
