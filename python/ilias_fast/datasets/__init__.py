"""Datasets: queries, positives, distractors and what is known about them.

`load_dataset` reads a folder in the official ILIAS layout or a plain folder of photographs; the loaders of
`benchmarks` read the ground truth of the field's other benchmarks.
"""

from ilias_fast.datasets.base import Dataset
from ilias_fast.datasets.benchmarks import (
    GroundTruth,
    Labels,
    load_gldv2,
    load_gnd,
    load_holidays,
    load_names,
    load_oxford_text,
    load_sop,
    load_ukbench,
)
from ilias_fast.datasets.ilias import load_ilias
from ilias_fast.datasets.loading import load_dataset
from ilias_fast.datasets.photos import load_photos
from ilias_fast.datasets.truths import load_truth

__all__ = [
    "Dataset",
    "GroundTruth",
    "Labels",
    "load_dataset",
    "load_gldv2",
    "load_gnd",
    "load_holidays",
    "load_ilias",
    "load_names",
    "load_oxford_text",
    "load_photos",
    "load_sop",
    "load_truth",
    "load_ukbench",
]
