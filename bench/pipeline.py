"""The official pipeline from end to end: feature files in, similarity JSON out, each contestant a process.

    python bench/pipeline.py                  # 1M distractors, 4,715 positives, 1,232 queries
    python bench/pipeline.py --rows 100000    # smaller

The published script (written anew in bench/support/published_search.py) runs as its users run it, without
the processes it reads files with, and with the best settings for its libraries; ours is `ilias-fast search`
on the same HDF5 files, on stores, and on stores with planes. All answers are compared, the contestants take
turns; wall time from start to exit. `--folder` keeps the files, so that rounds can be run one by one.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "support"))
import search_data as data
from search_contestants import BEST, TUNED

import ilias_fast
from ilias_fast.store import build_planes, import_store

POSITIVES = 4715
QUERIES = 1232


def write(path: Path, ids: list[str], blocks: Any, rows: int, dim: int) -> None:
    """Write a feature file as the official writer does: gzip level 0, chunks chosen by h5py."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("index", data=np.array(ids, dtype="S"), dtype=h5py.string_dtype("ascii"))
        features = file.create_dataset(
            "features", (rows, dim), dtype=np.float16, compression="gzip", compression_opts=0
        )
        whole = np.empty((rows, dim), np.float16)
        first = 0
        for block in blocks:
            whole[first : first + len(block)] = block
            first += len(block)
        features[:] = whole


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """Write queries, positives and distractors, and bytecode of our package, as an installation has it."""
    compileall.compile_dir(Path(ilias_fast.__file__).parent, quiet=1)
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(options.seed)
    dim = options.dim
    centres = rng.standard_normal((1000, dim), dtype=np.float32)

    def blocks(rows: int) -> Any:
        for first in range(0, rows, data.BLOCK):
            yield data.vectors(rng, "clustered", min(data.BLOCK, rows - first), dim, centres)

    queries = [f"object_{row:04d}/query/Q000_00.jpg" for row in range(QUERIES)]
    positives = [f"object_{row % 1000:04d}/pos/P{row // 1000:03d}_00.jpg" for row in range(POSITIVES)]
    distractors = [f"yfcc_{row // 10000:05d}.tar/{row}" for row in range(options.rows)]
    write(folder / "queries.hdf5", queries, blocks(QUERIES), QUERIES, dim)
    write(folder / "positives.hdf5", positives, blocks(POSITIVES), POSITIVES, dim)
    write(folder / "distractors_00000.hdf5", distractors, blocks(options.rows), options.rows, dim)
    for name, source in (
        ("queries", "queries.hdf5"),
        ("positives", "positives.hdf5"),
        ("distractors", "distractors_{idx}.hdf5"),
    ):
        import_store(folder / source, folder / name)
    import_store(folder / "distractors_{idx}.hdf5", folder / "planes")
    build_planes(folder / "planes")
    (folder / "done").touch()


def contestants(folder: Path, threads: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return command and environment of each."""
    script = Path(__file__).parent / "support" / "published_search.py"
    published = [sys.executable, str(script), "--query_hdf5", str(folder / "queries.hdf5")]
    published += ["--positive_hdf5", str(folder / "positives.hdf5")]
    published += ["--distractor_hdf5", str(folder / "distractors_{idx}.hdf5")]
    published, in_one = [*published, "--save"], [*published, "--workers", "0", "--save"]

    def ours(queries: str, *database: str) -> list[str]:
        paths = [str(folder / name) for name in (queries, *database)]
        return [sys.executable, "-m", "ilias_fast", "search", *paths, "-t", str(threads), "-o"]

    return {
        "ours, HDF5": (ours("queries.hdf5", "positives.hdf5", "distractors_{idx}.hdf5"), {}),
        "ours, store": (ours("queries", "positives", "distractors"), {}),
        "ours, store with planes": (ours("queries", "positives", "planes"), {}),
        "published, as installed": (published, {"OPENBLAS_CORETYPE": ""}),
        "published, best settings": (published, {**BEST, **TUNED}),
        "published, in one process": (in_one, {"OPENBLAS_CORETYPE": ""}),
        "published, in one process, AVX2 kernels": (in_one, {"OPENBLAS_CORETYPE": "Haswell"}),
        "published, in one process, best settings": (in_one, {**BEST, **TUNED}),
    }


def run(command: list[str], more: dict[str, str], out: Path, threads: int) -> tuple[float, float, float]:
    """Return wall seconds, processor seconds and the peak resident MB of a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **more}
    environment = {name: value for name, value in environment.items() if value}
    start = time.perf_counter()
    process = subprocess.Popen([*command, str(out)], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = status
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def agreement(found: Path, truth: Path) -> dict[str, int]:
    """Compare two similarity files: queries of the same set of ids, and in the same order."""
    ours, theirs = json.loads(truth.read_text()), json.loads(found.read_text())
    same = [(list(ours[query]), list(theirs[query])) for query in ours]
    return {
        "queries": len(same),
        "sets": sum(set(a) == set(b) for a, b in same),
        "order": sum(a == b for a, b in same),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--contestants", nargs="+", help="names; all if not given")
    parser.add_argument("--folder", type=Path, help="where the files are, or are put and stay")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {}
    verified = {}
    with tempfile.TemporaryDirectory(prefix="bench-pipeline-") as temporary:
        folder = options.folder or Path(temporary)
        prepare(folder, options)
        all_of_them = contestants(folder, options.threads)
        chosen = options.contestants or list(all_of_them)
        for number in range(options.repeat):
            for name in chosen:
                command, environment = all_of_them[name]
                out = folder / f"{name.replace(' ', '-')}.json"
                wall, cpu, peak = run(command, environment, out, options.threads)
                rounds.setdefault(name, []).append({"wall": wall, "cpu": cpu, "peak_mb": peak})
                if number == 0:
                    verified[name] = agreement(out, folder / f"{chosen[0].replace(' ', '-')}.json")
                    print(f"{name:42} agrees with {chosen[0]}: {verified[name]}", flush=True)
    for name, times in rounds.items():
        walls = [entry["wall"] for entry in times]
        line = f"{name:42} {statistics.median(walls):6.2f} s [{min(walls):.2f}, {max(walls):.2f}]"
        line += f"  cpu {statistics.median(entry['cpu'] for entry in times):.2f} s"
        line += f"  peak {max(entry['peak_mb'] for entry in times):.0f} MB"
        for ours in (mine for mine in rounds if mine.startswith("ours") and not name.startswith("ours")):
            ratios = [b / a["wall"] for a, b in zip(rounds[ours], walls, strict=True)]
            line += (
                f"\n{'':44}{ours}: {statistics.median(ratios):.1f}x [{min(ratios):.1f}, {max(ratios):.1f}]"
            )
        print(line, flush=True)
    if options.out is not None:
        settings = {key: value for key, value in vars(options).items() if key not in ("out", "folder")}
        record = {
            "bench": "pipeline",
            **data.machine(),
            "settings": settings,
            "verified": verified,
            "rounds": rounds,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
