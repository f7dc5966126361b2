"""`ilias-fast rerank`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, stages

__all__ = ["rerank"]


def rerank(
    run: Annotated[Path, typer.Argument(help="The run to re-rank.", exists=True, dir_okay=False)],
    queries: Annotated[Path, typer.Argument(help="Local descriptors of the queries: a local store.")],
    database: Annotated[Path, typer.Argument(help="Local descriptors of the database: a local store.")],
    output: options.RunOutput,
    method: Annotated[
        Literal["spatial", "chamfer"], typer.Option("--method", "-m", help="What compares two images.")
    ] = "spatial",
    shortlist: Annotated[
        int, typer.Option("--shortlist", "-M", help="Images re-ranked per query.", min=1)
    ] = 1000,
    lam: Annotated[
        float | None,
        typer.Option(
            "--lambda", help="Weight of the global score, 0 to 1; the method's default if not given."
        ),
    ] = None,
    gamma: Annotated[
        float | None,
        typer.Option("--gamma", help="Slope of the local score; the method's default if not given."),
    ] = None,
    threads: options.Threads = None,
) -> None:
    """Re-order the first images of every query: lambda * global + (1 - lambda) * sigmoid(gamma * local)."""
    from ilias_fast.rerank import ensemble
    from ilias_fast.rerank import rerank as score_locally
    from ilias_fast.run import Run
    from ilias_fast.store import LocalStore

    before = Run.load(run)
    with stages() as progress:
        local = score_locally(
            before,
            LocalStore.open(queries),
            LocalStore.open(database),
            method=method,
            shortlist=shortlist,
            threads=threads,
            progress=lambda done, total: progress("rerank", done, total),
        )
    after = ensemble(before, local, lam=lam, gamma=gamma)
    after.save(output)
    out.print(f"{len(after)} queries re-ranked: {plain(output)}", soft_wrap=True)
