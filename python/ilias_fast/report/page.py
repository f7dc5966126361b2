"""From report data to what the template shows: every number formatted once, every picture numbered once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ilias_fast.report.data import MethodResult, QueryResult, ReportData, ReportOptions
from ilias_fast.report.explorer import Explored, Pictures, choose_strips, explore, groupings_of
from ilias_fast.report.figures import Curve, DrawnPlot, Heat, LinePlot, draw_plot
from ilias_fast.report.groups import Breakdown, Table, best_of, breakdowns, group_table
from ilias_fast.report.plots import Dot, Rows, Scatter, change_of, dot_strip, rows, scatter
from ilias_fast.report.precision import RECALLS
from ilias_fast.report.provenance import Recorded, provenance_sections
from ilias_fast.report.standings import Standing, standings

__all__ = ["MethodRow", "Page", "QueryRow", "build_page"]


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
    """A row of the per-query table. `change` compares the compared method with the baseline.

    `opens`: there is something to show of it. `groups`: "grouping:group" of the groups it is in.
    """

    number: int
    id: str
    text: str | None
    image: int | None
    category: str
    coarse: str
    positives: int
    aps: list[float | None]
    best: float | None
    delta: float | None
    change: str
    failed: bool
    dots: list[Dot]
    opens: bool
    groups: list[str]


@dataclass(frozen=True)
class Page:
    """Everything the template needs, apart from the pictures. `queries_json` is read by the script."""

    title: str
    metric: str
    headline: str
    facts: list[tuple[str, str]]
    notes: list[str]
    methods: list[MethodRow]
    baseline: MethodRow
    focus: MethodRow
    overview: Rows
    standings: list[Standing]
    distractors: int
    queries: list[QueryRow]
    with_categories: bool
    with_intervals: bool
    with_junk: bool
    with_text: bool
    scatter: Scatter | None
    plots: list[DrawnPlot]
    heats: Sequence[Heat]
    breakdowns: list[Breakdown]
    subcategories: Table | None
    categories: list[str]
    groupings: list[tuple[str, list[str]]]
    counts: dict[str, int]
    embedded: int
    queries_json: dict[str, Any]
    provenance: list[tuple[str, list[tuple[str, Recorded]]]]
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
    embedded = choose_strips(data.queries, deltas, options.strips)
    explored = explore(data, options, pictures, embedded)
    groupings = groupings_of(data)
    query_rows = [
        _query_row(data, query, q, explored, focus, deltas[q], groupings)
        for q, query in enumerate(data.queries)
    ]
    subcategories = group_table("Mid-level categories", data.methods, [m.subcategories for m in data.methods])
    plots = [*_precision_plot(data, explored), *data.plots]
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
        standings=standings(data),
        distractors=data.distractors,
        queries=query_rows,
        with_categories=any(query.category for query in data.queries),
        with_intervals=any(method.interval for method in data.methods),
        with_text=any(query.text is not None for query in data.queries),
        with_junk=any(query.junk for query in data.queries),
        scatter=_scatter(data, base, focus) if others else None,
        plots=[draw_plot(plot, names) for plot in plots],
        heats=data.heats,
        breakdowns=breakdowns(data),
        subcategories=subcategories if subcategories.rows else None,
        categories=sorted({query.category for query in data.queries if query.category}),
        groupings=groupings,
        counts={
            "all": len(query_rows),
            "gained": sum(row.change == "up" for row in query_rows),
            "lost": sum(row.change == "down" for row in query_rows),
            "failed": sum(row.failed for row in query_rows),
        },
        embedded=len(embedded),
        queries_json=_queries_json(data, options, explored, base, focus),
        provenance=provenance_sections(data.provenance),
        results=options.results,
    )


def _queries_json(
    data: ReportData, options: ReportOptions, explored: Explored, base: int, focus: int
) -> dict[str, Any]:
    """Return what the script needs to compare any two methods."""
    number = {method.name: m for m, method in enumerate(data.methods)}
    p_values = {
        f"{number[pair.first]},{number[pair.second]}": pair.p
        for pair in data.pairs
        if pair.first in number and pair.second in number
    }
    for m, method in enumerate(data.methods):
        if method.p is not None:
            p_values.setdefault(f"{base},{m}", method.p)
    return {
        "base": base,
        "focus": focus,
        "results": options.results,
        "missed": options.missed,
        "methods": [method.label for method in data.methods],
        "aps": [
            [None if ap is None else round(ap, 3) for ap in map(method.aps.get, (q.id for q in data.queries))]
            for method in data.methods
        ],
        "p": p_values,
        "queries": explored.queries,
    }


def _precision_plot(data: ReportData, explored: Explored) -> list[LinePlot]:
    """Return the precision-recall figure, if any method has rankings."""
    curves = [
        Curve(method.label, (100 * RECALLS).tolist(), (100 * values).tolist(), method=method.name)
        for method, values in zip(data.methods, explored.precision, strict=True)
        if np.isfinite(values).all()
    ]
    if not curves:
        return []
    note = "Mean over the queries of the best precision at that recall or a larger one."
    return [LinePlot("Precision and recall", "Recall", "Precision", curves, note)]


def _method_rows(data: ReportData, base: int) -> list[MethodRow]:
    best = best_of([method.map for method in data.methods])
    best_oracle = best_of([method.oracle for method in data.methods])
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
    data: ReportData,
    query: QueryResult,
    number: int,
    explored: Explored,
    focus: int,
    delta: float | None,
    groupings: Sequence[tuple[str, Sequence[str]]],
) -> QueryRow:
    aps = [method.aps.get(query.id) for method in data.methods]
    entry = explored.queries[number]
    ranked = next((m for m in (focus, *range(len(aps))) if entry["d"][m]), focus)
    return QueryRow(
        number=number,
        id=query.id,
        text=query.text,
        image=entry.get("q"),
        category=_category(query),
        coarse=query.category,
        positives=len(set(query.positives)),
        aps=aps,
        best=best_of(aps),
        delta=delta,
        change="" if delta is None else change_of(delta),
        failed=explored.failed[number][ranked],
        dots=dot_strip(aps, [method.label for method in data.methods]),
        opens=bool(query.rankings),
        groups=[
            f"{number}:{labels.index(label)}"
            for number, (name, labels) in enumerate(groupings)
            for label in query.groups.get(name, ())
            if label in labels
        ],
    )


def _category(query: QueryResult) -> str:
    """Name the category once: ILIAS calls a mid-level one "coarse-mid"."""
    if query.subcategory.startswith(f"{query.category}-"):
        return f"{query.category} / {query.subcategory.removeprefix(f'{query.category}-')}"
    return " / ".join(part for part in (query.category, query.subcategory) if part)


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
    image = len(data.queries) - text
    if not text:
        queries = ("queries", f"{image:,}")
    elif not image:
        queries = ("text queries", f"{text:,}")
    else:
        queries = ("queries", f"{image:,} image + {text:,} text")
    return [queries, ("positives", f"{positives:,}"), ("distractors", f"{data.distractors:,}")]


def _missing_notes(data: ReportData, methods: Sequence[MethodRow]) -> list[str]:
    return [
        f"{row.label}: no AP for {row.missing:,} of {len(data.queries):,} queries; they show as a dash."
        for row in methods
        if row.missing
    ]


def _scatter(data: ReportData, base: int, focus: int) -> Scatter:
    """Return the scatter plot of the compared method against the baseline."""
    before, after = data.methods[base].aps, data.methods[focus].aps
    common = [
        (q, query.id) for q, query in enumerate(data.queries) if query.id in before and query.id in after
    ]
    ids = [id_ for _, id_ in common]
    return scatter([before[i] for i in ids], [after[i] for i in ids], ids, [q for q, _ in common])
