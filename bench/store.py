"""Stores beside the plainest way to do the same, and at sizes where that would no longer do.

    python bench/store.py [--rows 300000] [--dim 512] [--ids 10000000] [--folder DIR]

* append: against `np.save` + fsync of the same bytes, in one batch and in batches of 256 rows;
* verify: against reading the same files, from the disk (caches dropped before each) and from memory;
* find: 1,000 random ids among `--ids` of a store, once open;
* open: a store of 1,000 shards and 100 million rows (holes, made by `cargo run --example sparse_store`).

All in one run on one disk, alternating; medians with the smallest and largest of five. Ratios above 1 mean
that the store is faster than its peer.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ilias_fast import __version__
from ilias_fast.store import BinaryStore, GlobalStore

REPEATS = 5
OPEN = """
import sys, time
from ilias_fast.store import GlobalStore
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
before, start = peak(), time.perf_counter()
store = GlobalStore.open(sys.argv[1])
print(len(store), time.perf_counter() - start, peak() - before)
"""


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def save(path: Path, matrix: np.ndarray) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        np.save(file, matrix)
        file.flush()
        os.fsync(file.fileno())


def files(folder: Path) -> Iterable[Path]:
    return sorted((folder / "shards").iterdir())


def read(folder: Path) -> None:
    buffer = bytearray(4 << 20)
    for path in files(folder):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def drop_caches(folder: Path) -> None:
    for path in files(folder):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def append(path: Path, ids: list[str], matrix: np.ndarray, batch: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with GlobalStore.create(path, dim=matrix.shape[1]) as writer:
        for start in range(0, len(matrix), batch):
            writer.append(ids[start : start + batch], matrix[start : start + batch])


def ratio(times: dict[str, list[float]], peer: str, ours: str) -> str:
    found = sorted(theirs / mine for theirs, mine in zip(times[peer], times[ours], strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--ids", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to write (default: temporary)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((options.rows, options.dim), dtype=np.float32).astype(np.float16)
    ids = [f"yfcc100m_{row % 1000:04d}.tar/{row:010d}" for row in range(options.rows)]
    cores = len(os.sched_getaffinity(0))
    print(f"ilias-fast {__version__}, {platform.machine()}, {cores} cores")
    print(f"{options.rows} x {options.dim} float16, median of {REPEATS}")
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    times: dict[str, list[float]] = {}
    try:
        works: dict[str, Callable[[], object]] = {
            "np.save + fsync": lambda: save(folder / "m.npy", matrix),
            "append, one batch": lambda: append(folder / "one", ids, matrix, len(ids)),
            "append, batches of 256": lambda: append(folder / "many", ids, matrix, 256),
            "read, from disk": lambda: read(folder / "one"),
            "verify, from disk": lambda: GlobalStore.open(folder / "one").verify(),
            "read, from memory": lambda: read(folder / "one"),
            "verify, from memory": lambda: GlobalStore.open(folder / "one").verify(),
        }
        for _ in range(REPEATS):
            for name, work in works.items():
                if "from disk" in name:
                    drop_caches(folder / "one")
                times.setdefault(name, []).append(seconds(work))
        for name, taken in times.items():
            print(f"{name:24} {statistics.median(taken) * 1e3:9.1f} ms")
        print(
            "append / np.save:           ", ratio(times, "np.save + fsync", "append, one batch"), "goal 0.7"
        )
        print(
            "append in batches / np.save:",
            ratio(times, "np.save + fsync", "append, batches of 256"),
            "goal 0.7",
        )
        print(
            "verify / read from disk:    ", ratio(times, "read, from disk", "verify, from disk"), "goal 0.7"
        )
        print("verify / read from memory:  ", ratio(times, "read, from memory", "verify, from memory"))
        find(folder / "ids", options.ids, rng)
        open_sparse(folder / "sparse")
    finally:
        shutil.rmtree(folder)


def find(path: Path, count: int, rng: np.random.Generator) -> None:
    if count == 0:
        return
    with BinaryStore.create(path, bits=64) as writer:
        for start in range(0, count, 500_000):
            rows = range(start, min(start + 500_000, count))
            writer.append([f"distractors/{row:012d}" for row in rows], np.zeros((len(rows), 8), np.uint8))
    store = BinaryStore.open(path)
    taken = []
    for _ in range(REPEATS):
        wanted = rng.integers(0, count, 1000)
        names = [f"distractors/{row:012d}" for row in wanted]
        taken.append(seconds(lambda names=names: store.find(names)))
        assert np.array_equal(store.find(names), wanted)
    shards = store.info().shards
    print(
        f"find 1,000 of {count:,} ids in {shards} shards: {statistics.median(taken) * 1e3:.2f} ms "
        f"({min(taken) * 1e3:.2f} to {max(taken) * 1e3:.2f}) goal 50"
    )


def open_sparse(path: Path) -> None:
    cargo = [
        "cargo",
        "run",
        "--quiet",
        "--release",
        "--example",
        "sparse_store",
        "-p",
        "ilias-fast-core",
        "--",
    ]
    made = subprocess.run(
        [*cargo, str(path), "1000", "100000", "512"], cwd=Path(__file__).resolve().parent.parent, check=False
    )
    if made.returncode:
        print("open 1,000 shards: skipped, cargo could not make the store")
        return
    found = []
    for _ in range(REPEATS):
        done = subprocess.run(
            [sys.executable, "-c", OPEN, str(path)], check=True, capture_output=True, text=True
        )
        found.append([float(value) for value in done.stdout.split()])
    rows, taken, memory = (statistics.median(column) for column in zip(*found, strict=True))
    print(
        f"open {int(rows):,} rows in 1,000 shards: {taken * 1e3:.0f} ms (goal 1000), "
        f"{memory:.0f} MiB (goal 200)"
    )


if __name__ == "__main__":
    main()
