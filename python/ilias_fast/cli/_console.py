"""What the commands share: progress on stderr, tables on stdout, which exceptions are expected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ilias_fast.evaluate import Comparison, Evaluation

__all__ = [
    "StageProgress",
    "comparison_tables",
    "err",
    "errors",
    "out",
    "plain",
    "print_json",
    "printable",
    "results_table",
    "stages",
]

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

StageProgress = Callable[[str, int, int], None]


def errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that are an answer, not a bug."""
    from ilias_fast.errors import IliasFastError

    return (IliasFastError,)


def printable(text: str) -> str:
    """Return text on one line that leaves the terminal alone, whatever a file name or an id holds."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def print_json(value: object) -> None:
    """Print a value as one JSON object, for scripts; what JSON has no form for becomes text."""
    print(json.dumps(value, default=str))


def plain(value: object) -> str:
    """Return a value as text that can be put into markup: printable, and no markup itself."""
    return escape(printable(str(value)))


class _Done(ProgressColumn):
    """How much is done, and of how much if that is known, with separators: it may be bytes."""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else f"{int(task.total):,}"
        return Text(f"{int(task.completed):,} of {total}", style="progress.download")


@contextmanager
def stages() -> Iterator[StageProgress]:
    """Show one line a stage: a live bar on a terminal, a line when it is done elsewhere.

    Yields:
        A function `(stage, done, total)`; a stage is finished when done reaches total. A total of 0 is not
        known: the bar only shows that work goes on.
    """
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=28),
        _Done(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=err, disable=not err.is_terminal) as live:

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = live.add_task(stage, total=total or None)
            task = live.tasks[tasks[stage]]
            if not err.is_terminal and done >= total > 0 and not task.finished:
                err.print(f"{stage}: {total:,}", soft_wrap=True)
            live.update(tasks[stage], completed=done, total=total or None)

        yield update


def results_table(rows: Sequence[tuple[str, Evaluation]]) -> Table:
    """Return the table of the ILIAS paper: mAP@k and oracle of each run, in percent; best values bold."""
    entries = [
        (label, name, scores) for label, evaluation in rows for name, scores in evaluation.tasks.items()
    ]
    tasks = {name for _, name, _ in entries}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run" if len(rows) > 1 else "", overflow="fold")
    if len(tasks) > 1 or tasks == {"text"}:
        table.add_column("queries")
    for title in (f"mAP@{rows[0][1].k}", "oracle", "number"):
        table.add_column(title, justify="right", no_wrap=True)
    best = {name: max(scores.map for _, other, scores in entries if other == name) for name in tasks}
    for label, name, scores in entries:
        value = f"{scores.map:.2f}"
        if len(rows) > 1 and scores.map == best[name]:
            value = f"[bold]{value}[/]"
        task = [name] if len(tasks) > 1 or tasks == {"text"} else []
        table.add_row(plain(label), *task, value, f"{scores.oracle:.2f}", str(len(scores.queries)))
    return table


def comparison_tables(found: Comparison) -> list[Table]:
    """Return the methods with their confidence intervals, and every two of them side by side."""
    share = f"{found.confidence:.0%}"
    queries = f"{len(found.queries)} {found.task} queries, mAP@{found.k}"
    if found.left_out:
        queries += f"; {found.left_out} that not all answer left out"
    methods = Table(box=SIMPLE_HEAD, pad_edge=False, title=queries, title_justify="left")
    methods.add_column("run", overflow="fold")
    for title in ("mAP", f"{share} interval", "oracle"):
        methods.add_column(title, justify="right", no_wrap=True)
    for method in found.methods:
        low, high = method.interval
        methods.add_row(
            plain(method.name), f"{method.map:.2f}", f"{low:.2f} to {high:.2f}", f"{method.oracle:.2f}"
        )
    if not found.pairs:
        return [methods]
    pairs = Table(box=SIMPLE_HEAD, pad_edge=False)
    pairs.add_column("pair", overflow="fold")
    for title in ("difference", f"{share} interval", "p", "wins", "losses", "ties", "r"):
        pairs.add_column(title, justify="right", no_wrap=True)
    for pair in found.pairs:
        low, high = pair.interval
        pairs.add_row(
            f"{plain(pair.first)} → {plain(pair.second)}",
            f"{pair.delta:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            f"{pair.p:.4f}",
            *map(str, (pair.wins, pair.losses, pair.ties)),
            "–" if pair.pearson is None else f"{pair.pearson:.2f}",
        )
    return [methods, pairs]
