"""A store reader of forty lines: `json` and `safetensors`, nothing of ilias-fast.

It follows docs/format.md and loads everything; tests compare the real reader with it.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file


def read(path: Path) -> tuple[dict[str, Any], list[str], dict[str, list[NDArray[Any]]]]:
    """Return manifest, ids, and the tensors of each shard by name."""
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["format"] == "ilias-fast store"
    assert manifest["version"] == 1
    ids: list[str] = []
    tensors: dict[str, list[NDArray[Any]]] = {}
    for entry in manifest["shards"]:
        file = path / "shards" / entry["file"]
        assert file.stat().st_size == entry["bytes"]
        shard = load_file(file)
        offsets, text = shard["id_offsets"], shard["ids"].tobytes()
        names = [text[start:end].decode() for start, end in pairwise(offsets)]
        assert len(names) == entry["rows"]
        assert sorted(shard["id_row"].tolist()) == list(range(len(names)))
        assert np.all(np.diff(shard["id_hash"]) >= 0)
        gone: set[int] = set()
        for first, count in batched(entry.get("deleted", [])):
            gone.update(range(first, first + count))
        ids += [name for row, name in enumerate(names) if row not in gone]
        for name, tensor in shard.items():
            tensors.setdefault(name, []).append(tensor)
        for derived in entry.get("derived", []):
            beside = load_file(path / "shards" / derived["file"])
            assert all(tensor.shape[0] == len(names) for key, tensor in beside.items() if key != "padding")
    assert len(ids) == manifest["rows"]
    return manifest, ids, tensors


def batched(pairs: list[int]) -> list[tuple[int, int]]:
    """Return consecutive numbers as pairs."""
    return list(zip(pairs[::2], pairs[1::2], strict=True))


def images(tensors: dict[str, list[NDArray[Any]]]) -> list[dict[str, NDArray[Any]]]:
    """Cut the tensors of a local store into images."""
    found = []
    for shard, offsets in enumerate(tensors["offsets"]):
        for row in range(len(offsets) - 1):
            of_image = slice(offsets[row], offsets[row + 1])
            per_descriptor = [
                n for n in ("codes", "descriptors", "xy", "scale", "angle", "weight") if n in tensors
            ]
            image: dict[str, NDArray[Any]] = {name: tensors[name][shard][of_image] for name in per_descriptor}
            image["size"] = tensors["size"][shard][row]
            found.append(image)
    return found
