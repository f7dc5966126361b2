"""How results look in a notebook: small HTML tables without style sheets or scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ilias_fast.run.base import Run

__all__ = ["run_card", "table"]

_SHOWN = 5


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """Return an HTML table; everything in it is escaped, numbers are aligned to the right.

    Args:
        caption: What it shows.
        header: Titles of the columns.
        rows: Cells; floats get two decimals, None an en dash.
        note: A line below it.
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    below = f"<p><small>{escape(note)}</small></p>" if note else ""
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
    )


def _cell(value: object) -> str:
    if value is None:
        return "<td>–</td>"
    if isinstance(value, (int, float)):
        text = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        return f'<td style="text-align:right">{text}</td>'
    return f'<td style="text-align:left">{escape(str(value))}</td>'


def run_card(run: Run) -> str:
    """Return a run as HTML: its size, its provenance, the first results of the first queries.

    Args:
        run: The run.
    """
    lengths = np.diff(run.offsets)
    depth = "none" if not len(lengths) else f"{lengths.min():,} to {lengths.max():,}"
    facts: list[tuple[str, object]] = [
        ("queries", len(run)),
        ("results", len(run.indices)),
        ("results a query", depth),
        ("database ids", len(run.database_ids)),
        *((key, str(value)) for key, value in run.provenance.items()),
    ]
    rows = [
        (query, rank, name, float(score))
        for query in run.query_ids[:_SHOWN]
        for rank, (name, score) in enumerate(
            zip(run[query].ids[:_SHOWN], run[query].scores[:_SHOWN], strict=True), 1
        )
    ]
    return table("Run", ["", ""], facts) + table(
        "First results", ["query", "rank", "database id", "score"], rows
    )
