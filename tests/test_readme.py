"""Every command and every Python block of the README works."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cv2", reason="the README runs the demo, whose descriptors need OpenCV")
pytest.importorskip("jinja2", reason="the README runs the demo, which ends in a report")

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
PROGRAM = ".venv/bin/ilias-fast "


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ilias_fast", *shlex.split(command)],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_two_commands_of_make_and_they_are_targets() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    made = [command.removeprefix("make ") for command in COMMANDS if command.startswith("make ")]
    assert made == ["demo", "test"]
    assert set(made) <= set(targets)


def test_every_command_line(tmp_path: Path) -> None:
    # What `make demo` runs, smaller.
    assert "report:" in run("demo --output demo --size 40", tmp_path)
    instances = sorted((tmp_path / "demo/images/ilias_core").iterdir())
    for instance in instances[:2]:
        for part in ("query", "pos"):
            (tmp_path / "photos" / instance.name / part).mkdir(parents=True)
            for image in (instance / part).glob("*.jpg"):
                shutil.copy(image, tmp_path / "photos" / instance.name / part)
    (tmp_path / "photos/distractors").mkdir()
    for number, image in enumerate((instances[2] / "pos").glob("*.jpg")):
        shutil.copy(image, tmp_path / "photos/distractors" / f"{number}.jpg")
    commands = [command for command in COMMANDS if not command.startswith("make ")]
    assert len(commands) > 5
    for command in commands:
        assert command.startswith(PROGRAM), command
        run(command.removeprefix(PROGRAM), tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("number", range(README.count("```python")))
def test_python_blocks(number: int, tmp_path: Path) -> None:
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number]
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
