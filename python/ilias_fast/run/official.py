"""Files other tools write and read: the official similarity JSON and pickle, TREC runs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _core
from ilias_fast._arrays import count
from ilias_fast._files import read_bytes, replacing, written
from ilias_fast.errors import (
    DuplicateIdError,
    FileFormatError,
    InputError,
    NonFiniteError,
    ParameterError,
)
from ilias_fast.run.base import Duplicates, Run
from ilias_fast.run.unpickle import unpickle

__all__ = ["read_json", "read_pickle", "read_trec", "write_json", "write_pickle", "write_trec"]

# What faiss fills a list with that is longer than the database (with index -1, which the official writer
# turns into the last id): no similarity of finite features.
_PADDING = float(np.finfo(np.float32).min)


def write_json(run: Run, path: Path, indent: int | None) -> None:
    """Write `{query: {database id: score}}`, insertion order = rank order.

    A float32 score is printed as the official writer prints it: all digits of its float64 value.
    """
    blanks = None if indent is None else max(count("indent", indent), 0)
    queries = _core.Ids(run.query_ids)
    with replacing(path) as partial:
        _core.write_run_json(
            queries, run.offsets, run.database_ids, run.indices, run.scores, blanks, partial, path
        )


def read_json(path: Path, duplicates: Duplicates) -> Run:
    """Read `{query: {database id: score}}`."""
    return _parsed(path, _core.read_run_json, "json", duplicates)


def read_trec(path: Path, duplicates: Duplicates) -> Run:
    """Read lines `query Q0 id rank score tag`."""
    return _parsed(path, _core.read_run_trec, "trec", duplicates)


def write_trec(run: Run, path: Path) -> None:
    """Write lines `query Q0 id rank score tag`; scores keep all their digits.

    Raises:
        ParameterError: An id holds white space, which separates the fields.
    """
    names = list(run.database_ids)
    for name in (*run.query_ids, *names):
        if name.split() != [name]:
            raise ParameterError(
                f"{path}: {name!r} holds white space, which separates the fields of a TREC run; "
                f"save as .json or .npz"
            )
    with written(path) as file:
        for query, (start, stop) in zip(run.query_ids, pairwise(run.offsets.tolist()), strict=True):
            rows, scores = run.indices[start:stop].tolist(), run.scores[start:stop].tolist()
            file.writelines(
                f"{query} Q0 {names[row]} {rank} {score!r} ilias-fast\n".encode()
                for rank, (row, score) in enumerate(zip(rows, scores, strict=True), 1)
            )


def _parsed(path: Path, parse: Callable[[bytes], Any], kind: str, duplicates: Duplicates) -> Run:
    data = read_bytes(path)
    try:
        queries, offsets, names, indices, scores = parse(data)
    except FileFormatError as cause:
        raise FileFormatError(f"{path}: {cause}") from cause
    return _run(path, tuple(queries), offsets, names, indices, scores, kind, duplicates)


def write_pickle(run: Run, path: Path) -> None:
    """Write the four arrays; scores as float32 if that keeps them, else as float64.

    Raises:
        ParameterError: The lists differ in length.
    """
    lengths = np.diff(run.offsets)
    if len(lengths) and lengths.min() != lengths.max():
        shortest = int(lengths.argmin())
        raise ParameterError(
            f"{path}: the official pickle needs lists of equal length, found {lengths.min()} results for "
            f"{run.query_ids[shortest]!r} and up to {lengths.max()} for others; truncate({lengths.min()}) "
            f"the run, or save it as .json or .npz"
        )
    used, rows = np.unique(run.indices, return_inverse=True)
    shape = (len(run), int(lengths[0]) if len(lengths) else 0)
    names = np.array([run.database_ids[row] for row in used], dtype=np.str_)
    content = {
        "query_ids": np.array(run.query_ids, dtype=object),
        "db_ids": names,
        "sims": _narrowest(run.scores).reshape(shape),
        "ranks": rows.astype(np.int64).reshape(shape),
    }
    with written(path) as file:
        pickle.dump(content, file)


def read_pickle(path: Path, duplicates: Duplicates) -> Run:
    """Read the four arrays without executing anything."""
    content = unpickle(read_bytes(path), path)
    expected = {"query_ids", "db_ids", "sims", "ranks"}
    if not isinstance(content, dict) or set(content) != expected:
        found = sorted(map(repr, content)) if isinstance(content, dict) else _kind(content)
        raise FileFormatError(
            f"{path}: expected a dictionary with the keys {sorted(expected)}, found {found}"
        )
    query_ids = _strings(path, "query_ids", content["query_ids"])
    database_ids = _ids(path, content["db_ids"])
    scores = _matrix(path, "sims", content["sims"], "f", len(query_ids)).astype(np.float64)
    rows = _matrix(path, "ranks", content["ranks"], "iu", len(query_ids))
    if scores.shape != rows.shape:
        raise FileFormatError(
            f"{path}: sims, ranks: expected equal shapes, found {list(scores.shape)} and {list(rows.shape)}"
        )
    found = scores != _PADDING
    outside = found & ((rows < 0) | (rows >= len(database_ids)))
    if outside.any():
        query, rank = map(int, np.argwhere(outside)[0])
        raise FileFormatError(
            f"{path}: ranks[{query}, {rank}]: expected an index from 0 to {len(database_ids) - 1} (there are "
            f"{len(database_ids)} db_ids), found {rows[query, rank]}"
        )
    offsets = np.concatenate([[0], np.cumsum(found.sum(axis=1))]).astype(np.int64)
    return _run(
        path,
        query_ids,
        offsets,
        database_ids,
        rows[found].astype(np.int64),
        scores[found],
        "pickle",
        duplicates,
    )


def _run(
    path: Path,
    query_ids: tuple[str, ...],
    offsets: NDArray[np.int64],
    database_ids: Sequence[str],
    indices: NDArray[np.int64],
    scores: NDArray[np.float64],
    kind: str,
    duplicates: Duplicates,
) -> Run:
    """Make the run; an error names the file."""
    provenance = {"format": kind, "source": path.name}
    try:
        return Run.from_arrays(
            query_ids, offsets, database_ids, indices, scores, provenance, duplicates=duplicates
        )
    except (DuplicateIdError, NonFiniteError) as cause:
        raise type(cause)(f"{path}: {cause}") from cause
    except ParameterError:
        raise
    except InputError as cause:
        raise FileFormatError(f"{path}: {cause}") from cause


def _ids(path: Path, value: object) -> Sequence[str]:
    """Return the database ids; a fixed-width array of them without a detour over objects."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "U" and value.size:
        plain = np.ascontiguousarray(value, value.dtype.newbyteorder("="))
        try:
            return _core.Ids.from_characters(plain.view(np.uint32).reshape(len(plain), -1))
        except TypeError:
            pass  # The slow way names what is wrong.
    return _strings(path, "db_ids", value)


def _strings(path: Path, name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "UO":
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise FileFormatError(f"{path}: {name}: expected a list or vector of strings, found {_kind(value)}")
    for position, text in enumerate(value):
        if not isinstance(text, str):
            raise FileFormatError(f"{path}: {name}[{position}]: expected a string, found {_kind(text)}")
    return tuple(map(str, value))


def _matrix(path: Path, name: str, value: object, kinds: str, rows: int) -> NDArray[Any]:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
        found = f"dtype {value.dtype}" if isinstance(value, np.ndarray) else _kind(value)
        wanted = "floating-point" if kinds == "f" else "integer"
        raise FileFormatError(f"{path}: {name}: expected a matrix of {wanted} numbers, found {found}")
    if value.ndim != 2 or len(value) != rows:
        raise FileFormatError(
            f"{path}: {name}: expected shape [{rows}, k], one row a query, found {list(value.shape)}"
        )
    return value


def _narrowest(scores: NDArray[np.float64]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        narrow = scores.astype(np.float32)
    return narrow if np.array_equal(narrow, scores) else scores


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of dtype {value.dtype} and shape {list(value.shape)}"
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        type(None): "nothing (null)",
    }
    return names.get(type(value), type(value).__name__)
