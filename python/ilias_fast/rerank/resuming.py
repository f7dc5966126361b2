"""Scores that survive an interruption: parts of a run are written as they are finished."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import is_leftover, storage_error
from ilias_fast.errors import FileFormatError
from ilias_fast.rerank.scores import read_columns, refuse_others, write_columns

__all__ = ["Parts"]

Columns = dict[str, NDArray[Any]]
_SECONDS = 5.0  # a part holds about so much work


class Parts:
    """The finished parts of a run's scores, in a folder beside the file they will become."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._folder = path.with_name(f"{path.name}.parts")
        self._about = dict(about)

    def complete(
        self,
        queries: int,
        score: Callable[[int, int], Columns],
        finished: Callable[[int, int], object] | None,
    ) -> Columns:
        """Return the scores of all queries, computing what is not there.

        Args:
            queries: Number of queries.
            score: Computes the columns of the queries from its first to before its second argument.
            finished: Called with the queries (from, to) that were there already.
        """
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as cause:
            raise storage_error(cause, self._folder, "create") from cause
        found: list[Columns] = []
        there = self._there()
        first, size = 0, 1
        while first < queries:
            if first in there:
                last, path = there[first]
                found.append(self._read(path))
                if finished is not None:
                    finished(first, last)
            else:
                last = min(first + size, min((start for start in there if start > first), default=queries))
                started = time.perf_counter()
                columns = score(first, last)
                write_columns(self._folder / f"{first}-{last}.npz", self._about, columns)
                found.append(columns)
                if time.perf_counter() - started < _SECONDS / 2:
                    size *= 2
            first = last
        return {name: np.concatenate([part[name] for part in found]) for name in (found[0] if found else ())}

    def _there(self) -> dict[int, tuple[int, Path]]:
        parts: dict[int, tuple[int, Path]] = {}
        for path in self._folder.iterdir():
            first, _, last = path.stem.partition("-")
            if is_leftover(path.name):
                path.unlink(missing_ok=True)
            elif first.isdecimal() and last.isdecimal() and path.suffix == ".npz":
                parts[int(first)] = (int(last), path)
            else:
                raise FileFormatError(f"{path}: is no part of interrupted scores; move it away")
        return parts

    def _read(self, path: Path) -> Columns:
        about, columns = read_columns(path)
        refuse_others(path, about, self._about, self._folder)
        return columns

    def remove(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self._folder, ignore_errors=True)
