"""Instance-level image retrieval: exact search, local re-ranking and evaluation at ILIAS scale, on a CPU.

The eight stages, each a module of that name: images, extract, adapt, store, search, rerank, evaluate, report.
`ilias_fast.kernels` has the functions other pipelines call: arrays in, arrays out.
`ilias_fast.pipeline` runs all eight, and so does the command `ilias-fast demo`.
"""

import logging

from ilias_fast._core import __version__
from ilias_fast._doctor import Doctor, doctor

__all__ = ["Doctor", "__version__", "doctor"]

# Quiet unless the program that imports this asks for messages.
logging.getLogger(__name__).addHandler(logging.NullHandler())
