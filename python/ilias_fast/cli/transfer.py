"""`ilias-fast store import, export`: features from anywhere into stores, and out again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, print_json, stages

__all__ = ["export", "import_"]

FormatName = Annotated[
    str | None,
    typer.Option("--format", help="Name of the file format; the suffix decides if not given."),
]


def import_(
    features: Annotated[
        list[str],
        typer.Argument(
            help="Files of features, or one template with `{idx}`: official HDF5, .npy, .npz, .safetensors, "
            "torch .pt, Parquet, Arrow, raw numbers, AMES local descriptors (--format ames)."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to make or continue.")],
    ids: Annotated[
        Path | None,
        typer.Option(
            help="Text file of ids, one a line, for a file without; if not given, the one of the same name."
        ),
    ] = None,
    number_rows: Annotated[
        bool, typer.Option("--number-rows", help="Without any ids, take the row numbers.")
    ] = False,
    array: Annotated[
        str | None, typer.Option(help="The array, tensor or column, where a file holds several.")
    ] = None,
    format_name: FormatName = None,
    total: Annotated[int | None, typer.Option(help="With a template: number of files.", min=1)] = None,
    selected_ids: Annotated[
        Path | None, typer.Option(help="Text file of names, one a line; only these are imported.")
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(help="Linear layer, whitening or ITQ binarisation, applied on the way."),
    ] = None,
    descriptors: Annotated[
        int | None,
        typer.Option(help="Of AMES files: this many local descriptors an image, by weight.", min=1),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Of raw numbers: float16, float32 or uint8.")] = None,
    dim: Annotated[int | None, typer.Option(help="Of raw numbers: how many a row.", min=1)] = None,
    overwrite: options.Overwrite = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Import features into a store; run again after an interruption, it goes on. Floats become float16."""
    from ilias_fast.adapt import load_adapter
    from ilias_fast.cli._card import tell
    from ilias_fast.store import import_store

    with stages() as progress:
        store = import_store(
            features[0] if len(features) == 1 else features,
            output,
            format=format_name,
            ids=ids,
            number_rows=number_rows,
            array=array,
            total=total,
            selected_ids=selected_ids,
            dtype=dtype,
            dim=dim,
            adapter=None if adapter is None else load_adapter(adapter),
            descriptors=descriptors,
            overwrite=overwrite,
            threads=threads,
            progress=lambda done, total: progress("import", done, total),
        )
    tell(store, as_json)


def export(
    path: Annotated[Path, typer.Argument(help="The store.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A .hdf5 file (official layout), .npy, .safetensors, or .faiss; .npy and .faiss get the ids "
            "in a text file beside them.",
        ),
    ],
    format_name: FormatName = None,
    compression: Annotated[int, typer.Option(help="HDF5: gzip level.", min=0, max=9)] = 0,
    index: Annotated[
        str | None, typer.Option(help="faiss: `fp16` (scalar quantiser, nothing lost) or `flat` (float32).")
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a store as a file of another format; it appears when it is complete."""
    from ilias_fast.store import export_store, open_store

    store = open_store(path)
    with stages() as progress:
        export_store(
            store,
            output,
            format=format_name,
            overwrite=overwrite,
            compression=compression,
            index=index,
            progress=lambda done, total: progress("export", done, total),
        )
    if as_json:
        print_json({"rows": len(store), "output": str(output)})
    else:
        out.print(f"{len(store)} rows: {plain(output)}", soft_wrap=True)
