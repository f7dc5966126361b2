"""The doctor never raises, and says what is wrong instead."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ilias_fast
from ilias_fast import cpu
from ilias_fast._extras import SIGN_OF


def test_healthy() -> None:
    found = ilias_fast.doctor()
    assert found.version == ilias_fast.__version__
    assert found.level in found.levels
    assert found.threads == cpu.threads()
    assert list(found.extras) == sorted(SIGN_OF)
    assert found.problems == ()


def test_wrong_thread_count_is_a_problem_not_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILIAS_FAST_THREADS", "many")
    found = ilias_fast.doctor()
    assert found.threads is None
    assert "ILIAS_FAST_THREADS" in found.problems[0]


def test_import_is_light() -> None:
    code = (
        "import sys, ilias_fast, ilias_fast.kernels; "
        "heavy = {'torch', 'cv2', 'h5py', 'PIL', 'jinja2', 'threadpoolctl', 'rich', 'typer', 'scipy'}; "
        "heavy &= set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
