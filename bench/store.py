"""Stores beside the plainest way to do the same: append against `np.save` + fsync, verify against reading.

    python bench/store.py [--rows 500000] [--dim 512] [--folder DIR]

All in one run on one disk, alternating, best of three; ratios above 1 mean the store is faster.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ilias_fast import __version__
from ilias_fast.store import GlobalStore

REPEATS = 3


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def save(path: Path, matrix: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, matrix)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> None:
    buffer = bytearray(4 << 20)
    for path in sorted((folder / "shards").iterdir()):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def append(path: Path, ids: list[str], matrix: np.ndarray, batch: int) -> None:
    with GlobalStore.create(path, dim=matrix.shape[1]) as writer:
        for start in range(0, len(matrix), batch):
            writer.append(ids[start : start + batch], matrix[start : start + batch])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write (default: the temporary folder)"
    )
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((options.rows, options.dim), dtype=np.float32).astype(np.float16)
    ids = [f"yfcc100m_{row % 1000:04d}.tar/{row:010d}" for row in range(options.rows)]
    gigabytes = matrix.nbytes / 1e9
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    times: dict[str, list[float]] = {}
    try:
        for _ in range(REPEATS):
            for name, work in (
                ("np.save + fsync", lambda: save(folder / "m.npy", matrix)),
                ("append, one batch", lambda: append(folder / "one", ids, matrix, len(ids))),
                ("append, batches of 256", lambda: append(folder / "many", ids, matrix, 256)),
                ("read all bytes", lambda: read(folder / "one")),
                ("verify", lambda: GlobalStore.open(folder / "one").verify()),
                ("verify, 1 thread", lambda: GlobalStore.open(folder / "one").verify(threads=1)),
                ("open", lambda: GlobalStore.open(folder / "one")),
                (
                    "find 1000 ids",
                    lambda: GlobalStore.open(folder / "one").find(ids[:: max(1, len(ids) // 1000)]),
                ),
            ):
                if name.startswith("append"):
                    shutil.rmtree(folder / ("one" if "one" in name else "many"), ignore_errors=True)
                (folder / "m.npy").unlink(missing_ok=True)
                times.setdefault(name, []).append(seconds(work))
            shutil.rmtree(folder / "many")
    finally:
        shutil.rmtree(folder)
    best = {name: min(found) for name, found in times.items()}
    cores = len(os.sched_getaffinity(0))
    print(
        f"ilias-fast {__version__}, {platform.machine()}, {cores} cores, "
        f"{options.rows} x {options.dim} float16"
    )
    for name, time_taken in best.items():
        print(f"{name:24} {time_taken * 1e3:10.1f} ms {gigabytes / time_taken:8.2f} GB/s")
    print(f"append / np.save: {best['np.save + fsync'] / best['append, one batch']:.2f} (goal 0.7)")
    print(
        f"append in batches / np.save: "
        f"{best['np.save + fsync'] / best['append, batches of 256']:.2f} (goal 0.7)"
    )
    print(f"verify / read: {best['read all bytes'] / best['verify']:.2f} (goal 0.7)")


if __name__ == "__main__":
    main()
