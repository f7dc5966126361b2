"""The ensemble of global and local scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast.errors import ParameterError, ShapeError
from ilias_fast.rerank.methods import Weights, default_weights
from ilias_fast.rerank.scores import LocalScores
from ilias_fast.run import Run

__all__ = ["FLOOR", "calibrated", "ensemble"]

FLOOR = 2.5
"""Standard deviations above the median up to which a calibrated score says nothing (`docs/rerank.md`)."""


def _weights(local: LocalScores, lam: float | None, gamma: float | None, calibrate: bool | None) -> Weights:
    default = default_weights(local.method)
    weights = Weights(
        default.lam if lam is None else _arrays.real("lam", lam),
        default.gamma if gamma is None else _arrays.real("gamma", gamma),
        default.calibrate if calibrate is None else _arrays.flag("calibrate", calibrate),
    )
    if not 0 <= weights.lam <= 1:
        raise ParameterError(f"lam: expected a number from 0 to 1, found {lam!r}")
    if weights.gamma is not None and not (weights.gamma > 0 and np.isfinite(weights.gamma)):
        raise ParameterError(f"gamma: expected a positive finite number, found {gamma!r}")
    return weights


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # exp of non-positive numbers only: no overflow.
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1.0 + small))


def calibrated(local: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure one query's local scores against what its shortlist gets by chance.

    Nearly every image of a shortlist is a wrong one, so the median is what a wrong image gets, and the median
    absolute deviation how much that varies: both differ from query to query with the number of descriptors,
    the texture and the noise. Where more than half of the scores are equal, the mean absolute deviation
    stands in.

    Args:
        local: float64 [n], the scores.

    Returns:
        How many standard deviations (of a normal distribution with that median absolute deviation) each lies
        beyond `FLOOR` of them above the median; 0 below, and where all scores are equal.
    """
    above = local - np.median(local)
    spread = 1.4826 * float(np.median(np.abs(above))) or 1.2533 * float(np.abs(above).mean())
    return np.maximum(0.0, above / spread - FLOOR) if spread > 0 else np.zeros_like(above)


def _combined(
    global_scores: NDArray[np.float64], local_scores: NDArray[np.float64], weights: Weights
) -> NDArray[np.float64]:
    """Combine one query's scores; local scores are NaN beyond the shortlist."""
    inside = np.flatnonzero(~np.isnan(local_scores))
    if len(inside) == 0:
        return global_scores
    local = local_scores[inside]
    if weights.calibrate:
        local = calibrated(local)
    final = global_scores.copy()
    shaped = local if weights.gamma is None else _sigmoid(weights.gamma * local)
    final[inside] = weights.lam * global_scores[inside] + (1 - weights.lam) * shaped
    beyond = np.isnan(local_scores)
    if beyond.any():
        # The tail keeps its scores' differences, moved down as a whole to just below the shortlist.
        limit = np.nextafter(final[inside].min(), -np.inf)
        tail = global_scores[beyond]
        final[beyond] = np.minimum(tail - max(0.0, float(tail.max() - limit)), limit)
    return final


def ensemble(
    run: Run,
    local: LocalScores,
    *,
    lam: float | None = None,
    gamma: float | None = None,
    calibrate: bool | None = None,
) -> Run:
    """Re-rank a run: `final = lam * global + (1 - lam) * sigmoid(gamma * local)` inside the shortlist.

    Positions beyond the shortlist keep their order and stay below it: the tail of a query is moved down as a
    whole, by as much as it takes for its first score to lie just below the smallest final score. Equal final
    scores keep the order of the run.

    Args:
        run: The run the local scores were made of.
        local: Raw local scores.
        lam: Weight of the global score, in [0, 1]; None for the method's default.
        gamma: Slope of the local score, positive; None for the method's default.
        calibrate: Measure the local scores against the query's shortlist first (`calibrated`). None for the
            method's default: every image gets a large Chamfer sum, and how large says more about texture than
            about the object; spatial scores are corrected for chance already.

    Returns:
        A run with the same entries in their new order.

    Raises:
        ParameterError: `lam` or `gamma` is out of range.
        ShapeError: The local scores belong to another run.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.run import Run
        >>> run = Run.from_dict({"query.jpg": {"a.jpg": 0.5, "b.jpg": 0.4, "c.jpg": 0.3}})
        >>> scores = np.array([0.0, 12.0, np.nan], np.float32)
        >>> local = LocalScores(run, "spatial", SpatialOptions(), 2, scores)
        >>> ensemble(run, local)["query.jpg"].ids
        ['b.jpg', 'a.jpg', 'c.jpg']
    """
    weights = _weights(local, lam, gamma, calibrate)
    if len(local.scores) != len(run.indices) or (
        local.run is not run
        and not (
            np.array_equal(local.run.offsets, run.offsets)
            and local.run.query_ids == run.query_ids
            and local.run.database_ids == run.database_ids
            and np.array_equal(local.run.indices, run.indices)
        )
    ):
        raise ShapeError(f"local: expected the scores of this run ({run!r}), found those of {local.run!r}")
    scores = local.scores.astype(np.float64)
    final = np.empty(len(scores))
    for start, stop in zip(run.offsets[:-1].tolist(), run.offsets[1:].tolist(), strict=True):
        final[start:stop] = _combined(run.scores[start:stop], scores[start:stop], weights)
    provenance = {
        **run.provenance,
        "rerank": {
            "method": local.method,
            "shortlist": local.shortlist,
            "options": local.options.to_dict(),
            "lam": weights.lam,
            "gamma": weights.gamma,
            "calibrate": weights.calibrate,
        },
    }
    return run.with_scores(final, provenance)
