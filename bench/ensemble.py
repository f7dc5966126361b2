"""What re-ranking is worth, over the weights of its ensemble: how the defaults were chosen.

    python bench/ensemble.py [--seed 11] [--size 1000] [--images FOLDER ...] [--out FILE]
    python bench/ensemble.py --hard 4 5 [--size 100] [--out FILE]
    python bench/ensemble.py --settings FOLDER [--out FILE]

Runs the pipeline on a generated benchmark of a seed that the demo does not use, and on any folders given, and
prints the mAP of both re-ranking methods for every weight (lambda) and slope (gamma), with and without the
mutual filter. With `--hard`, the default ensembles instead, on a benchmark of every hard case for each seed
given: none may fall more than 1 mAP below the global ranking. With `--settings`, verification of every image
of a folder by several settings, without the mutual filter. Not a benchmark of speed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np

from ilias_fast.datasets import Dataset, load_dataset
from ilias_fast.datasets.generate import CASES, generate
from ilias_fast.evaluate import evaluate
from ilias_fast.pipeline import PipelineOptions, run_pipeline
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
    "chamfer, all query descriptors": ChamferOptions(query_descriptors=None),
}

# Keypoint scale and angle, largest distance, threshold.
SETTINGS = (
    (True, 24, 0.02),
    (True, 32, 0.02),
    (True, 32, 0.03),
    (True, 32, 0.05),
    (True, 40, 0.03),
    (False, 32, 0.03),
)


def judge(dataset: Dataset) -> Callable[[Run], float]:
    return lambda run: evaluate(run, dataset, missing="zero", task="image").map


def local_stores(output: Path) -> tuple[LocalStore, LocalStore]:
    queries, database = (output / "stores" / f"{part}-local" for part in ("queries", "database"))
    return LocalStore.open(queries), LocalStore.open(database)


def sweep(name: str, dataset: Dataset, output: Path) -> None:
    run_pipeline(dataset, output)
    value = judge(dataset)
    run = Run.load(output / "runs" / "global.json")
    queries, database = local_stores(output)
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


def hard_cases(seeds: list[int], size: int, root: Path) -> None:
    """Print what the default ensembles make of every hard case: each, and verification after Chamfer."""
    print(f"{'case':20} {'seed':>4} {'queries':>7} {'global':>7} {'spatial':>8} {'chamfer':>8} {'both':>7}")
    worst = {"sp": 0.0, "cs": 0.0, "both": 0.0}
    for seed in seeds:
        for case in CASES:
            folder = root / f"{case}-{seed}"
            generate(folder / "images", images=size, seed=seed, hard=[case])
            options = PipelineOptions(query_expansions=())
            done = run_pipeline(load_dataset(folder / "images"), folder / "run", options=options)
            before = done.evaluations["global"].map
            after = {name: done.evaluations[name].map for name in ("sp", "cs")}
            first = next(method.run for method in done.methods if method.name == "cs")
            local = rerank(first, *local_stores(folder / "run"))
            after["both"] = judge(done.dataset)(ensemble(first, local))
            worst = {name: min(least, after[name] - before) for name, least in worst.items()}
            print(
                f"{case:20} {seed:4} {len(done.dataset.image_queries):7} {before:7.1f} "
                f"{after['sp']:8.1f} {after['cs']:8.1f} {after['both']:7.1f}",
                flush=True,
            )
    changes = zip(("spatial", "chamfer", "both"), worst.values(), strict=True)
    print("worst change: " + ", ".join(f"{name} {change:+.2f}" for name, change in changes))


def settings(dataset: Dataset, output: Path) -> None:
    """Print what distance and threshold do to the inliers of true and random pairs, and to both scores."""
    run_pipeline(dataset, output)
    value = judge(dataset)
    run = Run.load(output / "runs" / "global.json")
    stores = local_stores(output)
    true = np.array([name in dataset.positives_of(query) for query in run for name in run[query].ids])
    print(
        f"{len(run)} queries, {len(stores[1])} images, global mAP {value(run):.1f}; ensembles of lambda 0.5"
    )
    print(
        "scale and angle, distance, threshold: median inliers of true, random pairs; random above 0; mAP by"
    )
    print("significance, distinct inliers, all inliers (gamma 0.1 / 0.3 / 1 each)")
    for geometry, distance, threshold in SETTINGS:
        options = SpatialOptions(mutual=False, geometry=geometry, max_distance=distance, threshold=threshold)
        local = rerank(run, *stores, options=options)
        distinct = rerank(run, *stores, options=replace(options, score="inliers"))
        assert local.inliers is not None
        counted = replace(local, scores=local.inliers.astype(np.float32))
        worth = (
            " / ".join(f"{value(ensemble(run, scores, lam=0.5, gamma=gamma)):.1f}" for gamma in (0.1, 0.3, 1))
            for scores in (local, distinct, counted)
        )
        medians = (np.median(local.inliers[pairs]) for pairs in (true, ~true))
        print(
            f"{geometry!s:5} {distance} {threshold}: {' / '.join(f'{median:.0f}' for median in medians)}; "
            f"{np.mean(local.scores[~true] > 0):.1%}; {', '.join(worth)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--size", type=int)
    parser.add_argument("--hard", type=int, nargs="+", default=[], metavar="SEED")
    parser.add_argument("--settings", type=Path, metavar="FOLDER")
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with arguments.out.open("w") if arguments.out else sys.stdout as out, redirect_stdout(out):
            if arguments.hard:
                hard_cases(arguments.hard, arguments.size or 100, root)
                return
            if arguments.settings:
                settings(load_dataset(arguments.settings), root / "run")
                return
            generate(root / "images", images=arguments.size or 1000, seed=arguments.seed)
            sweep(f"generated, seed {arguments.seed}", load_dataset(root / "images"), root / "run")
            for number, images in enumerate(arguments.images):
                sweep(images.name, load_dataset(images), root / str(number))


if __name__ == "__main__":
    main()
