"""The contestants of bench/search.py, each run as a process: NAME FOLDER THREADS, requests as JSON lines.

A request `{queries, k}` is answered by `{seconds, bytes, memory_mb}`, with `save` the ids are written
there, with `burst` as many calls are made as fit into so many seconds, at least one, and their median told.
`{calibrate: seconds}` is answered by the peak rates of the moment, `{folder}` changes the data.
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TUNED = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
}
"""Big temporaries come from pages that stay mapped: the better setting for most peers on virtual machines."""

BEST = {"OPENBLAS_CORETYPE": "SkylakeX"}
"""The AVX-512 kernel, which faiss's OpenBLAS does not choose by itself on recent AMD processors."""

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "faiss-flat": {"OPENBLAS_CORETYPE": ""},
    "faiss-flat-avx2": {"OPENBLAS_CORETYPE": "Haswell"},
    "faiss-flat-best": {**BEST, **TUNED},
    "faiss-knn": {**BEST, **TUNED},
    "numpy": {**BEST, **TUNED},
    # Its threads otherwise keep a core busy for 0.1 s after a call, whoever is next.
    "numpy-short": {**BEST, **TUNED, "OPENBLAS_THREAD_TIMEOUT": "20"},
    "numpy-plain": BEST,
    "torch-fp32": TUNED,
    "torch-bf16": TUNED,
    "usearch": TUNED,
    "numkong": TUNED,
    "ours-avx2": {"ILIAS_FAST_CPU": "avx2"},
    "ours-scalar": {"ILIAS_FAST_CPU": "scalar"},
    "ours-hamming-avx2": {"ILIAS_FAST_CPU": "avx2"},
}

PEERS = {
    "vectors": [
        "faiss-flat-best", "faiss-flat", "faiss-knn", "faiss-sqfp16", "numpy", "torch-fp32", "torch-bf16",
        "usearch", "numkong",
    ],
    "binary": ["faiss-binaryflat", "faiss-knn-hamming"],
}  # fmt: skip

Search = Callable[[Any, int], tuple[Any, Any]]
"""(queries, k) -> (scores, ids)."""


def ours(folder: Path, threads: int, *, planes: bool = False) -> tuple[Search, dict[str, Any]]:
    from ilias_fast import _core

    database = np.load(folder / "database.npy")
    about: dict[str, Any] = {"cpu_level": _core.cpu_level(), "bytes": database.nbytes}
    extra: dict[str, Any] = {}
    if planes:
        start = time.perf_counter()
        extra["planes"] = _core.Planes.build(database, threads, None)
        about |= {"planes_s": time.perf_counter() - start, "bytes": database.nbytes // 2}
    return lambda q, k: _core.topk(q, database, k, None, threads, None, **extra), about


def ours_api(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    """What users call: for searches so short that Python's part of a call counts."""
    from ilias_fast.kernels import topk

    database = np.load(folder / "database.npy")
    return lambda q, k: topk(q, database, k, threads=threads), {"bytes": database.nbytes}


def ours_hamming(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    from ilias_fast import _core
    from ilias_fast.kernels import hamming_topk

    codes = np.load(folder / "database.npy")
    about = {"cpu_level": _core.cpu_level(), "bytes": codes.nbytes}
    return lambda q, k: hamming_topk(q, codes, k, threads=threads), about


def faiss_flat(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    import faiss

    database = np.load(folder / "database.npy", mmap_mode="r")
    index = faiss.IndexFlatIP(database.shape[1])
    for first in range(0, len(database), 50_000):
        index.add(database[first : first + 50_000].astype(np.float32))
    faiss.omp_set_num_threads(threads)
    faiss.cvar.distance_compute_blas_threshold = 20  # without it BLAS is avoided below about 250 queries
    return index.search, {"faiss": faiss.__version__}


def faiss_knn(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    import faiss

    database = np.load(folder / "database.npy")
    faiss.omp_set_num_threads(threads)
    faiss.cvar.distance_compute_blas_threshold = 20

    def search(q: Any, k: int) -> tuple[Any, Any]:
        heap = faiss.ResultHeap(len(q), k, keep_max=True)
        for first in range(0, len(database), 100_000):
            part = database[first : first + 100_000].astype(np.float32)
            scores, rows = faiss.knn(q, part, min(k, len(part)), metric=faiss.METRIC_INNER_PRODUCT)
            heap.add_result(scores, rows + first)
        heap.finalize()
        return heap.D, heap.I

    return search, {"faiss": faiss.__version__}


def faiss_sq(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    import faiss

    database = np.load(folder / "database.npy", mmap_mode="r")
    index = faiss.IndexScalarQuantizer(
        database.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    for first in range(0, len(database), 50_000):
        index.add(database[first : first + 50_000].astype(np.float32))
    faiss.omp_set_num_threads(threads)
    return index.search, {"faiss": faiss.__version__, "linear": True}


def numpy_(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    database = np.load(folder / "database.npy").astype(np.float32)

    def search(q: Any, k: int) -> tuple[Any, Any]:
        found = []
        for first in range(0, len(q), 256):
            scores = q[first : first + 256] @ database.T
            best = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
            values = np.take_along_axis(scores, best, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            found.append([np.take_along_axis(x, order, axis=1) for x in (values, best)])
        return tuple(np.concatenate(x) for x in zip(*found, strict=True))  # type: ignore[return-value]

    return search, {"numpy": np.__version__, "threads": threads}


def torch_(folder: Path, threads: int, *, narrow: bool) -> tuple[Search, dict[str, Any]]:
    import torch

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if narrow else torch.float32
    database = torch.from_numpy(np.load(folder / "database.npy")).to(dtype)

    def search(q: Any, k: int) -> tuple[Any, Any]:
        found = []
        with torch.inference_mode():
            queries = torch.from_numpy(q).to(dtype)
            for first in range(0, len(q), 256):
                best = torch.topk(queries[first : first + 256] @ database.T, min(k, len(database)), dim=1)
                found.append((best.values.float().numpy(), best.indices.numpy()))
        return tuple(np.concatenate(x) for x in zip(*found, strict=True))  # type: ignore[return-value]

    return search, {"torch": torch.__version__}


def usearch(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    from usearch.index import MetricKind, search

    database = np.load(folder / "database.npy")

    def run(q: Any, k: int) -> tuple[Any, Any]:
        wanted = q.astype(np.float16)
        found = search(database, wanted, k, MetricKind.IP, exact=True, threads=threads)
        return 1 - np.atleast_2d(found.distances), np.atleast_2d(found.keys).astype(np.int64)

    return run, {"usearch": importlib.metadata.version("usearch"), "linear": True}


def numkong(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    """Products by numkong, queries shared out over threads; selection by NumPy."""
    from concurrent.futures import ThreadPoolExecutor

    import numkong as nk

    database = np.load(folder / "database.npy")
    packed = nk.dots_pack(database)
    pool = ThreadPoolExecutor(threads)

    def some(q: Any, k: int) -> tuple[Any, Any]:
        scores = np.asarray(nk.dots_packed(q, packed))
        best = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
        values = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        return np.take_along_axis(values, order, axis=1), np.take_along_axis(best, order, axis=1)

    def search(q: Any, k: int) -> tuple[Any, Any]:
        wanted = q.astype(np.float16)
        size = min(64, -(-len(q) // threads))
        parts = list(pool.map(lambda first: some(wanted[first : first + size], k), range(0, len(q), size)))
        return tuple(np.concatenate(x) for x in zip(*parts, strict=True))  # type: ignore[return-value]

    return search, {"numkong": nk.__version__}


def faiss_binary(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    import faiss

    codes = np.load(folder / "database.npy")
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(codes)
    faiss.omp_set_num_threads(threads)
    return index.search, {"faiss": faiss.__version__}


def faiss_hamming(folder: Path, threads: int) -> tuple[Search, dict[str, Any]]:
    import faiss

    codes = np.load(folder / "database.npy")
    faiss.omp_set_num_threads(threads)
    return lambda q, k: faiss.knn_hamming(q, codes, k), {"faiss": faiss.__version__}


MAKERS: dict[str, Callable[[Path, int], tuple[Search, dict[str, Any]]]] = {
    "ours": ours,
    "ours-api": ours_api,
    "ours-planes": lambda folder, threads: ours(folder, threads, planes=True),
    "ours-avx2": ours,
    "ours-scalar": ours,
    "ours-hamming": ours_hamming,
    "ours-hamming-avx2": ours_hamming,
    "faiss-flat": faiss_flat,
    "faiss-flat-avx2": faiss_flat,
    "faiss-flat-best": faiss_flat,
    "faiss-knn": faiss_knn,
    "faiss-sqfp16": faiss_sq,
    "numpy": numpy_,
    "numpy-short": numpy_,
    "numpy-plain": numpy_,
    "torch-fp32": lambda folder, threads: torch_(folder, threads, narrow=False),
    "torch-bf16": lambda folder, threads: torch_(folder, threads, narrow=True),
    "usearch": usearch,
    "numkong": numkong,
    "faiss-binaryflat": faiss_binary,
    "faiss-knn-hamming": faiss_hamming,
}


def anonymous_mb(key: str) -> float:
    """Return a size from /proc/self/status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def burst(search: Search, queries: Any, k: int, seconds: float) -> float:
    """Search again and again for so many seconds; the median of the times."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        search(queries, k)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def calibrate(seconds: float, threads: int, memory: Any) -> dict[str, float]:
    from ilias_fast import _core

    fma, int8, read = _core.calibrate(memory, seconds, threads)
    return {"fma": fma, "int8": int8, "read": read}


def main() -> None:
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    search, about = MAKERS[name](folder, threads)
    queries = np.load(folder / "queries.npy")
    memory: Any = None
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "calibrate" in request:
            if memory is None:
                memory = np.ones(256 << 20, np.uint8)
            print(json.dumps(calibrate(request["calibrate"], threads, memory)), flush=True)
            continue
        if "folder" in request:
            folder = Path(request["folder"])
            search, about = MAKERS[name](folder, threads)
            queries = np.load(folder / "queries.npy")
            print(json.dumps(about), flush=True)
            continue
        part = np.ascontiguousarray(queries[: request["queries"]])
        if "burst" in request:
            print(json.dumps({"seconds": burst(search, part, request["k"], request["burst"])}), flush=True)
            continue
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
        before = anonymous_mb("VmRSS")
        start = time.perf_counter()
        scores, ids = search(part, request["k"])
        seconds = time.perf_counter() - start
        if "save" in request:
            target = Path(request["save"])
            np.save(target, np.asarray(ids))
            np.save(target.with_name(target.stem + "-scores.npy"), np.asarray(scores))
        memory_mb = max(0.0, anonymous_mb("VmHWM") - before)
        print(
            json.dumps({"seconds": seconds, "bytes": about.get("bytes", 0), "memory_mb": memory_mb}),
            flush=True,
        )


if __name__ == "__main__":
    main()
