"""What the commands share: progress on stderr, tables on stdout, which exceptions are expected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.progress import TimeElapsedColumn, TimeRemainingColumn

__all__ = ["StageProgress", "bar", "errors", "out", "stages"]

out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

StageProgress = Callable[[str, int, int], None]


def errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that are an answer, not a bug."""
    from ilias_fast.errors import IliasFastError

    return (IliasFastError,)


@contextmanager
def stages() -> Iterator[StageProgress]:
    """Show one line a stage: a live bar on a terminal, a line when it is done elsewhere.

    Yields:
        A function `(stage, done, total)`; a stage is finished when done reaches total.
    """
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=_err, disable=not _err.is_terminal) as live:

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = live.add_task(stage, total=total)
            task = live.tasks[tasks[stage]]
            if not _err.is_terminal and done >= total and not task.finished:
                _err.print(f"{stage}: {total}", soft_wrap=True)
            live.update(tasks[stage], completed=done, total=total)

        yield update


@contextmanager
def bar(stage: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of one call that reports units done out of a known total."""
    with stages() as update:
        update(stage, 0, total)
        yield lambda done: update(stage, min(done, total), total)
