"""The npz of a run: plain arrays, a few bytes an entry, everything kept.

| array | dtype | content |
|---|---|---|
| `ilias_fast_run` | int64 [] | version of this layout, 1 |
| `query_ids`, `query_id_offsets` | uint8, int64 [Q + 1] | UTF-8 text of the ids, one after the other |
| `database_ids`, `database_id_offsets` | uint8, int64 [V + 1] | the vocabulary, likewise |
| `offsets` | int64 [Q + 1] | entries of each query |
| `indices` | int32 or int64 [total] | positions in the vocabulary |
| `scores` | float32 or float64 [total] | float32 if that keeps every score |
| `provenance` | uint8 | JSON |
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._core import Ids
from ilias_fast._files import read_bytes, written
from ilias_fast.errors import DuplicateIdError, FileFormatError, InputError, ParameterError
from ilias_fast.run.base import Duplicates, Run

__all__ = ["read", "write"]

_VERSION = 1
_KINDS = {
    "query_ids": "u",
    "query_id_offsets": "i",
    "database_ids": "u",
    "database_id_offsets": "i",
    "offsets": "i",
    "indices": "i",
    "scores": "f",
    "provenance": "u",
}


def write(run: Run, path: Path) -> None:
    """Write the run."""
    try:
        provenance = json.dumps(dict(run.provenance)).encode()
    except (TypeError, ValueError) as cause:
        raise ParameterError(f"{path}: provenance: expected plain JSON values: {cause}") from cause
    queries, query_offsets = Ids(run.query_ids).packed()
    names, name_offsets = run.database_ids.packed()
    with np.errstate(over="ignore"):
        narrow = run.scores.astype(np.float32)
    small = len(run.database_ids) <= np.iinfo(np.int32).max
    with written(path) as file:
        np.savez_compressed(
            file,
            ilias_fast_run=np.int64(_VERSION),
            query_ids=queries,
            query_id_offsets=query_offsets,
            database_ids=names,
            database_id_offsets=name_offsets,
            offsets=run.offsets,
            indices=run.indices.astype(np.int32) if small else run.indices,
            scores=narrow if np.array_equal(narrow, run.scores) else run.scores,
            provenance=np.frombuffer(provenance, np.uint8),
        )


def read(path: Path, duplicates: Duplicates) -> Run:
    """Read a run written by `write`."""
    data = read_bytes(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
    # Damaged archives fail as zip, zlib, header, text and memory errors: there is no shorter list.
    except Exception as cause:
        raise FileFormatError(f"{path}: not a readable npz: {cause or type(cause).__name__}") from cause
    version = arrays.pop("ilias_fast_run", None)
    if version is None or version.shape != () or version.dtype.kind != "i":
        raise FileFormatError(f"{path}: not a run (it has no version in 'ilias_fast_run')")
    if version != _VERSION:
        raise FileFormatError(f"{path}: expected a run of version {_VERSION}, found version {version}")
    for name, kind in _KINDS.items():
        array = arrays.get(name)
        if array is None or array.ndim != 1 or array.dtype.kind != kind:
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise FileFormatError(f"{path}: {name}: expected a vector of dtype kind {kind!r}, found {found}")
    try:
        provenance = json.loads(arrays["provenance"].tobytes())
    except (ValueError, RecursionError) as cause:
        raise FileFormatError(f"{path}: provenance: not JSON: {cause}") from cause
    if not isinstance(provenance, dict):
        raise FileFormatError(f"{path}: provenance: expected an object, found {type(provenance).__name__}")
    try:
        return Run.from_arrays(
            tuple(_unpacked(path, "query_ids", arrays["query_ids"], arrays["query_id_offsets"])),
            arrays["offsets"],
            _unpacked(path, "database_ids", arrays["database_ids"], arrays["database_id_offsets"]),
            arrays["indices"],
            arrays["scores"],
            provenance,
            duplicates=duplicates,
        )
    except (DuplicateIdError, InputError) as cause:
        raise FileFormatError(f"{path}: {cause}") from cause


def _unpacked(path: Path, name: str, text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> Ids:
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(text) or (np.diff(offsets) < 0).any():
        raise FileFormatError(f"{path}: {name}: expected offsets rising from 0 to {len(text)}")
    try:
        return Ids.from_packed(np.ascontiguousarray(text, np.uint8), np.ascontiguousarray(offsets, np.int64))
    except (InputError, FileFormatError) as cause:
        raise FileFormatError(f"{path}: {name}: {cause}") from cause
