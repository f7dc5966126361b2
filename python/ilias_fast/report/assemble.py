"""From runs and their evaluations to what a report shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ilias_fast.errors import InputError, ParameterError
from ilias_fast.evaluate import (
    CLUTTER_BOUNDS,
    SCALE_BOUNDS,
    Comparison,
    Evaluation,
    Sweep,
    compare,
    leaderboard,
    rank_ranges,
    run_curve,
)
from ilias_fast.report.data import GroupScore, MatchedPair, MethodResult, QueryResult, ReportData
from ilias_fast.report.figures import Curve, Heat, LinePlot
from ilias_fast.run import Run

if TYPE_CHECKING:
    from ilias_fast.datasets import Dataset

__all__ = ["Judged", "curve_plots", "report_data", "sweep_plot"]

_SCALE = "Scale of the object (share of the image)"
_CLUTTER = "Clutter (segments beside the object)"

_CURVE_MOST = 1_000_000
"""Distractors up to which a curve is read off the runs: their ids are looked up one by one."""

_SAMPLES = 2000
"""Bootstrap samples behind the confidence intervals: their ends are good to a tenth of their width."""


@dataclass(frozen=True)
class Judged:
    """A run, what it is called, and what it is worth.

    Attributes:
        name: Short key, a file name.
        label: As people read it.
        run: The ranked lists.
        evaluation: Of the run, on image or on text queries.
    """

    name: str
    label: str
    run: Run
    evaluation: Evaluation


def report_data(
    dataset: Dataset,
    methods: Sequence[Judged],
    *,
    matches: Sequence[MatchedPair] = (),
    plots: Sequence[LinePlot] = (),
    published: bool = True,
    skipped: Sequence[tuple[str, str]] = (),
    provenance: Mapping[str, object] | None = None,
) -> ReportData:
    """Collect what a report shows of evaluated runs; the first method is the one others are compared with.

    Args:
        dataset: What the runs were judged against, and where the pictures are.
        methods: Rows of the results table, in order, all evaluated at the same k.
        matches: Pairs to draw.
        plots: Line plots, such as `curve_plots` and `sweep_plot` make.
        published: Show the published leaderboard next to the methods.
        skipped: (id, reason) of images that could not be read.
        provenance: What made the runs.

    Raises:
        InputError: No method, or methods evaluated at different k.
    """
    cuts = {method.evaluation.k for method in methods}
    if len(cuts) != 1:
        raise InputError(f"methods: expected evaluations at one k, found {sorted(cuts) or 'none'}")
    queries = methods[0].evaluation.queries
    comparison = compare({method.name: method.evaluation for method in methods}, samples=_SAMPLES)
    notes = [
        f"{len(skipped)} images could not be read and were left out: {_some([name for name, _ in skipped])}."
    ]
    missing = sorted({query for method in methods for query in method.evaluation.missing})
    notes += [f"{len(missing)} queries have no results and count as zero: {_some(missing)}."]
    return ReportData(
        title=f"Instance retrieval on {dataset.name}",
        methods=[_method(dataset, method, comparison) for method in methods],
        queries=[_query(dataset, query, methods) for query in queries],
        distractors=len(dataset.distractors),
        k=cuts.pop(),
        image=dataset.image_source().read,
        file=_files(dataset),
        boxes=dataset.boxes,
        matches=matches,
        pairs=comparison.pairs,
        plots=plots,
        heats=_heats(dataset, methods),
        published=leaderboard() if published else (),
        provenance={
            "Dataset": {
                "name": dataset.name,
                "image queries": len(dataset.image_queries),
                "positives": len(dataset.positives),
                "distractors": len(dataset.distractors),
            },
            **(provenance or {}),
        },
        notes=[note for note, there in zip(notes, (skipped, missing), strict=True) if there],
    )


def sweep_plot(sweep: Sweep) -> LinePlot:
    """Return a sweep as a plot of the page.

    Args:
        sweep: The sweep.
    """
    return LinePlot(
        sweep.title,
        sweep.x_label,
        sweep.metric,
        [Curve(one.label, one.x, one.maps, one.spread) for one in sweep.series],
        sweep.note,
        sweep.log,
    )


def curve_plots(dataset: Dataset, methods: Sequence[Judged], threads: int | None = None) -> list[LinePlot]:
    """Return mAP against the number of distractors, if the lists of the runs are deep enough to tell.

    Args:
        dataset: What the runs were judged against.
        methods: The runs, evaluated at one k; those whose lists end too early are left out.
        threads: Number of threads; None for all cores.
    """
    if not 10 < len(dataset.distractors) <= _CURVE_MOST:
        return []
    curves = []
    for method in methods:
        try:
            scores = method.evaluation
            task: Literal["image", "text"] = "text" if scores.only.task == "text" else "image"
            found = run_curve(method.run, dataset, k=scores.k, task=task, threads=threads)
        except ParameterError:
            continue
        x = [float(count) for count in found.distractors.tolist()]
        curves.append(Curve(method.label, x, found.maps.tolist(), method=method.name))
    if not curves:
        return []
    note = "The same queries and positives among the first distractors of the list."
    cut = methods[0].evaluation.k
    metric = f"mAP@{cut // 1000}k" if cut % 1000 == 0 else f"mAP@{cut}"
    return [LinePlot("mAP against the number of distractors", "Distractors", metric, curves, note, log=True)]


def _files(dataset: Dataset) -> Callable[[str], Path | None]:
    """Return where an image lies, if it is a file of its own."""

    def file(id_: str) -> Path | None:
        path = dataset.core / id_
        return path if path.is_file() else None

    return file


def _heats(dataset: Dataset, methods: Sequence[Judged]) -> list[Heat]:
    """Return where the positives of the scale and clutter groups rank, by the best method."""
    best = max(methods, key=lambda method: method.evaluation.map)
    heats = []
    for by, values, bounds, label in (
        ("clutter", dataset.clutter, CLUTTER_BOUNDS, _count_interval),
        ("scale", dataset.scale, SCALE_BOUNDS, _percent_interval),
    ):
        if not values:
            continue
        found = rank_ranges(best.run, dataset, by="clutter" if by == "clutter" else "scale")
        heats.append(
            Heat(
                f"Ranks of the positives by {by}",
                by.capitalize(),
                [label(low, high) for low, high in pairwise(bounds)],
                found.ranges,
                [[None if v != v else v for v in row] for row in found.percent.tolist()],
                found.counts.tolist(),
                f"Percent of a row's positives that {best.label} ranks there.",
            )
        )
    return heats


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _method(dataset: Dataset, method: Judged, comparison: Comparison) -> MethodResult:
    scores = method.evaluation
    intervals = {one.name: one.interval for one in comparison.methods}
    base = comparison.methods[0].name
    ps = {pair.second: pair.p for pair in comparison.pairs if pair.first == base}
    groups = {
        _SCALE: _groups(dataset, scores, scores.scale, dataset.scale, SCALE_BOUNDS, _percent_interval),
        _CLUTTER: _groups(dataset, scores, scores.clutter, dataset.clutter, CLUTTER_BOUNDS, _count_interval),
    }
    return MethodResult(
        name=method.name,
        label=method.label,
        map=scores.map,
        oracle=scores.oracle,
        aps=dict(zip(scores.queries, scores.aps.tolist(), strict=True)),
        groups={name: values for name, values in groups.items() if values},
        categories=_categories(dataset, scores, scores.categories, depth=1),
        subcategories=_categories(dataset, scores, scores.subcategories, depth=2),
        interval=intervals[method.name],
        p=ps.get(method.name),
    )


def _groups(
    dataset: Dataset,
    scores: Evaluation,
    means: Mapping[str, float],
    values: Mapping[str, float],
    bounds: Sequence[float],
    label: Callable[[float, float], str],
) -> list[GroupScore]:
    """Return the groups of one annotation in order, with the number of queries behind each mean."""
    if not values:
        return []
    of_instance: dict[str, list[float]] = {}
    for positive in dataset.positives:
        of_instance.setdefault(dataset.instance_of(positive), []).append(values[positive])
    listed = []
    for low, high in pairwise(bounds):
        count = sum(
            any(low <= value < high for value in of_instance[dataset.instance_of(query)])
            for query in scores.queries
        )
        listed.append(GroupScore(label(low, high), means.get(f"{low}-{high}"), count))
    return listed


def _percent_interval(low: float, high: float) -> str:
    if low == 0:
        return f"below {high:.0%}"
    return f"over {low:.0%}" if high == float("inf") else f"{low:.0%} to {high:.0%}"


def _count_interval(low: float, high: float) -> str:
    return f"{low:.0f} or more" if high == float("inf") else f"{low:.0f} to {high - 1:.0f}"


def _categories(
    dataset: Dataset, scores: Evaluation, means: Mapping[str, float], depth: int
) -> list[GroupScore]:
    instances = {dataset.instance_of(query) for query in scores.queries}
    members = [
        "-".join(dataset.category_of[instance][:depth])
        for instance in instances
        if instance in dataset.category_of
    ]
    return [GroupScore(name, value, members.count(name)) for name, value in sorted(means.items())]


def _labels(
    dataset: Dataset,
    query: str,
    values: Mapping[str, float],
    bounds: Sequence[float],
    label: Callable[[float, float], str],
) -> list[str]:
    """Return the groups that a query has a positive in."""
    own = [values[positive] for positive in dataset.positives_of(query)] if values else []
    return [label(low, high) for low, high in pairwise(bounds) if any(low <= v < high for v in own)]


def _query(dataset: Dataset, query: str, methods: Sequence[Judged]) -> QueryResult:
    coarse, mid, _ = dataset.category_of.get(dataset.instance_of(query), ("", "", ""))
    return QueryResult(
        id=query,
        positives=sorted(dataset.positives_of(query)),
        rankings={method.name: method.run[query] for method in methods if query in method.run},
        category=coarse,
        subcategory=f"{coarse}-{mid}" if coarse else "",
        text=dataset.text(query) if query in dataset.text_queries else None,
        groups={
            _SCALE: _labels(dataset, query, dataset.scale, SCALE_BOUNDS, _percent_interval),
            _CLUTTER: _labels(dataset, query, dataset.clutter, CLUTTER_BOUNDS, _count_interval),
        },
    )
