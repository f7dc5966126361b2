"""Adaptation: linear layers, whitenings, binarisations; fitted on stores, applied to arrays and stores."""

from ilias_fast.adapt.adapter import Adapter, VectorAdapter
from ilias_fast.adapt.deriving import Step, derive, sample_rows
from ilias_fast.adapt.itq import Itq
from ilias_fast.adapt.labels import Labelled, matching_pairs, read_labels
from ilias_fast.adapt.linear import LinearAdapter
from ilias_fast.adapt.loading import load_adapter
from ilias_fast.adapt.steps import Signs, Strongest, Unpack
from ilias_fast.adapt.training import Training, TrainingOptions, train_linear
from ilias_fast.adapt.whitening import PcaWhitening, SupervisedWhitening, Whitening

__all__ = [
    "Adapter",
    "Itq",
    "Labelled",
    "LinearAdapter",
    "PcaWhitening",
    "Signs",
    "Step",
    "Strongest",
    "SupervisedWhitening",
    "Training",
    "TrainingOptions",
    "Unpack",
    "VectorAdapter",
    "Whitening",
    "derive",
    "load_adapter",
    "matching_pairs",
    "read_labels",
    "sample_rows",
    "train_linear",
]
