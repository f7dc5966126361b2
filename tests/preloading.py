"""Libraries that stand between a process and the system, compiled for a test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def compiled(source: str, folder: Path) -> Path:
    """Compile a C file of this folder to a library that `LD_PRELOAD` takes, or skip the test, saying why."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and Linux to stand between the process and the system")
    library = folder / Path(source).with_suffix(".so").name
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / source, "-ldl"]
    subprocess.run(command, check=True)
    return library
