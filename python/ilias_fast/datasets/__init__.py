"""Datasets: queries, positives, distractors and what is known about them.

`load_dataset` reads a folder in the official ILIAS layout or a plain folder of photographs.
"""

from ilias_fast.datasets.base import Dataset
from ilias_fast.datasets.ilias import load_ilias
from ilias_fast.datasets.loading import load_dataset
from ilias_fast.datasets.photos import load_photos

__all__ = ["Dataset", "load_dataset", "load_ilias", "load_photos"]
