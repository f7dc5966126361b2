"""What this installation can do on this machine."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Doctor", "doctor", "machine", "made_by"]


@dataclass(frozen=True)
class Doctor:
    """What `ilias-fast doctor` prints.

    Attributes:
        version: Version of ilias-fast.
        python: Version of Python.
        system: Operating system and machine architecture.
        cpu: CPU model, or "unknown".
        level: CPU level the kernels use, or None when `ILIAS_FAST_CPU` asks for one that is not available.
        levels: CPU levels this machine can run.
        threads: Threads used by default, or None when `ILIAS_FAST_THREADS` is not a valid number.
        extras: Extra name -> version of the library that stands for it, or None if any of it is missing.
        gpu: Name of the CUDA device torch sees, or None.
        problems: What is wrong, one line each; empty when all is well.

    Examples:
        >>> found = doctor()
        >>> "torch" in found.extras, found.level in found.levels
        (True, True)
    """

    version: str
    python: str
    system: str
    cpu: str
    level: str | None
    levels: tuple[str, ...]
    threads: int | None
    extras: Mapping[str, str | None]
    gpu: str | None
    problems: tuple[str, ...]


def doctor() -> Doctor:
    """Look at the machine and the installation; never raises for what it finds.

    Imports torch if it is installed, to see the GPU.

    Examples:
        >>> doctor().version == __version__
        True
    """
    from ilias_fast import __version__, cpu
    from ilias_fast._extras import installed
    from ilias_fast.errors import IliasFastError

    problems: list[str] = []
    level = threads = None
    try:
        level = cpu.level()
    except IliasFastError as error:
        problems.append(str(error))
    try:
        threads = cpu.threads()
    except IliasFastError as error:
        problems.append(str(error))
    extras = installed()
    gpu = None
    if extras["gpu"] is not None:
        try:
            import torch

            gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        except (ImportError, RuntimeError, OSError) as error:
            problems.append(f"torch is installed but does not work: {error}")
    found = machine()
    return Doctor(
        version=__version__,
        python=found["Python"],
        system=found["system"],
        cpu=found["CPU"],
        level=level,
        levels=tuple(cpu.available_levels()),
        threads=threads,
        extras=extras,
        gpu=gpu,
        problems=tuple(problems),
    )


def machine() -> dict[str, str]:
    """Return what numbers measured here should be read with: Python, system, CPU. Imports nothing heavy."""
    return {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "CPU": _cpu_model(),
    }


def made_by(threads: int | None) -> dict[str, object]:
    """Return what a result should say about its making: the command, the version, the machine.

    Args:
        threads: Number of threads it was asked for; None for the default.
    """
    from ilias_fast import __version__, cpu

    program, *arguments = sys.argv or ["python"]
    return {
        "command": shlex.join([Path(program).name, *arguments]),
        "ilias-fast": __version__,
        **machine(),
        "CPU level": cpu.level(),
        "threads": threads or cpu.threads(),
    }


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or "unknown"
