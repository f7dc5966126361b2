"""What bench/search.py searches, and what the right answers are."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 50_000


def vectors(
    rng: np.random.Generator, kind: str, count: int, dim: int, centres: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Unit vectors: around 1,000 centres, as near neighbours make them; Gaussian; of a decaying spectrum."""
    x = rng.standard_normal((count, dim), dtype=np.float32)
    if kind == "clustered":
        x += centres[rng.integers(0, len(centres), count)]
    elif kind == "decaying":
        x *= np.arange(1, dim + 1, dtype=np.float32) ** -0.7
        x += np.float32(0.3)  # descriptors of networks are not centred
    unit: NDArray[np.float32] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit


def write(
    folder: Path, task: str, options: argparse.Namespace, queries: int, checked: int
) -> tuple[int, int]:
    """Write database, queries and the true answers to `folder`; return (rows, dim or bits)."""
    rng = np.random.default_rng(options.seed)
    if task == "binary":
        size = options.bits // 8
        codes = np.lib.format.open_memmap(folder / "database.npy", "w+", np.uint8, (options.rows, size))
        for first in range(0, options.rows, 1_000_000):
            part = codes[first : first + 1_000_000]
            part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
        wanted = rng.integers(0, 256, (queries, size), dtype=np.uint8)
        np.save(folder / "queries.npy", wanted)
        distances = np.stack(
            [np.bitwise_count(query ^ codes).sum(axis=1, dtype=np.int32) for query in wanted[:checked]]
        )
        order = np.argsort(distances, axis=1, kind="stable")[:, : options.k]
        np.savez(folder / "truth.npz", indices=order, distances=np.take_along_axis(distances, order, axis=1))
        return options.rows, options.bits
    if options.data not in ("clustered", "gaussian", "decaying"):
        from ilias_fast.store import GlobalStore

        store = GlobalStore.open(options.data)
        options.rows, dim = len(store), store.dim
        chosen = np.sort(rng.permutation(len(store))[: min(queries, len(store))])
        wanted = np.resize(store.rows(chosen).astype(np.float32), (queries, dim))
        wanted += 0.02 * rng.standard_normal(wanted.shape).astype(np.float32) / np.sqrt(dim)
        blocks = (block for _, block in store.shards())
    else:
        dim = options.dim
        centres = rng.standard_normal((1000, dim), dtype=np.float32)
        wanted = vectors(rng, options.data, queries, dim, centres)
        blocks = (
            vectors(rng, options.data, min(BLOCK, options.rows - first), dim, centres).astype(np.float16)
            for first in range(0, options.rows, BLOCK)
        )
    database = np.lib.format.open_memmap(folder / "database.npy", "w+", np.float16, (options.rows, dim))
    exact = wanted[:checked].astype(np.float64)
    scores = np.empty((len(exact), options.rows), np.float32)
    first = 0
    for block in blocks:
        database[first : first + len(block)] = block
        for at in range(0, len(block), 10_000):
            part = block[at : at + 10_000].astype(np.float64)
            scores[:, first + at : first + at + len(part)] = exact @ part.T
        first += len(block)
    np.save(folder / "queries.npy", wanted)
    np.savez(folder / "truth.npz", indices=np.argsort(-scores, axis=1, kind="stable")[:, : options.k])
    return options.rows, dim


def machine() -> dict[str, Any]:
    """Return what the record says of the machine and the code."""
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=False
    )
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "commit": commit.stdout.strip() + (" with changes" if changed.stdout.strip() else ""),
        "machine": {
            "cpu": next((line.partition(":")[2].strip() for line in lines if "model name" in line), ""),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "load_average": os.getloadavg(),
        },
    }
