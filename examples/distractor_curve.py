"""mAP against the number of distractors, in one pass, drawn as SVG.

python examples/distractor_curve.py [--distractors 20000] [--output curve.svg]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilias_fast.kernels import streaming_map

BLOCK = 5000


def blocks(queries: NDArray[np.float32], distractors: int) -> Iterator[NDArray[np.float32]]:
    """Yield the scores of consecutive distractors: float32 [Q, n]; yours come from a store."""
    rng = np.random.default_rng(1)
    for first in range(0, distractors, BLOCK):
        rows = rng.standard_normal((min(BLOCK, distractors - first), queries.shape[1]), dtype=np.float32)
        yield queries @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T


def picture(sizes: list[int], values: list[float]) -> str:
    """Draw percent against the logarithm of the size."""
    width, height = 640, 360
    xs = [60 + (width - 90) * np.log10(size) / np.log10(sizes[-1]) for size in sizes]
    ys = [height - 40 - (height - 70) * value / 100 for value in values]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    labels = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/><text x="{x:.1f}" y="{y - 8:.1f}">{value:.1f}</text>'
        f'<text x="{x:.1f}" y="{height - 15}">{size:,}</text>'
        for x, y, size, value in zip(xs, ys, sizes, values, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" text-anchor="middle"><rect width="100%" height="100%" fill="white"/>'
        f'<polyline points="{line}" fill="none" stroke="teal" stroke-width="2"/>{labels}</svg>'
    )


def main() -> None:
    """Compute the curve, print it, draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--distractors", type=int, default=20_000)
    parser.add_argument("--output", type=Path, default=Path("curve.svg"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((40, 24)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    positives = [rng.uniform(0.2, 0.9, 5).astype(np.float32) for _ in queries]
    sizes = [size for size in (10, 100, 1000, 10_000, 100_000) if size < arguments.distractors]
    sizes.append(arguments.distractors)
    curve = streaming_map(positives, blocks(queries, arguments.distractors), prefixes=sizes)
    values = (100 * curve.prefix_map).tolist()
    for size, value in zip(sizes, values, strict=True):
        print(f"{size:>9,} distractors: mAP@1000 {value:6.2f}")
    arguments.output.write_text(picture(sizes, values))
    print(f"picture: {arguments.output}")


if __name__ == "__main__":
    main()
