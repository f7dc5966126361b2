"""Groups of queries on the page: a chart and a table for each grouping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ilias_fast.report.data import GroupScore, MethodResult, ReportData
from ilias_fast.report.plots import Columns, Dot, Rows, columns, dot_strip, rows

__all__ = ["Breakdown", "Table", "TableRow", "best_of", "breakdowns", "group_table"]


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


def best_of(values: Sequence[float | None]) -> float | None:
    """Return the highest value at the precision shown, if it distinguishes anything."""
    known = [round(value, 1) for value in values if value is not None]
    return max(known) if len(set(known)) > 1 else None


def breakdowns(data: ReportData) -> list[Breakdown]:
    """Return the scale, clutter and category figures, as far as the methods have them."""
    keys = list(dict.fromkeys(key for method in data.methods for key in method.groups))
    result = []
    labels = [method.label for method in data.methods]
    for key in keys:
        table = group_table(
            f"By {key[:1].lower()}{key[1:]}",
            data.methods,
            [method.groups.get(key, ()) for method in data.methods],
        )
        if table.rows:
            chart = columns(*_series(table, len(labels)), labels)
            result.append(Breakdown(table.title, chart, True, table))
    table = group_table("By category", data.methods, [method.categories for method in data.methods])
    if table.rows:
        result.append(Breakdown(table.title, rows(*_series(table, len(labels)), labels), False, table))
    return result


def _series(table: Table, methods: int) -> tuple[list[str], list[str], list[list[float | None]]]:
    return (
        [row.label for row in table.rows],
        [f"({row.note})" if row.note else "" for row in table.rows],
        [[row.values[m] for row in table.rows] for m in range(methods)],
    )


def group_table(title: str, methods: Sequence[MethodResult], scores: Sequence[Sequence[GroupScore]]) -> Table:
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
        result.append(TableRow(label, note, values, best_of(values), dot_strip(values, names)))
    return Table(title, result)
