"""The tutorial, command by command, as a new user would type it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ilias_fast.run import Run
from tests.command_line import SOURCES, draw_photos

pytest.importorskip("cv2", reason="the tutorial describes images, which needs OpenCV")
pytest.importorskip("jinja2", reason="the tutorial ends in a report")

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text("utf-8")
COMMANDS = [
    line.strip()
    for line in PAGE.splitlines()
    if re.match(r" {4}(ilias-fast|mkdir|cp) ", line) and "doctor" not in line
]


def test_the_commands_of_the_page_from_photographs_to_a_new_picture(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "ilias-fast"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ilias_fast "$@"\n')
    program.chmod(0o755)
    draw_photos(tmp_path / "photos")
    (tmp_path / "picture.jpg").write_bytes((tmp_path / "photos/cup/query/cup-q.jpg").read_bytes())
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
        "PYTHONIOENCODING": "utf-8",
    }
    assert [command.split()[1] for command in COMMANDS] == [
        "demo",
        "new",
        "extract",
        "adapt",
        "search",
        "rerank",
    ]
    said = []
    for command in COMMANDS:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8"
        )
        assert done.returncode == 0, (command, done.stderr)
        said.append(done.stdout)
    shown = PAGE.partition("looks like this:\n")[2].partition("*mAP@1000*")[0]
    for line in filter(re.compile(r"\s*[^\W_]").match, shown.splitlines()):
        label = re.split(r"  +|:", line.strip())[0]
        assert label in said[0], f"the page shows what the demo does not print: {label}"
    assert (tmp_path / "photos-demo/run/report.html").stat().st_size > 10_000
    assert Run.load(tmp_path / "better.json")["picture.jpg"].ids[0].startswith("cup/pos/")
