"""A store in a notebook: what it holds, what it was made of, its first rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ilias_fast._html import table

if TYPE_CHECKING:
    from ilias_fast.store._base import BaseStore

__all__ = ["store_card"]

_SHOWN = 5


def store_card(store: BaseStore) -> str:
    """Return a store as HTML.

    Args:
        store: The store.
    """
    info = store.info()
    facts: list[tuple[str, object]] = [("folder", info.path), ("images", info.rows)]
    if info.kind == "local":
        facts.append(("descriptors", info.descriptors))
        if info.rows:
            facts.append(("descriptors an image", info.descriptors / info.rows))
    facts.append(("dimension", info.dim) if info.dim else ("bits", info.bits))
    if info.optional:
        facts.append(("also", ", ".join(info.optional)))
    facts += [("shards", info.shards), ("size", _size(info.bytes))]
    if info.deleted:
        facts.append(("deleted rows", info.deleted))
    facts += [(f"derived: {one.kind}", f"{_size(one.bytes)}, {one.shards} shards") for one in info.derived]
    facts.append(("checksum", info.checksum))
    if info.parent:
        facts.append(("made from", _text(info.parent.get("path", info.parent))))
    parts = [table(f"{info.kind.capitalize()} store", ["", ""], facts)]
    if info.provenance:
        rows = [(key, _text(value)) for key, value in info.provenance.items()]
        parts.append(table("Provenance", ["", ""], rows))
    if info.rows:
        first = store.id_of(list(range(min(_SHOWN, info.rows))))
        parts.append(table("First images", ["row", "id"], enumerate(first)))
    return "".join(parts)


def _size(count: int) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
