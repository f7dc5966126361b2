"""`ilias-fast evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli import _runs
from ilias_fast.cli._console import out, plain, results_table

__all__ = ["evaluate"]


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Runs: .json, .pkl (official), .npz, .trec, .parquet.")],
    dataset: options.Dataset,
    k: options.Depth = 1000,
    missing: Annotated[
        Literal["warn", "zero", "error"],
        typer.Option(help="Queries a run lacks: leave them out and say so, count them as zero, or stop."),
    ] = "warn",
    task: Annotated[
        Literal["image", "text"] | None,
        typer.Option(help="Only image or only text queries; else both, apart."),
    ] = None,
    official: Annotated[
        bool, typer.Option("--official", help="Reproduce the official evaluator where it differs.")
    ] = False,
    check_ids: Annotated[
        bool, typer.Option("--check-ids", help="Refuse database ids the dataset lacks.")
    ] = False,
    duplicates: _runs.Duplicates = "error",
    per_query: Annotated[bool, typer.Option("--per-query", help="Print the AP of every query too.")] = False,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write everything as JSON (one run; .pkl for the official result file); `-` prints it.",
            callback=options.in_a_folder,
        ),
    ] = None,
    threads: options.Threads = None,
) -> None:
    """Print mAP@k and the oracle of runs, by the ILIAS protocol."""
    import warnings

    from ilias_fast.datasets import load_dataset
    from ilias_fast.errors import ParameterError
    from ilias_fast.evaluate import MissingQueriesWarning

    if json is not None and len(runs) > 1:
        raise ParameterError(f"--json: expected one run, found {len(runs)}")
    truth = load_dataset(dataset)
    rows, told = [], []
    for named in _runs.load_runs(runs, duplicates, empty=True):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", MissingQueriesWarning)
            evaluation = _runs.judged(
                named,
                truth,
                k=k,
                official=official,
                missing=missing,
                task=task,
                check_ids=check_ids,
                threads=threads,
            )
        told += [f"{named.path}: {warning.message}" for warning in warned]
        rows.append((named.name if len(runs) > 1 else "", evaluation))
        if json is not None and json != options.STDOUT:
            evaluation.save(json)
    if json == options.STDOUT:
        typer.echo(rows[0][1].to_json())
        return
    out.print(results_table(rows))
    for warning in told:
        out.print(f"[yellow]warning:[/] {plain(warning)}", soft_wrap=True)
    if per_query:
        for _, evaluation in rows:
            for score in evaluation.per_query():
                out.print(f"{score.ap:7.2f}  {plain(score.query)}", soft_wrap=True)
