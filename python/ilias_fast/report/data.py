"""What a report is made of, and the checks that it holds together.

Average precisions, mAP and oracle are percent (0 to 100), as in the field's tables and official reports.
Ranks and the green and red frames are not given but derived from ranked lists and the positives of a query,
so that they cannot contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast.errors import InputError, ParameterError
from ilias_fast.evaluate import PairSummary, PublishedRow
from ilias_fast.report.checks import check_method, check_pair, check_plot, check_query, unique
from ilias_fast.report.figures import Heat, LinePlot

__all__ = [
    "GroupScore",
    "ImageLoader",
    "MatchedPair",
    "MethodResult",
    "QueryResult",
    "Ranked",
    "Ranking",
    "ReportData",
    "ReportOptions",
]

ImageLoader = Callable[[str], "bytes | NDArray[np.uint8]"]
"""Gives the image of an id: an encoded file (JPEG, PNG, ...) or a decoded RGB array, uint8 [H, W, 3]."""


class Ranked(Protocol):
    """A ranked list, best first: what `Run[query_id]` returns.

    Examples:
        >>> from ilias_fast.run import Run
        >>> run = Run.from_dict({"mug/query/0.jpg": {"mug/pos/0.jpg": 0.9}})
        >>> ranked: Ranked = run["mug/query/0.jpg"]
        >>> ranked.ids
        ['mug/pos/0.jpg']
    """

    @property
    def ids(self) -> Sequence[str]:
        """Database ids, best first."""

    @property
    def scores(self) -> Sequence[float] | NDArray[np.floating]:
        """One score for each id."""


class Ranking(NamedTuple):
    """The plainest `Ranked`.

    Examples:
        >>> Ranking(["a.jpg", "b.jpg"], [0.9, 0.8]).ids
        ['a.jpg', 'b.jpg']
    """

    ids: Sequence[str]
    scores: Sequence[float] | NDArray[np.floating]


@dataclass(frozen=True)
class GroupScore:
    """mAP of a group of queries: a scale or clutter quartile, a category.

    Attributes:
        label: What the group is called on the page, e.g. "0.07 to 0.14" or "landmark".
        map: Percent, or None when the group has no query.
        queries: Number of queries (for categories, of instances) averaged; None when not known.

    Examples:
        >>> GroupScore("landmark", 41.5, queries=12).map
        41.5
    """

    label: str
    map: float | None
    queries: int | None = None


@dataclass(frozen=True)
class MethodResult:
    """One row of the results table.

    Attributes:
        name: Key by which `QueryResult.rankings`, `MatchedPair.method` and `ReportData.baseline` refer to it.
        label: How the page calls it, e.g. "Chamfer (CS)".
        map: mAP@k, percent.
        interval: Confidence interval of `map`, percent; None when not computed.
        p: p-value of its difference to the baseline; None when not computed, or for the baseline.
        oracle: mAP if the retrieved positives were ranked first, percent; None when not computed.
        aps: AP of each query, percent. A query left out shows as a dash, sorts last and is counted.
        groups: "scale" and "clutter" (or any other grouping) -> groups in order. Methods share the labels.
        categories: mAP of each coarse category.
        subcategories: mAP of each `coarse-mid` category.

    Examples:
        >>> method = MethodResult("global", "Global search", 50.0, 100.0, {"mug/query/0.jpg": 50.0})
        >>> method.label, method.map
        ('Global search', 50.0)
    """

    name: str
    label: str
    map: float
    oracle: float | None
    aps: Mapping[str, float]
    groups: Mapping[str, Sequence[GroupScore]] = field(default_factory=dict)
    categories: Sequence[GroupScore] = ()
    subcategories: Sequence[GroupScore] = ()
    interval: tuple[float, float] | None = None
    p: float | None = None


@dataclass(frozen=True)
class QueryResult:
    """One query: what is relevant to it, and what each method ranked.

    Attributes:
        id: The query's id, also the id of its image.
        positives: Ids of all its positives in the database.
        rankings: Method name -> its ranked list, as deep as known (1,000 entries are fine: the page shows the
            first few and needs the rest for "rank before" and for where missed positives went). May be empty.
        category: Coarse category, for the filter.
        subcategory: Mid-level category.
        text: The query's words when it is a text query; then no image is asked for.
        groups: Grouping -> labels of the groups the query has a positive in, for the filters; keys and labels
            of `MethodResult.groups`.
        junk: Ids that count neither way (grey frame), as in the revisited Oxford and Paris protocols.

    Examples:
        >>> ranking = Ranking(["1.jpg", "mug/pos/0.jpg"], [0.9, 0.8])
        >>> query = QueryResult("mug/query/0.jpg", ["mug/pos/0.jpg"], {"global": ranking})
        >>> query.rankings["global"].ids[0]
        '1.jpg'
    """

    id: str
    positives: Sequence[str]
    rankings: Mapping[str, Ranked] = field(default_factory=dict)
    category: str = ""
    subcategory: str = ""
    text: str | None = None
    junk: Sequence[str] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MatchedPair:
    """Tentative correspondences between a query and a database image, and what verification made of them.

    Attributes:
        query_id: Left image.
        database_id: Right image.
        method: Name of the method that matched them.
        query_xy: float [t, 2], keypoints of the query, x / width and y / height, in [0, 1].
        database_xy: float [t, 2], their correspondences in the database image, in [0, 1].
        inliers: bool [t].
        model: float [2, 3] or [3, 3], map from `query_xy` to `database_xy` coordinates, or None.

    Examples:
        >>> xy = [[0.1, 0.1], [0.9, 0.5]]
        >>> pair = MatchedPair("mug/query/0.jpg", "mug/pos/0.jpg", "spatial", xy, xy, [True, False])
        >>> sum(pair.inliers)
        1
    """

    query_id: str
    database_id: str
    method: str
    query_xy: ArrayLike
    database_xy: ArrayLike
    inliers: ArrayLike
    model: ArrayLike | None = None


@dataclass(frozen=True)
class ReportOptions:
    """How much the page shows.

    Attributes:
        results: Results shown for each query and method.
        missed: Positives beyond them that are shown with their rank, at most, for each query.
        hard: Hard negatives shown for each query, at most.
        strips: Queries whose pictures are in the page, at most; of more, those whose AP changed most. The
            others show the files that `ReportData.file` names, or ids alone.
        lines: Correspondences drawn in a pair, at most; inliers first, then an even selection.
        thumbnail: Longer side of a picture in pixels; pictures of matched pairs are twice as large.
        quality: JPEG quality of the pictures.
        image_bytes: Bound on the JPEG bytes in the page (base64 adds a third). Pictures shrink to keep it.

    Examples:
        >>> ReportOptions(results=20, strips=50).results
        20
    """

    results: int = 10
    missed: int = 6
    hard: int = 6
    strips: int = 120
    lines: int = 100
    thumbnail: int = 160
    quality: int = 70
    image_bytes: int = 6_500_000

    def __post_init__(self) -> None:
        for name, low, high in (
            ("results", 1, 1000),
            ("missed", 0, 1000),
            ("hard", 0, 1000),
            ("strips", 0, 1_000_000),
            ("lines", 1, 100_000),
            ("thumbnail", 16, 2048),
            ("quality", 1, 95),
            ("image_bytes", 0, 1 << 40),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ParameterError(
                    f"ReportOptions.{name}: expected an integer in {low}..{high}, found {value!r}"
                )


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows; checked when constructed.

    Attributes:
        title: Headline of the page.
        methods: Rows of the results table, in order; at least one.
        queries: All evaluated queries; at least one.
        distractors: Number of database images that are no query's positive.
        baseline: Name of the method the others are compared with; None means the first.
        k: Depth of mAP@k.
        image: Gives pictures by id; None leaves them out. An OSError, KeyError or ValueError it raises
            (`ImageError` and `UnknownIdError` are such) becomes a placeholder that the page counts.
        file: Where the image of an id lies; the page then links the pictures that it does not hold, by
            relative path. None, or None of an id: not linked.
        boxes: Gives the boxes of the object on an image, [n, 4]: x, y, width and height in pixels; asked for
            queries and their positives.
        matches: Pairs whose correspondences are drawn.
        pairs: Every two methods compared, by their names; the page recomputes what it can, and shows the p.
        plots: Line plots beside the groups: mAP against distractors, sweeps.
        heats: Tables of shares, such as rank ranges.
        published: The published leaderboard, shown next to the methods.
        provenance: What made the page: key -> value, or section -> mapping of key -> value.
        notes: Sentences the reader should see before trusting the numbers (skipped images, missing queries).

    Raises:
        InputError: No method, no query, an unknown method name or a value outside its range. Subclasses:
            `ParameterError`, `NonFiniteError`, `ShapeError`, `DtypeError`.
        DuplicateIdError: Two methods, two queries or two entries of a ranked list share an id.
        UnknownIdError: A method has the AP of a query that `queries` lacks, or a pair is of an unknown query.

    Examples:
        >>> ranking = Ranking(["1.jpg", "mug/pos/0.jpg"], [0.9, 0.8])
        >>> query = QueryResult("mug/query/0.jpg", ["mug/pos/0.jpg"], {"global": ranking})
        >>> method = MethodResult("global", "Global search", 50.0, 100.0, {"mug/query/0.jpg": 50.0})
        >>> data = ReportData("My photos", [method], [query], distractors=1)
        >>> data.k, data.methods[0].map
        (1000, 50.0)
    """

    title: str
    methods: Sequence[MethodResult]
    queries: Sequence[QueryResult]
    distractors: int
    baseline: str | None = None
    k: int = 1000
    image: ImageLoader | None = None
    file: Callable[[str], Path | None] | None = None
    boxes: Callable[[str], ArrayLike] | None = None
    matches: Sequence[MatchedPair] = ()
    pairs: Sequence[PairSummary] = ()
    plots: Sequence[LinePlot] = ()
    heats: Sequence[Heat] = ()
    published: Sequence[PublishedRow] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.methods:
            raise InputError("ReportData.methods: expected at least one method, found none")
        if not self.queries:
            raise InputError(
                "ReportData.queries: expected at least one query, found none; was anything evaluated?"
            )
        if self.k < 1:
            raise ParameterError(f"ReportData.k: expected at least 1, found {self.k}")
        if self.distractors < 0:
            raise ParameterError(f"ReportData.distractors: expected a count, found {self.distractors}")
        names = unique("ReportData.methods", (method.name for method in self.methods))
        ids = unique("ReportData.queries", (query.id for query in self.queries))
        if self.baseline is not None and self.baseline not in names:
            raise InputError(
                f"ReportData.baseline: {self.baseline!r} is not a method; expected one of {sorted(names)}"
            )
        for method in self.methods:
            check_method(method, ids)
        for query in self.queries:
            check_query(query, names)
        for number, pair in enumerate(self.matches):
            check_pair(f"ReportData.matches[{number}]", pair, ids, names)
        for plot in self.plots:
            check_plot(f"ReportData.plots, {plot.title!r}", plot)

    def _repr_html_(self) -> str:
        from ilias_fast.report.notebook import report_card

        return report_card(self)
