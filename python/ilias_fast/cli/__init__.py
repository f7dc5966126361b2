"""The command `ilias-fast`: one file a command, arguments in, one call of the library, result out."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ilias_fast.cli import demo, doctor, evaluate, extract, report, rerank, search, store
from ilias_fast.cli._console import errors

__all__ = ["app", "main"]

app = typer.Typer(
    name="ilias-fast",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the images that show *this very object*: exact search, local re-ranking, evaluation, report.",
)
app.command("demo")(demo.demo)
app.command("extract")(extract.extract)
app.add_typer(store.app, name="store")
app.command("search")(search.search)
app.command("rerank")(rerank.rerank)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from ilias_fast import __version__

        typer.echo(f"ilias-fast {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand != "doctor":
        # A wrong ILIAS_FAST_CPU or ILIAS_FAST_THREADS should stop a command before its first hour, not after.
        from ilias_fast import cpu

        cpu.level()
        cpu.threads()


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit code 1."""
    try:
        app()
    except errors() as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python would complain again when it flushes at exit.
        sys.stdout = None
        sys.exit(0)
