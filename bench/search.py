"""Exact top-k: ours against faiss IndexFlatIP, alternated in one run, answers verified first.

    OPENBLAS_CORETYPE=SkylakeX python bench/search.py [--rows 200000] [--data gaussian] [--out FILE]

Both search the same float16-rounded vectors (faiss holds them as float32). Before anything is timed, our
answers for some queries are compared with float64, bit for bit, and the share of queries is counted for
which faiss has the same set. Times are printed as median [least, largest]; the ratio is taken per round,
where both ran one after the other, because the speed of a shared machine changes from minute to minute.
Beside each round stands a float32 matrix product in NumPy: what the machine gave in that moment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from ilias_fast import cpu
from ilias_fast.kernels import topk


def data(rows: int, dim: int, queries: int, kind: str) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Unit vectors: around 1,000 centres, so that near neighbours exist as in real data, or Gaussian."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, dim), dtype=np.float32) * (kind == "clustered")

    def around(count: int) -> NDArray[np.float32]:
        vectors = centres[rng.integers(0, 1000, count)] + rng.standard_normal((count, dim), dtype=np.float32)
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    return around(rows).astype(np.float16), around(queries)


def verify(queries: NDArray[np.float32], database: NDArray[np.float16], k: int, index: Any) -> dict[str, Any]:
    """Compare with float64 on 16 queries; faiss by the set of ids."""
    sample = queries[:16]
    scores = (sample.astype(np.float64) @ database.astype(np.float64).T).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    for count in (1, 8, 16):
        found = topk(sample[:count], database, k)
        if not np.array_equal(found.indices, order[:count]):
            raise SystemExit("ours differs from float64: nothing was timed")
    theirs = index.search(sample, k)[1]
    same = sum(set(a.tolist()) == set(b.tolist()) for a, b in zip(theirs, order, strict=True))
    return {"queries": 16, "ours_equal": 16, "faiss_same_set": same}


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of this process on all CPUs (which foreign load disturbs less)."""
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu_start


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.2f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--data", choices=["clustered", "gaussian"], default="clustered")
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 8, 32, 100, 1232])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    database, queries = data(options.rows, options.dim, max(options.queries), options.data)
    index = faiss.IndexFlatIP(options.dim)
    index.add(database.astype(np.float32))
    faiss.omp_set_num_threads(cpu.threads())
    # By default faiss avoids BLAS below about 250 queries, and loses by it.
    faiss.cvar.distance_compute_blas_threshold = 20
    checked = verify(queries, database, options.k, index)
    print(f"verified: {checked}")

    square = np.random.default_rng(1).standard_normal((2048, 2048), dtype=np.float32)
    results = []
    for count in options.queries:
        part = np.ascontiguousarray(queries[:count])
        topk(part, database, options.k)
        index.search(part, options.k)
        rounds = []
        for _ in range(options.repeat):
            gemm = [2 * 2048**3 / time / 1e9 for time in seconds(lambda: square @ square)]
            ours = seconds(lambda part=part: topk(part, database, options.k))
            theirs = seconds(lambda part=part: index.search(part, options.k))
            rounds.append(
                {
                    "ours_s": ours[0],
                    "ours_cpu_s": ours[1],
                    "faiss_s": theirs[0],
                    "faiss_cpu_s": theirs[1],
                    "numpy_sgemm_gflops": gemm[0],
                    "numpy_sgemm_gflops_per_cpu_s": gemm[1],
                }
            )
        work = 2 * count * options.rows * options.dim / 1e9
        results.append({"queries": count, "rounds": rounds})
        print(
            f"{count:5d} queries  ours ms {spread([r['ours_s'] * 1e3 for r in rounds])}  "
            f"faiss ms {spread([r['faiss_s'] * 1e3 for r in rounds])}  "
            f"faiss/ours {spread([r['faiss_s'] / r['ours_s'] for r in rounds])}\n"
            f"{'':13}  per CPU second: ours GFLOP {spread([work / r['ours_cpu_s'] for r in rounds])}  "
            f"sgemm GFLOP {spread([r['numpy_sgemm_gflops_per_cpu_s'] for r in rounds])}",
            flush=True,
        )
    if options.out is not None:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        model = next(
            (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
        )
        record = {
            "bench": "search",
            "commit": commit.stdout.strip(),
            "machine": {
                "cpu": model.partition(":")[2].strip(),
                "cores": os.cpu_count(),
                "system": platform.platform(),
            },
            "settings": {
                "cpu_level": cpu.level(),
                "threads": cpu.threads(),
                "faiss": faiss.__version__,
                "numpy": np.__version__,
                "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE"),
                "rows": options.rows,
                "dim": options.dim,
                "k": options.k,
                "data": options.data,
                "load_average_at_end": os.getloadavg(),
            },
            "verified": checked,
            "results": results,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
