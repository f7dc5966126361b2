"""`Run`: for every query, database ids in rank order with their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._core import Ids
from ilias_fast._files import StrPath
from ilias_fast.errors import (
    DuplicateIdError,
    ParameterError,
    ShapeError,
    UnknownIdError,
)
from ilias_fast.run import checks

__all__ = ["Duplicates", "Run", "RunResult"]

Duplicates = Literal["error", "max"]


@dataclass(frozen=True)
class RunResult:
    """The results of one query, best first.

    Attributes:
        ids: Database ids.
        scores: float64 [n], descending.

    Examples:
        >>> result = Run.from_dict({"q.jpg": {"a.jpg": 0.5, "b.jpg": 0.9}})["q.jpg"]
        >>> result.ids, result.scores.tolist()
        (['b.jpg', 'a.jpg'], [0.9, 0.5])
    """

    ids: list[str]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """Ranked database ids of a set of queries; immutable.

    The entries of query q are `offsets[q]:offsets[q + 1]` of `indices` and `scores`, in rank order: score
    descending, equal scores in the order they were given in. Lists may differ in length and may be empty.

    Attributes:
        query_ids: The queries, unique.
        offsets: int64 [Q + 1].
        database_ids: The vocabulary `indices` points into, unique; may hold ids no query found. Kept as one
            text (`Ids`, a sequence of str) and decoded where it is looked at: a million ids are no objects.
        indices: int64 [total], positions in `database_ids`.
        scores: float64 [total], finite; larger is better.
        provenance: What made the run (method, stores, options); plain JSON values.

    Raises:
        ShapeError: The arrays do not fit each other.
        ParameterError: Offsets do not rise from 0, or an index is outside the vocabulary.
        NonFiniteError: A score is NaN or infinite; the message names the query and the database id.
        DuplicateIdError: A query is given twice, a vocabulary id is given twice, or a query lists a
            database id twice (see `from_arrays` to merge).
        InputError: An id is empty, holds a NUL character or is not valid Unicode.

    Examples:
        >>> run = Run.from_dict({"q.jpg": {"a.jpg": 0.5, "b.jpg": 0.9}, "r.jpg": {}})
        >>> run["q.jpg"].ids, len(run), run.offsets.tolist()
        (['b.jpg', 'a.jpg'], 2, [0, 2, 2])
        >>> run.save("run.json")
        >>> Run.load("run.json")["q.jpg"].scores.tolist(), run.truncate(1)["q.jpg"].ids
        ([0.9, 0.5], ['b.jpg'])
    """

    query_ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    database_ids: Ids
    indices: NDArray[np.int64]
    scores: NDArray[np.float64]
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        query_ids, database_ids = checks.as_tuple(self.query_ids), checks.as_ids(self.database_ids)
        offsets, indices, scores = checks.checked(
            query_ids, self.offsets, database_ids, self.indices, self.scores
        )
        checks.check_unique("query", query_ids)
        checks.check_unique("database", database_ids)
        if (order := checks.rank_order(offsets, scores)) is not None:
            indices, scores = indices[order], scores[order]
        repeated = checks.first_repeated(offsets, indices, len(database_ids))
        if repeated is not None:
            query, index = repeated
            raise DuplicateIdError(
                f"query {query_ids[query]!r}: database id {database_ids[index]!r} is listed twice; repair "
                f"the list, or keep the larger score with duplicates='max'"
            )
        for name, value in (("offsets", offsets), ("indices", indices), ("scores", scores)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "query_ids", query_ids)
        object.__setattr__(self, "database_ids", database_ids)
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    @classmethod
    def from_arrays(
        cls,
        query_ids: Sequence[str],
        offsets: ArrayLike,
        database_ids: Sequence[str],
        indices: ArrayLike,
        scores: ArrayLike,
        provenance: Mapping[str, object] | None = None,
        *,
        duplicates: Duplicates = "error",
    ) -> Run:
        """Make a run from its arrays, in any order inside a query.

        Args:
            query_ids: Q unique ids.
            offsets: int64 [Q + 1], query q owns entries `offsets[q]:offsets[q + 1]`.
            database_ids: The vocabulary; may repeat ids only with `duplicates="max"`.
            indices: int64 [total], positions in `database_ids`.
            scores: float [total], finite.
            provenance: What made the run.
            duplicates: "error" refuses a database id listed twice by one query, "max" keeps its larger score.

        Raises:
            ParameterError: `duplicates` is neither, or offsets or indices are out of range.
            DuplicateIdError, NonFiniteError, ShapeError, InputError: See the class.
        """
        _arrays.choice("duplicates", duplicates, ("error", "max"))
        names = checks.as_ids(database_ids)
        if duplicates == "error":
            return cls(checks.as_tuple(query_ids), offsets, names, indices, scores, provenance or {})  # type: ignore[arg-type]
        queries = checks.as_tuple(query_ids)
        starts, rows, values = checks.checked(queries, offsets, names, indices, scores)
        if names.first_repeated() is not None:
            first, position = np.unique(names.locate(names), return_inverse=True)
            names, rows = Ids(names.take(first)), position[rows]
        if (order := checks.rank_order(starts, values)) is not None:
            rows, values = rows[order], values[order]
        # In rank order the first occurrence of an id is the one with the larger score.
        owner = np.repeat(np.arange(len(queries)), np.diff(starts))
        kept = np.sort(np.unique(owner * max(len(names), 1) + rows, return_index=True)[1])
        starts = np.concatenate([[0], np.cumsum(np.bincount(owner[kept], minlength=len(queries)))])
        return cls(queries, starts.astype(np.int64), names, rows[kept], values[kept], provenance or {})

    @classmethod
    def from_topk(
        cls,
        query_ids: Sequence[str],
        scores: ArrayLike,
        indices: ArrayLike,
        id_of: Callable[[NDArray[np.int64]], Sequence[str]],
        provenance: Mapping[str, object] | None = None,
        *,
        duplicates: Duplicates = "error",
    ) -> Run:
        """Make a run from the matrices of a top-k search, naming only the rows that occur.

        Args:
            query_ids: Q unique ids.
            scores: float [Q, k].
            indices: int64 [Q, k], database rows; a negative one means "no result" and is left out.
            id_of: Called once with the sorted unique rows that occur; returns their ids.
            provenance: What made the run.
            duplicates: See `from_arrays`.

        Raises:
            ShapeError: The matrices differ in shape, or have not one row a query, or `id_of` returned
                another number of ids than it was given rows.
            DuplicateIdError, NonFiniteError, InputError: See the class.
        """
        values = _arrays.any_array("scores", scores, "Q, k")
        rows = _arrays.any_array("indices", indices, "Q, k")
        if rows.shape != values.shape or len(rows) != len(query_ids):
            raise ShapeError(
                f"scores, indices: expected two matrices [{len(query_ids)}, k], one row a query, "
                f"found {list(values.shape)} and {list(rows.shape)}"
            )
        found = rows >= 0
        entries = rows[found].astype(np.int64)
        unique, positions = _core.vocabulary(entries)
        names = id_of(unique) if len(unique) else []
        if len(names) != len(unique):
            raise ShapeError(f"id_of: expected {len(unique)} ids, one a row, found {len(names)}")
        offsets = np.concatenate([[0], np.cumsum(found.sum(axis=1))]).astype(np.int64)
        return cls.from_arrays(
            query_ids, offsets, names, positions, values[found], provenance, duplicates=duplicates
        )

    @classmethod
    def from_dict(
        cls, results: Mapping[str, Mapping[str, float]], provenance: Mapping[str, object] | None = None
    ) -> Run:
        """Make a run from `{query id: {database id: score}}`; equal scores keep the order of the mapping.

        Args:
            results: Scores of each query's results.
            provenance: How they came about.

        Raises:
            NonFiniteError, InputError: See the class.
            DtypeError: A score is not a real number.
        """
        row_of: dict[str, int] = {}
        indices: list[int] = []
        scores: list[float] = []
        offsets = [0]
        for found in results.values():
            indices.extend(row_of.setdefault(name, len(row_of)) for name in found)
            scores.extend(found.values())
            offsets.append(len(indices))
        return cls.from_arrays(
            tuple(results),
            np.array(offsets, np.int64),
            tuple(row_of),
            np.array(indices, np.int64),
            scores if scores else np.empty(0),
            provenance,
        )

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.query_ids)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the query ids, like a mapping."""
        return iter(self.query_ids)

    def __contains__(self, query_id: object) -> bool:
        return query_id in self._position

    def __getitem__(self, query_id: str) -> RunResult:
        """Return the results of a query.

        Raises:
            UnknownIdError: The run has no such query.
        """
        entries = self.entries(query_id)
        return RunResult(self.database_ids.take(self.indices[entries]), self.scores[entries])

    def __reduce__(self) -> tuple[object, ...]:
        arrays = (self.query_ids, self.offsets, self.database_ids, self.indices, self.scores)
        return Run, (*arrays, dict(self.provenance))

    def __repr__(self) -> str:
        return f"Run({len(self)} queries, {len(self.indices)} results, {len(self.database_ids)} database ids)"

    def _repr_html_(self) -> str:
        from ilias_fast.run.notebook import run_card

        return run_card(self)

    def __eq__(self, other: object) -> bool:
        """Tell whether both list the same ids with the same scores in the same order for the same queries.

        Provenance and the order of the vocabulary do not matter.
        """
        if not isinstance(other, Run):
            return NotImplemented
        if (
            self.query_ids != other.query_ids
            or not np.array_equal(self.offsets, other.offsets)
            or not np.array_equal(self.scores, other.scores)
        ):
            return False
        if len(self.indices) != len(other.indices):
            return False
        if self.database_ids == other.database_ids:
            return np.array_equal(self.indices, other.indices)
        # Positions in the other vocabulary; ids it lacks get -1, which no entry of the other run has.
        return np.array_equal(other.database_ids.locate(self.database_ids)[self.indices], other.indices)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    @cached_property
    def _position(self) -> dict[str, int]:
        return {query_id: position for position, query_id in enumerate(self.query_ids)}

    def entries(self, query_id: str) -> slice:
        """Return the slice of `indices` and `scores` that holds a query's results.

        Args:
            query_id: The query.

        Raises:
            UnknownIdError: The run has no such query.
        """
        position = self._position.get(query_id)
        if position is None:
            raise UnknownIdError(f"the run has no query {query_id!r} (it has {len(self)} queries)")
        return slice(int(self.offsets[position]), int(self.offsets[position + 1]))

    def select(self, query_ids: Sequence[str]) -> Run:
        """Return the run of some of its queries, in the order given.

        Args:
            query_ids: Queries of the run, each once.

        Raises:
            UnknownIdError: The run has no such query.
            DuplicateIdError: A query is given twice.
        """
        names = checks.as_tuple(query_ids)
        parts = [self.entries(query) for query in names]
        counts = [part.stop - part.start for part in parts]
        rows = np.concatenate([np.empty(0, np.int64), *(np.arange(p.start, p.stop) for p in parts)])
        return Run(
            names,
            np.cumsum([0, *counts], dtype=np.int64),
            self.database_ids,
            self.indices[rows],
            self.scores[rows],
            self.provenance,
        )

    def truncate(self, k: int) -> Run:
        """Return the run with at most the first `k` results of every query.

        Args:
            k: Results to keep, at least 0.

        Raises:
            ParameterError: k is negative.
        """
        k = _arrays.at_least("k", k, 0)
        kept = np.minimum(np.diff(self.offsets), k)
        offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        rank = np.arange(len(self.indices)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        inside = rank < k
        return Run(
            self.query_ids,
            offsets,
            self.database_ids,
            self.indices[inside],
            self.scores[inside],
            self.provenance,
        )

    def with_scores(self, scores: ArrayLike, provenance: Mapping[str, object] | None = None) -> Run:
        """Return the run with other scores, one an entry, and the rank order they imply.

        Args:
            scores: float [total], in the order of this run's entries; equal scores keep that order.
            provenance: What made the new run; None keeps this run's.
        """
        kept = self.provenance if provenance is None else provenance
        return Run(self.query_ids, self.offsets, self.database_ids, self.indices, scores, kept)  # type: ignore[arg-type]

    def save(self, path: StrPath, *, indent: int | None = 4) -> None:
        """Write the run, atomically; the extension decides the format.

        | extension | is | keeps |
        |---|---|---|
        | `.json` | the official similarity file | ids and scores |
        | `.pkl`, `.pickle` | the official pickle; lists of equal length only | ids and scores |
        | `.trec`, `.run` | a TREC run file; ids without white space only | no empty list |
        | `.npz` | this package's compact file | everything |
        | `.parquet` | a table (extra `[parquet]`) | everything but the vocabulary's unused ids |

        Scores keep all their digits in every format.

        Args:
            path: Where to; the extension decides the format.
            indent: Indentation of the JSON; None writes it on one line.

        Raises:
            ParameterError: The extension is another one, or the format has no place for the run.
            MissingExtraError: `.parquet` without pyarrow.
            StorageError: The file cannot be written.
        """
        from ilias_fast.run import compact, official, parquet

        path = Path(path)
        kind = _kind(path)
        if kind == "json":
            official.write_json(self, path, indent)
        elif kind == "pickle":
            official.write_pickle(self, path)
        elif kind == "trec":
            official.write_trec(self, path)
        elif kind == "parquet":
            parquet.write(self, path)
        else:
            compact.write(self, path)

    @classmethod
    def load(cls, path: StrPath, *, duplicates: Duplicates = "error") -> Run:
        """Read a run; the extension decides the format. Nothing in the file is executed.

        Args:
            path: A file of one of the formats of `save`, whoever wrote it.
            duplicates: "error" refuses a database id listed twice by one query, "max" keeps its larger score.

        Returns:
            The run; `provenance["format"]` is "json", "pickle" or "trec", or what npz or Parquet recorded.

        Raises:
            FileFormatError: The file is not what its extension says; names the file and the place.
            StorageError: The file cannot be read.
            MissingExtraError: `.parquet` without pyarrow.
            ParameterError: The extension is another one.
            DuplicateIdError, NonFiniteError, InputError: See the class.
        """
        from ilias_fast.run import compact, official, parquet

        path = Path(path)
        read = {
            "json": official.read_json,
            "pickle": official.read_pickle,
            "trec": official.read_trec,
            "parquet": parquet.read,
            "npz": compact.read,
        }[_kind(path)]
        return read(path, duplicates)


_EXTENSIONS = {
    ".json": "json",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".trec": "trec",
    ".run": "trec",
    ".npz": "npz",
    ".parquet": "parquet",
}


def _kind(path: Path) -> str:
    try:
        return _EXTENSIONS[path.suffix]
    except KeyError:
        raise ParameterError(
            f"{path}: expected a file name ending in .json, .pkl or .npz, or .trec or .parquet"
        ) from None
