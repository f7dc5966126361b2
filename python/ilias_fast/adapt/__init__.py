"""Adaptation: linear layers, PCA whitening, binarisation; applied to arrays or to whole stores."""

from ilias_fast.adapt.adapter import Adapter
from ilias_fast.adapt.deriving import Step, derive, sample_rows
from ilias_fast.adapt.itq import Itq
from ilias_fast.adapt.linear import LinearAdapter
from ilias_fast.adapt.loading import load_adapter
from ilias_fast.adapt.pca import PcaWhitening
from ilias_fast.adapt.steps import Signs, Strongest, Unpack

__all__ = [
    "Adapter",
    "Itq",
    "LinearAdapter",
    "PcaWhitening",
    "Signs",
    "Step",
    "Strongest",
    "Unpack",
    "derive",
    "load_adapter",
    "sample_rows",
]
