"""What must hold of a run's arrays, and the order they are kept in."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._core import Ids
from ilias_fast.errors import DuplicateIdError, InputError, NonFiniteError, ParameterError, ShapeError

__all__ = ["as_ids", "as_tuple", "check_unique", "checked", "first_repeated", "rank_order"]


def checked(
    query_ids: tuple[str, ...],
    offsets: ArrayLike,
    database_ids: Ids,
    indices: ArrayLike,
    scores: ArrayLike,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return copies of the three arrays after every check that concerns single entries."""
    _check_ids("query", query_ids)
    starts = _arrays.offsets("offsets", offsets).copy()
    rows = _arrays.vector("indices", indices, "iu", np.int64, "total").copy()
    values = _arrays.vector("scores", scores, "fiu", np.float64, "total").copy()
    if len(starts) != len(query_ids) + 1:
        raise ShapeError(
            f"offsets: expected {len(query_ids) + 1}, one more than queries, found {len(starts)}"
        )
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ParameterError("offsets: expected numbers that start at 0 and never decrease")
    if not len(rows) == len(values) == starts[-1]:
        raise ShapeError(
            f"indices, scores: expected {starts[-1]} entries each, as the last offset says, "
            f"found {len(rows)} and {len(values)}"
        )
    if len(rows) and (rows.min() < 0 or rows.max() >= len(database_ids)):
        at = int(np.flatnonzero((rows < 0) | (rows >= len(database_ids)))[0])
        query = int(np.searchsorted(starts, at, side="right")) - 1
        raise ParameterError(
            f"query {query_ids[query]!r}, result {at - starts[query]}: expected an index below "
            f"{len(database_ids)}, the number of database ids, found {rows[at]}"
        )
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        query = int(np.searchsorted(starts, at, side="right")) - 1
        raise NonFiniteError(
            f"query {query_ids[query]!r}, database id {database_ids[rows[at]]!r}: the score is {values[at]}; "
            f"all scores must be finite"
        )
    return starts, rows, values


def as_tuple(ids: Iterable[str]) -> tuple[str, ...]:
    """Return query ids as a tuple; a single str is not taken for its characters."""
    if isinstance(ids, str):
        raise InputError(f"query_ids: expected a sequence of ids, found the single str {ids!r}")
    return tuple(ids)


def as_ids(ids: Iterable[str]) -> Ids:
    """Return database ids as one text; raises InputError naming the first that is none."""
    if isinstance(ids, Ids):
        return ids
    if isinstance(ids, str):
        raise InputError(f"database_ids: expected a sequence of ids, found the single str {ids!r}")
    names = tuple(ids)
    try:
        return Ids(names)
    except TypeError:
        _check_ids("database", names)
        raise


def _check_ids(kind: str, ids: tuple[str, ...]) -> None:
    try:
        text = "\n".join(ids)
        text.encode()
    except (TypeError, UnicodeEncodeError):
        text = ""
    else:
        if all(ids) and "\0" not in text:
            return
    for position, name in enumerate(ids):
        if not isinstance(name, str) or not name or "\0" in name or not _is_unicode(name):
            raise InputError(
                f"{kind} id {position}: expected a non-empty string of valid Unicode without NUL, "
                f"found {name!r}"
            )


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_unique(kind: str, ids: tuple[str, ...] | Ids) -> None:
    """Raise DuplicateIdError naming the first id that is given twice."""
    twice = (ids if isinstance(ids, Ids) else Ids(ids)).first_repeated()
    if twice is not None:
        raise DuplicateIdError(f"{kind} id {twice!r} is given twice; ids are unique")


def rank_order(offsets: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Return the stable order by (query, score descending), or None if that is the order already."""
    rises = np.flatnonzero(scores[1:] > scores[:-1]) + 1
    # A list may begin where another ended, and nowhere else; the last one that does not begin later is it.
    if (offsets[np.searchsorted(offsets, rises, side="right") - 1] == rises).all():
        return None
    return np.lexsort((-scores, np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))))


def first_repeated(offsets: NDArray[np.int64], rows: NDArray[np.int64], size: int) -> tuple[int, int] | None:
    """Return (query, row) of a row one query lists twice."""
    return _core.first_repeated_index(offsets, rows, size)
