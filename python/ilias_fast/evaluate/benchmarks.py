"""The protocols of the other benchmarks.

Revisited Oxford and Paris, Google Landmarks v2, INSTRE, SOP, Holidays, UKB.

Their rankings are lists of images, not of scores: equal scores are taken in the order of the run. All
values are in [0, 1] as in their reference code (`ns_score`: 0 to 4), not in percent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast.datasets.benchmarks import GroundTruth, Labels
from ilias_fast.errors import DuplicateIdError, ParameterError, ShapeError
from ilias_fast.run import Ids, Run

__all__ = [
    "ProtocolScores",
    "evaluate_benchmark",
    "mean_average_precision",
    "ns_score",
    "recall_at",
    "revisited",
    "run_from_ranks",
    "unanswered",
]

_MODES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "E": (("easy",), ("hard",)),
    "M": (("easy", "hard"), ()),
    "H": (("hard",), ("easy",)),
}


@dataclass(frozen=True, eq=False)
class ProtocolScores:
    """The scores of one protocol, in [0, 1].

    Attributes:
        queries: The queries of the ground truth.
        aps: float64 [Q]; NaN for a query without positives, which no mean counts. A query that the run
            lacks has 0.
        kappas: The depths of `precisions`.
        precisions: float64 [Q, len(kappas)]; NaN likewise.

    Examples:
        >>> from ilias_fast.datasets import GroundTruth, Labels
        >>> from ilias_fast.run import Run
        >>> truth = GroundTruth("mine", (Labels("q", {"ok": frozenset("ab")}),))
        >>> scores = mean_average_precision(Run.from_dict({"q": {"a": 3, "c": 2, "b": 1}}), truth)
        >>> scores.queries, scores.aps.round(3).tolist(), round(scores.map, 3)
        (('q',), [0.833], 0.833)
    """

    queries: tuple[str, ...]
    aps: NDArray[np.float64]
    kappas: tuple[int, ...] = ()
    precisions: NDArray[np.float64] | None = None

    @property
    def map(self) -> float:
        """Mean of `aps` over the queries with positives; NaN without any."""
        return _mean(self.aps)

    @property
    def mp(self) -> tuple[float, ...]:
        """Mean precision at each kappa."""
        return () if self.precisions is None else tuple(_mean(column) for column in self.precisions.T)


def run_from_ranks(truth: GroundTruth, ranks: ArrayLike) -> Run:
    """Return the run of a matrix of ranks, as revisitop's tools exchange them.

    Args:
        truth: Names the images.
        ranks: Integers [n, Q]: column q lists positions in `truth.database`, best first.

    Raises:
        ShapeError: The matrix has not one column a query.
        ParameterError: A position is not in the database, or the ground truth lists none.
        DuplicateIdError: A query lists an image twice.

    Examples:
        >>> from ilias_fast.datasets import GroundTruth, Labels
        >>> truth = GroundTruth("mine", (Labels("q", {"ok": frozenset("a")}),), ("a", "b", "c"))
        >>> run_from_ranks(truth, [[2], [0], [1]])["q"].ids
        ['c', 'a', 'b']
    """
    table = _arrays.any_array("ranks", ranks, "n, queries")
    if table.shape[1] != len(truth.queries) or table.dtype.kind not in "iu":
        raise ShapeError(
            f"ranks: expected integers [n, {len(truth.queries)}], a column a query, found {table.dtype} "
            f"{list(table.shape)}"
        )
    positions, names = table.T.reshape(-1), truth.database
    if not names:  # positions are their names
        if table.min(initial=0) < 0:
            raise ParameterError(f"ranks: expected positions from 0, found {table.min()}")
        values, positions = np.unique(positions, return_inverse=True)
        names = tuple(map(str, values.tolist()))
    scores = np.broadcast_to(-np.arange(len(table), dtype=np.float64), table.T.shape)
    offsets = np.arange(len(truth.queries) + 1) * len(table)
    query_ids = [labels.query for labels in truth.queries]
    return Run.from_arrays(query_ids, offsets, names, positions, scores.reshape(-1))


def revisited(
    run: Run, truth: GroundTruth, *, kappas: Sequence[int] = (1, 5, 10)
) -> Mapping[str, ProtocolScores]:
    """Evaluate by the protocols of the revisited Oxford and Paris: Easy, Medium, Hard.

    AP is the area under the precision-recall curve by the trapezoid rule; junk images, and the positives of
    the other difficulty, are taken out of the ranking. mP@kappa is the precision among the first min(kappa,
    rank of the last positive ranked). Of a ground truth with `ok` (Oxford5k, Paris6k) the only protocol is
    "ok".

    Args:
        run: Ranked lists; the deeper the better, for the original protocol ranks the whole database.
        truth: From `load_gnd`.
        kappas: Depths of mP.

    Returns:
        The scores by protocol, "E", "M" and "H". Where no positive of a query is ranked at all, its
        precisions are 0 (the published code fails there).

    Raises:
        ParameterError: The labels are of another kind, or a kappa is below 1.
        DuplicateIdError: Two ids of the run are spellings of the same image in one list.

    Examples:
        >>> from ilias_fast.datasets import GroundTruth, Labels
        >>> from ilias_fast.run import Run
        >>> positives = {"easy": frozenset("a"), "hard": frozenset("b")}
        >>> truth = GroundTruth("mine", (Labels("q", positives, junk=frozenset("j")),))
        >>> run = Run.from_dict({"q": {"j": 4, "a": 3, "c": 2, "b": 1}})
        >>> {name: round(scores.map, 3) for name, scores in revisited(run, truth).items()}
        {'E': 1.0, 'M': 0.792, 'H': 0.25}
    """
    depths = tuple(_arrays.at_least_one("kappas", kappa) for kappa in kappas)
    kinds = set().union(*(labels.positives for labels in truth.queries))
    modes = _MODES if kinds == {"easy", "hard"} else {"ok": (("ok",), ())}
    if kinds != {"easy", "hard"} and kinds != {"ok"}:
        raise ParameterError(f"truth: expected labels 'easy' and 'hard', or 'ok', found {sorted(kinds)}")
    scores = {mode: ([], []) for mode in modes}  # type: dict[str, tuple[list[float], list[NDArray[np.float64]]]]
    for labels, listed in _lists(run, truth):
        for mode, (wanted, left_out) in modes.items():
            positives = frozenset().union(*(labels.positives[kind] for kind in wanted))
            junk = labels.junk.union(*(labels.positives[kind] for kind in left_out))
            ranks = listed.ranks(positives, junk)
            aps, precisions = scores[mode]
            if not positives:
                aps.append(float("nan"))
                precisions.append(np.full(len(depths), np.nan))
                continue
            aps.append(_trapezoid(ranks, len(positives)))
            last = int(ranks[-1]) + 1 if len(ranks) else 1
            cuts = [min(last, depth) for depth in depths]
            precisions.append(np.array([np.count_nonzero(ranks < cut) / cut for cut in cuts]))
    queries = tuple(labels.query for labels in truth.queries)
    return {
        mode: ProtocolScores(
            queries, np.array(aps), depths, np.array(precisions).reshape(len(aps), len(depths))
        )
        for mode, (aps, precisions) in scores.items()
    }


def mean_average_precision(
    run: Run, truth: GroundTruth, *, k: int | None = None, trapezoid: bool = False
) -> ProtocolScores:
    """Evaluate by mAP@k: the rectangle rule over the first k results, divided by min(positives, k).

    GLDv2 asks for k = 100 (use `truth.public()` to tune); INSTRE and SOP, as in the ILIAS paper, for k =
    1000; Holidays for the whole ranking by the trapezoid rule. Junk images, which for SOP and Holidays the
    query itself is, are taken out of the ranking first.

    Args:
        run: Ranked lists.
        truth: The ground truth.
        k: The cut; None for no cut.
        trapezoid: Use the trapezoid rule.

    Raises:
        ParameterError: k is below 1.
        DuplicateIdError: Two ids of the run are spellings of the same image in one list.

    Examples:
        >>> from ilias_fast.datasets import GroundTruth, Labels
        >>> from ilias_fast.run import Run
        >>> truth = GroundTruth("mine", (Labels("q", {"ok": frozenset("ab")}, junk=frozenset("j")),))
        >>> run = Run.from_dict({"q": {"j": 4, "a": 3, "c": 2, "b": 1}})
        >>> mean_average_precision(run, truth, k=2).map
        0.5
    """
    cut = None if k is None else _arrays.at_least_one("k", k)
    aps = []
    for labels, listed in _lists(run, truth):
        positives = labels.relevant
        ranks = listed.ranks(positives, labels.junk)[:cut]
        ranks = ranks if cut is None else ranks[ranks < cut]
        count = len(positives) if cut is None else min(cut, len(positives))
        if not positives:
            aps.append(float("nan"))
        elif trapezoid:
            aps.append(_trapezoid(ranks, count))
        else:
            aps.append(float(((np.arange(len(ranks)) + 1) / (ranks + 1)).sum()) / count)
    return ProtocolScores(tuple(labels.query for labels in truth.queries), np.array(aps))


def recall_at(run: Run, truth: GroundTruth, ks: Sequence[int] = (1, 10, 100, 1000)) -> dict[int, float]:
    """Return Recall@k: the share of queries with a positive among the first k results (SOP's convention).

    Args:
        run: Ranked lists.
        truth: The ground truth; queries without positives are left out.
        ks: The depths.

    Raises:
        ParameterError: A depth is below 1.
        DuplicateIdError: Two ids of the run are spellings of the same image in one list.

    Examples:
        >>> from ilias_fast.datasets import GroundTruth, Labels
        >>> from ilias_fast.run import Run
        >>> queries = Labels("q", {"ok": frozenset("a")}), Labels("r", {"ok": frozenset("b")})
        >>> truth = GroundTruth("mine", queries)
        >>> run = Run.from_dict({"q": {"a": 2, "b": 1}, "r": {"a": 2, "b": 1}})
        >>> recall_at(run, truth, (1, 2))
        {1: 0.5, 2: 1.0}
    """
    depths = [_arrays.at_least_one("ks", k) for k in ks]
    first = []
    for labels, listed in _lists(run, truth):
        ranks = listed.ranks(labels.relevant, labels.junk)
        if labels.relevant:
            first.append(int(ranks[0]) if len(ranks) else np.iinfo(np.int64).max)
    best = np.array(first)
    return {k: float((best < k).mean()) if len(best) else float("nan") for k in depths}


def ns_score(run: Run, truth: GroundTruth) -> float:
    """Return the N-S score of UKBench: the mean number of images of the object among the first four, 0 to 4.

    Args:
        run: Ranked lists, the query itself among the results.
        truth: From `load_ukbench`.

    Raises:
        DuplicateIdError: Two ids of the run are spellings of the same image in one list.

    Examples:
        >>> from ilias_fast.datasets import load_ukbench
        >>> from ilias_fast.run import Run
        >>> names = [f"ukbench{number:05d}.jpg" for number in range(4)]
        >>> run = Run.from_dict({name: {name: 1.0, names[0]: 0.5} for name in names})
        >>> ns_score(run, load_ukbench(names))
        1.75
    """
    found = [np.count_nonzero(listed.ranks(q.relevant, q.junk) < 4) for q, listed in _lists(run, truth)]
    return float(np.mean(found))


def evaluate_benchmark(run: Run, truth: GroundTruth, *, k: int | None = None) -> dict[str, float]:
    """Evaluate by the protocol that a ground truth is known by.

    Args:
        run: Ranked lists.
        truth: The ground truth; its labels and its name decide.
        k: The cut of mAP; None for the benchmark's own (GLDv2 100; Holidays, Oxford and Paris none; else
            1000).

    Returns:
        Metric -> value, for a table.

    Examples:
        >>> from ilias_fast.datasets import load_holidays
        >>> from ilias_fast.run import Run
        >>> truth = load_holidays(["100000.jpg", "100001.jpg", "100100.jpg", "100101.jpg"])
        >>> found = {"100000.jpg": {"100001.jpg": 2, "100101.jpg": 1}, "100100.jpg": {"100001.jpg": 1}}
        >>> run = Run.from_dict(found)
        >>> evaluate_benchmark(run, truth)
        {'mAP': 0.5}
    """
    kinds = set().union(*(labels.positives for labels in truth.queries))
    boxed = any(labels.junk - {labels.query} for labels in truth.queries)
    if kinds == {"easy", "hard"} or (boxed and k is None and truth.name != "gldv2"):
        return {
            f"{metric} {mode}": value
            for mode, scores in revisited(run, truth).items()
            for metric, value in (
                ("mAP", scores.map),
                *((f"mP@{kappa}", mp) for kappa, mp in zip(scores.kappas, scores.mp, strict=True)),
            )
        }
    if truth.name == "ukbench":
        return {"N-S": ns_score(run, truth)}
    if truth.name == "holidays" and k is None:
        return {"mAP": mean_average_precision(run, truth, trapezoid=True).map}
    cut = k or (100 if truth.name == "gldv2" else 1000)
    found = {f"mAP@{cut}": mean_average_precision(run, truth, k=cut).map}
    if truth.name == "sop":
        found |= {f"Recall@{depth}": value for depth, value in recall_at(run, truth).items()}
    return found


def unanswered(run: Run, truth: GroundTruth) -> tuple[str, ...]:
    """Return the queries of a ground truth that a run has no list of, however it spells them.

    Args:
        run: Ranked lists.
        truth: The ground truth.

    Examples:
        >>> from ilias_fast.datasets import GroundTruth, Labels
        >>> from ilias_fast.run import Run
        >>> queries = Labels("q", {"ok": frozenset("a")}), Labels("r", {"ok": frozenset("b")})
        >>> truth = GroundTruth("mine", queries)
        >>> unanswered(Run.from_dict({"jpg/q.jpg": {"a": 1.0}}), truth)
        ('r',)
    """
    spelled = {_short(query) for query in run.query_ids}
    return tuple(
        labels.query for labels in truth.queries if labels.query not in run and labels.query not in spelled
    )


class _List(NamedTuple):
    """A ranked list as rows of the vocabulary, and where the truth's names are in it."""

    rows: NDArray[np.int64]
    row_of: Mapping[str, list[int]]
    query: str

    def ranks(self, wanted: frozenset[str], junk: frozenset[str]) -> NDArray[np.int64]:
        """Return the ranks, from 0 and ascending, of `wanted` once `junk` is taken out."""
        at = np.flatnonzero(np.isin(self.rows, self._rows(wanted)))
        if len(at) > len(wanted):
            raise DuplicateIdError(
                f"query {self.query!r}: an image is listed under two spellings of its name; keep one"
            )
        out = np.flatnonzero(np.isin(self.rows, self._rows(junk - wanted))) if junk else at[:0]
        return at - np.searchsorted(out, at)

    def _rows(self, names: frozenset[str]) -> list[int]:
        return [row for name in names for row in self.row_of.get(name, ())]


def _lists(run: Run, truth: GroundTruth) -> Iterator[tuple[Labels, _List]]:
    """Yield the labels and the list of every query of the truth; a query the run lacks has an empty list."""
    vocabulary = run.database_ids
    known = sorted(truth.known)
    row_of: dict[str, list[int]] = {name: [] for name in known}
    exact = Ids(known).locate(vocabulary)
    for row in np.flatnonzero(exact >= 0).tolist():
        row_of[known[exact[row]]].append(row)
    for row in np.flatnonzero(exact < 0).tolist():
        if (short := _short(vocabulary[row])) in row_of:
            row_of[short].append(row)
    spelled = {_short(query): query for query in run.query_ids}
    for labels in truth.queries:
        query = labels.query if labels.query in run else spelled.get(labels.query)
        rows = run.indices[run.entries(query)] if query is not None else run.indices[:0]
        yield labels, _List(rows, row_of, labels.query)


def _short(name: str) -> str:
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


def _trapezoid(ranks: NDArray[np.int64], positives: int) -> float:
    hits = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, hits / np.maximum(ranks, 1))
    return float((before + (hits + 1) / (ranks + 1)).sum() / 2 / positives)


def _mean(values: NDArray[np.float64]) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")
