"""Re-ranking of shortlists: Chamfer similarity, spatial verification, AMES, neighbourhoods, ensembles.

| module | holds |
|---|---|
| `options` | `ChamferOptions` and `SpatialOptions` |
| `methods` | all methods, the other options, the default weights of the ensembles |
| `shortlist` | `rerank`, `rerank_both`: raw scores of every query and shortlisted image |
| `pairs` | which pairs that compares, and by what |
| `scores`, `resuming` | `LocalScores`, saved and loaded; work that goes on after an interruption |
| `ames` | the AMES network and its shortlists |
| `neighbours` | k-reciprocal and diffusion re-ranking |
| `ensemble` | `ensemble` of global and local scores |
| `tuning`, `bound` | `tune` its weights and the shortlist; the `oracle`, what no re-ranking can exceed |
| `correspondences` | `correspondences`, `match_pair`: the matched keypoints of one pair, to look at |
"""

from ilias_fast.rerank.bound import oracle
from ilias_fast.rerank.correspondences import Correspondences, correspondences, match_pair
from ilias_fast.rerank.ensemble import ensemble
from ilias_fast.rerank.methods import METHODS, AmesOptions, DiffusionOptions, KReciprocalOptions, Method
from ilias_fast.rerank.options import ChamferOptions, SpatialOptions
from ilias_fast.rerank.scores import LocalScores
from ilias_fast.rerank.shortlist import rerank, rerank_both
from ilias_fast.rerank.tuning import GAMMAS, LAMBDAS, Surface, SurfacePoint, tune

__all__ = [
    "GAMMAS",
    "LAMBDAS",
    "METHODS",
    "AmesOptions",
    "ChamferOptions",
    "Correspondences",
    "DiffusionOptions",
    "KReciprocalOptions",
    "LocalScores",
    "Method",
    "SpatialOptions",
    "Surface",
    "SurfacePoint",
    "correspondences",
    "ensemble",
    "match_pair",
    "oracle",
    "rerank",
    "rerank_both",
    "tune",
]
