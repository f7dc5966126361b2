"""How a run looks in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ilias_fast._html import table

if TYPE_CHECKING:
    from ilias_fast.run.base import Run

__all__ = ["run_card"]

_SHOWN = 5


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
