"""Fusion in one pass against two searches and a merge: two similarities of the same images, averaged.

    python bench/fusion.py [--rows 300000] [--dim 512] [--queries 1 32 1232] [--repeat 5] [--out FILE]

One search over both stores is exact. Two searches and a merge are not: what is among the best k of only
one list lacks its other similarity, which is taken as the least of that list; how many of the best k are
then right is printed. The third contestant gives the exact answer with faiss: one flat index of both vectors
side by side. Contestants are alternated; printed are medians [least, largest] of ratios, theirs over ours.
Stores are made in `--folder` and removed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import cpu
from ilias_fast.kernels import topk
from ilias_fast.search import Part, search_fused
from ilias_fast.store import GlobalStore

sys.path.insert(0, str(Path(__file__).parent / "support"))
import search_data as data

Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]


def store(path: Path, vectors: NDArray[np.float16]) -> GlobalStore:
    """Write a store of images."""
    with GlobalStore.create(path, dim=vectors.shape[1]) as writer:
        for first in range(0, len(vectors), 50_000):
            part = vectors[first : first + 50_000]
            writer.append([f"{row}.jpg" for row in range(first, first + len(part))], part)
    return GlobalStore.open(path)


def merged(found: list[Ranked], k: int) -> NDArray[np.int64]:
    """Add up two ranked lists; a row that one of them lacks gets the least score of that list."""
    best = []
    for (s0, r0), (s1, r1) in zip(*(zip(*each, strict=True) for each in found), strict=True):
        rows = np.union1d(r0, r1)
        total = np.zeros(len(rows))
        for scores, ranked in ((s0, r0), (s1, r1)):
            part = np.full(len(rows), scores[-1], np.float64)
            part[np.searchsorted(rows, ranked)] = scores
            total += 0.5 * part
        best.append(rows[np.argsort(-total, kind="stable")[:k]])
    return np.array(best)


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 32, 1232])
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the stores are made")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    import faiss

    faiss.omp_set_num_threads(cpu.threads())
    rng = np.random.default_rng(0)
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-fusion-", dir=options.folder) as temporary:
        rows, wanted = [], []
        for _ in range(2):
            centres = rng.standard_normal((1000, options.dim), dtype=np.float32)
            vectors = (
                data.vectors(rng, "clustered", min(50_000, options.rows - first), options.dim, centres)
                for first in range(0, options.rows, 50_000)
            )
            rows.append(np.concatenate([part.astype(np.float16) for part in vectors]))
            wanted.append(data.vectors(rng, "clustered", max(options.queries), options.dim, centres))
        stores = [store(Path(temporary) / str(part), rows[part]) for part in range(2)]
        index = faiss.IndexFlatIP(2 * options.dim)
        for first in range(0, options.rows, 50_000):
            both = [part[first : first + 50_000].astype(np.float32) for part in rows]
            index.add(np.concatenate(both, axis=1))
        for count in options.queries:
            ids = [f"{query}" for query in range(count)]
            some = [each[:count] for each in wanted]
            parts = [Part((ids, each), images, 0.5) for each, images in zip(some, stores, strict=True)]
            side = np.concatenate([np.float32(0.5) * each for each in some], axis=1)

            def fused(parts: list[Part] = parts) -> Any:
                return search_fused(parts, options.k)

            def apart(some: list[Any] = some) -> NDArray[np.int64]:
                pairs = zip(some, stores, strict=True)
                return merged([tuple(topk(each, images, options.k)) for each, images in pairs], options.k)

            def flat(side: NDArray[np.float32] = side) -> Any:
                return index.search(side, options.k)

            truth = [{int(name[:-4]) for name in fused()[query].ids} for query in ids[:50]]
            right = [len(a & set(b.tolist())) / options.k for a, b in zip(truth, apart(), strict=False)]
            same = [len(a & set(b.tolist())) / options.k for a, b in zip(truth, flat()[1], strict=False)]
            times: dict[str, list[float]] = {"fused": [], "apart": [], "faiss": []}
            for _ in range(options.repeat):
                for name, call in (("fused", fused), ("apart", apart), ("faiss", flat)):
                    times[name].append(timed(call))
            ratios = {
                name: [b / a for a, b in zip(times["fused"], times[name], strict=True)]
                for name in ("apart", "faiss")
            }
            print(
                f"{count:5} queries: fused {1e3 * statistics.median(times['fused']):8.1f} ms, "
                f"two searches and a merge RATIO {spread(ratios['apart'])} "
                f"({statistics.mean(right):.3f} right), "
                f"faiss RATIO {spread(ratios['faiss'])} ({statistics.mean(same):.3f} the same)",
                flush=True,
            )
            results.append({"queries": count, "seconds": times, "right": right, "faiss_same": same})
    if options.out is not None:
        settings = {"rows": options.rows, "dim": options.dim, "k": options.k, "threads": cpu.threads()}
        record = {"bench": "fusion", **data.machine(), "settings": settings, "results": results}
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
