"""Search of a store several times the memory there is: bytes a second against the disk, peak memory.

    python bench/outofcore.py [--rows 4000000] [--dim 512] [--limit-mb 1024] [--queries 1 32 1232] [--out
    FILE]

The store is written once to a temporary folder (`--folder` keeps it). Every search is a process of its own
in a memory
cgroup of `--limit-mb` (version 1, which needs root), or, where that cannot be had, after the page cache
was dropped (root
too), or else with its files' pages given up by `posix_fadvise`. Beside it stands the rate at which the
same files are read front to back, cold, by plain reads of 8 MiB: with one thread and with as many as search.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "support"))
import search_data as data

GROUP = Path("/sys/fs/cgroup/memory")
CHILD = """
import json, os, sys, time
group = sys.argv[4]
if group:
    with open(group + "/cgroup.procs", "w") as file: file.write(str(os.getpid()))
import numpy as np
from ilias_fast.kernels import topk
from ilias_fast.store import GlobalStore
def status(key):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(key))
queries = np.load(sys.argv[2])[: int(sys.argv[3])]
store = GlobalStore.open(sys.argv[1])
before = status("RssAnon")
peak = before
def report(done):
    global peak
    peak = max(peak, status("RssAnon"))
start = time.perf_counter()
found = topk(queries, store, 1000, progress=report)
seconds = time.perf_counter() - start
report(0)
checksum = int(found.indices.sum() % 2**61)
print(json.dumps({"seconds": seconds, "memory_mb": peak - before, "checksum": checksum}))
"""


def drop(files: list[Path]) -> str:
    """Empty the page cache; say how."""
    os.sync()
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("1")
        return "page cache dropped"
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return "pages of the files given up"


@contextlib.contextmanager
def limited(megabytes: int) -> Iterator[str]:
    """Make a memory cgroup; yield its path, or "" where that cannot be had."""
    group = GROUP / f"ilias-fast-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(megabytes << 20))
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        yield ""
        return
    try:
        yield str(group)
    finally:
        group.rmdir()


def read_rate(files: list[Path], threads: int) -> float:
    """Read all files front to back; bytes a second."""

    def read(path: Path) -> int:
        total, buffer = 0, bytearray(8 << 20)
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
        return total

    drop(files)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(read, files))
    return total / (time.perf_counter() - start)


def write(folder: Path, rows: int, dim: int) -> None:
    from ilias_fast.store import GlobalStore

    rng = np.random.default_rng(0)
    base = rng.standard_normal((20_000, dim), dtype=np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    with GlobalStore.create(folder, dim=dim) as writer:
        for first in range(0, rows, len(base)):
            count = min(len(base), rows - first)
            # A new sign pattern for each block: unit vectors, all different, faster than drawing new ones.
            block = base[:count] * rng.choice(np.array([-1, 1], np.float32), dim)
            writer.append([str(row) for row in range(first, first + count)], block.astype(np.float16))
        writer.commit()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--limit-mb", type=int, default=1024)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 32, 1232])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the store is, or is put and stays")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-outofcore-") as temporary:
        folder = (options.folder or Path(temporary)) / f"store-{options.rows}x{options.dim}"
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            write(folder, options.rows, options.dim)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1 << 20)
        size = sum(path.stat().st_size for path in files)
        queries = np.random.default_rng(1).standard_normal((max(options.queries), options.dim))
        np.save(Path(temporary) / "queries.npy", queries.astype(np.float32))
        results = []
        with limited(options.limit_mb) as group:
            how = f"cgroup of {options.limit_mb} MB" if group else drop(files)
            print(f"{size / 1e9:.2f} GB in {len(files)} files, {how}", flush=True)
            for count in options.queries:
                rounds = []
                for _ in range(options.repeat):
                    rates = {f"read_{n}": read_rate(files, n) for n in (1, os.cpu_count() or 1)}
                    drop(files)
                    command = [sys.executable, "-c", CHILD, str(folder), str(Path(temporary) / "queries.npy")]
                    done = subprocess.run(
                        [*command, str(count), group], capture_output=True, text=True, check=True
                    )
                    found = json.loads(done.stdout)
                    rounds.append({**rates, **found, "rate": size / found["seconds"]})
                if len({r["checksum"] for r in rounds}) != 1:
                    raise SystemExit("the answers differ from round to round")
                best = [max(r[key] for key in rates) for r in rounds]
                share = [r["rate"] / b for r, b in zip(rounds, best, strict=True)]
                print(
                    f"{count:5d} queries: {statistics.median(r['seconds'] for r in rounds):.2f} s, "
                    f"{statistics.median(r['rate'] for r in rounds) / 1e9:.2f} GB/s, "
                    f"{statistics.median(share):.2f} [{min(share):.2f}, {max(share):.2f}] of the disk's "
                    f"{statistics.median(best) / 1e9:.2f} GB/s, {max(r['memory_mb'] for r in rounds):.0f} MB",
                    flush=True,
                )
                results.append({"queries": count, "rounds": rounds})
    if options.out is not None:
        settings = {key: str(v) if isinstance(v, Path) else v for key, v in vars(options).items()}
        record = {
            "bench": "outofcore", **data.machine(), "settings": {**settings, "how": how}, "bytes": size,
            "results": results,
        }  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
