"""Runs as the commands take them: several files, each judged, each named in what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from ilias_fast.cli._console import err, plain

if TYPE_CHECKING:
    from ilias_fast.datasets import Dataset
    from ilias_fast.evaluate import Evaluation
    from ilias_fast.run import Run

__all__ = ["Duplicates", "Named", "ids_by_query", "judged", "load_runs", "warn_of_missing"]

Duplicates = Annotated[
    Literal["error", "max"],
    typer.Option(help="A database id that a query lists twice: refuse the run, or keep the larger score."),
]


class Named(NamedTuple):
    """A run, the file it is from, and what to call it: the file's name, or its path where names repeat."""

    name: str
    path: Path
    run: Run


def load_runs(
    paths: Sequence[Path], duplicates: Literal["error", "max"], *, empty: bool = False
) -> list[Named]:
    """Read runs; refuse those without a query, unless `empty` ones are welcome.

    Raises:
        ParameterError: A run is empty.
        IliasFastError: See `Run.load`.
    """
    from ilias_fast.errors import ParameterError
    from ilias_fast.run import Run

    loaded: list[Named] = []
    for path in paths:
        run = Run.load(path, duplicates=duplicates)
        if not len(run) and not empty:
            raise ParameterError(f"{path}: expected a run with results, found an empty one")
        taken = {other.name for other in loaded}
        names = (path.stem, str(path), *(f"{path} ({number})" for number in range(2, len(paths) + 2)))
        loaded.append(Named(next(name for name in names if name not in taken), path, run))
    return loaded


def judged(
    named: Named,
    dataset: Dataset,
    *,
    k: int,
    missing: Literal["warn", "zero", "error"] = "zero",
    task: Literal["image", "text"] | None = None,
    official: bool = False,
    check_ids: bool = False,
    threads: int | None = None,
) -> Evaluation:
    """Evaluate a run; what is wrong with it is said of its file.

    Raises:
        IliasFastError: See `evaluate`.
    """
    from ilias_fast.errors import ParameterError, UnknownIdError
    from ilias_fast.evaluate import evaluate

    try:
        return evaluate(
            named.run,
            dataset,
            k=k,
            official=official,
            missing=missing,
            task=task,
            check_ids=check_ids,
            threads=threads,
        )
    except (ParameterError, UnknownIdError) as error:
        raise type(error)(f"{named.path}: {error}") from error


def warn_of_missing(named: Named, evaluation: Evaluation) -> None:
    """Say on stderr which queries of an evaluation with `missing="zero"` were counted as zero."""
    for task in evaluation.tasks.values():
        if task.missing:
            first = ", ".join(map(repr, task.missing[:3])) + (", ..." if len(task.missing) > 3 else "")
            count = f"{len(task.missing)} of {len(task.queries)} {task.task} queries"
            err.print(
                f"[yellow]warning:[/] {plain(f'{named.path}: lacks {count}, which count as zero: {first}')}",
                soft_wrap=True,
            )


def ids_by_query(path: Path) -> dict[str, list[str]]:
    """Read a JSON file `{query id: [ids]}`.

    Raises:
        FileFormatError: It is something else.
        StorageError: It cannot be read.
    """
    from ilias_fast._files import read_text
    from ilias_fast.errors import FileFormatError

    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as cause:
        raise FileFormatError(f"{path}: expected JSON ({cause})") from cause
    lists = list(found.values()) if isinstance(found, dict) else [None]
    if not all(isinstance(ids, list) and all(isinstance(name, str) for name in ids) for ids in lists):
        raise FileFormatError(f"{path}: expected an object {{query id: [ids]}}")
    by_query: dict[str, list[str]] = found
    return by_query
