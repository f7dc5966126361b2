"""Small stores with random content."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.errors import CorruptStoreError, IliasFastError
from ilias_fast.store import GlobalStore, LocalImage, open_store


def vectors(rng: np.random.Generator, rows: int, dim: int = 8) -> NDArray[np.float16]:
    return rng.standard_normal((rows, dim)).astype(np.float16)


def make_global(path: Path, rng: np.random.Generator, rows: int = 10, **options: Any) -> NDArray[np.float16]:
    matrix = vectors(rng, rows)
    with GlobalStore.create(path, dim=8, **options) as writer:
        writer.append([f"id{row}" for row in range(rows)], matrix)
    return matrix


def make_images(rng: np.random.Generator, counts: list[int], width: int = 16) -> list[LocalImage]:
    def numbers(count: int) -> NDArray[np.float32]:
        return rng.random(count, dtype=np.float32) + np.float32(0.1)

    return [
        LocalImage(
            rng.integers(0, 256, (count, width), dtype=np.uint8),
            rng.random((count, 2), dtype=np.float32),
            numbers(count),
            numbers(count),
            numbers(count),
            (640 + row, 480),
        )
        for row, count in enumerate(counts)
    ]


def shards_of(path: Path) -> list[Path]:
    """Return the shard files of a store, oldest first."""
    return sorted((path / "shards").glob("*.safetensors"))


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Write a manifest with a checksum that is right, which the error about a wrong one tells."""
    file = path / "manifest.json"
    # One object, of which the checksum is the last value: what the format asks for.
    kept = {key: value for key, value in content.items() if key != "checksum"}
    text = json.dumps({**kept, "checksum": "0" * 16}, separators=(",", ":"))
    file.write_text(f"{text}\n")
    try:
        open_store(path)
    except CorruptStoreError as error:
        found = re.search(r'end in "(.*?)", found', str(error))
        if found is not None:
            tail = json.loads(f'"{found[1]}"').encode()
            file.write_bytes(file.read_bytes()[: -len(tail)] + tail)
    except IliasFastError:
        pass


@contextmanager
def tmpfs(path: Path, size: int) -> Iterator[Path]:
    """Mount a small disk in memory, or skip the test where nobody may."""
    path.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "none", path], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)  # an exception may keep a store mapped
