"""Pairs of images whose matched keypoints a report shows: chosen by scores, by ranks, or by whoever looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ilias_fast.errors import ParameterError
from ilias_fast.report.data import MatchedPair
from ilias_fast.rerank import LocalScores, SpatialOptions, correspondences
from ilias_fast.run import Run

if TYPE_CHECKING:
    from ilias_fast.datasets import Dataset
    from ilias_fast.store import LocalStore

__all__ = ["chosen_pairs", "matched_pairs", "options_of", "pairs_between"]

_DEEPEST = 1000
"""Ranks among which pairs are looked for."""
_TRIED = 4
"""Candidates matched for each pair that is drawn, at most."""


def matched_pairs(
    dataset: Dataset,
    before: Run,
    after: Run,
    local: LocalScores,
    queries: LocalStore,
    database: LocalStore,
    *,
    method: str,
    most: int = 12,
) -> list[MatchedPair]:
    """Choose pairs worth looking at, and match them again for drawing.

    Three quarters are the positives that verification moved up furthest, one a query; the others are the
    distractors it believes most, which are its mistakes or its near-duplicates.

    Args:
        dataset: Tells positives from distractors.
        before: The run that was verified.
        after: The ensemble made of it.
        local: The spatial scores of `before`.
        queries: Local descriptors of the queries.
        database: Local descriptors of the database.
        method: Name of the method in the report.
        most: Number of pairs, at most.
    """
    gains: list[tuple[int, float, str, str]] = []
    mistakes: list[tuple[float, str, str]] = []
    for row, query in enumerate(before.query_ids):
        entries = slice(*before.offsets[row : row + 2].tolist())
        ids = [before.database_ids[index] for index in before.indices[entries].tolist()]
        scores = np.nan_to_num(local.scores[entries], nan=0.0)
        rank_after = {name: rank for rank, name in enumerate(after[query].ids)}
        positives = dataset.positives_of(query)
        moved = [
            (rank - rank_after[name], float(scores[rank]), query, name)
            for rank, name in enumerate(ids)
            if name in positives and scores[rank] > 0
        ]
        believed = [
            (float(scores[rank]), query, name)
            for rank, name in enumerate(ids)
            if name not in positives and scores[rank] > 0
        ]
        gains += [max(moved)] if moved else []
        mistakes += [max(believed)] if believed else []
    chosen = [(query, name) for *_, query, name in sorted(gains, reverse=True)[: most - most // 4]]
    chosen += [(query, name) for _, query, name in sorted(mistakes, reverse=True)[: most - len(chosen)]]
    options = local.options if isinstance(local.options, SpatialOptions) else None
    return [_pair(queries, database, query, name, method, options)[0] for query, name in chosen]


def pairs_between(
    dataset: Dataset,
    before: Run,
    after: Run,
    queries: LocalStore,
    database: LocalStore,
    *,
    method: str,
    shown: Iterable[str],
    most: int = 12,
) -> list[MatchedPair]:
    """Choose pairs worth looking at from two runs alone, and match them.

    Three quarters are the positives that moved up furthest, one a query; the others are the distractors that
    stand highest. Pairs of which verification believes nothing are left out.

    Args:
        dataset: Tells positives from distractors.
        before: The run that moves are told from.
        after: The run the page is about.
        queries: Local descriptors of the queries.
        database: Local descriptors of the database.
        method: Name of `after` in the report.
        shown: The queries that the page shows.
        most: Number of pairs, at most.
    """
    options = options_of(after)
    gains: list[tuple[int, int, str, str]] = []
    mistakes: list[tuple[int, str, str]] = []
    for query in shown:
        if query not in after:
            continue
        positives = dataset.positives_of(query)
        ids = list(after[query].ids[:_DEEPEST])
        there = queries.contains([query])[0]
        held = database.contains(ids) if ids and there else np.zeros(len(ids), bool)
        rank_before = {name: rank for rank, name in enumerate(before[query].ids)} if query in before else {}
        moved = [
            (rank_before.get(name, rank) - rank, -rank, query, name)
            for rank, (name, known) in enumerate(zip(ids, held, strict=True))
            if known and name in positives
        ]
        wrong = [
            (rank, query, name)
            for rank, (name, known) in enumerate(zip(ids, held, strict=True))
            if known and name not in positives
        ]
        gains += [max(moved)] if moved else []
        mistakes += [min(wrong)] if wrong else []

    def believed(candidates: Iterable[tuple[str, str]], count: int) -> list[MatchedPair]:
        found: list[MatchedPair] = []
        for query, name in islice(candidates, _TRIED * count):
            if len(found) < count:
                pair, score = _pair(queries, database, query, name, method, options)
                found += [pair] if score > 0 else []
        return found

    chosen = believed(((query, name) for *_, query, name in sorted(gains, reverse=True)), most - most // 4)
    return chosen + believed(((query, name) for _, query, name in sorted(mistakes)), most - len(chosen))


def chosen_pairs(
    pairs: Mapping[str, Sequence[str]],
    run: Run,
    queries: LocalStore,
    database: LocalStore,
    *,
    method: str,
) -> list[MatchedPair]:
    """Match pairs that somebody wants to see.

    Args:
        pairs: Ids of database images by query id.
        run: The run the page is about: its verification's options are taken.
        queries: Local descriptors of the queries.
        database: Local descriptors of the database.
        method: Name of the run in the report.

    Raises:
        UnknownIdError: An id is not in its store.
    """
    options = options_of(run)
    return [
        _pair(queries, database, query, name, method, options)[0]
        for query, names in pairs.items()
        for name in names
    ]


def options_of(run: Run) -> SpatialOptions:
    """Return the options a run was verified with, or the defaults if it says nothing of them."""
    told = run.provenance.get("rerank")
    if isinstance(told, dict) and told.get("method") == "spatial":
        with suppress(ParameterError, TypeError):
            return SpatialOptions(**told["options"])
    return SpatialOptions()


def _pair(
    queries: LocalStore,
    database: LocalStore,
    query: str,
    name: str,
    method: str,
    options: SpatialOptions | None,
) -> tuple[MatchedPair, float]:
    """Return a pair to be drawn, and its score."""
    found = correspondences(queries, database, query, name, options)
    sizes: list[NDArray[np.float64]] = []
    for store, id_ in ((queries, query), (database, name)):
        sizes.append(np.asarray(store.image(int(store.find([id_])[0])).size, np.float64))
    from_size, to_size = sizes
    model = None
    if found.model is not None:
        # From pixels to fractions of width and height, on both sides.
        model = found.model * [*from_size, 1]
        model[:2] /= to_size[:, None]
    pair = MatchedPair(
        query_id=query,
        database_id=name,
        method=method,
        query_xy=found.query_xy / from_size,
        database_xy=found.database_xy / to_size,
        inliers=found.inliers,
        model=model,
    )
    return pair, found.score
