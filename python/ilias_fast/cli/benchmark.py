"""`ilias-fast benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli import _runs
from ilias_fast.cli._console import err, out, plain, print_json

__all__ = ["benchmark"]


def benchmark(
    runs: Annotated[list[Path], typer.Argument(help="Runs: .json, .pkl, .npz, .trec or .parquet.")],
    truth: Annotated[
        Path,
        typer.Option(
            help="Ground truth: gnd_roxford5k.pkl, gnd_instre.mat, retrieval_solution_v2.1.csv, "
            "Ebay_test.txt, a folder of *_query.txt, or a list of the images of Holidays or UKBench."
        ),
    ],
    kind: Annotated[
        Literal["gnd", "gldv2", "oxford", "sop", "ukbench", "holidays"] | None,
        typer.Option(help="Which ground truth it is; found out if not given."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", "-k", min=1, help="Cut of mAP; the benchmark's own if not given.")
    ] = None,
    duplicates: _runs.Duplicates = "error",
    as_json: options.AsJson = False,
) -> None:
    """Print what runs are worth on the other benchmarks: ROxford5k, RParis6k, GLDv2, INSTRE, SOP, ..."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ilias_fast.datasets import load_truth
    from ilias_fast.errors import DuplicateIdError
    from ilias_fast.evaluate import evaluate_benchmark, unanswered

    labels = load_truth(truth, kind)
    found: dict[str, dict[str, float]] = {}
    for named in _runs.load_runs(runs, duplicates):
        try:
            found[named.name] = evaluate_benchmark(named.run, labels, k=k)
        except DuplicateIdError as error:
            raise DuplicateIdError(f"{named.path}: {error}") from error
        missing = unanswered(named.run, labels)
        if missing:
            first = ", ".join(map(repr, missing[:3])) + (", ..." if len(missing) > 3 else "")
            count = f"{len(missing)} of {len(labels.queries)} queries"
            told = f"{named.path}: lacks {count}, which count as zero: {first}"
            err.print(f"[yellow]warning:[/] {plain(told)}", soft_wrap=True)
    if as_json:
        print_json(found)
        return
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title=f"{plain(labels.name)}, percent", title_justify="left"
    )
    table.add_column("")
    for name in found:
        table.add_column(plain(name), justify="right", overflow="fold")
    for metric in next(iter(found.values())):
        values = [by_metric[metric] for by_metric in found.values()]
        table.add_row(metric, *(f"{v:.3f}" if metric == "N-S" else f"{100 * v:.2f}" for v in values))
    out.print(table)
