"""`ilias-fast compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli import _runs
from ilias_fast.cli._console import comparison_tables, out, plain

__all__ = ["compare"]


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Runs: .json, .pkl, .npz, .trec or .parquet.")],
    dataset: options.Dataset,
    k: options.Depth = 1000,
    task: Annotated[
        Literal["image", "text"] | None, typer.Option(help="Which queries, if the runs answer both.")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Bootstrap samples, and draws of the randomisation test.")
    ] = 10_000,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    pair: Annotated[
        Literal["query", "instance"],
        typer.Option(help="Compare the same query, or image queries with the text query of their instance."),
    ] = "query",
    duplicates: _runs.Duplicates = "error",
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    json: Annotated[
        Path | None,
        typer.Option("--json", help="Write it as JSON; `-` prints it.", callback=options.in_a_folder),
    ] = None,
    threads: options.Threads = None,
) -> None:
    """Say whether runs differ: confidence intervals, a randomisation test, wins and losses, correlation."""
    from ilias_fast._files import written
    from ilias_fast.datasets import load_dataset
    from ilias_fast.evaluate import compare as judge

    truth = load_dataset(dataset)
    evaluations = {}
    for named in _runs.load_runs(runs, duplicates):
        evaluations[named.name] = _runs.judged(named, truth, k=k, task=task, threads=threads)
        _runs.warn_of_missing(named, evaluations[named.name])
    found = judge(evaluations, pair=pair, samples=samples, confidence=confidence, seed=seed)
    if json == options.STDOUT:
        typer.echo(found.to_json())
        return
    for table in comparison_tables(found):
        out.print(table)
    if json is not None:
        with written(json) as file:
            file.write(found.to_json().encode())
        out.print(f"written: {plain(json)}", soft_wrap=True)
