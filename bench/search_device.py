"""Exact search on a GPU beside torch's own routes on the same GPU, alternated, answers verified first.

    python bench/search_device.py [--device cuda] [--rows 1000000] [--rounds 5] [--out FILE]

The database is float16 in the memory of the host. Contestants: ours (certified); ours on the CPU; a plain
loop in torch (a block to the device, its product with the queries, `topk`, merged with the best so far), in
float32 and in float16 on the tensor units; and, resident, torch's float32 product and `topk` with the
database on the device already.
Ratios above 1 mean that ours on the device is faster, medians of rounds with their range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "support"))
import search_data as data

from ilias_fast.kernels import topk
from ilias_fast.search.backends import Torch

CHECKED = 16
BLOCK = 100_000

Search = Callable[[Any, int], Any]


def streaming(database: Any, device: str, dtype: torch.dtype) -> Search:
    def search(queries: Any, k: int) -> Any:
        with torch.inference_mode():
            wanted = torch.from_numpy(queries).to(device, dtype)
            best: Any = None
            for first in range(0, len(database), BLOCK):
                block = torch.from_numpy(database[first : first + BLOCK]).to(device).to(dtype)
                found = torch.topk(wanted @ block.T, min(k, len(block)), dim=1)
                part = found.values, found.indices + first
                if best is not None:
                    values, rows = (torch.cat(pair, 1) for pair in zip(best, part, strict=True))
                    kept = torch.topk(values, min(k, values.shape[1]), dim=1)
                    part = kept.values, torch.gather(rows, 1, kept.indices)
                best = part
            return best[1].cpu().numpy()

    return search


def resident(database: Any, device: str) -> Search:
    held = torch.from_numpy(database).to(device).float()

    def search(queries: Any, k: int) -> Any:
        with torch.inference_mode():
            wanted = torch.from_numpy(queries).to(device)
            size = max(1, (1 << 29) // len(held))  # 2 GiB of scores at a time
            found = [
                torch.topk(wanted[at : at + size] @ held.T, k, dim=1) for at in range(0, len(wanted), size)
            ]
            return torch.cat([part.indices for part in found]).cpu().numpy()

    return search


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", nargs="+", default=["clustered", "gaussian"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 32, 1232])
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commit", help="what to record where there is no repository")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record: dict[str, Any] = {
        **data.machine(),
        "device": torch.cuda.get_device_name(options.device) if "cuda" in options.device else options.device,
        "torch": torch.__version__,
        "rows": options.rows,
        "dim": options.dim,
        "k": options.k,
        "results": [],
    }
    if options.commit:
        record["commit"] = options.commit
    for kind in options.data:
        rng = np.random.default_rng(0)
        centres = rng.standard_normal((1000, options.dim), dtype=np.float32)
        wanted = data.vectors(rng, kind, max(options.queries), options.dim, centres)
        database = np.empty((options.rows, options.dim), np.float16)
        for first in range(0, options.rows, data.BLOCK):
            part = database[first : first + data.BLOCK]
            part[:] = data.vectors(rng, kind, len(part), options.dim, centres)
        exact = wanted[:CHECKED].astype(np.float64)
        scores = np.concatenate(
            [
                (exact @ database[at : at + 20_000].astype(np.float64).T).astype(np.float32)
                for at in range(0, options.rows, 20_000)
            ],
            axis=1,
        )
        truth = np.argsort(-scores, axis=1, kind="stable")[:, : options.k]
        contestants: dict[str, Search] = {
            "ours": lambda q, k, rows=database: Torch(options.device).topk(q, rows, k).indices,
            "ours, CPU": lambda q, k, rows=database: topk(q, rows, k).indices,
            "torch float32": streaming(database, options.device, torch.float32),
            "torch float16": streaming(database, options.device, torch.float16),
            "torch float32, resident": resident(database, options.device),
        }
        for count in options.queries:
            queries = np.ascontiguousarray(wanted[:count])
            times: dict[str, list[float]] = {name: [] for name in contestants}
            agreement: dict[str, Any] = {}
            for turn in range(options.rounds + 1):
                for name, search in contestants.items():
                    started = time.perf_counter()
                    found = search(queries, options.k)
                    times[name].append(time.perf_counter() - started)
                    if turn == 0:
                        checked = list(zip(found[:CHECKED], truth, strict=False))
                        agreement[name] = {
                            "queries": len(checked),
                            "sets": sum(set(a.tolist()) == set(b.tolist()) for a, b in checked),
                            "order": sum(np.array_equal(a, b) for a, b in checked),
                        }
            ours = times["ours"][1:]  # the first turn is to warm up
            assert agreement["ours"]["order"] == min(CHECKED, count), agreement
            print(f"{kind}, {count} queries")
            for name, taken in times.items():
                ratios = sorted(t / o for t, o in zip(taken[1:], ours, strict=True))
                told = f"{statistics.median(ratios):6.2f}x [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
                print(f"  {name:<24} {1e3 * statistics.median(taken[1:]):8.1f} ms {told}  {agreement[name]}")
            record["results"].append(
                {"data": kind, "queries": count, "seconds": times, "agreement": agreement}
            )
        del contestants
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
