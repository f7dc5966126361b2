"""mAP against the number of distractors, read off runs that are deep enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast.datasets import Dataset
from ilias_fast.errors import ParameterError
from ilias_fast.evaluate.curves import DistractorCurve, RandomSubsets
from ilias_fast.evaluate.ilias import evaluate
from ilias_fast.run import Ids, Run

__all__ = ["run_curve"]

_MOST = 10_000_000


def run_curve(
    run: Run,
    dataset: Dataset,
    *,
    prefixes: Sequence[int] | None = None,
    subsets: int = 0,
    subset_size: int | None = None,
    seed: int = 0,
    k: int = 1000,
    task: Literal["image", "text"] | None = None,
    threads: int | None = None,
) -> DistractorCurve:
    """Evaluate a run as if the database had fewer distractors.

    A list that holds all positives of its query, or the whole database, says how it would look in any part of
    the database; a list that was cut before does not, and is refused: `distractor_curve` streams the scores
    instead, and knows no cut.

    Args:
        run: Ranked lists. Queries of the task that it lacks count as zero.
        dataset: The ground truth, with a list of at most 10 million distractors.
        prefixes: Numbers of distractors, in the order of the list; None for 0, the powers of ten, and all.
        subsets: Number of random subsets.
        subset_size: Distractors of each; None for half of them.
        seed: Of the subsets.
        k: The cut, at least 1.
        task: Which queries; None for the only task that the run answers.
        threads: Number of threads; None for all cores.

    Returns:
        The curve, in percent; each point equals `evaluate` of the lists without the other distractors.

    Raises:
        ParameterError: A list was cut before its last positive, the run answers two tasks, the dataset
            lists no distractors or too many, or a number is out of its range.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg", "2.jpg")
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> run = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.9, "2.jpg": 0.8, "mug/pos/0.jpg": 0.7}})
        >>> curve = run_curve(run, dataset)
        >>> curve.distractors.tolist(), curve.maps.round(1).tolist()
        ([0, 2], [100.0, 33.3])
    """
    total = len(dataset.distractors)
    if not 0 < total <= _MOST:
        raise ParameterError(
            f"dataset: expected a list of 1 to {_MOST:,} distractors, found {total:,}; distractor_curve "
            f"streams the scores of any number"
        )
    if prefixes is None:
        prefixes = [0, *(10**power for power in range(1, 8) if 10**power < total), total]
    cuts = [_arrays.at_least("prefixes", prefix, 0) for prefix in prefixes]
    if max(cuts, default=0) > total:
        raise ParameterError(
            f"prefixes: expected at most {total}, the number of distractors, found {max(cuts)}"
        )
    judged = evaluate(run, dataset, k=k, missing="zero", task=task, threads=threads).only
    chosen: Literal["image", "text"] = "text" if judged.task == "text" else "image"
    _check_depth(run, dataset, judged.queries, total)
    # The number of each distractor, -1 for positives and for ids that the dataset does not know.
    number = Ids(dataset.distractors).locate(run.database_ids, _arrays.threads(threads))[run.indices]

    def aps(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        starts = np.concatenate([[0], np.cumsum(kept)])[run.offsets]
        part = Run.from_arrays(run.query_ids, starts, run.database_ids, run.indices[kept], run.scores[kept])
        return evaluate(part, dataset, k=k, missing="zero", task=chosen, threads=threads).aps

    size = total // 2 if subset_size is None else subset_size
    drawn = RandomSubsets(total, size, subsets, seed)
    members = np.append(drawn.members(0, total), np.ones((drawn.count, 1), bool), axis=1)
    nothing = np.zeros((0, len(judged.queries)))
    return DistractorCurve(
        k,
        judged.queries,
        np.array(cuts, np.int64),
        np.stack([aps(number < cut) for cut in cuts]) if cuts else nothing,
        size if subsets else 0,
        np.stack([aps(inside[number]) for inside in members]) if subsets else nothing,
    )


def _check_depth(run: Run, dataset: Dataset, queries: Sequence[str], distractors: int) -> None:
    positive = Ids(dataset.positives).locate(run.database_ids) >= 0
    names = np.array([name.partition("/")[0] for name in dataset.positives])
    of = dict(zip(*np.unique(names, return_counts=True), strict=True))
    everything = distractors + len(dataset.positives)
    short = []
    for query in queries:
        if query not in run:
            continue
        rows = run.indices[run.entries(query)]
        if len(rows) >= everything:
            continue
        listed = [run.database_ids[row] for row in rows[positive[rows]].tolist()]
        instance = dataset.instance_of(query)
        if sum(dataset.instance_of(name) == instance for name in listed) < of[instance]:
            short.append(query)
    if short:
        raise ParameterError(
            f"run: the lists of {len(short)} queries end before their last positive, the first is "
            f"{short[0]!r}: they do not say where it ranks in a smaller database; use distractor_curve"
        )
