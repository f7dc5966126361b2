"""The command line: every command is there, explains itself and has an output for scripts."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from ilias_fast import __version__
from ilias_fast.cli import application
from tests.command_line import (
    command,
    done,
)

COMMANDS = [
    (),
    ("demo",),
    ("extract",),
    ("extract-local",),
    ("models",),
    ("adapt",),
    ("adapt", "train"),
    ("adapt", "fit"),
    ("adapt", "apply"),
    ("adapt", "export"),
    ("adapt", "compare"),
    ("store",),
    ("store", "import"),
    ("store", "export"),
    ("store", "augment"),
    ("store", "planes"),
    ("store", "compact"),
    ("store", "merge"),
    ("store", "select"),
    ("store", "delete"),
    ("benchmark",),
    ("compare",),
    ("store", "info"),
    ("store", "verify"),
    ("store", "gc"),
    ("search",),
    ("fuse",),
    ("rerank",),
    ("tune",),
    ("match",),
    ("evaluate",),
    ("report",),
    ("sweep",),
    ("sweep", "distractors"),
    ("sweep", "dimension"),
    ("sweep", "rerank"),
    ("doctor",),
]


def every_command() -> dict[tuple[str, ...], Any]:
    """Return all commands and groups by the words that call them."""

    def below(words: tuple[str, ...], node: Any) -> dict[tuple[str, ...], Any]:
        children = getattr(node, "commands", {}).items()
        return {words: node} | {
            key: value for name, child in children for key, value in below((*words, name), child).items()
        }

    return below((), typer.main.get_command(application()))


def test_every_command_is_listed_here() -> None:
    assert set(every_command()) == set(COMMANDS)


def test_everything_has_a_help_text() -> None:
    for words, node in every_command().items():
        assert node.help, words
        for parameter in node.params:
            where = (*words, parameter.name)
            assert parameter.name == "help" or (parameter.help or "").endswith("."), where


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_printed(words: tuple[str, ...], flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = command(*words, flag)
    assert (result.code, result.err) == (0, "")
    assert "Usage:" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines())
    assert "\x1b" not in result.out


@pytest.mark.parametrize("words", [(), ("store",)], ids=["ilias-fast", "store"])
def test_a_group_alone_shows_its_help(words: tuple[str, ...]) -> None:
    result = command(*words)
    assert result.code == 2
    assert "Usage:" in result.out + result.err
    assert "error:" not in result.err


def test_version() -> None:
    assert done("--version") == f"ilias-fast {__version__}\n"


def test_every_command_has_an_output_for_scripts() -> None:
    for words, node in every_command().items():
        if not hasattr(node, "commands"):
            flags = {flag for parameter in node.params for flag in parameter.opts}
            assert "--json" in flags, words
