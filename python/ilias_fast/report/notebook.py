"""A report in a notebook: its headline and results, to be looked at before the page is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilias_fast._html import table
from ilias_fast.report.provenance import provenance_sections

if TYPE_CHECKING:
    from ilias_fast.report.data import ReportData

__all__ = ["report_card"]


def report_card(data: ReportData) -> str:
    """Return the results table of a report as HTML, with its notes and provenance.

    Args:
        data: The report.
    """
    rows = [
        (
            method.label,
            float(method.map),
            None if method.interval is None else f"{method.interval[0]:.2f} to {method.interval[1]:.2f}",
            None if method.oracle is None else float(method.oracle),
            None if method.p is None else f"{method.p:.4f}",
        )
        for method in data.methods
    ]
    counts = f"{len(data.queries):,} queries, {data.distractors:,} distractors"
    header = ["method", f"mAP@{data.k}", "95% interval", "oracle", "p"]
    parts = [table(f"{data.title}: {counts}", header, rows, " ".join(data.notes))]
    parts += [
        table(name or "Provenance", ["", ""], entries)
        for name, entries in provenance_sections(data.provenance)
    ]
    return "".join(parts)
