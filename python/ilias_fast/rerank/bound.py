"""The bound of re-ranking: what the best possible order of the shortlists would be worth."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from ilias_fast import _arrays
from ilias_fast.run import Run

__all__ = ["oracle"]


def oracle(run: Run, positives_of: Callable[[str], Collection[str]], shortlist: int) -> Run:
    """Re-rank by the ground truth: the positives of every shortlist first, everything else in its order.

    No re-ranking of the first `shortlist` images can be worth more than the run this returns.

    Args:
        run: What would be re-ranked.
        positives_of: Returns the ids of a query's positives (`Dataset.positives_of`).
        shortlist: Images of each query that may change places, M.

    Returns:
        The run in its best order; scores are the ranks counted backwards.

    Raises:
        ParameterError: `shortlist` is negative.

    Examples:
        >>> from ilias_fast.run import Run
        >>> run = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.9, "2.jpg": 0.8, "mug/pos/0.jpg": 0.7}})
        >>> positives = {"mug/query/0.jpg": {"mug/pos/0.jpg"}}
        >>> oracle(run, positives.__getitem__, 3)["mug/query/0.jpg"].ids
        ['mug/pos/0.jpg', '1.jpg', '2.jpg']
        >>> oracle(run, positives.__getitem__, 2)["mug/query/0.jpg"].ids
        ['1.jpg', '2.jpg', 'mug/pos/0.jpg']
    """
    shortlist = _arrays.at_least("shortlist", shortlist, 0)
    scores = np.empty(len(run.indices))
    for number, query in enumerate(run.query_ids):
        start, stop = run.offsets[number : number + 2].tolist()
        length = stop - start
        positives = frozenset(positives_of(query))
        first = [
            run.database_ids[row] in positives for row in run.indices[start : start + shortlist].tolist()
        ]
        hit = np.zeros(length, bool)
        hit[: min(length, shortlist)] = first[:length]
        order = np.argsort(~hit, kind="stable")
        scores[start + order] = np.arange(length, 0, -1)
    return run.with_scores(scores, {**run.provenance, "rerank": {"method": "oracle", "shortlist": shortlist}})
