"""Evaluating a run as ranx and torchmetrics take it: dictionaries of ids."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilias_fast.kernels import average_precision

K = 1000


def make_data(size: int, seed: int = 0) -> dict[str, Any]:
    """Return relevant ids and a run of 1,000 results for each of `size` queries."""
    rng = np.random.default_rng(seed)
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for query in range(size):
        found = rng.choice(50_000, K, replace=False)
        scores = np.sort(rng.random(K))[::-1]
        relevant = [
            *rng.choice(found[:200], 4, replace=False),
            *(50_000 + rng.choice(1000, 3, replace=False)),
        ]
        qrels[f"q{query}"] = {f"d{row}": 1 for row in relevant}
        run[f"q{query}"] = dict(zip((f"d{row}" for row in found), scores.tolist(), strict=True))
    return {"qrels": qrels, "run": run}


# --8<-- [start:before]
def before(qrels: Any, run: Any) -> float:
    """Compute mAP@1000 with ranx."""
    from ranx import Qrels, Run, evaluate

    return float(evaluate(Qrels(qrels), Run(run), f"map@{K}"))


# --8<-- [end:before]


# --8<-- [start:after]
def after(qrels: Any, run: Any) -> float:
    """Compute mAP@1000 straight from the dictionaries."""
    aps = []
    for query, relevant in qrels.items():
        found = run.get(query, {})
        scores = np.fromiter(found.values(), np.float64, len(found))
        flags = np.fromiter((image in relevant for image in found), np.bool_, len(found))
        aps.append(average_precision(scores, flags, positives=len(relevant), k=K))
    return float(np.mean(aps))


# --8<-- [end:after]


def run_before(data: dict[str, Any]) -> Any:
    """Call `before`."""
    return before(data["qrels"], data["run"])


def run_after(data: dict[str, Any]) -> Any:
    """Call `after`."""
    return after(data["qrels"], data["run"])


def check(theirs: Any, ours: Any, data: dict[str, Any]) -> bool:
    """Say whether the values agree."""
    del data
    return abs(theirs - ours) < 1e-9
