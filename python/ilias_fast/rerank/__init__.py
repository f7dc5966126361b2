"""Re-ranking of shortlists: Chamfer similarity, spatial verification, AMES, neighbourhoods, ensembles.

| module | holds |
|---|---|
| `options` | `ChamferOptions` and `SpatialOptions` |
| `methods` | all methods, the other options, the default weights of the ensembles |
| `shortlist` | `rerank`: raw scores of every query and shortlisted image |
| `scores`, `resuming` | `LocalScores`, saved and loaded; work that goes on after an interruption |
| `ames` | the AMES network and its shortlists |
| `neighbours` | k-reciprocal and diffusion re-ranking |
| `ensemble` | `ensemble` of global and local scores; `sweep` over its weights |
| `correspondences` | `correspondences`: the matched keypoints of one pair, to look at |
"""

from ilias_fast.rerank.correspondences import Correspondences, correspondences
from ilias_fast.rerank.ensemble import SweepPoint, ensemble, sweep
from ilias_fast.rerank.methods import METHODS, AmesOptions, DiffusionOptions, KReciprocalOptions, Method
from ilias_fast.rerank.options import ChamferOptions, SpatialOptions
from ilias_fast.rerank.scores import LocalScores
from ilias_fast.rerank.shortlist import rerank

__all__ = [
    "METHODS",
    "AmesOptions",
    "ChamferOptions",
    "Correspondences",
    "DiffusionOptions",
    "KReciprocalOptions",
    "LocalScores",
    "Method",
    "SpatialOptions",
    "SweepPoint",
    "correspondences",
    "ensemble",
    "rerank",
    "sweep",
]
