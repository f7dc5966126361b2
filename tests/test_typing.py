"""A user's script passes the type checkers, and a wrong one does not."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "typing" / "user_script.py"
SOURCES = Path(__file__).resolve().parents[1] / "python"
WRONG = "from ilias_fast.kernels import topk\ntopk([[1.0]], [[1.0]], '3').scores.nothing\n"


def checked(tool: str, path: Path, folder: Path) -> tuple[int, str]:
    """Run a type checker on a file, as a user would: without the project's settings."""
    if tool == "mypy":
        arguments = ["-m", "mypy", "--strict", "--config-file", os.devnull]
        arguments += ["--cache-dir", str(folder / "cache")]
    else:
        settings = folder / "pyrightconfig.json"
        content = {"typeCheckingMode": "strict", "include": [str(path)], "extraPaths": [str(SOURCES)]}
        settings.write_text(json.dumps({**content, "reportMissingTypeStubs": False}))
        arguments = ["-m", "basedpyright", "--project", str(settings), "--pythonpath", sys.executable]
    if tool == "mypy":
        arguments.append(str(path))
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(SOURCES)},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", ["mypy", "basedpyright"])
def test_a_script_passes_and_a_wrong_one_does_not(tool: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed (dependency group lint)")
    code, said = checked(tool, SCRIPT, tmp_path)
    assert code == 0, said
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    code, said = checked(tool, wrong, tmp_path)
    assert code == 1, said
    assert "nothing" in said
