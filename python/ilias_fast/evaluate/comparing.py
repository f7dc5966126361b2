"""Methods side by side: confidence intervals, significance, wins and losses.

All of it is over queries: intervals say how much a mean would move with other queries of the same kind.

- A confidence interval is the percentile interval of a paired bootstrap: queries are drawn with replacement,
  the same draw for every method.
- A p-value is that of a randomisation test (Fisher; Smucker et al., CIKM 2007): under the hypothesis that two
  methods do not differ, which of a query's two APs belongs to which is a coin toss. It is two-sided, and
  counts the observed outcome among the drawn ones, so it is never 0.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast.errors import ParameterError
from ilias_fast.evaluate.result import Evaluation, TaskScores

__all__ = ["Comparison", "MethodSummary", "PairSummary", "compare"]

_DRAWN = 1 << 22
"""Draws held at once, at most."""


@dataclass(frozen=True)
class MethodSummary:
    """One method, in percent.

    Attributes:
        name: What it is called.
        map: Mean AP over the common queries.
        interval: Its bootstrap confidence interval.
        oracle: Mean oracle over the common queries.

    Examples:
        >>> row = MethodSummary("chamfer", 51.5, (49.0, 54.0), 80.0)
        >>> f"{row.name}: {row.map} [{row.interval[0]}, {row.interval[1]}]"
        'chamfer: 51.5 [49.0, 54.0]'
    """

    name: str
    map: float
    interval: tuple[float, float]
    oracle: float


@dataclass(frozen=True)
class PairSummary:
    """Two methods on the same queries, in percent.

    Attributes:
        first: Name of one.
        second: Name of the other.
        delta: mAP of the second minus mAP of the first.
        interval: Its paired bootstrap confidence interval.
        p: Two-sided p-value of the randomisation test.
        wins: Queries with a larger AP in the second.
        losses: Queries with a smaller one.
        ties: Queries with the same, up to 1e-9.
        pearson: Correlation of the APs; None where one of them is constant.

    Examples:
        >>> pair = PairSummary("global", "chamfer", 1.5, (0.2, 2.8), 0.02, 60, 40, 20, 0.9)
        >>> pair.delta > 0 and pair.p < 0.05
        True
    """

    first: str
    second: str
    delta: float
    interval: tuple[float, float]
    p: float
    wins: int
    losses: int
    ties: int
    pearson: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found.

    Attributes:
        task: "image", "text" or "all"; "image and text" where these were paired.
        k: The cut of mAP@k.
        queries: The queries that all methods answer.
        left_out: Number of queries that some method was evaluated on and another was not.
        confidence: Of the intervals.
        samples: Number of bootstrap samples, and of draws of the randomisation test.
        methods: One a method, in the order given.
        pairs: Every two methods, in the order given.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> queries, positives = ("mug/query/0.jpg", "hat/query/0.jpg"), ("mug/pos/0.jpg", "hat/pos/0.jpg")
        >>> dataset = Dataset("mine", Path(), Path(), queries, (), positives, ("1.jpg",))
        >>> bad = evaluate(Run.from_dict({query: {"1.jpg": 1.0} for query in queries}), dataset)
        >>> good = evaluate(Run.from_dict({q: {p: 1.0} for q, p in zip(queries, positives)}), dataset)
        >>> found = compare({"bad": bad, "good": good}, samples=100)
        >>> [method.name for method in found.methods], found.pairs[0].delta, found.pairs[0].wins
        (['bad', 'good'], 100.0, 2)
    """

    task: str
    k: int
    queries: tuple[str, ...]
    left_out: int
    confidence: float
    samples: int
    methods: tuple[MethodSummary, ...]
    pairs: tuple[PairSummary, ...]

    def _repr_html_(self) -> str:
        from ilias_fast.evaluate.notebook import comparison_card

        return comparison_card(self)

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        return {
            "task": self.task,
            "k": self.k,
            "unit": "percent",
            "queries": len(self.queries),
            "left_out": self.left_out,
            "confidence": self.confidence,
            "samples": self.samples,
            "methods": [vars(method) for method in self.methods],
            "pairs": [vars(pair) for pair in self.pairs],
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return `to_dict()` as JSON.

        Args:
            indent: Spaces a level; None for one line.
        """
        return json.dumps(self.to_dict(), indent=indent)


def compare(
    evaluations: Mapping[str, Evaluation],
    *,
    task: str | None = None,
    pair: Literal["query", "instance"] = "query",
    samples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare evaluations of the same dataset over the queries they have in common.

    Args:
        evaluations: By name; at least one.
        task: Which task, where the evaluations hold two.
        pair: "query" compares the APs of the same query; "instance" also those of a query of the first
            evaluation and the only query of its instance in another: image queries with text queries.
        samples: Bootstrap samples and draws of the randomisation test, at least 1.
        confidence: Of the intervals, between 0 and 1.
        seed: Of the draws; the same seed gives the same numbers.

    Raises:
        ParameterError: No evaluation, evaluations at different k or of different tasks, no common query, or a
            number out of its range.

    Complexity: O(samples x queries x methods).

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> before = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.9, "mug/pos/0.jpg": 0.8}})
        >>> after = Run.from_dict({"mug/query/0.jpg": {"mug/pos/0.jpg": 0.9, "1.jpg": 0.8}})
        >>> judged = {"global": evaluate(before, dataset), "re-ranked": evaluate(after, dataset)}
        >>> compare(judged, samples=100).pairs[0].delta
        50.0
    """
    samples = _arrays.at_least_one("samples", samples)
    confidence = _arrays.real("confidence", confidence)
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence: expected a number between 0 and 1, found {confidence}")
    _arrays.choice("pair", pair, ("query", "instance"))
    scores = {name: _task(name, evaluation, task) for name, evaluation in evaluations.items()}
    cuts = {evaluation.k for evaluation in evaluations.values()}
    tasks = {one.task for one in scores.values()}
    if len(cuts) != 1 or (len(tasks) != 1 and pair == "query"):
        hint = "; pair='instance' compares image queries with text queries" if len(tasks) > 1 else ""
        raise ParameterError(
            f"evaluations: expected one k and one task, found k {sorted(cuts)} and tasks "
            f"{sorted(tasks)}{hint}"
        )
    places = [_places(one, pair == "instance") for one in scores.values()]
    first = next(iter(scores.values()))
    rows = [[_met(place, query) for place in places] for query in first.queries]
    kept = [q for q, row in enumerate(rows) if -1 not in row]
    if not kept:
        raise ParameterError("evaluations: the methods have no query in common")
    queries = tuple(first.queries[q] for q in kept)
    chosen = np.array([rows[q] for q in kept]).T
    names = list(scores)
    aps, oracles = (
        np.stack([getattr(one, values)[at] for one, at in zip(scores.values(), chosen, strict=True)])
        for values in ("aps", "oracles")
    )
    answered = (
        set(first.queries) if pair == "instance" else {q for one in scores.values() for q in one.queries}
    )
    rng = np.random.default_rng(_arrays.at_least("seed", seed, 0))
    means = _bootstrap(aps, samples, rng)
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]

    def interval(values: NDArray[np.float64]) -> tuple[float, float]:
        low, high = np.percentile(values, tails).tolist()
        return low, high

    methods = tuple(
        MethodSummary(name, float(aps[m].mean()), interval(means[m]), float(oracles[m].mean()))
        for m, name in enumerate(names)
    )
    pairs = []
    for a, b in combinations(range(len(names)), 2):
        difference = aps[b] - aps[a]
        pairs.append(
            PairSummary(
                names[a],
                names[b],
                float(difference.mean()),
                interval(means[b] - means[a]),
                _randomisation(difference, samples, rng),
                int((difference > 1e-9).sum()),
                int((difference < -1e-9).sum()),
                int((np.abs(difference) <= 1e-9).sum()),
                _pearson(aps[a], aps[b]),
            )
        )
    return Comparison(
        first.task if len(tasks) == 1 else " and ".join(dict.fromkeys(one.task for one in scores.values())),
        cuts.pop(),
        queries,
        len(answered) - len(queries),
        confidence,
        samples,
        methods,
        tuple(pairs),
    )


def _task(name: str, evaluation: Evaluation, task: str | None) -> TaskScores:
    if task is None:
        return evaluation.only
    if task not in evaluation.tasks:
        raise ParameterError(f"task: {name!r} has no task {task!r}, only {', '.join(evaluation.tasks)}")
    return evaluation.tasks[task]


def _places(scores: TaskScores, by_instance: bool) -> dict[str, int]:
    """Return the positions of queries and, if asked, of instances (as "name/") that have one query only."""
    places = {query: position for position, query in enumerate(scores.queries)}
    if by_instance:
        owners = [f"{query.partition('/')[0]}/" for query in scores.queries]
        count = Counter(owners)
        places |= {owner: position for position, owner in enumerate(owners) if count[owner] == 1}
    return places


def _met(places: dict[str, int], query: str) -> int:
    return places.get(query, places.get(f"{query.partition('/')[0]}/", -1))


def _bootstrap(aps: NDArray[np.float64], samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the means [methods, samples] of paired bootstrap samples."""
    count = aps.shape[1]
    step = max(1, _DRAWN // count)
    parts = []
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = rng.integers(0, count, (rows, count), dtype=np.int32)
        parts.append(np.stack([values[drawn].mean(axis=1) for values in aps]))
    return np.concatenate(parts, axis=1)


def _randomisation(difference: NDArray[np.float64], samples: int, rng: np.random.Generator) -> float:
    count = len(difference)
    observed = abs(difference.sum()) - 1e-9 * max(1.0, float(np.abs(difference).sum()))
    step = max(1, _DRAWN // count)
    extreme = 0
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        signs = rng.integers(0, 2, (rows, count), dtype=np.int8).astype(np.float64) * 2 - 1
        extreme += int((np.abs(signs @ difference) >= observed).sum())
    return (1 + extreme) / (1 + samples)


def _pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
