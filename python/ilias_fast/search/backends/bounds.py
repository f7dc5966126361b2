"""What a float32 screen proves about canonical scores, whoever runs it. The proof is in docs/numerics.md.

A query is scaled by a power of two so that its largest magnitude lies in [0.5, 1): the screen works with
the scaled query p, in *screen units*.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast.errors import NonFiniteError, ParameterError
from ilias_fast.kernels import TopK
from ilias_fast.store import GlobalStore

__all__ = ["LONGEST", "Screen", "best_of", "blocks"]

LONGEST = 1 << 14
"""The bounds hold for rows of up to this many values."""

_U = 2.0**-24


class Screen:
    """Scaled queries with their bounds.

    Args:
        queries: float32 [Q, d].
        room: Roundings, in units of 2^-24 ||p|| ||x||, that what is done with bounds may cost.
    """

    def __init__(self, queries: NDArray[np.float32], room: int = 0):
        if queries.shape[1] > LONGEST:
            raise ParameterError(
                f"queries: expected at most {LONGEST} columns for this backend, found {queries.shape[1]} "
                f"(the cpu backend takes any number)"
            )
        if not np.isfinite(queries).all():
            row, column = np.argwhere(~np.isfinite(queries))[0].tolist()
            raise NonFiniteError(
                f"queries: row {row}, column {column} is {queries[row, column]}; all values must be finite"
            )
        peaks = np.abs(queries).max(axis=1, initial=0.0).astype(np.float64)
        self.exponents = np.where(peaks > 0, np.frexp(peaks)[1], 0)
        """Canonical units are 2^exponent times screen units."""
        wide = np.ldexp(queries.astype(np.float64), -self.exponents[:, None])
        self.queries = wide.astype(np.float32)
        columns = queries.shape[1]
        steps = (columns + 8 + room) * _U
        norms = np.sqrt((self.queries.astype(np.float64) ** 2).sum(axis=1))
        self.slopes: NDArray[np.float64] = 1.5 * steps / (1 - steps) * norms
        """Error in screen units per unit of row norm."""
        self.floor = columns * 2.0**-100
        """Error in screen units whatever the row: underflow, flushed or not."""

    def limits(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return, in screen units, what an exact product reaches whose canonical score is at least `scores`.

        Args:
            scores: float32 [Q], canonical scores; -inf lets everything through.
        """
        least = np.nextafter(scores, np.float32(-np.inf)).astype(np.float64)
        exact: NDArray[np.float64] = np.ldexp(least, -self.exponents)
        lowered: NDArray[np.float64] = exact - np.abs(exact) * 2.0**-40
        return lowered

    def error(self, norm: float) -> NDArray[np.float64]:
        """Return the error of the screen for rows of up to this norm, float64 [Q]."""
        errors: NDArray[np.float64] = self.slopes * norm + self.floor
        return errors


def blocks(database: ArrayLike | GlobalStore, rows: int) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Yield (first row, float16 [m, d]) blocks of at most `rows` rows, in order, without a copy."""
    if isinstance(database, GlobalStore):
        shards: Iterator[tuple[int, NDArray[np.float16]]] = database.shards()
    else:
        shards = iter([(0, _arrays.float16_rows("database", database))])
    for first, vectors in shards:
        for at in range(0, len(vectors), rows):
            yield first + at, vectors[at : at + rows]


def best_of(
    queries: NDArray[np.float32],
    block: NDArray[np.float16],
    owners: NDArray[np.int64],
    rows: NDArray[np.int64],
    k: int,
    threads: int | None,
) -> TopK:
    """Return the best k of the candidates, by canonical score; -1 and -inf where a query has fewer.

    Args:
        queries: float32 [Q, d].
        block: float16 [m, d].
        owners: int64 [c], ascending: whose candidates.
        rows: int64 [c], rows of the block.
        k: How many results per query.
        threads: Number of threads; None for all cores.
    """
    offsets = np.searchsorted(owners, np.arange(len(queries) + 1)).astype(np.int64)
    return TopK(*_core.best_rows(queries, block, offsets, rows, k, threads))
