"""Several runs of the same queries as one: models together, image queries with text queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._core import Ids
from ilias_fast.errors import NonFiniteError, ParameterError, ShapeError
from ilias_fast.run.base import Run

__all__ = ["fuse"]

_RANKS = 60
"""What is added to a rank (Cormack, Clarke and Buettcher, SIGIR 2009): the first few differ little."""


def fuse(
    runs: Sequence[Run],
    weights: Sequence[float] | None = None,
    *,
    method: Literal["scores", "ranks"] = "scores",
    normalise: Literal["none", "minmax", "zscore"] = "none",
    missing: Literal["least", "zero"] = "least",
    k: int | None = None,
) -> Run:
    """Add up the scores of several runs.

    Runs meet by query id. A query that another run lacks meets the only query of its instance there (what
    stands before the first "/"), as in ILIAS, where an instance has several image queries and one text:
    `fuse([image, text])` averages their similarities.

    A list that was cut says of an image it lacks only that it scores at most its last result, and that is
    what the image gets: lists as deep as the database fuse exactly, shorter ones nearly so at their head.

    Args:
        runs: At least one; the result has the queries of the first.
        weights: One a run, finite; None for the mean of all.
        method: "scores" adds weight x score, "ranks" adds weight / (60 + rank) (reciprocal rank fusion), for
            scores that cannot be compared at all.
        normalise: Of the scores of a list first: "minmax" to 0 to 1, "zscore" to mean 0 and standard
            deviation 1 (all 0 where a list has one score only), for models whose scores differ in scale.
        missing: What an image a list lacks scores in it: "least" its last score, or "zero". Ranks: 0.
        k: Results kept a query, at least 1; None for all that any list holds.

    Returns:
        The run; equal scores keep the order of the first run, then of the second, and so on.

    Raises:
        ParameterError: No run, another number of weights, or an option out of its range.
        NonFiniteError: A weight or a sum is not finite.
        ShapeError: A query of the first run has no counterpart in another, or several.

    Complexity: O(n log n) in the number of results of all runs.

    Examples:
        >>> image = Run.from_dict({"q.jpg": {"a.jpg": 0.75, "b.jpg": 0.5}})
        >>> text = Run.from_dict({"q.jpg": {"b.jpg": 1.0, "a.jpg": 0.25}})
        >>> fuse([image, text])["q.jpg"].ids
        ['b.jpg', 'a.jpg']
    """
    if not runs:
        raise ParameterError("runs: expected at least one run, found none")
    _arrays.choice("method", method, ("scores", "ranks"))
    _arrays.choice("normalise", normalise, ("none", "minmax", "zscore"))
    _arrays.choice("missing", missing, ("least", "zero"))
    if weights is not None and len(weights) != len(runs):
        raise ParameterError(f"weights: expected {len(runs)}, one a run, found {len(weights)}")
    factors = [1 / len(runs)] * len(runs) if weights is None else [_weight(weight) for weight in weights]
    by_rank = method == "ranks"
    depth = None if k is None else _arrays.at_least_one("k", k)
    first = runs[0]
    names, rows_of = _joined([run.database_ids for run in runs])
    # An entry of any run is known by its query in the first run and its image.
    keys, values, least = [], [], []
    for number, (run, rows) in enumerate(zip(runs, rows_of, strict=True)):
        query = _paired(first.query_ids, run, number)
        starts, counts = run.offsets[query], np.diff(run.offsets)[query]
        owner = np.repeat(np.arange(len(query)), counts)
        rank = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        entry = starts[owner] + rank
        keys.append(owner * max(len(names), 1) + rows[run.indices[entry]])
        scores = 1 / (_RANKS + 1 + rank) if by_rank else _normal(run.scores[entry], counts, normalise)
        values.append(scores)
        last = np.cumsum(counts)[counts > 0] - 1
        floor = np.zeros(len(query))
        floor[counts > 0] = 0.0 if by_rank or missing == "zero" else scores[last]
        least.append(floor)
    found, position, place = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    owner = found // max(len(names), 1)
    total = np.zeros(len(found))
    begin = 0
    for factor, scores, floor in zip(factors, values, least, strict=True):
        part = floor[owner]
        part[place[begin : begin + len(scores)]] = scores
        begin += len(scores)
        with np.errstate(over="ignore", invalid="ignore"):
            total += factor * part
    # By query, and inside it by the first run that lists an image, and its rank there.
    order = np.lexsort((position, owner))
    offsets = np.searchsorted(owner[order], np.arange(len(first) + 1))
    fused = Run.from_arrays(
        first.query_ids,
        offsets,
        names,
        (found % max(len(names), 1))[order],
        total[order],
        {
            "method": "fuse",
            "by": method,
            "weights": factors,
            "normalise": normalise,
            "missing": missing,
            "parts": [dict(run.provenance) for run in runs],
        },
    )
    return fused if depth is None else fused.truncate(depth)


def _weight(weight: float) -> float:
    value = _arrays.real("weights", weight)
    if not np.isfinite(value):
        raise NonFiniteError(f"weights: expected finite numbers, found {value}")
    return value


def _joined(vocabularies: Sequence[Ids]) -> tuple[Ids, list[NDArray[np.int64]]]:
    """Return all ids, each once, and the position of every id of each vocabulary among them."""
    names, rows_of = vocabularies[0], [np.arange(len(vocabularies[0]))]
    for ids in vocabularies[1:]:
        rows = names.locate(ids)
        new = np.flatnonzero(rows < 0)
        if len(new):
            rows[new] = len(names) + np.arange(len(new))
            names = Ids([*names, *ids.take(new)])
        rows_of.append(rows)
    return names, rows_of


def _paired(queries: Sequence[str], run: Run, number: int) -> NDArray[np.int64]:
    """Return which query of the run each query meets."""
    place = {query: position for position, query in enumerate(run.query_ids)}
    by_instance: dict[str, list[int]] = {}
    for query, position in place.items():
        by_instance.setdefault(query.partition("/")[0], []).append(position)
    rows = []
    for query in queries:
        found = [place[query]] if query in place else by_instance.get(query.partition("/")[0], [])
        if len(found) != 1:
            raise ShapeError(
                f"runs: query {query!r} meets {len(found)} queries of run {number}; expected the same id "
                f"there, or one query of its instance, {query.partition('/')[0]!r}"
            )
        rows += found
    return np.array(rows, np.int64)


def _normal(scores: NDArray[np.float64], counts: NDArray[np.int64], how: str) -> NDArray[np.float64]:
    """Return the scores of lists, which follow each other and descend, normalised list by list."""
    if how == "none" or not len(scores):
        return scores
    filled = counts[counts > 0]
    ends = np.cumsum(filled)
    high, low = scores[ends - filled], scores[ends - 1]
    # Halved: the difference of two finite numbers can be too large for one.
    scale = high / 2 - low / 2
    unit = (scores / 2 - np.repeat(low / 2, filled)) / np.repeat(np.where(scale > 0, scale, 1.0), filled)
    if how == "minmax":
        return np.asarray(unit)
    mean = np.add.reduceat(unit, ends - filled) / filled
    unit -= np.repeat(mean, filled)
    spread = np.sqrt(np.add.reduceat(unit**2, ends - filled) / filled)
    return np.asarray(unit / np.repeat(np.where(scale > 0, spread, 1.0), filled))
