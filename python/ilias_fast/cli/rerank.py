"""`ilias-fast rerank`."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, print_json, stages

if TYPE_CHECKING:
    from ilias_fast.rerank.methods import Options

__all__ = ["rerank"]


def _method(name: str) -> str:
    from ilias_fast.errors import ParameterError
    from ilias_fast.rerank.methods import known_method

    try:
        return known_method(name)
    except ParameterError as error:
        raise typer.BadParameter(str(error).removeprefix("method: ")) from error


def _kept(path: Path | None) -> Path | None:
    if path is not None and path.suffix != ".npz":
        raise typer.BadParameter(f"expected a file name ending in .npz, found {path.name!r}")
    return options.in_a_folder(path)


_AMES, _SPATIAL, _NEIGHBOURS = "AMES", "Spatial verification", "Neighbourhoods"


def rerank(
    run: Annotated[Path, typer.Argument(help="The run to re-rank.", exists=True, dir_okay=False)],
    queries: Annotated[
        Path,
        typer.Argument(
            help="Descriptors of the queries: a local store, or a global one for the neighbourhoods."
        ),
    ],
    database: Annotated[Path, typer.Argument(help="The same of the database.")],
    output: options.RunOutput,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help="What compares two images: spatial, chamfer, ames; or neighbourhoods of global descriptors: "
            "k-reciprocal, diffusion.",
            callback=_method,
        ),
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
    keep: Annotated[
        Path | None,
        typer.Option(
            help="An .npz for the raw scores: an interrupted call goes on from it, `tune` reads it.",
            callback=_kept,
        ),
    ] = None,
    query_descriptors: Annotated[
        int | None, typer.Option(help="Use only the first so many descriptors of a query.", min=0)
    ] = None,
    database_descriptors: Annotated[
        int | None, typer.Option(help="Use only the first so many of a database image.", min=0)
    ] = None,
    preset: Annotated[
        Literal["default", "paper"],
        typer.Option(
            help="What the options below change: the defaults, or the protocol of the ILIAS paper.",
            rich_help_panel=_SPATIAL,
        ),
    ] = "default",
    max_distance: Annotated[
        int | None,
        typer.Option(
            help="Largest Hamming distance of a correspondence, in bits.", min=0, rich_help_panel=_SPATIAL
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Largest distance of an inlier, as a fraction of the longer side.", rich_help_panel=_SPATIAL
        ),
    ] = None,
    min_inliers: Annotated[
        int | None, typer.Option(help="Fewer inliers score 0.", min=0, rich_help_panel=_SPATIAL)
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(
            help="Largest ratio to the distance of the second nearest descriptor.", rich_help_panel=_SPATIAL
        ),
    ] = None,
    mutual: Annotated[
        bool | None,
        typer.Option(
            "--mutual/--no-mutual", help="Keep only each other's nearest.", rich_help_panel=_SPATIAL
        ),
    ] = None,
    score: Annotated[
        Literal["significance", "inliers"] | None,
        typer.Option(help="Corrected for chance, or the plain count.", rich_help_panel=_SPATIAL),
    ] = None,
    model: Annotated[
        Literal["translation", "similarity", "affine", "homography"] | None,
        typer.Option(help="The richest family of maps that is fitted.", rich_help_panel=_SPATIAL),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The published network.", exists=True, dir_okay=False, rich_help_panel=_AMES),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="What the network computes in.", rich_help_panel=_AMES),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, or a CUDA device.", rich_help_panel=_AMES)] = None,
    k1: Annotated[
        int | None,
        typer.Option(help="k-reciprocal: size of the neighbourhoods.", min=1, rich_help_panel=_NEIGHBOURS),
    ] = None,
    k2: Annotated[
        int | None,
        typer.Option(help="k-reciprocal: neighbours averaged over.", min=1, rich_help_panel=_NEIGHBOURS),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(help="Diffusion: neighbours in the graph.", min=1, rich_help_panel=_NEIGHBOURS),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Diffusion: share of the score that flows on.", rich_help_panel=_NEIGHBOURS),
    ] = None,
    query_list: Annotated[
        Path | None,
        typer.Option(
            help="The run is a nearest-neighbour pickle of AMES: its query list.", exists=True, dir_okay=False
        ),
    ] = None,
    database_list: Annotated[
        Path | None, typer.Option(help="Its gallery list.", exists=True, dir_okay=False)
    ] = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Re-order the first images of every query: lambda * global + (1 - lambda) * sigmoid(gamma * local)."""
    from ilias_fast.rerank import ensemble
    from ilias_fast.rerank import rerank as score_locally
    from ilias_fast.store import GlobalStore, LocalStore

    chosen = _options(
        method,
        {
            "query_descriptors": query_descriptors,
            "database_descriptors": database_descriptors,
            "max_distance": max_distance,
            "threshold": threshold,
            "min_inliers": min_inliers,
            "ratio": ratio,
            "mutual": mutual,
            "score": score,
            "model": model,
            "checkpoint": checkpoint,
            "dtype": dtype,
            "device": device,
            "k1": k1,
            "k2": k2,
            "k": neighbours,
            "alpha": alpha,
        },
        preset,
    )
    before = _run(run, query_list, database_list)
    kind = GlobalStore if method in ("k-reciprocal", "diffusion") else LocalStore
    with stages() as progress:
        local = score_locally(
            before,
            kind.open(queries),
            kind.open(database),
            method=method,  # type: ignore[arg-type]
            shortlist=shortlist,
            options=chosen,
            keep=keep,
            threads=threads,
            progress=lambda done, total: progress("rerank", done, total),
        )
    after = ensemble(before, local, lam=lam, gamma=gamma)
    after.save(output)
    if as_json:
        print_json({"queries": len(after), "method": method, "shortlist": shortlist, "output": str(output)})
    else:
        out.print(f"{len(after)} queries re-ranked: {plain(output)}", soft_wrap=True)


def _options(method: str, given: dict[str, Any], preset: str) -> Options:
    """Return the options of a method; refuse those of another."""
    from ilias_fast.errors import ParameterError
    from ilias_fast.rerank import SpatialOptions
    from ilias_fast.rerank.methods import METHODS

    kind = METHODS[method].options
    chosen = {name: value for name, value in given.items() if value is not None}
    flags = {"k": "neighbours"}
    for name in chosen:
        if name not in {field.name for field in fields(kind)}:
            flag = flags.get(name, name).replace("_", "-")
            raise ParameterError(f"--{flag}: is no option of the method {method!r}")
    if method == "ames" and "checkpoint" not in chosen:
        raise ParameterError("--checkpoint: the method 'ames' needs a published network")
    if preset != "paper":
        return kind(**chosen)
    if kind is not SpatialOptions:
        raise ParameterError(f"--preset: is no option of the method {method!r}")
    return replace(SpatialOptions.paper(), **chosen)


def _run(path: Path, query_list: Path | None, database_list: Path | None) -> Any:
    from ilias_fast.errors import ParameterError
    from ilias_fast.run import Run, read_ames_list, read_ames_neighbours

    if query_list is None and database_list is None:
        return Run.load(path)
    if query_list is None or database_list is None:
        raise ParameterError("--query-list and --database-list: expected both, or none")
    return read_ames_neighbours(path, read_ames_list(query_list), read_ames_list(database_list))
