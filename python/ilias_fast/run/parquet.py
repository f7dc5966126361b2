"""Runs as Parquet tables, for data frames and SQL: one row an entry.

| column | type | content |
|---|---|---|
| `query_id` | dictionary of strings | |
| `database_id` | dictionary of strings | |
| `rank` | int32 | from 1 |
| `score` | float32 or float64 | float32 if that keeps every score |

The metadata key `ilias_fast_run` holds JSON: the query ids (those without results too) and the provenance.
Tables that other tools wrote are read if they name their columns as ranx or PyTerrier do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._extras import require
from ilias_fast._files import read_bytes, replacing
from ilias_fast.errors import FileFormatError, IliasFastError, ParameterError
from ilias_fast.run.base import Duplicates, Run

__all__ = ["read", "write"]

_PURPOSE = "read and write Parquet files"
_KEY = b"ilias_fast_run"
_NAMES = {
    "query": ("query_id", "q_id", "qid"),
    "database": ("database_id", "doc_id", "docno", "docid"),
    "score": ("score",),
}


def write(run: Run, path: Path) -> None:
    """Write the run.

    Raises:
        ParameterError: The provenance is no plain JSON.
        MissingExtraError: pyarrow is not installed.
    """
    arrow, parquet = require("pyarrow", _PURPOSE), require("pyarrow.parquet", _PURPOSE)
    try:
        about = json.dumps({"query_ids": run.query_ids, "provenance": dict(run.provenance)})
    except (TypeError, ValueError) as cause:
        raise ParameterError(f"{path}: provenance: expected plain JSON values: {cause}") from cause
    lengths = np.diff(run.offsets)
    narrow = run.scores.astype(np.float32)
    columns = {
        "query_id": arrow.DictionaryArray.from_arrays(
            np.repeat(np.arange(len(run)), lengths),
            arrow.array(run.query_ids, arrow.string()),
        ),
        "database_id": arrow.DictionaryArray.from_arrays(
            run.indices, arrow.array(list(run.database_ids), arrow.string())
        ),
        "rank": np.arange(len(run.indices)) - np.repeat(run.offsets[:-1], lengths) + 1,
        "score": narrow if np.array_equal(narrow, run.scores) else run.scores,
    }
    table = arrow.table(columns).replace_schema_metadata({_KEY: about})
    with replacing(path) as partial:
        parquet.write_table(table, partial)


def read(path: Path, duplicates: Duplicates) -> Run:
    """Read a run; the rows of a query need not follow each other.

    Raises:
        FileFormatError: The file is no Parquet table of a run.
        MissingExtraError: pyarrow is not installed.
    """
    arrow, parquet = require("pyarrow", _PURPOSE), require("pyarrow.parquet", _PURPOSE)
    data = read_bytes(path)
    try:
        table = parquet.read_table(arrow.BufferReader(data))
        names = {
            kind: next((n for n in known if n in table.column_names), None) for kind, known in _NAMES.items()
        }
        for kind, name in names.items():
            if name is None:
                raise FileFormatError(
                    f"{path}: expected a column {' or '.join(_NAMES[kind])}, found {table.column_names}"
                )
        queries, owners = _encoded(path, table.column(names["query"]))
        ids, rows = _encoded(path, table.column(names["database"]))
        scores = table.column(names["score"]).to_numpy()
        about = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
    except IliasFastError:
        raise
    # Damaged files fail in every way Arrow knows.
    except Exception as cause:
        raise FileFormatError(f"{path}: not readable as Parquet: {cause or type(cause).__name__}") from cause
    if scores.dtype.kind not in "fiu":
        raise FileFormatError(f"{path}: score: expected numbers, found {scores.dtype}")
    listed = about.get("query_ids") if isinstance(about, dict) else None
    provenance = about.get("provenance") if isinstance(about, dict) else None
    if isinstance(listed, list) and set(queries) <= set(listed):
        place = {query: position for position, query in enumerate(listed)}
        owners = np.array([place[query] for query in queries], np.int64)[owners] if queries else owners
        queries = listed
    order = np.argsort(owners, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(queries)))]).astype(np.int64)
    if not isinstance(provenance, dict):
        provenance = {"format": "parquet", "source": path.name}
    try:
        return Run.from_arrays(
            queries, offsets, ids, rows[order], scores[order], provenance, duplicates=duplicates
        )
    except IliasFastError as cause:
        raise type(cause)(f"{path}: {cause}") from cause


def _encoded(path: Path, column: Any) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct values of a column in order of their first row, and the position of each row."""
    arrow = require("pyarrow", _PURPOSE)
    column = column.combine_chunks()
    if isinstance(column, arrow.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else arrow.array([], column.type)
    if not arrow.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = column.dictionary.to_pylist()
    if column.null_count:
        raise FileFormatError(f"{path}: expected an id in every row, found {column.null_count} rows without")
    if not all(isinstance(value, str) for value in values):
        raise FileFormatError(f"{path}: expected ids as strings, found {column.type.value_type}")
    return values, column.indices.to_numpy().astype(np.int64)
