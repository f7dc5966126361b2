"""Extraction: images to descriptors."""

from ilias_fast.extract.classical import ClassicalExtractor, ClassicalOptions
from ilias_fast.extract.features import Extractor, LocalFeatures

__all__ = ["ClassicalExtractor", "ClassicalOptions", "Extractor", "LocalFeatures"]
