"""Results as text for papers, spreadsheets and programs: Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Literal

from ilias_fast import _arrays
from ilias_fast.errors import ParameterError
from ilias_fast.evaluate.leaderboard import leaderboard
from ilias_fast.evaluate.result import Evaluation

__all__ = ["FORMATS", "format_results"]

FORMATS = ("md", "latex", "csv", "json")

Cell = str | float | int | None


def format_results(
    evaluations: Mapping[str, Evaluation],
    form: Literal["md", "latex", "csv", "json"],
    *,
    published: bool = False,
) -> str:
    """Return the results table as text: a row a method and task, its mAP, oracle, groups and categories.

    Markdown and LaTeX round to one decimal, set the best value of a column bold and leave the categories
    out; CSV and JSON keep all digits. What was not evaluated is empty, never 0.

    Args:
        evaluations: By name, all at the same k.
        form: The format.
        published: Add the published leaderboard below, each row marked by its source.

    Raises:
        ParameterError: The format is unknown, there is no evaluation, or they are at different k.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> run = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.9, "mug/pos/0.jpg": 0.8}})
        >>> print(format_results({"global": evaluate(run, dataset)}, "csv").splitlines()[0])
        method,task,queries,mAP@1k,oracle
    """
    _arrays.choice("form", form, FORMATS)
    cuts = {evaluation.k for evaluation in evaluations.values()}
    if len(cuts) != 1:
        raise ParameterError(f"evaluations: expected one k, found {sorted(cuts) or 'no evaluation'}")
    metric = _metric(cuts.pop())
    if form == "json":
        content: dict[str, object] = {"methods": {name: one.to_dict() for name, one in evaluations.items()}}
        if published:
            content["published"] = [vars(row) for row in leaderboard()]
        return json.dumps(content, indent=2, default=str) + "\n"
    header, rows = _rows(evaluations, metric, categories=form == "csv", published=published)
    if form == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        return buffer.getvalue()
    own = sum(len(evaluation.tasks) for evaluation in evaluations.values())
    return _markdown(header, rows, own) if form == "md" else _latex(header, rows, own)


def _metric(k: int) -> str:
    return f"mAP@{k // 1000}k" if k % 1000 == 0 else f"mAP@{k}"


def _rows(
    evaluations: Mapping[str, Evaluation], metric: str, *, categories: bool, published: bool
) -> tuple[list[str], list[list[Cell]]]:
    groups = ["scale", "clutter", *(["categories", "subcategories"] if categories else [])]
    tasks = [(name, one.tasks[task]) for name, one in evaluations.items() for task in one.tasks]
    keys = [
        (group, key)
        for group in groups
        for key in dict.fromkeys(key for _, scores in tasks for key in getattr(scores, group))
    ]
    header = ["method", "task", "queries", metric, "oracle", *(f"{_label(g)} {_short(k)}" for g, k in keys)]
    rows: list[list[Cell]] = [
        [
            name,
            scores.task,
            len(scores.queries),
            scores.map,
            scores.oracle,
            *(getattr(scores, group).get(key) for group, key in keys),
        ]
        for name, scores in tasks
    ]
    if published:
        header += ["distractors", "source", "quality"]
        rows = [[*row, None, "this run", None] for row in rows]
        for row in leaderboard():
            for label, size, value in (
                ("", "5M", row.map_5m),
                ("", "100M", row.map_100m),
                (" + adaptation", "5M", row.map_5m_adapted),
                (" + adaptation", "100M", row.map_100m_adapted),
            ):
                if value is not None:
                    task = "image" if row.task == "i2i" else "text"
                    blank: list[Cell] = [None] * (1 + len(keys))
                    rows.append([row.model + label, task, None, value, *blank, size, row.source, row.quality])
    return header, rows


def _label(group: str) -> str:
    return {"categories": "category", "subcategories": "subcategory"}.get(group, group)


def _short(key: str) -> str:
    """Shorten the bounds of a group to what distinguishes them: 0-0.0688...43 becomes 0-0.07."""
    parts = key.split("-")
    try:
        return "-".join(part if part == "inf" else f"{float(part):.2g}" for part in parts)
    except ValueError:
        return key


def _text(value: Cell) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def _best(rows: Sequence[Sequence[Cell]]) -> list[str | None]:
    """Return the best text of each column of scores, if it distinguishes anything."""
    best: list[str | None] = []
    for column in zip(*rows, strict=True):
        values = [value for value in column if isinstance(value, float)]
        top = max(values, default=None)
        best.append(_text(top) if top is not None and len({_text(v) for v in values}) > 1 else None)
    return best


def _marked(rows: Sequence[Sequence[Cell]], own: int, escape: str, bold: str) -> list[list[str]]:
    # Published rows stand on other databases: they compete with nobody here.
    best = _best(rows[:own])
    special = str.maketrans({character: "\\" + character for character in escape})
    return [
        [
            bold.format(_text(value))
            if number < own and isinstance(value, float) and _text(value) == top
            else _text(value).translate(special)
            for value, top in zip(row, best, strict=True)
        ]
        for number, row in enumerate(rows)
    ]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]], own: int) -> str:
    lines = [header, ["---" if column < 2 else "---:" for column in range(len(header))]]
    lines += _marked(rows, own, "|\\`*_<", "**{}**")
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _latex(header: Sequence[str], rows: Sequence[Sequence[Cell]], own: int) -> str:
    special = str.maketrans({character: "\\" + character for character in "&%$#_{}"})
    columns = "ll" + "r" * (len(header) - 2)
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    lines.append(" & ".join(name.translate(special) for name in header) + r" \\")
    lines.append("\\midrule")
    lines += [" & ".join(row) + r" \\" for row in _marked(rows, own, "&%$#_{}", "\\textbf{{{}}}")]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])
