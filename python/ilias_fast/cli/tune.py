"""`ilias-fast tune`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, stages

__all__ = ["tune"]

_T = TypeVar("_T", int, float)


def _numbers(kind: Callable[[str], _T], text: str | None) -> list[_T] | None:
    """Read numbers that are separated by commas."""
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"expected numbers separated by commas, found {text!r}") from error


def _picture(path: Path | None) -> Path | None:
    if path is not None and path.suffix != ".svg":
        raise typer.BadParameter(f"expected a file name ending in .svg, found {path.name!r}")
    return options.in_a_folder(path)


def tune(
    run: Annotated[Path, typer.Argument(help="The run that was re-ranked.", exists=True, dir_okay=False)],
    scores: Annotated[
        Path, typer.Argument(help="Its raw scores: what `rerank --keep` wrote.", exists=True, dir_okay=False)
    ],
    dataset: options.Dataset,
    lams: Annotated[
        str | None, typer.Option("--lambda", help="Weights of the global score, as 0.1,0.3,0.5.")
    ] = None,
    gammas: Annotated[str | None, typer.Option("--gamma", help="Slopes of the local score.")] = None,
    shortlists: Annotated[
        str | None, typer.Option("--shortlist", "-M", help="Lengths of the shortlist, as 100,400.")
    ] = None,
    k: options.Depth = 1000,
    json: Annotated[
        Path | None,
        typer.Option("--json", help="Write all values as JSON; `-` prints it.", callback=options.in_a_folder),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the values, as .svg.", callback=_picture)] = None,
) -> None:
    """Find the best lambda, gamma and shortlist on a validation set; no image is compared again."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ilias_fast.datasets import load_dataset
    from ilias_fast.errors import ParameterError
    from ilias_fast.evaluate import evaluate
    from ilias_fast.rerank import GAMMAS, LAMBDAS, LocalScores, oracle
    from ilias_fast.rerank import tune as try_all
    from ilias_fast.run import Run

    if json not in (None, options.STDOUT) and json.suffix != ".json":
        raise ParameterError(f"--json: expected a file name ending in .json, found {json.name!r}")
    before, truth = Run.load(run), load_dataset(dataset)
    local = LocalScores.load(scores, before)

    def value(tried: Run) -> float:
        return evaluate(tried, truth, k=k, missing="zero", task="image").map

    with stages() as progress:
        surface = try_all(
            before,
            local,
            value,
            lams=_numbers(float, lams) or LAMBDAS,
            gammas=_numbers(float, gammas) or GAMMAS,
            shortlists=_numbers(int, shortlists),
            name=f"mAP@{k}",
            progress=lambda done, total: progress("tune", done, total),
        )
    if json == options.STDOUT:
        typer.echo(surface.to_json())
        return
    lengths, tried_lams, tried_gammas = surface.axes()
    found = {point[:3]: point.value for point in surface.points}
    best = surface.best
    for length in lengths:
        table = Table(
            box=SIMPLE_HEAD, pad_edge=False, title=f"{local.method}, M = {length}", title_justify="left"
        )
        table.add_column("lambda \\ gamma", justify="right")
        for gamma in tried_gammas:
            table.add_column(f"{gamma:g}", justify="right", no_wrap=True)
        for lam in tried_lams:
            cells = [
                f"[bold]{found[length, lam, gamma]:.2f}[/]"
                if best[:3] == (length, lam, gamma)
                else f"{found[length, lam, gamma]:.2f}"
                for gamma in tried_gammas
            ]
            table.add_row(f"{lam:g}", *cells)
        out.print(table)
    bound = value(oracle(before, truth.positives_of, local.shortlist))
    out.print(f"mAP@{k} without re-ranking {surface.baseline:.2f}, best order of the shortlists {bound:.2f}")
    flags = f"--lambda {best.lam:g} --gamma {best.gamma:g} -M {best.shortlist}"
    out.print(f"best: {best.value:.2f} with {flags}")
    for path in (json, plot):
        if path is not None:
            surface.save(path)
            out.print(f"written: {plain(path)}", soft_wrap=True)
