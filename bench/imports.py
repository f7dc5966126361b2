"""Import and export of features against the plainest way to move the same bytes.

    python bench/imports.py [--rows 1000000] [--dim 512] [--folder DIR] [--record FILE]

Each work runs in a process of its own, whose peak memory (without pages of files, sampled every 5 ms) is
reported; contestants alternate, and ratios are of medians, with the range of ratios of pairs. An imported
store is compared with the data first. Ratios above 1 mean that the import is faster than reading alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from ilias_fast import __version__
from ilias_fast.store import GlobalStore, export_store, import_store


def make(folder: Path, rows: int, dim: int) -> None:
    """Write the same unit vectors as official HDF5 (gzip 4 and 0), .npy and a store."""
    import h5py

    rng = np.random.default_rng(0)
    ids = [f"yfcc100m_{row % 1000:04d}.tar/{row:010d}" for row in range(rows)]
    matrix = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float16, (rows, dim))
    for start in range(0, rows, 50_000):
        part = rng.standard_normal((min(50_000, rows - start), dim), dtype=np.float32)
        matrix[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    (folder / "x.txt").write_text("".join(f"{name}\n" for name in ids))
    for level in (4, 0):
        with h5py.File(folder / f"gzip{level}.hdf5", "w") as file:
            file.create_dataset("index", data=ids, dtype=h5py.string_dtype("ascii"))
            file.create_dataset("features", data=matrix, compression="gzip", compression_opts=level)


class PeakMemory:
    """The most memory of this process that is no page of a file."""

    def __init__(self) -> None:
        self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        page = resource.getpagesize()
        while not self._done.wait(0.005):
            resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
            self._most = max(self._most, (int(resident) - int(shared)) * page)

    def mib(self) -> float:
        self._done.set()
        self._thread.join()
        return self._most / 2**20


def work(name: str, folder: Path) -> None:
    """Do one work once, and print its time and peak memory."""
    out = folder / "out"
    kind, _, file = name.partition(" ")
    peak = PeakMemory()
    start = time.perf_counter()
    if kind == "h5py":
        import h5py

        with h5py.File(folder / file) as opened:
            opened["features"][:]
    elif kind == "copy":
        # Loading and saving again: what people do without a store.
        np.save(out, np.load(folder / file))
        with out.with_suffix(".npy").open("rb") as saved:
            os.fsync(saved.fileno())
    elif kind == "import":
        import_store(folder / file, out)
    else:
        export_store(GlobalStore.open(folder / "store"), folder / f"out.{kind}")
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": peak.mib()}))


def measured(name: str, folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--work", name, "--folder", str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    for left in folder.glob("out*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return found


def check(folder: Path) -> None:
    """Compare what is imported with the data, every row."""
    matrix = np.load(folder / "x.npy", mmap_mode="r")
    names = (folder / "x.txt").read_text().splitlines()
    for file in ("gzip4.hdf5", "gzip0.hdf5", "x.npy"):
        store = import_store(folder / file, folder / "store", overwrite=True)
        assert list(store.ids) == names, file
        for first, rows in store.shards():
            assert np.array_equal(rows, matrix[first : first + len(rows)]), file


PAIRS = [
    ("import gzip4.hdf5", "h5py gzip4.hdf5"),
    ("import gzip0.hdf5", "h5py gzip0.hdf5"),
    ("import x.npy", "copy x.npy"),
]
EXPORTS = ["hdf5", "npy", "safetensors", "faiss"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; with the files made before, if there")
    parser.add_argument("--prepare", action="store_true", help="only write the files and check the imports")
    parser.add_argument("--record", type=Path, help="write the figures here as JSON")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.folder)
        return
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    try:
        if not (folder / "gzip0.hdf5").exists():
            make(folder, options.rows, options.dim)
            check(folder)
        if options.prepare:
            return
        report(folder, options)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def report(folder: Path, options: argparse.Namespace) -> None:
    rows, dim = np.load(folder / "x.npy", mmap_mode="r").shape
    times: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.repeats):
        for name in (*(name for pair in PAIRS for name in pair), *EXPORTS):
            times.setdefault(name, []).append(measured(name, folder))
    print(f"ilias-fast {__version__}, {platform.machine()}, {os.cpu_count()} cores, {rows} x {dim} float16")
    figures: dict[str, Any] = {"rows": rows, "dim": dim, "cores": os.cpu_count(), "works": {}, "ratios": {}}
    for name, found in times.items():
        seconds = [each["seconds"] for each in found]
        peak = max(each["peak_mib"] for each in found)
        label = f"export {name}" if name in EXPORTS else name
        figures["works"][label] = {"seconds": seconds, "peak_mib": peak}
        print(
            f"{label:20} {statistics.median(seconds):6.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), "
            f"{rows * dim * 2 / statistics.median(seconds) / 1e9:5.2f} GB/s, peak {peak:6.0f} MiB"
        )
    for ours, theirs in PAIRS:
        ratios = [
            other["seconds"] / own["seconds"] for own, other in zip(times[ours], times[theirs], strict=True)
        ]
        figures["ratios"][f"{theirs} / {ours}"] = ratios
        print(
            f"{ours} against {theirs}: {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    if options.record:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout
        machine = {"machine": platform.processor() or platform.machine(), "commit": commit.strip()}
        options.record.write_text(json.dumps({**machine, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
