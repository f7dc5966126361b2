"""`ilias-fast store`: create, import, export, info, verify, gc."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, stages

if TYPE_CHECKING:
    from ilias_fast.store import BinaryStore, GlobalStore, LocalStore

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Descriptor stores: create, import, export, look at, check.")

StorePath = Annotated[Path, typer.Argument(help="The store.")]


@app.command("create")
def create(
    array: Annotated[Path, typer.Argument(help="A .npy matrix: floats, or packed codes (uint8).")],
    ids: Annotated[Path, typer.Argument(help="A text file, one id a line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to make.")],
    overwrite: options.Overwrite = False,
) -> None:
    """Make a store of a .npy matrix and its ids. Floats are rounded to float16."""
    from ilias_fast.store import import_npy

    with stages() as progress:
        store = import_npy(
            array,
            ids,
            output,
            overwrite=overwrite,
            progress=lambda done, total: progress("create", done, total),
        )
    _card(store)


@app.command("import")
def import_(
    features: Annotated[
        list[str], typer.Argument(help="Official feature HDF5 files, or one template with `{idx}`.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to make or continue.")],
    total: Annotated[int | None, typer.Option(help="With a template: number of files.", min=1)] = None,
    selected_ids: Annotated[
        Path | None, typer.Option(help="Text file of names, one a line; only these are imported.")
    ] = None,
) -> None:
    """Import official feature files, one commit a file; run again after an interruption, it goes on."""
    from ilias_fast.store import import_hdf5

    with stages() as progress:
        store = import_hdf5(
            features[0] if len(features) == 1 else features,
            output,
            total=total,
            selected_ids=selected_ids,
            progress=lambda done, total: progress("import", done, total),
        )
    _card(store)


@app.command("export")
def export(
    path: StorePath,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="An .hdf5 file (official layout), or .npy with the ids beside it."
        ),
    ],
    overwrite: options.Overwrite = False,
) -> None:
    """Write a store as official feature HDF5, or as .npy with a text file of ids."""
    from ilias_fast.errors import IncompatibleStoreError, ParameterError
    from ilias_fast.store import GlobalStore, LocalStore, export_hdf5, export_npy, open_store

    store = open_store(path)
    if isinstance(store, LocalStore):
        raise IncompatibleStoreError(f"{path}: expected a global or binary store, found a local one")
    if output.suffix == ".npy":
        export_npy(store, output, output.with_suffix(".txt"), overwrite=overwrite)
    elif output.suffix in (".hdf5", ".h5"):
        if not isinstance(store, GlobalStore):
            raise IncompatibleStoreError(
                f"{path}: expected a global store, found a binary one; export it as .npy"
            )
        with stages() as progress:
            export_hdf5(
                store,
                output,
                overwrite=overwrite,
                progress=lambda done, total: progress("export", done, total),
            )
    else:
        raise ParameterError(f"--output: expected a name ending in .hdf5 or .npy, found {output.name!r}")
    out.print(f"{len(store)} rows: {plain(output)}", soft_wrap=True)


@app.command("info")
def info(path: StorePath) -> None:
    """Print what a store holds and where it came from."""
    from ilias_fast.store import open_store

    _card(open_store(path))


@app.command("verify")
def verify(
    path: StorePath,
    quick: Annotated[bool, typer.Option("--quick", help="Only the manifest, sizes and headers.")] = False,
    threads: options.Threads = None,
) -> None:
    """Check every byte of a store; exit code 1 if anything is damaged."""
    from ilias_fast.store import verify as check

    with stages() as progress:
        # A store too damaged to open has no known size; the bar then only shows that work goes on.
        found = check(
            path,
            quick=quick,
            threads=threads,
            progress=lambda done, total: progress("verify", done, total),
        )
    for damage in found.damages:
        out.print(f"[red]damaged[/] {plain(damage)}", soft_wrap=True)
    for name in found.leftovers:
        out.print(f"[yellow]leftover[/] {plain(name)} (remove with: ilias-fast store gc)", soft_wrap=True)
    out.print(
        f"{found.shards} shards, {found.bytes:,} bytes checked: {'all good' if found.ok else 'DAMAGED'}"
    )
    if not found.ok:
        raise typer.Exit(1)


@app.command("gc")
def gc(path: StorePath) -> None:
    """Remove what killed writers left behind."""
    from ilias_fast.store import gc as collect

    removed = collect(path)
    for name in removed:
        out.print(f"removed {plain(name)}", soft_wrap=True)
    out.print(f"{len(removed)} files removed")


def _card(store: GlobalStore | BinaryStore | LocalStore) -> None:
    import json

    found = store.info()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        ("path", str(found.path)),
        ("kind", found.kind),
        ("rows", f"{found.rows:,}"),
        ("dim", f"{found.dim:,}") if found.dim else ("bits", f"{found.bits:,}"),
        *([("descriptors", f"{found.descriptors:,}")] if found.kind == "local" else []),
        ("shards", f"{found.shards:,}"),
        ("bytes", f"{found.bytes:,}"),
        *(
            (one.kind, f"{one.shards:,} of {found.shards:,} shards, {one.bytes:,} bytes")
            for one in found.derived
        ),
        ("state", found.checksum),
    ]
    rows += [
        (key, value if isinstance(value, str) else json.dumps(value))
        for key, value in found.provenance.items()
    ]
    if found.parent is not None:
        rows.append(("derived from", str(found.parent["path"])))
    for name, value in rows:
        table.add_row(f"[bold]{plain(name)}", plain(value))
    out.print(table)
