"""The CPU level the kernels run at, and the default number of threads.

`ILIAS_FAST_CPU=scalar|avx2|avx512` pins the level for a process and `ILIAS_FAST_THREADS` the number of
threads. Neither ever changes an answer, only the time it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ilias_fast import _arrays, _core

__all__ = ["available_levels", "level", "pinned", "threads"]


def level() -> str:
    """Return the level the kernels use now: "scalar", "avx2" or "avx512".

    Raises:
        CpuLevelError: `ILIAS_FAST_CPU` names a level this machine cannot run.

    Examples:
        >>> level() in available_levels()
        True
    """
    return _core.cpu_level()


def available_levels() -> list[str]:
    """Return the levels this machine can run, the reference ("scalar") first.

    Examples:
        >>> available_levels()[0]
        'scalar'
    """
    return _core.available_cpu_levels()


def threads(wanted: int | None = None) -> int:
    """Return the number of threads a call uses.

    Args:
        wanted: What the call was asked for; None for `ILIAS_FAST_THREADS`, or else all cores.

    Raises:
        ParameterError: `wanted` is below 1, or `ILIAS_FAST_THREADS` is not a whole number from 1 to 1024.

    Examples:
        >>> threads(3)
        3
    """
    asked = _arrays.threads(wanted)
    return _core.default_threads() if asked is None else asked


@contextmanager
def pinned(name: str) -> Iterator[None]:
    """Pin the level of the whole process inside a `with` block. For tests and benchmarks.

    Args:
        name: One of `available_levels()`.

    Raises:
        CpuLevelError: The level does not exist or this machine cannot run it.

    Examples:
        >>> with pinned("scalar"):
        ...     level()
        'scalar'
    """
    # Whatever it is, the core says which levels there are.
    _core.pin_cpu_level(str(name).encode("ascii", "backslashreplace").decode())
    try:
        yield
    finally:
        _core.pin_cpu_level(None)
