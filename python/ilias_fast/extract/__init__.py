"""Extraction: images and texts to descriptors."""

from ilias_fast.extract.classical import ClassicalExtractor, ClassicalOptions
from ilias_fast.extract.features import Extractor, LocalFeatures, StagedExtractor
from ilias_fast.extract.local import LocalExtractor
from ilias_fast.extract.local_networks import LOCAL_MODELS, LocalNetwork, attention_detector, local_network
from ilias_fast.extract.network import Network, default_resolution, load_network
from ilias_fast.extract.neural import NeuralExtractor
from ilias_fast.extract.preparing import Preparation, Prepared
from ilias_fast.extract.registry import Model, find_model, models
from ilias_fast.extract.spreading import extract_on_devices
from ilias_fast.extract.texts import TextExtractor, extract_texts
from ilias_fast.extract.writing import ExtractReport, extract_to_stores

__all__ = [
    "LOCAL_MODELS",
    "ClassicalExtractor",
    "ClassicalOptions",
    "ExtractReport",
    "Extractor",
    "LocalExtractor",
    "LocalFeatures",
    "LocalNetwork",
    "Model",
    "Network",
    "NeuralExtractor",
    "Preparation",
    "Prepared",
    "StagedExtractor",
    "TextExtractor",
    "attention_detector",
    "default_resolution",
    "extract_on_devices",
    "extract_texts",
    "extract_to_stores",
    "find_model",
    "load_network",
    "local_network",
    "models",
]
