"""The ILIAS protocol: mAP@k per task, oracle, scale and clutter groups, taxonomy averages.

The lists are judged by the core in one pass (`ilias_fast_core::evaluate::judge`); what is decided here is
which queries count, and how their scores are averaged:

- a task's mAP is the mean over its queries (micro);
- a scale or clutter group holds the positives whose value lies in a half-open interval. A query is scored
  against the group's positives alone, the others of its instance removed from its list; queries without a
  positive in the group are left out of the group's mean;
- a category is the mean over its instances of the mean over their queries (macro).
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays, _core
from ilias_fast.datasets import Dataset
from ilias_fast.errors import ParameterError, UnknownIdError
from ilias_fast.evaluate.result import Evaluation, TaskScores
from ilias_fast.run import Ids, Run

__all__ = ["CLUTTER_BOUNDS", "SCALE_BOUNDS", "MissingQueriesWarning", "evaluate"]

# Quartiles of all ILIAS positives (the official evaluator's constants; the last interval is unbounded).
SCALE_BOUNDS: tuple[float, ...] = (
    0,
    0.06880213760855043,
    0.13526567164179104,
    0.2729876723163842,
    float("inf"),
)
CLUTTER_BOUNDS: tuple[float, ...] = (0, 18, 33, 53, float("inf"))
_GROUPS = len(SCALE_BOUNDS) - 1 + len(CLUTTER_BOUNDS) - 1


class MissingQueriesWarning(UserWarning):
    """A run lacks queries of the dataset, so its mean is over the others.

    Examples:
        >>> import warnings
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg", "hat/query/0.jpg"), (), ("mug/pos/0.jpg", "hat/pos/0.jpg")
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     _ = evaluate(Run.from_dict({"mug/query/0.jpg": {"mug/pos/0.jpg": 1.0}}), dataset)
        >>> caught[0].category.__name__
        'MissingQueriesWarning'
    """


def evaluate(
    run: Run,
    dataset: Dataset,
    *,
    k: int = 1000,
    official: bool = False,
    missing: Literal["warn", "zero", "error"] = "warn",
    task: Literal["image", "text"] | None = None,
    check_ids: bool = False,
    threads: int | None = None,
) -> Evaluation:
    """Judge a run by the ILIAS protocol.

    Args:
        run: The run. Only its first k results a query count.
        dataset: The ground truth.
        k: The cut of mAP@k, at least 1.
        official: Reproduce the official evaluator where it differs: image and text queries in one mean,
            missing queries left out and unknown ones ignored (an error if the run came from a pickle)
            without a word, and its oracle, which exceeds the right one for lists shorter than k. Queries
            come in its order: the file's for a pickle, else sorted, image before text. `missing` is ignored.
        missing: What to do about queries of a task that the run lacks: leave them out with a
            `MissingQueriesWarning`, count them as zero, or raise. A task of which the run has no query at
            all is not evaluated unless `task` names it (or "zero" or "error" is asked of an empty run).
        task: Evaluate only the image or only the text queries; None evaluates each that the run answers.
        check_ids: Look up every database id of the run in the dataset first; streams the distractor ids.
        threads: Number of threads; None for all cores.

    Returns:
        The evaluation, in percent.

    Raises:
        UnknownIdError: The run has queries the dataset lacks, or (`missing="error"`) lacks queries it has,
            or (`check_ids`) lists unknown database ids. The message names the first ones.
        ParameterError: k is below 1, an option is unknown, or no query is left to evaluate.
        DatasetError: `check_ids` without a list of distractors.

    Complexity: O(results), most of it one look-up for every database id that occurs.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> run = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.9, "mug/pos/0.jpg": 0.8}})
        >>> evaluate(run, dataset).map
        50.0
    """
    _arrays.choice("missing", missing, ("warn", "zero", "error"))
    if task is not None:
        _arrays.choice("task", task, ("image", "text"))
    asked = {"image": dataset.image_queries, "text": dataset.text_queries}
    _check_queries(run, {query for queries in asked.values() for query in queries}, official)
    if check_ids and (unknown := dataset.unknown_ids(run.database_ids)):
        raise UnknownIdError(
            f"{len(unknown)} database ids of the run are not in the dataset: {_some(unknown)}; without the "
            f"check they count as distractors"
        )
    judged = _Judged(run, dataset, _arrays.count("k", k), official, _arrays.threads(threads))
    if official:
        chosen = [query for name in ([task] if task else asked) for query in asked[name]]
        if run.provenance.get("format") == "pickle":
            wanted = set(chosen)
            chosen = [query for query in run.query_ids if query in wanted]
        tasks: dict[str, TaskScores] = {
            task or "all": judged.scores(task or "all", [query for query in chosen if query in run], ())
        }
    else:
        answered = [name for name, queries in asked.items() if any(query in run for query in queries)]
        names = [task] if task else answered or [name for name, queries in asked.items() if queries]
        tasks = {name: _task(run, name, asked[name], missing, judged) for name in names}
    return Evaluation(k, official, dataset.name, dict(run.provenance), tasks)


def _task(run: Run, name: str, queries: Sequence[str], missing: str, judged: _Judged) -> TaskScores:
    absent = tuple(query for query in queries if query not in run)
    if absent and missing != "zero":
        message = f"the run lacks {len(absent)} of {len(queries)} {name} queries: {_some(absent)}"
        if missing == "error":
            raise UnknownIdError(message)
        if len(absent) < len(queries):
            warnings.warn(
                f"{message}; they are left out of the mean (missing='zero' counts them)",
                MissingQueriesWarning,
                stacklevel=4,
            )
    counted = queries if missing == "zero" else [query for query in queries if query in run]
    return judged.scores(name, counted, absent)


def _check_queries(run: Run, known: set[str], official: bool) -> None:
    unknown = [query for query in run.query_ids if query not in known]
    # The official evaluator looks up what a pickle lists, and looks for what it knows in a JSON.
    if unknown and not (official and run.provenance.get("format") != "pickle"):
        raise UnknownIdError(
            f"{len(unknown)} of {len(run)} queries of the run are not in the dataset: {_some(unknown)}; "
            f"leave them out (Run.select), or evaluate against the dataset they are of"
        )


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (", ..." if len(ids) > 3 else "")


class _Judged:
    """Every query of the run judged by the core, and the averages over any of them."""

    def __init__(self, run: Run, dataset: Dataset, k: int, official: bool, threads: int | None) -> None:
        number_of = {instance: number for number, instance in enumerate(dataset.instances)}
        # A query of an unknown instance gets a number no positive has; it is not asked for below.
        nowhere = len(number_of)
        owner = np.array(
            [number_of[dataset.instance_of(positive)] for positive in dataset.positives], np.int32
        )
        membership = _membership(dataset)
        members = np.zeros((nowhere + 1, 1 + _GROUPS), np.int64)
        np.add.at(members, owner, np.column_stack([np.ones(len(owner), bool), membership]))
        # Which positive each id of the vocabulary is; -1 (the entry appended last) for a distractor.
        found = Ids(dataset.positives).locate(run.database_ids, threads)
        instances = np.append(owner, np.int32(-1))[found]
        groups = np.append(membership @ np.left_shift(1, np.arange(_GROUPS)), 0).astype(np.uint32)[found]
        owners = [number_of.get(dataset.instance_of(query), nowhere) for query in run.query_ids]
        queries = np.array(owners, np.int32)
        aps, oracles, official_oracles, found = _core.judge(
            run.offsets,
            run.indices,
            run.scores,
            instances,
            groups,
            queries,
            members[queries].reshape(-1),
            _GROUPS,
            k,
            threads,
        )
        self._dataset = dataset
        self._position = {query: position for position, query in enumerate(run.query_ids)}
        self._members = members
        self._number_of = number_of
        self._aps = aps.reshape(-1, 1 + _GROUPS) * 100
        self._oracles = (official_oracles if official else oracles) * 100
        self._found = found

    def scores(self, name: str, queries: Sequence[str], missing: tuple[str, ...]) -> TaskScores:
        """Average over `queries`; those the run lacks count as empty lists."""
        if not queries:
            wanted = "" if name == "all" else f"{name} "
            hint = "" if name == "all" else "; missing='zero' counts them all as zero"
            raise ParameterError(
                f"nothing to evaluate: the run has none of the dataset's {wanted}queries{hint}"
            )
        members = self._members[[self._number_of[self._dataset.instance_of(query)] for query in queries]]
        positions = np.array([self._position.get(query, -1) for query in queries])
        there = positions >= 0
        aps = np.where(members > 0, 0.0, np.nan)
        oracles, found = np.zeros(len(queries)), np.zeros(len(queries), np.int64)
        aps[there] = self._aps[positions[there]]
        oracles[there] = self._oracles[positions[there]]
        found[there] = self._found[positions[there]]
        split = len(SCALE_BOUNDS) - 1
        categories, subcategories = self._taxonomy(queries, aps[:, 0])
        return TaskScores(
            name,
            tuple(queries),
            aps[:, 0].copy(),
            oracles,
            members[:, 0].copy(),
            found,
            missing,
            _group_means(SCALE_BOUNDS, aps[:, 1 : 1 + split]),
            _group_means(CLUTTER_BOUNDS, aps[:, 1 + split :]),
            categories,
            subcategories,
        )

    def _taxonomy(
        self, queries: Sequence[str], aps: NDArray[np.float64]
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        category_of = self._dataset.category_of
        of_instance: dict[str, list[float]] = defaultdict(list)
        for query, ap in zip(queries, aps.tolist(), strict=True):
            of_instance[self._dataset.instance_of(query)].append(ap)
        coarse: dict[str, list[float]] = defaultdict(list)
        fine: dict[str, list[float]] = defaultdict(list)
        for instance, values in of_instance.items():
            if instance in category_of:
                category, subcategory, _ = category_of[instance]
                mean = sum(values) / len(values)
                coarse[category].append(mean)
                fine[f"{category}-{subcategory}"].append(mean)
        return _means(coarse.items()), _means(fine.items())


def _membership(dataset: Dataset) -> NDArray[np.bool_]:
    """Return bool [positives, groups]: which scale and clutter groups a positive belongs to."""
    columns = []
    for values, bounds in ((dataset.scale, SCALE_BOUNDS), (dataset.clutter, CLUTTER_BOUNDS)):
        known = np.array([values.get(positive, np.nan) for positive in dataset.positives], np.float64)
        columns += [(known >= low) & (known < high) for low, high in pairwise(bounds)]
    return np.stack(columns, axis=1)


def _group_means(bounds: Sequence[float], aps: NDArray[np.float64]) -> Mapping[str, float]:
    keys = [f"{low}-{high}" for low, high in pairwise(bounds)]
    return _means((key, column[~np.isnan(column)]) for key, column in zip(keys, aps.T, strict=True))


def _means(values: Iterable[tuple[str, Sequence[float] | NDArray[np.float64]]]) -> Mapping[str, float]:
    return {key: float(np.mean(numbers)) for key, numbers in values if len(numbers)}
