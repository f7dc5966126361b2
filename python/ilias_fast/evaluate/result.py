"""What an evaluation says. All scores are in percent."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import StrPath, written
from ilias_fast.errors import ParameterError

__all__ = ["Evaluation", "QueryScore", "TaskScores"]


class QueryScore(NamedTuple):
    """One row of the per-query table.

    Attributes:
        query: Query id.
        instance: Its instance.
        ap: AP@k, percent.
        oracle: AP@k after a perfect re-ranking of the first k results, percent.
        positives: Positives in the database.
        found: Positives among the first k results.

    Examples:
        >>> row = QueryScore("mug/query/0.jpg", "mug", ap=50.0, oracle=100.0, positives=1, found=1)
        >>> row.oracle - row.ap
        50.0
    """

    query: str
    instance: str
    ap: float
    oracle: float
    positives: int
    found: int


@dataclass(frozen=True, eq=False)
class TaskScores:
    """The scores of one task: its image queries, or its text queries.

    Attributes:
        task: "image", "text", or "all" (official mode: both in one mean).
        queries: The evaluated queries, in the order of the arrays.
        aps: float64 [Q], AP@k of each query.
        oracles: float64 [Q], AP@k of each query after a perfect re-ranking of its first k results.
        positives: int64 [Q], positives in the database.
        found: int64 [Q], positives among the first k results.
        missing: Queries of the dataset that the run lacks (counted as zero if they are in `queries`).
        scale: Mean AP by scale group, keyed "low-high" (half open).
        clutter: Mean AP by clutter group, likewise.
        categories: AP by coarse category: mean over instances of the mean over their queries.
        subcategories: AP by "coarse-mid" category, likewise.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> run = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.9, "mug/pos/0.jpg": 0.8}})
        >>> scores = evaluate(run, dataset).tasks["image"]
        >>> scores.queries, scores.aps.tolist(), scores.missing
        (('mug/query/0.jpg',), [50.0], ())
    """

    task: str
    queries: tuple[str, ...]
    aps: NDArray[np.float64]
    oracles: NDArray[np.float64]
    positives: NDArray[np.int64]
    found: NDArray[np.int64]
    missing: tuple[str, ...]
    scale: Mapping[str, float]
    clutter: Mapping[str, float]
    categories: Mapping[str, float]
    subcategories: Mapping[str, float]

    @property
    def map(self) -> float:
        """Mean of `aps`: mAP@k."""
        return float(self.aps.mean())

    @property
    def oracle(self) -> float:
        """Mean of `oracles`."""
        return float(self.oracles.mean())

    def per_query(self) -> list[QueryScore]:
        """Return the per-query table."""
        columns = (self.aps, self.oracles, self.positives, self.found)
        return [
            QueryScore(query, query.partition("/")[0], *values)
            for query, *values in zip(self.queries, *(column.tolist() for column in columns), strict=True)
        ]

    def official_report(self) -> dict[str, object]:
        """Return the content of the official evaluator's result file (percent, plain dictionaries)."""
        return {
            "queries": list(self.queries),
            "map": self.map,
            "aps": self.aps.copy(),
            "oracle": self.oracle,
            "scale": dict(self.scale),
            "clutter": dict(self.clutter),
            "categories": dict(self.categories),
            "subcategories": dict(self.subcategories),
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A run judged against a dataset; scores in percent.

    Image and text queries are never averaged together (but see `official`). `map`, `oracle` and the other
    shorthands below stand for the only task there is.

    Attributes:
        k: The cut.
        official: Whether the official evaluator's conventions were used.
        dataset: Name of the dataset.
        run: Provenance of the run.
        tasks: The tasks by name, "image" before "text"; only "all" in official mode without a chosen task.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> run = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.9, "mug/pos/0.jpg": 0.8}})
        >>> found = evaluate(run, dataset)
        >>> found.map, found.oracle, list(found.tasks), found.per_query()[0].found
        (50.0, 100.0, ['image'], 1)
    """

    k: int
    official: bool
    dataset: str
    run: Mapping[str, object]
    tasks: Mapping[str, TaskScores]

    def _repr_html_(self) -> str:
        from ilias_fast.evaluate.notebook import evaluation_card

        return evaluation_card(self)

    @property
    def only(self) -> TaskScores:
        """The only task.

        Raises:
            ParameterError: There are two.
        """
        if len(self.tasks) > 1:
            raise ParameterError(
                f"the run answers {len(self.tasks)} tasks ({', '.join(self.tasks)}), each with its own mean: "
                f"use evaluation.tasks[...] or evaluate(..., task=...)"
            )
        return next(iter(self.tasks.values()))

    @property
    def map(self) -> float:
        """mAP@k of the only task."""
        return self.only.map

    @property
    def oracle(self) -> float:
        """Mean oracle of the only task."""
        return self.only.oracle

    @property
    def queries(self) -> tuple[str, ...]:
        """Evaluated queries of the only task."""
        return self.only.queries

    @property
    def aps(self) -> NDArray[np.float64]:
        """float64 [Q], AP@k of each query of the only task."""
        return self.only.aps

    @property
    def oracles(self) -> NDArray[np.float64]:
        """float64 [Q], oracle of each query of the only task."""
        return self.only.oracles

    @property
    def missing(self) -> tuple[str, ...]:
        """Queries of the only task that the run lacks."""
        return self.only.missing

    @property
    def scale(self) -> Mapping[str, float]:
        """Mean AP by scale group of the only task."""
        return self.only.scale

    @property
    def clutter(self) -> Mapping[str, float]:
        """Mean AP by clutter group of the only task."""
        return self.only.clutter

    @property
    def categories(self) -> Mapping[str, float]:
        """AP by coarse category of the only task."""
        return self.only.categories

    @property
    def subcategories(self) -> Mapping[str, float]:
        """AP by "coarse-mid" category of the only task."""
        return self.only.subcategories

    def per_query(self) -> list[QueryScore]:
        """Return the per-query tables of all tasks, one after the other."""
        return [row for task in self.tasks.values() for row in task.per_query()]

    def official_report(self) -> dict[str, object]:
        """Return the content of the official evaluator's result file, for the only task."""
        return self.only.official_report()

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain JSON values, in percent."""
        return {
            "k": self.k,
            "unit": "percent",
            "official": self.official,
            "dataset": self.dataset,
            "run": dict(self.run),
            "tasks": {name: _task_dict(task) for name, task in self.tasks.items()},
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return `to_dict()` as JSON.

        Args:
            indent: Spaces a level; None for one line.
        """
        return json.dumps(self.to_dict(), indent=indent, default=str)

    def save(self, path: StrPath) -> None:
        """Write the evaluation, atomically.

        Args:
            path: `.json` gets everything; `.pkl` the official evaluator's result file of the only task.

        Raises:
            ParameterError: The extension is another one, or there are two tasks for a pickle.
            StorageError: The file cannot be written.
        """
        path = Path(path)
        if path.suffix == ".json":
            content = self.to_json().encode()
        elif path.suffix in (".pkl", ".pickle"):
            content = pickle.dumps(self.official_report())
        else:
            raise ParameterError(f"{path}: expected a file name ending in .json or .pkl")
        with written(path) as file:
            file.write(content)


def _task_dict(task: TaskScores) -> dict[str, object]:
    groups = ("scale", "clutter", "categories", "subcategories")
    return {
        "map": task.map,
        "oracle": task.oracle,
        "missing": list(task.missing),
        **{name: dict(getattr(task, name)) for name in groups},
        "per_query": [row._asdict() for row in task.per_query()],
    }
