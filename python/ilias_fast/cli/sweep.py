"""`ilias-fast sweep`: mAP against the database, the dimension, and the cost of re-ranking."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, print_json, stages

if TYPE_CHECKING:
    from ilias_fast.evaluate import Sweep

__all__ = ["app", "dimension", "distractors", "rerank"]

app = typer.Typer(
    no_args_is_help=True,
    help="mAP against a setting, as a table and as JSON that `report --sweep` draws.",
)

Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write it as JSON; `-` prints it.", callback=options.in_a_folder),
]
Numbers = Annotated[str | None, typer.Option(help="Values to try, as 64,128,256.")]


def _numbers(name: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"--{name}: expected whole numbers separated by commas, found {text!r}"
        ) from error


def _tell(sweep: Sweep, json: Path | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    if json == options.STDOUT:
        print_json(sweep.to_dict())
        return
    rows = sweep.rows()
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=plain(sweep.title), title_justify="left")
    kept = [at for at in range(5) if at < 3 or any(row[at] is not None for row in rows)]
    for at in kept:
        table.add_column(sweep.header()[at], justify="left" if at == 0 else "right", overflow="fold")
    for row in rows:
        label, x, value, spread, size = row
        texts = [
            plain(label),
            f"{x:,.0f}",
            f"{value:.2f}",
            "" if spread is None else f"± {spread:.2f}",
            "" if size is None else f"{size:,.0f}",
        ]
        table.add_row(*(texts[at] for at in kept))
    out.print(table)
    if json is not None:
        sweep.save(json)
        out.print(f"written: {plain(json)}", soft_wrap=True)


@app.command()
def distractors(
    queries: Annotated[Path, typer.Argument(help="Store of the queries.")],
    positives: Annotated[Path, typer.Argument(help="Store of the positives.")],
    dataset: options.Dataset,
    stores: Annotated[
        list[Path] | None,
        typer.Argument(help="Stores of the distractors, in order; none if all were counted elsewhere."),
    ] = None,
    prefixes: Numbers = None,
    subsets: Annotated[int, typer.Option(min=0, help="Random subsets of the distractors.")] = 0,
    subset_size: Annotated[int, typer.Option(min=1, help="Distractors of each subset.")] = 5_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the subsets.")] = 0,
    k: options.Depth = 1000,
    label: Annotated[str, typer.Option(help="Name of the curve.")] = "mAP",
    first: Annotated[
        int, typer.Option(min=0, help="Number of the first distractor here, if others count those before.")
    ] = 0,
    total: Annotated[
        int | None,
        typer.Option(min=0, help="Distractors on all machines; with --state, only these are counted here."),
    ] = None,
    merge: Annotated[
        list[Path] | None,
        typer.Option(help="Counts of another machine, its --state. May be repeated."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Keep the counts here: an interrupted pass goes on.", callback=options.in_a_folder),
    ] = None,
    json: Json = None,
    threads: options.Threads = None,
) -> None:
    """Follow mAP as the database grows, and over random subsets of it, in one pass without a ranking."""
    from ilias_fast.datasets import load_dataset
    from ilias_fast.evaluate import count_distractors, distractor_curve
    from ilias_fast.store import GlobalStore
    from ilias_fast.sweep import curve_sweep

    if not stores and not merge:
        raise typer.BadParameter("expected stores of distractors, or --merge with counts of them")
    truth = load_dataset(dataset)
    opened = [GlobalStore.open(path) for path in stores or ()]
    here = sum(map(len, opened))
    with stages() as progress:
        parts = (truth, GlobalStore.open(queries), GlobalStore.open(positives), opened)
        common: dict[str, Any] = {
            "prefixes": _numbers("prefixes", prefixes),
            "subsets": subsets,
            "subset_size": subset_size,
            "seed": seed,
            "first": first,
            "total": total,
            "state": state,
            "threads": threads,
            "progress": lambda done, total: progress("distractors", done, total),
        }
        share = state is not None and total is not None and here < total and not merge
        if share:
            count_distractors(*parts, **common)
        else:
            curve = distractor_curve(*parts, k=k, counted=merge or (), **common)
    if share and json == options.STDOUT:
        print_json({"counted": here, "total": total, "state": str(state)})
        return
    if share:
        told = f"{here:,} of {total:,} distractors counted; to bring all together: --merge {state}"
        out.print(plain(told), soft_wrap=True)
        return
    _tell(curve_sweep({label: curve}), json)


@app.command()
def dimension(
    queries: Annotated[Path, typer.Argument(help="Store of the queries.")],
    database: Annotated[list[Path], typer.Argument(help="Stores of the database, in order.")],
    dataset: options.Dataset,
    dims: Numbers = None,
    k: options.Depth = 1000,
    label: Annotated[str, typer.Option(help="Name of the curve.")] = "leading dimensions",
    json: Json = None,
    threads: options.Threads = None,
) -> None:
    """Evaluate the leading dimensions of the descriptors, all in one pass over the database."""
    from ilias_fast.datasets import load_dataset
    from ilias_fast.store import GlobalStore
    from ilias_fast.sweep import dimension_sweep

    truth = load_dataset(dataset)
    with stages() as progress:
        sweep = dimension_sweep(
            truth,
            GlobalStore.open(queries),
            [GlobalStore.open(path) for path in database],
            dims=_numbers("dims", dims),
            k=k,
            label=label,
            threads=threads,
            progress=lambda done, total: progress("dimensions", done, total),
        )
    _tell(sweep, json)


@app.command()
def rerank(
    run: Annotated[Path, typer.Argument(help="The run to re-rank.", exists=True, dir_okay=False)],
    queries: Annotated[Path, typer.Argument(help="Local store of the queries.")],
    database: Annotated[Path, typer.Argument(help="Local store of the database.")],
    dataset: options.Dataset,
    method: Annotated[
        Literal["chamfer", "spatial"], typer.Option(help="How images are compared.")
    ] = "chamfer",
    shortlists: Annotated[
        str, typer.Option("--shortlists", "-M", help="Numbers of images re-ranked.")
    ] = "50,100,200,400,1000",
    descriptors: Annotated[
        str, typer.Option("--descriptors", "-n", help="Numbers of descriptors of a database image.")
    ] = "25,50,100,200,400",
    query_descriptors: Annotated[
        int | None, typer.Option(min=1, help="Descriptors of a query; all if not given.")
    ] = None,
    k: options.Depth = 1000,
    json: Json = None,
    threads: options.Threads = None,
) -> None:
    """Evaluate re-ranking for every shortlist and number of descriptors, with the memory of an image."""
    from ilias_fast.datasets import load_dataset
    from ilias_fast.rerank import ChamferOptions, SpatialOptions
    from ilias_fast.run import Run
    from ilias_fast.store import LocalStore
    from ilias_fast.sweep import rerank_sweep

    truth = load_dataset(dataset)
    with stages() as progress:
        sweep = rerank_sweep(
            truth,
            Run.load(run),
            LocalStore.open(queries),
            LocalStore.open(database),
            method=method,
            shortlists=_numbers("shortlists", shortlists) or (),
            descriptors=_numbers("descriptors", descriptors) or (),
            options=(ChamferOptions if method == "chamfer" else SpatialOptions)(
                query_descriptors=query_descriptors
            ),
            k=k,
            threads=threads,
            progress=lambda done, total: progress("rerank", done, total),
        )
    _tell(sweep, json)
