"""Evaluation: runs judged against datasets, by the field's protocols.

Everything in an `Evaluation` is in percent, as the field prints it. (`ilias_fast.kernels.average_precision`
returns AP in [0, 1].)
"""

from ilias_fast.evaluate.analyses import RankRanges, fuse_text, rank_ranges
from ilias_fast.evaluate.benchmarks import (
    ProtocolScores,
    evaluate_benchmark,
    mean_average_precision,
    ns_score,
    recall_at,
    revisited,
    run_from_ranks,
    unanswered,
)
from ilias_fast.evaluate.comparing import Comparison, MethodSummary, PairSummary, compare
from ilias_fast.evaluate.curves import DistractorCurve, RandomSubsets
from ilias_fast.evaluate.ilias import CLUTTER_BOUNDS, SCALE_BOUNDS, MissingQueriesWarning, evaluate
from ilias_fast.evaluate.leaderboard import PublishedRow, leaderboard
from ilias_fast.evaluate.nested import run_curve
from ilias_fast.evaluate.result import Evaluation, QueryScore, TaskScores
from ilias_fast.evaluate.streaming import count_distractors, distractor_curve
from ilias_fast.evaluate.sweeps import Sweep, SweepSeries
from ilias_fast.evaluate.tables import format_results

__all__ = [
    "CLUTTER_BOUNDS",
    "SCALE_BOUNDS",
    "Comparison",
    "DistractorCurve",
    "Evaluation",
    "MethodSummary",
    "MissingQueriesWarning",
    "PairSummary",
    "ProtocolScores",
    "PublishedRow",
    "QueryScore",
    "RandomSubsets",
    "RankRanges",
    "Sweep",
    "SweepSeries",
    "TaskScores",
    "compare",
    "count_distractors",
    "distractor_curve",
    "evaluate",
    "evaluate_benchmark",
    "format_results",
    "fuse_text",
    "leaderboard",
    "mean_average_precision",
    "ns_score",
    "rank_ranges",
    "recall_at",
    "revisited",
    "run_curve",
    "run_from_ranks",
    "unanswered",
]
