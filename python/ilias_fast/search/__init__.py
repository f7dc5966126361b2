"""Search of stores: exact top-k over several databases, expansion, fusion, augmentation, backends.

| part | is |
|---|---|
| `search` | each query against several databases as one sequence; alpha query expansion, adaptation |
| `search_fused` | weighted sums of similarities (image-to-image + text-to-image), exactly, in one pass |
| `augment` | database-side augmentation: a new store of rows mixed with their neighbours |
| `backends` | who screens: the core, torch on any device, faiss; the certified answer is the same |

Scores are canonical (`ilias_fast.kernels.topk`): how the rows are cut into stores, shards and blocks, and who
screens them, never changes the answer.
"""

from ilias_fast.search.augmentation import augment
from ilias_fast.search.fusion import Part, search_fused
from ilias_fast.search.searching import search
from ilias_fast.search.sequence import DescriptorAdapter

__all__ = ["DescriptorAdapter", "Part", "augment", "search", "search_fused"]
