"""Descriptor stores: directories that grow by atomic commits, read through memory maps, and lose nothing.

Three kinds, one lifecycle:

* `GlobalStore`: one float16 vector an image, for exact search;
* `BinaryStore`: one packed binary code an image, for Hamming search;
* `LocalStore`: any number of descriptors (packed codes, or float16) with keypoint positions an image, for
  re-ranking.

```python
with GlobalStore.create("db", dim=512, provenance={"model": "..."}) as writer:
    writer.append(ids, vectors)          # any number of times; commits on leaving the block
store = GlobalStore.open("db")
store.find(["a.jpg"]), store.rows([0, 5]), store.ids[3]
```

A store on disk is a folder with `manifest.json` and safetensors shards (docs/format.md). A store opened
before a commit keeps showing the state it was opened in.
"""

from ilias_fast.store._binary import BinaryStore, BinaryWriter
from ilias_fast.store._change import Compaction, compact, delete, merge, select
from ilias_fast.store._global import GlobalStore, GlobalWriter
from ilias_fast.store._ids import Ids
from ilias_fast.store._info import DerivedInfo, StoreInfo
from ilias_fast.store._local import LocalImage, LocalStore, LocalWriter
from ilias_fast.store._open import exists, open_store
from ilias_fast.store._planes import build_planes, drop_planes
from ilias_fast.store._provenance import IDENTITY_KEYS, check_compatible
from ilias_fast.store._selection import is_selected
from ilias_fast.store._verify import Damage, VerifyReport, gc, verify
from ilias_fast.store.formats import (
    FeatureFiles,
    escape_id,
    export_store,
    import_store,
    read_matrix,
    unescape_id,
)

__all__ = [
    "IDENTITY_KEYS",
    "BinaryStore",
    "BinaryWriter",
    "Compaction",
    "Damage",
    "DerivedInfo",
    "FeatureFiles",
    "GlobalStore",
    "GlobalWriter",
    "Ids",
    "LocalImage",
    "LocalStore",
    "LocalWriter",
    "StoreInfo",
    "VerifyReport",
    "build_planes",
    "check_compatible",
    "compact",
    "delete",
    "drop_planes",
    "escape_id",
    "exists",
    "export_store",
    "gc",
    "import_store",
    "is_selected",
    "merge",
    "open_store",
    "read_matrix",
    "select",
    "unescape_id",
    "verify",
]
