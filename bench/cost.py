"""What a search costs: a model from two sizes, and whether it holds for larger ones.

    python bench/cost.py [--rows 2000000 5000000] [--check 10000000] [--queries 1 32 1232] [--out FILE]

A store of clustered rows with int8 planes is searched at the two sizes of `--rows`. Time is modelled as
a fixed part (queries, selection, rows looked closer at) and a part proportional to the rows, memory as
independent of them. The store then grows to the sizes of `--check`, and what was predicted stands
beside what is measured. The last lines predict 100 million rows: in memory, and from the disk at the
rate at which it is read here. Stores are made in `--folder` (1.6 KB a row of 512) and removed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import cpu
from ilias_fast.kernels import topk
from ilias_fast.store import GlobalStore, build_planes

sys.path.insert(0, str(Path(__file__).parent / "support"))
import search_data as data

K = 1000
LARGEST = 100_000_000


def grow(path: Path, rows: int, rng: np.random.Generator, centres: NDArray[np.float32]) -> GlobalStore:
    """Append until there are so many rows, and make their planes."""
    first = len(GlobalStore.open(path)) if path.exists() else 0
    writer = GlobalStore.append_to(path) if first else GlobalStore.create(path, dim=centres.shape[1])
    with writer:
        for start in range(first, rows, 50_000):
            count = min(50_000, rows - start)
            vectors = data.vectors(rng, "clustered", count, centres.shape[1], centres).astype(np.float16)
            writer.append([f"{row}" for row in range(start, start + count)], vectors)
    return build_planes(path)


def anonymous_mb() -> float:
    """Memory of this process that is no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def measure(store: GlobalStore, queries: NDArray[np.float32], repeat: int) -> dict[str, Any]:
    """Seconds of each round, after one that is not counted, and the most memory seen during a search."""
    before = anonymous_mb()
    seconds, memory = [], [before]
    for number in range(repeat + 1):
        start = time.perf_counter()
        topk(queries, store, K, progress=lambda _: memory.append(anonymous_mb()))
        if number:
            seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "memory_mb": max(memory) - before}


def read_rate(store: GlobalStore) -> float:
    """Bytes a second of the store's shards, cold, front to back."""
    files = sorted((store.path / "shards").glob("*.safetensors"))[:16]
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.perf_counter()
    size = 0
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while part := opened.read(8 << 20):
                size += len(part)
    return size / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs=2, default=[2_000_000, 5_000_000])
    parser.add_argument("--check", type=int, nargs="*", default=[10_000_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 32, 1232])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="where the stores are made; a temporary folder if not given"
    )
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, options.dim), dtype=np.float32)
    queries = data.vectors(rng, "clustered", max(options.queries), options.dim, centres)
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-cost-", dir=options.folder) as temporary:
        path = Path(temporary) / "store"
        medians: dict[tuple[int, int], float] = {}
        small, large = options.rows

        def predicted(count: int, rows: int) -> float:
            rate = (medians[count, large] - medians[count, small]) / (large - small)
            return medians[count, small] + rate * (rows - small)

        for rows in [small, large, *options.check]:
            store = grow(path, rows, rng, centres)
            disk = read_rate(store)
            for count in options.queries:
                found = measure(store, queries[:count], options.repeat)
                median = medians[count, rows] = statistics.median(found["seconds"])
                spread = f"[{min(found['seconds']):.3f}, {max(found['seconds']):.3f}]"
                line = f"{rows:11,} rows, {count:5} queries: {median:8.3f} s {spread}"
                if rows in options.check:
                    found["predicted_s"] = model = predicted(count, rows)
                    line += f", predicted {model:8.3f} s, ratio {median / model:.2f}"
                print(f"{line}, memory {found['memory_mb']:.0f} MB", flush=True)
                results.append({"rows": rows, "queries": count, **found})
        # Of rows on disk, few queries read the planes, many the vectors.
        for count in options.queries:
            size = LARGEST * (options.dim + 16 if count <= 8 else 2 * options.dim)
            seconds = predicted(count, LARGEST)
            print(
                f"{LARGEST:11,} rows, {count:5} queries: {seconds:8.1f} s in memory; from disk "
                f"{max(seconds, size / disk):8.1f} s ({size / 1e9:.0f} GB at {disk / 1e9:.2f} GB/s)"
            )
    if options.out is not None:
        record = {
            "bench": "cost",
            **data.machine(),
            "threads": cpu.threads(),
            "dim": options.dim,
            "disk_bytes_s": disk,
        }
        options.out.write_text(json.dumps({**record, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
