"""Re-ranking of shortlists with local descriptors: Chamfer similarity, spatial verification, ensembles.

| module | holds |
|---|---|
| `options` | `ChamferOptions`, `SpatialOptions` and the default ensemble weights |
| `shortlist` | `rerank`: raw local scores of every query and shortlisted image; `LocalScores` |
| `ensemble` | `ensemble` of global and local scores; `sweep` over its weights |
| `correspondences` | `correspondences`: the matched keypoints of one pair, to look at |
"""

from ilias_fast.rerank.correspondences import Correspondences, correspondences
from ilias_fast.rerank.ensemble import SweepPoint, ensemble, sweep
from ilias_fast.rerank.options import ChamferOptions, SpatialOptions
from ilias_fast.rerank.shortlist import LocalScores, rerank

__all__ = [
    "ChamferOptions",
    "Correspondences",
    "LocalScores",
    "SpatialOptions",
    "SweepPoint",
    "correspondences",
    "ensemble",
    "rerank",
    "sweep",
]
