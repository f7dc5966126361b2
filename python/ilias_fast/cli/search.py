"""`ilias-fast search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, stages

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
    force: Annotated[bool, typer.Option("--force", help="Search although the provenance differs.")] = False,
    threads: options.Threads = None,
) -> None:
    """Find the k most similar database images of every query, exactly.

    A .npy matrix takes its ids from a text file beside it, one id a line (`features.npy`, `features.txt`), or
    else the row numbers.
    """
    from ilias_fast._files import read_names
    from ilias_fast.adapt import LinearAdapter
    from ilias_fast.search import search as search_stores
    from ilias_fast.store.sources import open_features, read_queries

    layer = None if adapter is None else LinearAdapter.load(adapter)
    selected = None if selected_ids is None else read_names(selected_ids)
    with (
        stages() as progress,
        open_features(
            database, near=output, progress=lambda done, total: progress("import", done, total)
        ) as stores,
    ):
        run = search_stores(
            read_queries(queries),
            stores,
            k,
            query_expansion=query_expansion,
            alpha=alpha,
            mode=mode,
            adapter=layer,
            selected_ids=selected,
            force=force,
            threads=threads,
            progress=lambda done, total: progress("search", done, total),
        )
        run.save(output)
    out.print(f"{len(run)} queries, {len(run.indices)} results: {plain(output)}", soft_wrap=True)
