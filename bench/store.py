"""Stores beside the plainest way to do the same, and at sizes where that would no longer do.

    python bench/store.py [--rows 300000] [--dim 512] [--ids 10000000] [--folder DIR] [--record FILE.json]
                          [--only append,verify,tombstones,find,open]

* append: against `np.save` + fsync of the same bytes, in one batch and in batches of 256 rows;
* verify: against reading the same files, from the disk (caches dropped before each) and from memory;
* tombstones: top-100 search of a store of which every tenth row is deleted, against the same store whole;
* find: 1,000 random ids among `--ids` of a store, once open;
* open: a store of 1,000 shards and 100 million rows (holes, made by `cargo run --example sparse_store`).

All in one run on one disk, alternating; medians with the smallest and largest of five rounds, eleven of
append. Ratios above 1 mean that the store is faster than its peer. What was written before is removed, and
the disk left alone for half a second, before each clock starts.
"""

from __future__ import annotations

import argparse
import json
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
from ilias_fast.kernels import topk
from ilias_fast.store import BinaryStore, GlobalStore, delete

REPEATS = 5
ROUNDS = 11  # of appending, which depends on the disk's mood
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
    with GlobalStore.create(path, dim=matrix.shape[1]) as writer:
        for start in range(0, len(matrix), batch):
            writer.append(ids[start : start + batch], matrix[start : start + batch])


def compare(record: dict[str, object], what: str, theirs: list[float], ours: list[float], goal: str) -> None:
    """Print and record the ratios of each round."""
    found = sorted(one / other for one, other in zip(theirs, ours, strict=True))
    print(f"{what:32} {statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f}) {goal}", flush=True)
    record[what] = {"theirs": theirs, "ours": ours, "ratio": statistics.median(found), "least": found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--ids", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to write (default: temporary)")
    parser.add_argument("--record", type=Path, default=None, help="write what was measured there, or add it")
    parser.add_argument("--only", default="append,verify,tombstones,find,open", help="what to measure")
    options = parser.parse_args()
    chosen = options.only.split(",")
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((options.rows, options.dim), dtype=np.float32).astype(np.float16)
    ids = [f"yfcc100m_{row % 1000:04d}.tar/{row:010d}" for row in range(options.rows)]
    cores = len(os.sched_getaffinity(0))
    print(f"ilias-fast {__version__}, {platform.machine()}, {cores} cores")
    print(f"{options.rows} x {options.dim} float16, median (least to most) of {REPEATS}, {ROUNDS} of append")
    record: dict[str, object] = {"cores": cores, "rows": options.rows, "dim": options.dim}
    if options.record is not None and options.record.exists():
        record = json.loads(options.record.read_text())
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        if "append" in chosen:
            appending(folder, ids, matrix, record)
        if "verify" in chosen:
            verifying(folder, ids, matrix, record)
        if "tombstones" in chosen:
            tombstones(folder, ids, matrix, record)
        if "find" in chosen:
            find(folder / "ids", options.ids, rng, record)
        if "open" in chosen:
            open_sparse(folder / "sparse", record)
    finally:
        shutil.rmtree(folder)
    if options.record is not None:
        git = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
        machine = {"machine": platform.processor() or platform.machine(), "commit": commit}
        options.record.write_text(json.dumps({**machine, **record}, indent=1) + "\n")


def appending(folder: Path, ids: list[str], matrix: np.ndarray, record: dict[str, object]) -> None:
    works: list[Callable[[], object]] = [
        lambda: save(folder / "m.npy", matrix),
        lambda: append(folder / "one", ids, matrix, len(ids)),
        lambda: append(folder / "many", ids, matrix, 256),
    ]
    times: list[list[float]] = [[], [], []]
    for turn in range(ROUNDS + 1):
        for number in np.roll(range(len(works)), turn).tolist():
            for made in folder.iterdir():
                shutil.rmtree(made) if made.is_dir() else made.unlink()
            os.sync()
            time.sleep(0.5)  # a disk that is told of deleted blocks is busy with them for a while
            times[number].append(seconds(works[number]))
    saved, one, many = (taken[1:] for taken in times)  # the first round fetches memory from the system
    compare(record, "np.save + fsync / append", saved, one, "goal 0.7")
    compare(record, "np.save + fsync / append by 256", saved, many, "goal 0.7")


def verifying(folder: Path, ids: list[str], matrix: np.ndarray, record: dict[str, object]) -> None:
    path = folder / "verified"
    append(path, ids, matrix, len(ids))
    for place in ("disk", "memory"):
        reading, checking = [], []
        for _ in range(REPEATS):
            for work, taken in (
                (lambda: read(path), reading),
                (lambda: GlobalStore.open(path).verify(), checking),
            ):
                if place == "disk":
                    drop_caches(path)
                taken.append(seconds(work))
        compare(record, f"read / verify, from {place}", reading, checking, "goal 0.7")


def tombstones(folder: Path, ids: list[str], matrix: np.ndarray, record: dict[str, object]) -> None:
    rng = np.random.default_rng(1)
    append(folder / "whole", ids, matrix, len(ids))
    shutil.copytree(folder / "whole", folder / "deleted")
    delete(folder / "deleted", [ids[row] for row in rng.permutation(len(ids))[: len(ids) // 10]])
    whole, deleted = GlobalStore.open(folder / "whole"), GlobalStore.open(folder / "deleted")
    kept = whole.find(deleted.ids[:])
    queries = rng.standard_normal((1000, matrix.shape[1]), dtype=np.float32)
    for count in (1, 32, 1000):
        times: list[list[float]] = [[], []]
        for _ in range(REPEATS):
            for store, taken in zip((whole, deleted), times, strict=True):
                taken.append(seconds(lambda store=store, count=count: topk(queries[:count], store, 100)))
        found = topk(queries[:count], deleted, 100).indices
        mask = np.zeros(len(whole), np.bool_)
        mask[kept] = True
        assert np.array_equal(kept[found], topk(queries[:count], whole, 100, selected=mask).indices)
        compare(record, f"whole / a tenth deleted, {count} queries", *times, "")


def find(path: Path, count: int, rng: np.random.Generator, record: dict[str, object]) -> None:
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
    record["find 1,000 ids, seconds"] = {"ids": count, "seconds": taken}


def open_sparse(path: Path, record: dict[str, object]) -> None:
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
    record["open 1,000 shards"] = {"rows": int(rows), "seconds": taken, "mib": memory}


if __name__ == "__main__":
    main()
