"""Evaluations and comparisons in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilias_fast._html import table

if TYPE_CHECKING:
    from ilias_fast.evaluate.comparing import Comparison
    from ilias_fast.evaluate.result import Evaluation

__all__ = ["comparison_card", "evaluation_card"]


def evaluation_card(evaluation: Evaluation) -> str:
    """Return an evaluation as HTML: a row a task, then its groups and categories.

    Args:
        evaluation: The evaluation.
    """
    tasks = evaluation.tasks.values()
    note = "official conventions" if evaluation.official else ""
    parts = [
        table(
            f"{evaluation.dataset}, percent",
            ["queries", "number", "missing", f"mAP@{evaluation.k}", "oracle"],
            [(one.task, len(one.queries), len(one.missing), one.map, one.oracle) for one in tasks],
            note,
        )
    ]
    for task in tasks:
        for name in ("scale", "clutter", "categories"):
            values = getattr(task, name)
            if values:
                parts.append(table(f"{task.task} queries by {name}", [name, "mAP"], list(values.items())))
    return "".join(parts)


def comparison_card(found: Comparison) -> str:
    """Return a comparison as HTML: the methods with their intervals, then every pair.

    Args:
        found: The comparison.
    """
    share = f"{found.confidence:.0%} interval"
    note = f"{found.left_out} queries that not all answer are left out" if found.left_out else ""
    methods = [
        (one.name, one.map, f"{one.interval[0]:.2f} to {one.interval[1]:.2f}", one.oracle)
        for one in found.methods
    ]
    pairs = [
        (
            f"{one.first} → {one.second}",
            one.delta,
            f"{one.interval[0]:+.2f} to {one.interval[1]:+.2f}",
            f"{one.p:.4f}",
            one.wins,
            one.losses,
            one.ties,
            one.pearson,
        )
        for one in found.pairs
    ]
    title = f"{len(found.queries)} {found.task} queries, mAP@{found.k}"
    columns = ["pair", "difference", share, "p", "wins", "losses", "ties", "r"]
    shown = table("Pairs", columns, pairs) if pairs else ""
    return table(title, ["run", "mAP", share, "oracle"], methods, note) + shown
