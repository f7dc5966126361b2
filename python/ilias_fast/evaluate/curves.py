"""What a pass over the distractors is asked for and gives: random subsets, and the curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast.errors import ParameterError

__all__ = ["CELL", "DistractorCurve", "RandomSubsets"]

CELL = 65_536
"""Distractors of a cell of `RandomSubsets`."""

_MOST = 10**9
"""What NumPy's hypergeometric law can draw from."""


class RandomSubsets:
    """Random subsets of N distractors, each of the same size, that need no list of their members.

    Cells of 65,536 distractors get their share by the hypergeometric law, and draw it from a generator of
    their own: uniform over all subsets of the size, and the same on any machine that has the seed.

    Args:
        total: N.
        size: Members of each subset, at most N.
        count: Number of subsets.
        seed: Of the draw.

    Raises:
        ParameterError: A number is negative, the size is above N, or N is 10^9 or more.

    Examples:
        >>> subsets = RandomSubsets(total=1000, size=100, count=3, seed=7)
        >>> subsets.members(0, 1000).sum(axis=1).tolist()
        [100, 100, 100]
    """

    def __init__(self, total: int, size: int, count: int, seed: int = 0) -> None:
        self.total: int = _arrays.at_least("total", total, 0)
        self.size: int = _arrays.at_least("size", size, 0)
        self.count: int = _arrays.at_least("count", count, 0)
        self._seed = _arrays.at_least("seed", seed, 0)
        if self.total >= _MOST:
            raise ParameterError(f"total: expected fewer than {_MOST} distractors, found {total}")
        if self.size > self.total:
            raise ParameterError(f"size: expected at most {total}, the number of distractors, found {size}")
        cells = np.full(-(-self.total // CELL), CELL)
        if self.total % CELL:
            cells[-1] = self.total % CELL
        self._shares = [
            np.random.default_rng([self._seed, subset]).multivariate_hypergeometric(
                cells, self.size, method="marginals"
            )
            for subset in range(self.count)
        ]

    def members(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return bool [count, stop - start]: which distractors of a range belong to each subset.

        Args:
            start: The first distractor.
            stop: One past the last.

        Raises:
            ParameterError: The range is not within the distractors.
        """
        start, stop = _arrays.at_least("start", start, 0), _arrays.count("stop", stop)
        if not start <= stop <= self.total:
            raise ParameterError(f"stop: expected {start} to {self.total}, found {stop}")
        found = np.zeros((self.count, stop - start), np.bool_)
        for cell in range(start // CELL, -(-stop // CELL)):
            low, high = cell * CELL, min((cell + 1) * CELL, self.total)
            for subset, shares in enumerate(self._shares):
                generator = np.random.default_rng([self._seed, subset, cell])
                drawn = low + generator.choice(high - low, int(shares[cell]), replace=False)
                found[subset, drawn[(drawn >= start) & (drawn < stop)] - start] = True
        return found


@dataclass(frozen=True, eq=False)
class DistractorCurve:
    """mAP@k against the number of distractors, in percent.

    Attributes:
        k: The cut.
        queries: The queries, in the order of the columns.
        distractors: int64 [m], numbers of distractors: prefixes of the database.
        aps: float64 [m, Q].
        subset_size: Distractors of each random subset.
        subset_aps: float64 [s, Q], AP@k in each random subset.

    Examples:
        >>> import numpy as np
        >>> none = np.empty((0, 1))
        >>> aps = np.array([[100.0], [50.0]])
        >>> curve = DistractorCurve(1000, ("mug/query/0.jpg",), np.array([0, 10]), aps, 0, none)
        >>> curve.maps.tolist(), curve.to_dict()["distractors"]
        ([100.0, 50.0], [0, 10])
    """

    k: int
    queries: tuple[str, ...]
    distractors: NDArray[np.int64]
    aps: NDArray[np.float64]
    subset_size: int
    subset_aps: NDArray[np.float64]

    @property
    def maps(self) -> NDArray[np.float64]:
        """float64 [m]: mAP@k at each number of distractors."""
        return np.asarray(self.aps.mean(axis=1))

    @property
    def subset_maps(self) -> NDArray[np.float64]:
        """float64 [s]: mAP@k in each random subset."""
        return np.asarray(self.subset_aps.mean(axis=1))

    @property
    def subset_mean_std(self) -> tuple[float, float]:
        """Mean and sample standard deviation over the subsets, NaN where there are too few."""
        values = self.subset_maps
        mean = float(values.mean()) if len(values) else float("nan")
        return mean, float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    def to_dict(self) -> dict[str, object]:
        """Return everything but the per-query values as plain JSON values."""
        return {
            "k": self.k,
            "unit": "percent",
            "queries": len(self.queries),
            "distractors": self.distractors.tolist(),
            "map": self.maps.tolist(),
            "subset_size": self.subset_size,
            "subset_map": self.subset_maps.tolist(),
        }
