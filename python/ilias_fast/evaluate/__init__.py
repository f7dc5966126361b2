"""Evaluation: runs judged against datasets, by the field's protocols.

Everything in an `Evaluation` is in percent, as the field prints it. (`ilias_fast.kernels.average_precision`
returns AP in [0, 1].)
"""

from ilias_fast.evaluate.ilias import CLUTTER_BOUNDS, SCALE_BOUNDS, MissingQueriesWarning, evaluate
from ilias_fast.evaluate.result import Evaluation, QueryScore, TaskScores
from ilias_fast.evaluate.streaming import DistractorCurve, RandomSubsets, distractor_curve

__all__ = [
    "CLUTTER_BOUNDS",
    "SCALE_BOUNDS",
    "DistractorCurve",
    "Evaluation",
    "MissingQueriesWarning",
    "QueryScore",
    "RandomSubsets",
    "TaskScores",
    "distractor_curve",
    "evaluate",
]
