"""A user's script passes the type checkers, and a wrong one does not."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docstrings import modules

SCRIPT = Path(__file__).parent / "typing" / "user_script.py"
SOURCES = Path(__file__).resolve().parents[1] / "python"
NAMES = {name: importlib.import_module(name).__all__ for name in modules()}
WRONG = "from ilias_fast.kernels import topk\ntopk([[1.0]], [[1.0]], '3').scores.nothing\n"


def checked(tool: str, paths: list[Path], folder: Path) -> tuple[int, str]:
    """Run a type checker on files, as a user would: without the project's settings."""
    if tool == "mypy":
        arguments = ["-m", "mypy", "--strict", "--config-file", os.devnull]
        arguments += ["--cache-dir", str(folder / "cache")]
    else:
        settings = folder / "pyrightconfig.json"
        content = {"typeCheckingMode": "strict", "include": [*map(str, paths)], "extraPaths": [str(SOURCES)]}
        settings.write_text(json.dumps({**content, "reportMissingTypeStubs": False}))
        arguments = ["-m", "basedpyright", "--project", str(settings), "--pythonpath", sys.executable]
    if tool == "mypy":
        arguments += map(str, paths)
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(SOURCES)},
    )
    return done.returncode, done.stdout + done.stderr


def every_name(folder: Path) -> Path:
    """Write a script that takes every public name, from where it is documented."""
    script = folder / "every_name.py"
    lines, used = [], []
    for number, (module, names) in enumerate(NAMES.items()):
        lines += [f"from {module} import {name} as name_{number}_{at}" for at, name in enumerate(names)]
        used += [f"    print(name_{number}_{at})" for at in range(len(names))]
    script.write_text("\n".join([*lines, "", "", "def use() -> None:", *used, ""]))
    return script


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", ["mypy", "basedpyright"])
def test_scripts_pass_and_a_wrong_one_does_not(tool: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed (dependency group lint)")
    code, said = checked(tool, [SCRIPT, every_name(tmp_path)], tmp_path)
    assert code == 0, said
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    code, said = checked(tool, [wrong], tmp_path)
    assert code == 1, said
    assert "nothing" in said


@pytest.mark.timeout(300)
def test_the_type_of_every_public_name_is_known(tmp_path: Path) -> None:
    """What a user sees has a type that no checker has to guess (`pyright --verifytypes`)."""
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed (dependency group lint)")
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "VIRTUAL_ENV": str(scripts.parent),
        "PATH": os.pathsep.join([str(scripts), os.environ["PATH"]]),
    }
    arguments = ["--pythonpath", sys.executable, "--verifytypes", "ilias_fast", "--ignoreexternal"]
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", *arguments, "--outputjson"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    names = {f"{module}.{name}" for module, all_names in NAMES.items() for name in all_names}
    public = [
        symbol for symbol in symbols if symbol["name"] in names or symbol["name"].rpartition(".")[0] in names
    ]
    assert len(public) > 250
    unknown = [s["name"] for s in public if not s["isTypeKnown"] or s["isTypeAmbiguous"]]
    assert unknown == []
