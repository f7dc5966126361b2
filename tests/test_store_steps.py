"""Imports and derivations killed, or their disk broken, at every step by which they change files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.preloading import compiled

EACH = ["import", "import anew", "derive codes", "derive local codes", "select", "merge"]
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`file_faults.c`, compiled."""
    return compiled("file_faults.c", tmp_path_factory.mktemp("faults"))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where syncing costs nothing: no machine is stopped here, only processes."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("what", "works", "least"),
    [
        pytest.param(0, EACH, 250, id="killed"),
        pytest.param(-1, ["import", "derive local codes"], 100, id="killed in the middle of a write"),
        pytest.param(errno.ENOSPC, ["import", "derive local codes"], 100, id="no space left"),
        pytest.param(errno.EIO, ["derive codes"], 30, id="input/output error"),
    ],
)
def test_every_step(what: int, works: list[str], least: int, preloaded: Path, memory: Path) -> None:
    script = [sys.executable, "-W", "ignore", HERE / "kill_store_steps.py", memory, str(what), *works]
    environment = {**os.environ, "LD_PRELOAD": str(preloaded), "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    disturbances, _, after_a_commit, *_ = done.stdout.split()
    assert int(disturbances) >= least
    assert int(after_a_commit) > 0, "no commit was ever reached: the test tests nothing"
