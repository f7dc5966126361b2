"""`ilias-fast store`: create, import, export, augment, select, merge, delete, compact, info, verify, gc."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._card import card, facts, tell
from ilias_fast.cli._console import out, plain, print_json, stages
from ilias_fast.cli.transfer import export, import_

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Descriptor stores: import, export, change, look at, check.")

StorePath = Annotated[Path, typer.Argument(help="The store.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The store to make.")]


app.command("import")(import_)
app.command("export")(export)


@app.command("augment")
def augment(
    path: StorePath,
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to make.")],
    neighbours: Annotated[int, typer.Option("--neighbours", "-n", help="How many are mixed in.", min=1)] = 10,
    alpha: Annotated[float, typer.Option(help="Exponent of the neighbours' weights.", min=0)] = 1.0,
    overwrite: options.Overwrite = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Mix every descriptor of a global store with its nearest neighbours (database-side augmentation)."""
    from ilias_fast.search import augment as augment_store
    from ilias_fast.store import GlobalStore

    with stages() as progress:
        store = augment_store(
            GlobalStore.open(path),
            output,
            neighbours=neighbours,
            alpha=alpha,
            overwrite=overwrite,
            threads=threads,
            progress=lambda done, total: progress("augment", done, total),
        )
    tell(store, as_json)


@app.command("select")
def select(
    path: StorePath,
    ids: Annotated[Path, typer.Argument(help="A text file, one id a line; the new store has its order.")],
    output: Output,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a store of some rows of another."""
    from ilias_fast.store import open_store
    from ilias_fast.store import select as select_rows

    store = open_store(path)
    with stages() as progress:
        made = select_rows(
            store,
            output,
            _lines(ids),
            overwrite=overwrite,
            progress=lambda done, total: progress("select", done, total),
        )
    tell(made, as_json)


@app.command("merge")
def merge(
    paths: Annotated[list[Path], typer.Argument(help="Stores of one kind and length.")],
    output: Output,
    overwrite: options.Overwrite = False,
    force: Annotated[bool, typer.Option("--force", help="Also if their provenance differs.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a store of all rows of several; an id in two of them is an error that names it."""
    from ilias_fast.store import merge as merge_stores
    from ilias_fast.store import open_store

    with stages() as progress:
        made = merge_stores(
            [open_store(path) for path in paths],
            output,
            force=force,
            overwrite=overwrite,
            progress=lambda done, total: progress("merge", done, total),
        )
    tell(made, as_json)


@app.command("delete")
def delete(
    path: StorePath,
    ids: Annotated[Path, typer.Argument(help="A text file, one id a line.")],
    as_json: options.AsJson = False,
) -> None:
    """Delete rows by id, in one commit. They take room until `compact`."""
    from ilias_fast.store import delete as delete_rows

    rows = delete_rows(path, _lines(ids))
    if as_json:
        print_json({"deleted": rows})
    else:
        out.print(f"{rows:,} rows deleted")


@app.command("compact")
def compact(path: StorePath, as_json: options.AsJson = False) -> None:
    """Drop deleted rows and merge small shards; can be interrupted and run again."""
    from ilias_fast.store import compact as compact_store

    with stages() as progress:
        done = compact_store(path, progress=lambda done, total: progress("compact", done, total))
    if as_json:
        print_json(done._asdict())
        return
    out.print(
        f"{done.rewritten:,} shards rewritten as {done.written:,}, {done.dropped:,} deleted rows dropped"
    )


@app.command("info")
def info(path: StorePath, as_json: options.AsJson = False) -> None:
    """Print what a store holds, where it came from, and whether its files are there and whole at a glance."""
    from ilias_fast.store import open_store

    store = open_store(path)
    if as_json:
        print_json({**facts(store), "health": asdict(store.verify(quick=True))})
    else:
        card(store, health=True)


@app.command("verify")
def verify(
    path: StorePath,
    quick: Annotated[bool, typer.Option("--quick", help="Only the manifest, sizes and headers.")] = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
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
    if as_json:
        print_json({**asdict(found), "ok": found.ok})
        raise typer.Exit(not found.ok)
    for damage in found.damages:
        out.print(f"[red]damaged[/] {plain(damage)}", soft_wrap=True)
    for name in found.leftovers:
        out.print(f"[yellow]leftover[/] {plain(name)} (remove with: ilias-fast store gc)", soft_wrap=True)
    shards = f"{found.shards} shard{'' if found.shards == 1 else 's'}"
    out.print(f"{shards}, {found.bytes:,} bytes checked: {'all good' if found.ok else 'DAMAGED'}")
    if not found.ok:
        raise typer.Exit(1)


@app.command("planes")
def planes(
    path: StorePath,
    drop: Annotated[bool, typer.Option("--drop", help="Remove them instead.")] = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Keep int8 planes beside the shards: few queries are searched twice as fast, with the same answers."""
    from ilias_fast.store import build_planes, drop_planes, gc, open_store

    if drop:
        shards = drop_planes(path)
        gc(path)
        if not as_json:
            out.print(f"planes of {shards} shards removed")
    else:
        with stages() as progress:
            build_planes(path, threads=threads, progress=lambda done, total: progress("planes", done, total))
    tell(open_store(path), as_json)


@app.command("gc")
def gc(path: StorePath, as_json: options.AsJson = False) -> None:
    """Remove what killed writers left behind."""
    from ilias_fast.store import gc as collect

    removed = collect(path)
    if as_json:
        print_json({"removed": list(removed)})
        return
    for name in removed:
        out.print(f"removed {plain(name)}", soft_wrap=True)
    out.print(f"{len(removed)} files removed")


def _lines(path: Path) -> list[str]:
    from ilias_fast import _files

    return _files.read_lines(path)
