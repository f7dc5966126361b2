"""`ilias-fast doctor`."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.table import Table

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, print_json

__all__ = ["doctor"]


def doctor(as_json: options.AsJson = False) -> None:
    """Print what this installation can do here: CPU level, threads, extras, GPU. Exit code 1 on a problem."""
    import ilias_fast

    found = ilias_fast.doctor()
    if as_json:
        print_json(asdict(found))
        raise typer.Exit(bool(found.problems))
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = [
        ("ilias-fast", found.version),
        ("Python", found.python),
        ("system", found.system),
        ("CPU", found.cpu),
        ("CPU level", f"{found.level or '-'} (available: {', '.join(found.levels)})"),
        ("threads", str(found.threads or "-")),
        ("GPU", found.gpu or "none that torch sees"),
    ]
    rows += [
        (f"[{extra}]", version or f"not installed: pip install 'ilias-fast[{extra}]'")
        for extra, version in found.extras.items()
    ]
    for name, value in rows:
        table.add_row(f"[bold]{plain(name)}", plain(value))
    out.print(table)
    for problem in found.problems:
        out.print(f"[red]problem:[/] {plain(problem)}", soft_wrap=True)
    if found.problems:
        raise typer.Exit(1)
