"""Which files a source names: one, several, or all that fit a template with `{idx}`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ilias_fast import _arrays
from ilias_fast._files import StrPath, storage_error
from ilias_fast.errors import ParameterError

__all__ = ["expand"]


def expand(source: StrPath | Sequence[StrPath], total: int | None = None) -> list[Path]:
    """Return the files of a source, in order.

    Args:
        source: A file, a template with `{idx}` (00000, 00001, ...), or a sequence of files.
        total: With a template, how many files there are; None for all there are, without gaps.

    Raises:
        ParameterError: A template has a gap or fits nothing; the message names the first that lacks.
        StorageError: The folder cannot be listed.
    """
    if not isinstance(source, (str, os.PathLike)):
        files = [Path(file) for file in source]
        if not files:
            raise ParameterError("source: expected at least one file, found none")
        return files
    template = os.fspath(source)
    if "{idx}" not in template:
        return [Path(template)]
    if total is not None:
        total = _arrays.at_least_one("total", total)
        files = []
        for index in range(total):
            # Asked for one by one: the first that lacks ends the list, however large a number was typed.
            files.append(Path(template.replace("{idx}", f"{index:05d}")))
            if not files[-1].exists():
                break
        return files
    folder, name = Path(template).parent, Path(template).name
    if "{idx}" not in name:
        raise ParameterError(
            f"source: expected {{idx}} in the file name, found it in the folder of {template}"
        )
    pattern = re.compile(r"(\d{5,})".join(re.escape(part) for part in name.split("{idx}", 1)))
    try:
        there = sorted(int(match[1]) for match in map(pattern.fullmatch, os.listdir(folder)) if match)  # noqa: PTH208
    except OSError as cause:
        raise storage_error(cause, folder, "list") from cause
    if not there:
        raise ParameterError(f"source: expected files {template}, found none")
    missing = sorted(set(range(there[-1] + 1)) - set(there)) if there[-1] < 10**7 else [len(there)]
    if missing:
        gap = template.replace("{idx}", f"{missing[0]:05d}")
        raise ParameterError(
            f"source: expected {there[-1] + 1} files {template}, found {len(there)}; "
            f"the first one missing is {gap} (fetch it, or name the files there are in a list)"
        )
    return [Path(template.replace("{idx}", f"{index:05d}")) for index in there]
