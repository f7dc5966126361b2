"""What re-ranking is worth, over the weights of its ensemble: how the defaults were chosen.

    python bench/ensemble.py [--seed 11] [--size 1000] [--images FOLDER ...] [--out FILE]

Runs the pipeline on a generated benchmark of a seed that the demo does not use, and on any folders given, and
prints the mAP of both re-ranking methods for every weight (lambda) and slope (gamma), with and without the
mutual filter. Not a benchmark of speed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from ilias_fast.datasets import Dataset, load_dataset
from ilias_fast.datasets.generate import generate
from ilias_fast.evaluate import evaluate
from ilias_fast.pipeline import run_pipeline
from ilias_fast.rerank import ChamferOptions, SpatialOptions, ensemble, rerank
from ilias_fast.run import Run
from ilias_fast.store import LocalStore

LAMBDAS = (0.1, 0.3, 0.5)
GAMMAS = (0.02, 0.05, 0.1, 0.2, 0.5)
METHODS: dict[str, ChamferOptions | SpatialOptions] = {
    "spatial": SpatialOptions(),
    "spatial, not mutual": SpatialOptions(mutual=False),
    "spatial, inliers": SpatialOptions(score="inliers"),
    "chamfer": ChamferOptions(),
    "chamfer, 200 query descriptors": ChamferOptions(query_descriptors=200),
}


def judge(dataset: Dataset) -> Callable[[Run], float]:
    return lambda run: evaluate(run, dataset, missing="zero", task="image").map


def sweep(name: str, dataset: Dataset, output: Path) -> None:
    run_pipeline(dataset, output)
    value = judge(dataset)
    run = Run.load(output / "runs" / "global.json")
    queries, database = (
        LocalStore.open(output / "stores" / f"{part}-local") for part in ("queries", "database")
    )
    print(f"\n{name}: {len(queries)} queries, {len(database)} database images, global mAP {value(run):.1f}")
    print(f"{'method':32} {'lambda':>6} " + " ".join(f"{f'g={gamma}':>7}" for gamma in GAMMAS))
    for label, options in METHODS.items():
        local = rerank(
            run,
            queries,
            database,
            method="spatial" if isinstance(options, SpatialOptions) else "chamfer",
            options=options,
        )
        for lam in LAMBDAS:
            row = [value(ensemble(run, local, lam=lam, gamma=gamma)) for gamma in GAMMAS]
            print(f"{label:32} {lam:6} " + " ".join(f"{score:7.1f}" for score in row))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate(root / "images", images=arguments.size, seed=arguments.seed)
        with arguments.out.open("w") if arguments.out else sys.stdout as out, redirect_stdout(out):
            sweep(f"generated, seed {arguments.seed}", load_dataset(root / "images"), root / "run")
            for number, images in enumerate(arguments.images):
                sweep(images.name, load_dataset(images), root / str(number))


if __name__ == "__main__":
    main()
