"""What an import records of itself, and whether what lies at its place is its own beginning."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ilias_fast._files import StrPath, read_names
from ilias_fast.errors import IncompatibleStoreError, StoreExistsError
from ilias_fast.store._open import exists, open_store
from ilias_fast.store.formats.base import Format, ReadOptions
from ilias_fast.store.formats.target import AdapterLike, SourceFile, Target

__all__ = ["is_complete", "record_there", "recorded", "selection"]


def recorded(
    format_: Format, reading: ReadOptions, wanted: frozenset[str] | None, adapter: AdapterLike | None
) -> dict[str, object]:
    """Return the options that decide what comes out, as the provenance records them."""
    options: dict[str, object] = {"format": format_.name, "unescape": reading.unescape}
    for name in ("array", "number_rows", "dim", "descriptors"):
        if value := getattr(reading, name):
            options[name] = value
    if reading.dtype is not None:
        options["dtype"] = str(np.dtype(reading.dtype))
    if reading.ids is not None:
        options["ids"] = reading.ids.name
    options["selected_ids"] = None
    if wanted is not None:
        digest = hashlib.sha256("\n".join(sorted(wanted)).encode()).hexdigest()
        options["selected_ids"] = {"count": len(wanted), "sha256": digest}
    if adapter is not None:
        options["adapter"] = adapter.fingerprint
    return options


def record_there(
    place: Path, files: list[SourceFile], options: Mapping[str, object], target: Target
) -> dict[str, Any] | None:
    """Return the record of an import that is there to go on with, or None."""
    if not exists(place):
        return None
    store = open_store(place)
    record = store.provenance.get("import")
    if not isinstance(record, dict) or record.get("format") != options["format"]:
        raise StoreExistsError(
            f"{place}: already exists and is no import of such files (choose another path, or ask "
            f"to overwrite)"
        )
    known = record.get("files", [])
    same = target.fits(store) and {**record, "files": None} == {**options, "files": None}
    if (
        not same
        or len(known) > len(files)
        or not all(_is(entry, file) for entry, file in zip(known, files, strict=False))
    ):
        raise IncompatibleStoreError(
            f"{place}: expected an unfinished import of the same files with the same options, found one of "
            f"{', '.join(entry['name'] for entry in known) or 'none'} "
            f"(choose another path, or ask to overwrite)"
        )
    return record


def _is(entry: Mapping[str, object], file: SourceFile) -> bool:
    return {key: entry.get(key) for key in ("name", "bytes", "ends")} == file.identity()


def is_complete(record: Mapping[str, Any], files: list[SourceFile]) -> bool:
    """Return whether every row of every file was read."""
    known = record["files"]
    return len(known) == len(files) and all(entry["read"] == entry["rows"] for entry in known)


def selection(selected: StrPath | Iterable[str]) -> frozenset[str]:
    """Return the selected names; errors as `read_names`."""
    if isinstance(selected, (str, os.PathLike)):
        return frozenset(read_names(Path(selected)))
    return frozenset(selected)
