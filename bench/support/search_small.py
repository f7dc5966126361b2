"""`bench/search.py --small`: few rows by queries by k by dimensions, ours against every exact peer.

Searches of small databases take microseconds, so what is timed is a burst of calls; its median counts.
Bursts of ours and of the peers alternate.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import search_data as data

ROWS = (10, 100, 1_000, 3_000, 10_000, 30_000)
QUERIES = (1, 8, 100, 1_232)
KS = (1, 10, 100, 1_000)
DIMS = (128, 512, 768)
OURS, PEERS = "ours-api", ("faiss-flat-best", "torch-fp32", "numpy-short")
BURST, PAUSE = 0.02, 0.05
"""Seconds of a burst, at least one call, and before it: threads of BLAS libraries turn for a while."""
CHECKED = 16


class Contestant(Protocol):
    """A process that searches when it is told to."""

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer."""

    def close(self) -> None:
        """End the process."""


def write(folder: Path, rows: int, dim: int, seed: int) -> None:
    """Write clustered rows and queries."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((100, dim), dtype=np.float32)
    folder.mkdir()
    np.save(folder / "database.npy", data.vectors(rng, "clustered", rows, dim, centres).astype(np.float16))
    np.save(folder / "queries.npy", data.vectors(rng, "clustered", max(QUERIES), dim, centres))


def check(ours: Contestant, folder: Path, queries: int, k: int) -> None:
    """Compare the first answers with float64; end the run if they differ."""
    ours.ask(queries=queries, k=k, save=str(folder / "answer.npy"))
    found = np.load(folder / "answer.npy")[:CHECKED]
    wanted = np.load(folder / "queries.npy")[: len(found)].astype(np.float64)
    scores = (wanted @ np.load(folder / "database.npy").T.astype(np.float64)).astype(np.float32)
    if not np.array_equal(found, np.argsort(-scores, axis=1, kind="stable")[:, :k]):
        raise SystemExit(f"{folder.name}, {queries} queries, k = {k}: ours differs from float64")


def duel(contestants: dict[str, Contestant], queries: int, k: int, repeat: int) -> dict[str, list[float]]:
    """Seconds of a call, the median of each burst of each contestant."""
    for contestant in contestants.values():
        contestant.ask(queries=queries, k=k, burst=0)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeat):
        for name, contestant in contestants.items():
            time.sleep(PAUSE)
            times[name].append(contestant.ask(queries=queries, k=k, burst=BURST)["seconds"])
    return times


def ratios(times: dict[str, list[float]]) -> dict[str, float]:
    """The median over the rounds of each peer's time over ours."""
    ours = times[OURS]
    peers = {name: spent for name, spent in times.items() if name != OURS}
    return {
        name: statistics.median(b / a for a, b in zip(ours, spent, strict=True))
        for name, spent in peers.items()
    }


def run(
    start: Callable[[str, Path], Contestant], temporary: Path, dims: list[int], repeat: int, out: Path | None
) -> None:
    """Time the grid, print a line a cell and a summary, and add to the record of the same commit."""
    results: list[dict[str, Any]] = []
    contestants: dict[str, Contestant] = {}
    for dim in dims:
        for rows in ROWS:
            folder = temporary / f"{rows}x{dim}"
            write(folder, rows, dim, seed=dim + rows)
            for name in (OURS, *PEERS):
                if name in contestants:
                    contestants[name].ask(folder=str(folder))
                else:
                    contestants[name] = start(name, folder)
            for queries in QUERIES:
                for k in (k for k in KS if k <= rows):
                    check(contestants[OURS], folder, queries, k)
                    times = duel(contestants, queries, k, repeat)
                    found = ratios(times)
                    best = min(found, key=lambda name: found[name])
                    cell = {"dim": dim, "rows": rows, "queries": queries, "k": k, "ratios": found}
                    results.append({**cell, "seconds": times})
                    print(
                        f"{dim:4} x {rows:6}, {queries:5} queries, k = {k:5}: "
                        f"ours {1e3 * statistics.median(times[OURS]):9.3f} ms, "
                        f"RATIO {found[best]:6.2f} ({best})",
                        flush=True,
                    )
    for contestant in contestants.values():
        contestant.close()
    least = [min(cell["ratios"].values()) for cell in results]
    slower = sum(ratio < 1 for ratio in least)
    print(
        f"{len(least)} cells against the fastest peer: least {min(least):.2f}, median "
        f"{statistics.median(least):.2f}, most {max(least):.2f}; {slower} below 1"
    )
    if out is not None:
        record = {"bench": "search-small", **data.machine(), "results": results}
        if out.exists():
            before = json.loads(out.read_text())
            if before["commit"] != record["commit"]:
                raise SystemExit(f"{out} is a record of another commit")
            record["results"] = before["results"] + results
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record) + "\n")
