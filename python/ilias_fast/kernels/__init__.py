"""The drop-in functions: arrays in, arrays out.

Arguments are anything NumPy can read as an array (see `ilias_fast._arrays` for the conversion rule). Every
function takes `threads` and `progress`, releases the GIL, may be called from several threads and after a
fork, and can be stopped by Ctrl-C. No answer depends on `threads` or on the CPU level.
"""

from ilias_fast.kernels.evaluation import MapCounter, StreamedMap, average_precision, streaming_map
from ilias_fast.kernels.matching import ImageMatches, Matches, match, match_images
from ilias_fast.kernels.search import (
    HammingTopK,
    Planes,
    TopK,
    build_planes,
    hamming_matrix,
    hamming_topk,
    topk,
)
from ilias_fast.kernels.similarity import chamfer
from ilias_fast.kernels.verification import Instance, Verification, verify_instances, verify_spatial

__all__ = [
    "HammingTopK",
    "ImageMatches",
    "Instance",
    "MapCounter",
    "Matches",
    "Planes",
    "StreamedMap",
    "TopK",
    "Verification",
    "average_precision",
    "build_planes",
    "chamfer",
    "hamming_matrix",
    "hamming_topk",
    "match",
    "match_images",
    "streaming_map",
    "topk",
    "verify_instances",
    "verify_spatial",
]
