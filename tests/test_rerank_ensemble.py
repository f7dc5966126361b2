"""Local scores calibrated against their shortlist: what every image gets by chance says nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilias_fast.rerank import ChamferOptions, LocalScores, ensemble
from ilias_fast.rerank.ensemble import FLOOR, calibrated
from ilias_fast.run import Run


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=40), st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_calibration_equals_its_definition_in_any_unit(values: list[float], unit: float, zero: float) -> None:
    local = np.array(values, np.float64)
    found = calibrated(local) if len(local) else local
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    middle = float(np.median(local)) if len(local) else 0.0
    deviations = np.abs(local - middle)
    spread = 1.4826 * float(np.median(deviations)) if len(local) else 0.0
    if spread == 0 and deviations.any():
        spread = 1.2533 * float(deviations.mean())
    for value, score in zip(local, found, strict=True):
        expected = max(0.0, (value - middle) / spread - FLOOR) if spread else 0.0
        assert score == pytest.approx(expected, rel=1e-9, abs=1e-12)
    if len(local) and spread > 1e-3 * float(deviations.max()) > 1:
        np.testing.assert_allclose(calibrated(unit * local + zero), found, rtol=1e-3, atol=1e-3)


def test_at_least_half_of_a_shortlist_keeps_its_global_order() -> None:
    rng = np.random.default_rng(0)
    run = Run.from_dict({"q": {f"d{i}": float(1 - i / 1000) for i in range(200)}})
    scores = rng.normal(80, 7, 200).astype(np.float32)
    scores[60] = 150
    after = ensemble(run, LocalScores(run, "chamfer", ChamferOptions(), 200, scores))
    assert after["q"].ids[0] == "d60"
    quiet = [f"d{i}" for i in np.flatnonzero(scores <= np.median(scores))]
    assert [name for name in after["q"].ids if name in set(quiet)] == quiet
    raw = ensemble(run, LocalScores(run, "chamfer", ChamferOptions(), 200, scores), calibrate=False)
    assert raw.provenance["rerank"]["calibrate"] is False  # type: ignore[index]
    assert raw["q"].ids != after["q"].ids


@pytest.mark.parametrize("scores", [[5.0], [5.0, 5.0, 5.0], [1.0, 9.0], [0.0] * 9 + [1.0]])
def test_short_and_equal_shortlists(scores: list[float]) -> None:
    run = Run.from_dict({"q": {f"d{i}": float(-i) for i in range(len(scores))}})
    local = LocalScores(run, "chamfer", ChamferOptions(), len(scores), np.array(scores, np.float32))
    after = ensemble(run, local)
    assert np.isfinite(after["q"].scores).all()
    # One that stands out is seen even where all others are equal; two images say nothing about chance.
    assert after["q"].ids == run["q"].ids or len(scores) == 10
    assert calibrated(local.scores.astype(float)).any() == (len(scores) == 10)
