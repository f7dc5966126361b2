"""CPU levels: detection, pinning, and what a wrong `ILIAS_FAST_CPU` says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ilias_fast import cpu
from ilias_fast.errors import CpuLevelError


def test_pin_is_taken_back() -> None:
    before = cpu.level()
    with cpu.pinned("scalar"):
        assert cpu.level() == "scalar"
    assert cpu.level() == before


def test_unknown_level_lists_those_available() -> None:
    with pytest.raises(CpuLevelError, match="scalar"), cpu.pinned("mmx"):
        pass


@pytest.mark.parametrize("name", cpu.available_levels())
def test_environment_pins_the_level(name: str) -> None:
    code = "from ilias_fast import cpu; print(cpu.level())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "ILIAS_FAST_CPU": name}, capture_output=True
    )
    assert done.stdout.decode().strip() == name


def test_wrong_environment_is_an_error_that_names_the_levels() -> None:
    code = "from ilias_fast import cpu; cpu.level()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "ILIAS_FAST_CPU": "sse9"}, capture_output=True
    )
    assert done.returncode != 0
    assert "CpuLevelError" in done.stderr.decode()
    assert "scalar" in done.stderr.decode()


@pytest.mark.parametrize("value", ["0", "two", "99999"])
def test_wrong_thread_count_in_the_environment(value: str) -> None:
    code = "from ilias_fast import cpu; cpu.threads()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "ILIAS_FAST_THREADS": value}, capture_output=True
    )
    assert "ParameterError" in done.stderr.decode()
