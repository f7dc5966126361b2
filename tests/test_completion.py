"""Completion as a person meets it: a shell on a terminal, a few letters, the tab key."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import SOURCES

pty = pytest.importorskip("pty", reason="a terminal is needed")

TYPED = {
    "ilias-fast sea": "ilias-fast search ",
    "ilias-fast store ver": "ilias-fast store verify ",
    "ilias-fast search --query-": "--query-expansion ",
    "ilias-fast evaluate --missing z": "--missing zero ",
    "ilias-fast report run.json --format la": "--format latex ",
}
RUN = "import sys; sys.argv[0] = 'ilias-fast'; from ilias_fast.cli import main; main()"


def typed(command: list[str], environment: dict[str, str], line: str, expected: str) -> str:
    """Type a line and a tab into a shell; return what the terminal showed until `expected` came."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(command[0], command, environment)
    shown = ""

    def wait_for(text: str) -> None:
        nonlocal shown
        end = time.monotonic() + 30
        while text not in shown and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 65536).decode(errors="replace")

    try:
        wait_for("READY")
        os.write(terminal, line.encode() + b"\t")
        wait_for(expected)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    return shown


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("line", TYPED)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_tab_key(shell: str, line: str, tmp_path: Path) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell} here")
    program = tmp_path / "bin" / "ilias-fast"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{RUN}" "$@"\n')
    program.chmod(0o755)
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
    }
    # The shell is named, as it cannot be told from the process above this one.
    named = {**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = subprocess.run(
        [program, "--show-completion", shell], env=named, capture_output=True, text=True, check=True
    ).stdout
    if shell == "bash":
        (tmp_path / ".bashrc").write_text(f"{script}\nPS1='READY '\n")
        command = [found, "--rcfile", str(tmp_path / ".bashrc"), "-i"]
    else:
        (tmp_path / ".zshrc").write_text(f"autoload -Uz compinit; compinit -u\n{script}\nPS1='READY '\n")
        command = [found, "-i"]
    assert TYPED[line] in typed(command, environment, line, TYPED[line])
