"""faiss indexes, written for those who search with faiss.

The files are those of `faiss.write_index`, written block by block: faiss itself would need all of it in
memory. Row i of the index is row i of the store; the ids go to a text file beside it, one a line.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ilias_fast import _arrays
from ilias_fast._files import replacing
from ilias_fast.store._base import BaseStore
from ilias_fast.store._binary import BinaryStore
from ilias_fast.store._global import GlobalStore
from ilias_fast.store.formats.base import Format
from ilias_fast.store.formats.ids import write_ids

__all__ = ["Faiss"]

_BLOCK_BYTES = 32 << 20
_KINDS = ("fp16", "flat")
_INNER_PRODUCT, _L2 = 0, 1
_QT_FP16 = 4  # ScalarQuantizer.QT_fp16


class Faiss(Format):
    """`IndexFlatIP`, `IndexScalarQuantizer` (float16) or `IndexBinaryFlat`."""

    name = "faiss"
    title = "faiss index"
    suffixes = (".faiss", ".index")
    writes = ("global", "binary")

    def write(
        self, store: BaseStore, path: Path, options: Mapping[str, Any], progress: Any, overwrite: bool
    ) -> None:
        """Write an index; option `index` is "fp16" (2 bytes a number, nothing lost, the default) or "flat".

        Errors as `Format.write`.
        """
        assert isinstance(store, (GlobalStore, BinaryStore))
        kind = options.get("index") or "fp16"
        _arrays.choice("index", kind, tuple(_KINDS))
        ids = Path(options["ids"]) if options.get("ids") else path.with_suffix(".txt")
        with (
            replacing(path, overwrite=overwrite) as partial,
            replacing(ids, overwrite=overwrite) as partial_ids,
        ):
            with partial.open("wb") as file:
                file.write(_header(store, kind))
                for first, rows in store.shards():
                    step = max(1, _BLOCK_BYTES // (4 * rows.shape[1]))
                    for start in range(0, len(rows), step):
                        part = rows[start : start + step]
                        file.write(
                            (part.astype("<f4") if kind == "flat" and part.itemsize == 2 else part).data
                        )
                        progress(first + start + len(part), len(store))
            write_ids(partial_ids, store)


def _header(store: GlobalStore | BinaryStore, kind: str) -> bytes:
    """Return everything before the rows: fourcc, d, ntotal, is_trained, metric, and how many there are."""
    rows = len(store)
    if isinstance(store, BinaryStore):
        width = store.code_bytes
        return struct.pack("<4siiq?iQ", b"IBxF", 8 * width, width, rows, True, _L2, rows * width)
    unused = 1 << 20
    kind_of = b"IxFI" if kind == "flat" else b"IxSQ"
    common = struct.pack("<4siqqq?i", kind_of, store.dim, rows, unused, unused, True, _INNER_PRODUCT)
    if kind == "flat":
        return common + struct.pack("<Q", rows * store.dim)
    quantiser = struct.pack("<iifQQQ", _QT_FP16, 0, 0.0, store.dim, 2 * store.dim, 0)
    return common + quantiser + struct.pack("<Q", 2 * rows * store.dim)
