"""AMES: asymmetric and memory-efficient similarity, a transformer over the descriptors of two images.

Suma, Kordopatis-Zilos, Iscen, Tolias, "AMES: Asymmetric and Memory-Efficient Similarity Estimation for
Instance-level Retrieval", ECCV 2024.

| module | holds |
|---|---|
| `checkpoint` | `load_ames`: a published checkpoint, strictly checked, to a network |
| `operations` | linear layers and attention, by the fastest kernel of the device |
| `network` | `Ames`: images encoded once, pairs scored from their encodings |
| `streaming` | the shortlists of a run, in bounded memory |
"""

from ilias_fast.rerank.ames.checkpoint import load_ames
from ilias_fast.rerank.ames.network import Ames, EncodedImage

__all__ = ["Ames", "EncodedImage", "load_ames"]
