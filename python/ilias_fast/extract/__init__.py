"""Extraction: images to descriptors."""

from ilias_fast.extract.classical import ClassicalExtractor, ClassicalOptions
from ilias_fast.extract.features import Extractor, LocalFeatures
from ilias_fast.extract.neural import Network, NeuralExtractor, default_resolution
from ilias_fast.extract.timm_models import timm_network
from ilias_fast.extract.writing import ExtractReport, extract_to_stores

__all__ = [
    "ClassicalExtractor",
    "ClassicalOptions",
    "ExtractReport",
    "Extractor",
    "LocalFeatures",
    "Network",
    "NeuralExtractor",
    "default_resolution",
    "extract_to_stores",
    "timm_network",
]
