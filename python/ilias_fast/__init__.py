"""Instance-level image retrieval: exact search, local re-ranking and evaluation at ILIAS scale, on a CPU.

The eight stages, each a module of that name: images, extract, adapt, store, search, rerank, evaluate, report.
`ilias_fast.kernels` has the functions other pipelines call: arrays in, arrays out.
"""

from ilias_fast._core import __version__

__all__ = ["__version__"]
