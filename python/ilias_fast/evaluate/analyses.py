"""Analyses of the ILIAS paper that are not averages: where positives rank, and image with text queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast.datasets import Dataset
from ilias_fast.errors import ParameterError
from ilias_fast.evaluate.ilias import CLUTTER_BOUNDS, SCALE_BOUNDS
from ilias_fast.run import Ids, Run, fuse

__all__ = ["RankRanges", "fuse_text", "rank_ranges"]


@dataclass(frozen=True, eq=False)
class RankRanges:
    """Where the positives of each group rank (Fig. E).

    Attributes:
        by: "scale" or "clutter".
        groups: "low-high" of each row.
        ranges: "1-10" and the like of each column; the last is "not ranked".
        counts: int64 [groups, ranges]; every (query, positive) pair counts once.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg", "mug/pos/1.jpg"), ("1.jpg",)
        >>> clutter = {"mug/pos/0.jpg": 2, "mug/pos/1.jpg": 30}
        >>> dataset = Dataset("mine", Path(), Path(), *ids, clutter=clutter)
        >>> run = Run.from_dict({"mug/query/0.jpg": {"mug/pos/0.jpg": 0.9, "1.jpg": 0.8}})
        >>> found = rank_ranges(run, dataset, edges=(10,))
        >>> found.ranges, found.counts.sum(axis=0).tolist()
        (('1-10', 'not ranked'), [1, 1])
    """

    by: str
    groups: tuple[str, ...]
    ranges: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def percent(self) -> NDArray[np.float64]:
        """float64 [groups, ranges], each row in percent of its sum; NaN for a group without positives."""
        total = self.counts.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.asarray(100 * self.counts / total)


def rank_ranges(
    run: Run,
    dataset: Dataset,
    *,
    by: Literal["scale", "clutter"] = "clutter",
    edges: Sequence[int] = (10, 100, 1000),
) -> RankRanges:
    """Count in which range of ranks the positives of each quartile lie.

    Args:
        run: Ranked lists; queries that the dataset lacks are ignored.
        dataset: The ground truth, with annotations.
        by: Which annotation.
        edges: Last rank of each range, ascending.

    Raises:
        ParameterError: The annotation is unknown or the dataset has none, or the edges do not ascend from 1
            on.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids, clutter={"mug/pos/0.jpg": 2})
        >>> run = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.9, "mug/pos/0.jpg": 0.8}})
        >>> rank_ranges(run, dataset, edges=(1, 10)).counts.sum(axis=0).tolist()
        [0, 1, 0]
    """
    _arrays.choice("by", by, ("scale", "clutter"))
    values, bounds = (dataset.scale, SCALE_BOUNDS) if by == "scale" else (dataset.clutter, CLUTTER_BOUNDS)
    if not values:
        raise ParameterError(f"by: {dataset.name} has no {by} of its positives")
    cuts = [0, *edges]
    if any(low >= high for low, high in pairwise(cuts)):
        raise ParameterError(f"edges: expected ascending ranks from 1 on, found {list(edges)}")
    names = dataset.positives
    group = np.searchsorted(bounds, [values[name] for name in names], side="right") - 1
    counts = np.zeros((len(bounds) - 1, len(cuts)), np.int64)
    where = Ids(names).locate(run.database_ids)
    position = {name: row for row, name in enumerate(names)}
    known = set(dataset.image_queries) | set(dataset.text_queries)
    for query in run:
        if query not in known:
            continue
        own = np.array([position[name] for name in dataset.positives_of(query)])
        ranks = np.full(len(names), np.iinfo(np.int64).max)
        listed = where[run.indices[run.entries(query)]]
        found = np.flatnonzero(listed >= 0)
        ranks[listed[found]] = found + 1
        column = np.searchsorted(cuts[1:], ranks[own], side="left")
        np.add.at(counts, (group[own], column), 1)
    return RankRanges(
        by,
        tuple(f"{low:.4g}-{high:.4g}" for low, high in pairwise(bounds)),
        (*(f"{low + 1}-{high}" for low, high in pairwise(cuts)), "not ranked"),
        counts,
    )


def fuse_text(image: Run, text: Run, dataset: Dataset, *, weight: float = 0.5) -> Run:
    """Average the similarities of each image query with those of the text query of its instance.

    Args:
        image: Results of image queries.
        text: Results of text queries.
        dataset: Says which queries are of which kind.
        weight: Share of the image similarity, 0 to 1; the paper averages.

    Returns:
        The run of the image queries, over the images that either list holds; see `run.fuse`.

    Raises:
        ParameterError: The weight is out of range, or an image query's instance has no text query in `text`.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> ids = ("mug/query/0.jpg",), ("mug/query/0.txt",), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> image = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.75, "mug/pos/0.jpg": 0.5}})
        >>> text = Run.from_dict({"mug/query/0.txt": {"mug/pos/0.jpg": 1.0, "1.jpg": 0.25}})
        >>> fused = fuse_text(image, text, dataset)
        >>> fused["mug/query/0.jpg"].ids, fused["mug/query/0.jpg"].scores.tolist()
        (['mug/pos/0.jpg', '1.jpg'], [0.75, 0.5])
    """
    if not 0 <= weight <= 1:
        raise ParameterError(f"weight: expected 0 to 1, found {weight}")
    text_of = {Dataset.instance_of(query): query for query in dataset.text_queries if query in text}
    asked = [query for query in dataset.image_queries if query in image]
    for query in asked:
        if Dataset.instance_of(query) not in text_of:
            raise ParameterError(f"text: no text query of the instance of {query!r}")
    return fuse([image.select(asked), text.select(list(text_of.values()))], [weight, 1 - weight])
