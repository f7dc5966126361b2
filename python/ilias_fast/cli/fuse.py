"""`ilias-fast fuse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli import _runs
from ilias_fast.cli._console import out, plain, print_json

__all__ = ["fuse"]


def fuse(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Runs of the same queries, or the image run first and the text run second."),
    ],
    output: options.RunOutput,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Weight of a run, in their order, once for each; their mean if not given."),
    ] = None,
    method: Annotated[
        Literal["scores", "ranks"],
        typer.Option(help="Add scores, or 1 / (60 + rank): reciprocal rank fusion."),
    ] = "scores",
    normalise: Annotated[
        Literal["none", "minmax", "zscore"],
        typer.Option(help="Of each list's scores first, for models whose scores differ in scale."),
    ] = "none",
    missing: Annotated[
        Literal["least", "zero"],
        typer.Option(help="What an image that a list lacks scores in it: its last score, or 0."),
    ] = "least",
    duplicates: _runs.Duplicates = "error",
    k: options.Depth = 1000,
    as_json: options.AsJson = False,
) -> None:
    """Make one run of several: models together, or image queries with the text queries of their instances."""
    from ilias_fast.run import fuse as add_up

    if weight and len(weight) != len(runs):
        raise typer.BadParameter(f"--weight: expected {len(runs)}, one a run, found {len(weight)}")
    loaded = [named.run for named in _runs.load_runs(runs, duplicates)]
    fused = add_up(loaded, weight or None, method=method, normalise=normalise, missing=missing, k=k)
    fused.save(output)
    if as_json:
        print_json({"queries": len(fused), "results": len(fused.indices), "output": str(output)})
    else:
        out.print(f"{len(fused)} queries, {len(fused.indices)} results: {plain(output)}", soft_wrap=True)
