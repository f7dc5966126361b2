"""Adaptation: linear layers, PCA whitening, ITQ binarisation; applied to arrays or to whole stores."""

from ilias_fast.adapt.adapter import Adapter
from ilias_fast.adapt.deriving import adapt_store, sample_rows
from ilias_fast.adapt.itq import Itq
from ilias_fast.adapt.linear import LinearAdapter
from ilias_fast.adapt.loading import load_adapter
from ilias_fast.adapt.pca import PcaWhitening

__all__ = ["Adapter", "Itq", "LinearAdapter", "PcaWhitening", "adapt_store", "load_adapter", "sample_rows"]
