"""The recipes of `examples/recipes` against what they replace.

    python bench/recipes.py [--only NAME ...] [--repeat 5] [--scale 1.0] [--out FILE]

Answers are compared first; then both alternate in one process, with all threads. Ratios above 1 mean that
the recipe is faster: median of the ratios of the rounds, with the least and the largest.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ilias_fast import cpu
from ilias_fast._doctor import machine

SIZES = {
    "flat_index": (100_000, "faiss IndexFlatIP"),
    "hloc_pairs": (100, "torch mutual nearest neighbours + cv2 RANSAC"),
    "late_interaction": (2000, "torch product + segment maximum"),
    "orb": (40, "cv2 BFMatcher + estimateAffine2D"),
    "evaluation": (1000, "ranx"),
}


def seconds(call: Callable[[dict[str, Any]], object], data: dict[str, Any]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call(data)
    return time.perf_counter() - started


def measure(name: str, size: int, repeat: int) -> dict[str, Any]:
    """Check that a recipe's answers agree, then time both sides in turn."""
    recipe = importlib.import_module(f"examples.recipes.{name}")
    data = recipe.make_data(size)
    # This is also the round that is not counted: compilation, caches, threads.
    if not recipe.check(recipe.run_before(data), recipe.run_after(data), data):
        raise SystemExit(f"{name}: the answers differ")
    rounds = [(seconds(recipe.run_before, data), seconds(recipe.run_after, data)) for _ in range(repeat)]
    ratios = sorted(before / after for before, after in rounds)
    return {"size": size, "before": [r[0] for r in rounds], "after": [r[1] for r in rounds], "ratios": ratios}


def main() -> None:
    """Measure and print a line a recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = {}
    for name in arguments.only:
        size, peer = SIZES[name]
        found[name] = one = measure(name, max(8, int(size * arguments.scale)), arguments.repeat)
        low, middle, high = one["ratios"][0], statistics.median(one["ratios"]), one["ratios"][-1]
        before, after = statistics.median(one["before"]), statistics.median(one["after"])
        print(
            f"{name:17} {1000 * before:9.1f} ms -> {1000 * after:8.1f} ms   "
            f"{middle:6.2f} x [{low:.2f}, {high:.2f}]   replaces {peer}",
            flush=True,
        )
    if arguments.out is not None:
        record = {"bench": "recipes", "machine": machine(), "level": cpu.level(), "results": found}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
