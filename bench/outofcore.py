"""Search of a store several times the memory there is: bytes a second against the disk, peak memory.

    python bench/outofcore.py [--kind global planes binary] [--rows 4000000] [--dim 512] [--limit-mb 1024]
                              [--queries 1 32 1232] [--out FILE]

The store is written once to a temporary folder (`--folder` keeps it). Every search is a process of its own
in a memory
cgroup of `--limit-mb` (version 1, which needs root), or, where that cannot be had, after the page cache
was dropped (root
too), or else with its files' pages given up by `posix_fadvise`. Beside it stands the rate at which the
same files are read front to back, cold, by plain reads of 8 MiB in the same cgroup: with one thread and with
as many as search. `--kind` tells what the store holds: vectors, vectors with int8 planes, or binary codes.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "support"))
import search_data as data

from ilias_fast.store import BinaryStore, GlobalStore, build_planes

GROUP = Path("/sys/fs/cgroup/memory")
ENTER = """
import json, os, resource, sys, time
group = sys.argv[1]
if group:
    with open(group + "/cgroup.procs", "w") as file: file.write(str(os.getpid()))
"""
READ = """
from concurrent.futures import ThreadPoolExecutor
def read(path):
    total, buffer = 0, bytearray(8 << 20)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer): total += count
    return total
start = time.perf_counter()
with ThreadPoolExecutor(int(sys.argv[2])) as pool: total = sum(pool.map(read, sys.argv[3:]))
print(json.dumps(total / (time.perf_counter() - start)))
"""
SEARCH = """
import numpy as np
from ilias_fast.kernels import hamming_topk, topk
from ilias_fast.store import BinaryStore, open_store
def status(key):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(key))
queries = np.load(sys.argv[3])[: int(sys.argv[4])]
store = open_store(sys.argv[2])
if isinstance(store, BinaryStore):
    topk, queries = hamming_topk, np.packbits(queries > 0, axis=1)
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
system = resource.getrusage(resource.RUSAGE_SELF).ru_stime
print(
    json.dumps({"seconds": seconds, "system": system, "memory_mb": peak - before, "checksum": checksum})
)
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


def child(code: str, group: str, *arguments: object) -> Any:
    """Run code in a process of the cgroup; what it printed."""
    command = [sys.executable, "-c", ENTER + code, group, *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def write(folder: Path, kind: str, rows: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((20_000, dim), dtype=np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    create = BinaryStore.create(folder, bits=dim) if kind == "binary" else GlobalStore.create(folder, dim=dim)
    with create as writer:
        for first in range(0, rows, len(base)):
            count = min(len(base), rows - first)
            # A new sign pattern for each block: unit vectors, all different, faster than drawing new ones.
            block = base[:count] * rng.choice(np.array([-1, 1], np.float32), dim)
            names = [str(row) for row in range(first, first + count)]
            writer.append(
                names, np.packbits(block > 0, axis=1) if kind == "binary" else block.astype(np.float16)
            )
        writer.commit()
    if kind == "planes":
        build_planes(folder)


def row_bytes(kind: str, dim: int, queries: int) -> int:
    """Return what a search reads of each row, but for rows it looks closer at."""
    if kind == "binary":
        return dim // 8
    # Many queries look closer at nearly every row, so that the planes are passed over.
    return dim + 16 if kind == "planes" and queries < 64 else 2 * dim


def measure(options: argparse.Namespace, kind: str, temporary: Path, queries: Path) -> dict[str, Any]:
    """Search one store with each number of queries."""
    # Codes take a sixteenth of the bytes, their ids as many.
    rows = options.rows * 8 if kind == "binary" else options.rows
    folder = (options.folder or temporary) / f"{kind}-{rows}x{options.dim}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write(folder, kind, rows, options.dim)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1 << 20)
    size = sum(path.stat().st_size for path in files)
    results = []
    with limited(options.limit_mb) as group:
        how = f"cgroup of {options.limit_mb} MB" if group else drop(files)
        print(f"{kind}: {size / 1e9:.2f} GB in {len(files)} files, {how}", flush=True)
        for count in options.queries:
            rounds = []
            for _ in range(options.repeat):
                rates = {}
                for threads in {1, os.cpu_count() or 1}:
                    drop(files)
                    rates[f"read_{threads}"] = child(READ, group, threads, *files)
                drop(files)
                found = child(SEARCH, group, folder, queries, count)
                bytes_read = rows * row_bytes(kind, options.dim, count)
                rounds.append({**rates, **found, "rate": bytes_read / found["seconds"]})
            if len({r["checksum"] for r in rounds}) != 1:
                raise SystemExit("the answers differ from round to round")
            best = [max(r[key] for key in rates) for r in rounds]
            share = [r["rate"] / b for r, b in zip(rounds, best, strict=True)]
            print(
                f"{count:5d} queries: {statistics.median(r['seconds'] for r in rounds):.2f} s, "
                f"{statistics.median(r['system'] for r in rounds):.2f} s of system time, "
                f"{statistics.median(r['rate'] for r in rounds) / 1e9:.2f} GB/s, "
                f"{statistics.median(share):.2f} [{min(share):.2f}, {max(share):.2f}] of plain reads' "
                f"{statistics.median(best) / 1e9:.2f} GB/s, {max(r['memory_mb'] for r in rounds):.0f} MB",
                flush=True,
            )
            results.append({"queries": count, "rounds": rounds})
    return {"kind": kind, "how": how, "rows": rows, "bytes": size, "results": results}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kind", nargs="+", choices=["global", "planes", "binary"], default=["global", "planes", "binary"]
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
        queries = np.random.default_rng(1).standard_normal((max(options.queries), options.dim))
        path = Path(temporary) / "queries.npy"
        np.save(path, queries.astype(np.float32))
        stores = [measure(options, kind, Path(temporary), path) for kind in options.kind]
    if options.out is not None:
        settings = {key: str(v) if isinstance(v, Path) else v for key, v in vars(options).items()}
        record = {
            "bench": "outofcore", **data.machine(), "settings": settings, "stores": stores,
        }  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
