"""The command `ilias-fast`: one file a command, arguments in, one call of the library, result out."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from ilias_fast.cli._console import errors, printable

__all__ = ["application", "main"]

# typer brings a click of its own, or uses the package, depending on its version: wrong arguments are known by
# the base of the one class of them that it exports.
_UsageError: Any = typer.BadParameter.__mro__[1]
_INTERRUPTED = 130

# Command -> module and what of it is the command; a group of commands is an `app`.
_COMMANDS = {
    "demo": ("demo", "demo"),
    "extract": ("extract", "extract"),
    "extract-local": ("extract_local", "extract_local"),
    "models": ("models", "models"),
    "adapt": ("adapt", "app"),
    "store": ("store", "app"),
    "search": ("search", "search"),
    "rerank": ("rerank", "rerank"),
    "tune": ("tune", "tune"),
    "match": ("match", "match"),
    "fuse": ("fuse", "fuse"),
    "evaluate": ("evaluate", "evaluate"),
    "benchmark": ("benchmark", "benchmark"),
    "compare": ("compare", "compare"),
    "sweep": ("sweep", "app"),
    "report": ("report", "report"),
    "doctor": ("doctor", "doctor"),
}


def application(only: str | None = None) -> typer.Typer:
    """Return the command line.

    Args:
        only: A command that it needs to know; what the others need is then not imported. None, or something
            else: all of them.
    """
    app = typer.Typer(
        name="ilias-fast",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Find the images that show *this very object*: exact search, local re-ranking, evaluation, "
        "report.",
    )
    app.callback()(_start)
    for name in [only] if only in _COMMANDS else _COMMANDS:
        module, function = _COMMANDS[name]
        command = getattr(import_module(f"ilias_fast.cli.{module}"), function)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from ilias_fast import __version__

        typer.echo(f"ilias-fast {__version__}")
        raise typer.Exit


def _start(
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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    An expected error is one line on stderr. Exit codes: 0 done; 1 an error, or a check that failed; 2 wrong
    arguments; 130 interrupted (Ctrl-C).

    Args:
        arguments: The arguments; None for those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character of a file name is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    try:
        # A first word that is no command, and the shell's questions, concern all of them.
        code = application(given[0] if given else None)(args=arguments, standalone_mode=False)
    except errors() as error:
        _fail(str(error), 1)
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        where = error.ctx.command_path if error.ctx is not None else "ilias-fast"
        _fail(f"{error.format_message().rstrip('.')} (see {where} --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough.
        _discard_output()
        code = 0
    except OSError as error:
        # The library types its own: this is the output, on a full disk, or a path it did not foresee.
        _discard_output()
        what = "cannot print" if error.filename is None else os.fsdecode(error.filename)
        _fail(f"{what}: {error.strerror or error}", 1)
    if code == _INTERRUPTED:
        _fail("interrupted", _INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    typer.secho(f"error: {printable(message)}", fg=typer.colors.RED, err=True)
    sys.exit(code)


def _discard_output() -> None:
    """Send what is still to be printed nowhere: Python flushes once more at exit, and would complain."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
