"""`ilias-fast search`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli import _runs
from ilias_fast.cli._console import out, plain, print_json, stages

__all__ = ["search"]


def search(
    queries: Annotated[
        str, typer.Argument(help="Query descriptors: a global store, official HDF5, or .npy.")
    ],
    database: Annotated[
        list[str],
        typer.Argument(
            help="Database descriptors, searched as one sequence in the order given: stores, official HDF5 "
            "(with `{idx}` for 00000, 00001, ...), or .npy."
        ),
    ],
    output: options.RunOutput,
    k: options.Depth = 1000,
    query_expansion: Annotated[
        int, typer.Option("--query-expansion", "--qe", help="Neighbours of alpha query expansion.", min=0)
    ] = 0,
    alpha: Annotated[float, typer.Option(help="Exponent of the neighbours' weights.", min=0)] = 1.0,
    mode: Annotated[
        Literal["paper", "official"],
        typer.Option(help="Query expansion as in the paper, or as in the published code."),
    ] = "paper",
    adapter: Annotated[
        Path | None,
        typer.Option(help="Linear adaptation layer (official .pth, or ours) applied to both sides."),
    ] = None,
    selected_ids: Annotated[
        Path | None, typer.Option(help="Text file of distractor names, one a line; only these are searched.")
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(help="JSON file `{query id: [ids]}` of images that a query must not find."),
    ] = None,
    fuse_queries: Annotated[
        list[str] | None,
        typer.Option(help="More queries, whose similarities are added; matched by id or by instance."),
    ] = None,
    fuse_database: Annotated[
        list[str] | None,
        typer.Option(help="Their databases: the same images in order; the first if not given."),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Weights of the added similarities, the first queries' first; all 1 if not given."),
    ] = None,
    backend: Annotated[
        Literal["cpu", "torch", "faiss"],
        typer.Option(help="Who screens; the answer is the same."),
    ] = "cpu",
    device: Annotated[str, typer.Option(help="Device of the torch backend: cpu, cuda, cuda:1 ...")] = "cpu",
    resume: Annotated[
        Path | None,
        typer.Option(help="Folder for unfinished work: the same command goes on where it was killed."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Search although the provenance differs.")] = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Find the k most similar database images of every query, exactly.

    A .npy matrix takes its ids from a text file beside it, one id a line (`features.npy`, `features.txt`), or
    else the row numbers.
    """
    from ilias_fast._files import read_names
    from ilias_fast.search import Part, resuming, search_fused
    from ilias_fast.search import search as search_stores
    from ilias_fast.search.backends import Torch
    from ilias_fast.store.sources import open_features, read_queries

    fused = list(fuse_queries or ())
    others = [database] * len(fused) if not fuse_database else [[path] for path in fuse_database]
    weights = weight if weight else [1.0] * (1 + len(fused))
    if len(others) != len(fused):
        raise typer.BadParameter(f"expected one --fuse-database for each of {len(fused)} --fuse-queries")
    if len(weights) != 1 + len(fused):
        raise typer.BadParameter(f"expected {1 + len(fused)} --weight, found {len(weights)}")
    if fused and (query_expansion or adapter or resume):
        raise typer.BadParameter("--fuse-queries cannot be combined with --qe, --adapter or --resume")
    layer = None
    if adapter is not None:
        from ilias_fast.adapt import LinearAdapter

        layer = LinearAdapter.load(adapter)
    common: dict[str, Any] = {
        "selected_ids": None if selected_ids is None else read_names(selected_ids),
        "exclude": None if exclude is None else _runs.ids_by_query(exclude),
        "backend": Torch(device) if backend == "torch" else backend,
        "force": force,
        "threads": threads,
    }
    with stages() as progress, ExitStack() as opened:
        once = not (fused or query_expansion or exclude or resume) and backend == "cpu"

        def open_database(paths: list[str]) -> Any:
            return opened.enter_context(
                open_features(
                    paths,
                    near=output,
                    once=once,
                    threads=threads,
                    progress=lambda done, total: progress("import", done, total),
                )
            )

        stores = open_database(database)
        common["progress"] = lambda done, total: progress("search", done, total)
        if fused:
            parts = [Part(read_queries(queries), stores, weights[0])]
            for path, paths, factor in zip(fused, others, weights[1:], strict=True):
                same = stores if paths is database else open_database(paths)
                parts.append(Part(read_queries(path), same, factor))
            run = search_fused(parts, k, **common)
        else:
            run = search_stores(
                read_queries(queries),
                stores,
                k,
                query_expansion=query_expansion,
                alpha=alpha,
                mode=mode,
                adapter=layer,
                resume=resume,
                **common,
            )
        run.save(output)
    if resume is not None:
        resuming.discard(resume)
    if as_json:
        print_json({"queries": len(run), "results": len(run.indices), "output": str(output)})
    else:
        out.print(f"{len(run)} queries, {len(run.indices)} results: {plain(output)}", soft_wrap=True)
