"""`ilias-fast report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, stages

__all__ = ["report"]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Runs to show, .json, .pkl or .npz; the others are compared with the first."),
    ],
    dataset: options.Dataset,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The HTML page.", callback=options.in_a_folder)
    ] = Path("report.html"),
    k: options.Depth = 1000,
    threads: options.Threads = None,
) -> None:
    """Write one HTML page about runs: table, plots, groups, and the pictures that were found."""
    from ilias_fast.datasets import load_dataset
    from ilias_fast.evaluate import evaluate
    from ilias_fast.report import write_report
    from ilias_fast.report.assemble import Judged, report_data
    from ilias_fast.run import Run

    truth = load_dataset(dataset)
    judged = []
    for path in runs:
        run = Run.load(path)
        judged.append(
            Judged(
                path.stem,
                path.stem,
                run,
                evaluate(run, truth, k=k, missing="zero", task="image", threads=threads),
            )
        )
    with stages() as progress:
        page = write_report(
            output,
            report_data(truth, judged, provenance={"Runs": {path.stem: str(path) for path in runs}}),
            progress=lambda done, total: progress("pictures", done, total),
        )
    out.print(f"report: {plain(page)}", soft_wrap=True)
