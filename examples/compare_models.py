"""Evaluate two models on one data set and say whether they differ.

    python examples/compare_models.py [--dataset FOLDER --runs A.json B.json]

Without options two "models" are made: the same vectors with less and with more noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ilias_fast.datasets import Dataset, load_dataset
from ilias_fast.evaluate import compare, evaluate, format_results
from ilias_fast.kernels import topk
from ilias_fast.run import Run


def made() -> tuple[Dataset, dict[str, Run]]:
    """Return a data set of 60 objects and the runs of two models on it."""
    rng = np.random.default_rng(0)
    objects, dim = 60, 32
    queries = tuple(f"object_{n}/query/0.jpg" for n in range(objects))
    positives = tuple(f"object_{n}/pos/{i}.jpg" for n in range(objects) for i in range(3))
    distractors = tuple(f"{n:05d}.jpg" for n in range(2000))
    dataset = Dataset("made", Path(), Path(), queries, (), positives)
    truth = rng.standard_normal((objects, dim))
    ids = [*positives, *distractors]
    runs = {}
    for name, noise in (("small", 1.1), ("large", 0.9)):
        vectors = np.concatenate([np.repeat(truth, 3, axis=0), rng.standard_normal((2000, dim))])
        vectors[: 3 * objects] += noise * rng.standard_normal((3 * objects, dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        scores, rows = topk(truth.astype(np.float32), vectors.astype(np.float16), 1000)
        lists = zip(rows.tolist(), scores.tolist(), strict=True)
        named = [{ids[row]: score for row, score in zip(*found, strict=True)} for found in lists]
        runs[name] = Run.from_dict(dict(zip(queries, named, strict=True)))
    return dataset, runs


def main() -> None:
    """Print the results table and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--runs", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.dataset is None:
        dataset, runs = made()
    else:
        dataset = load_dataset(arguments.dataset)
        runs = {path.stem: Run.load(path) for path in arguments.runs}
    evaluations = {name: evaluate(run, dataset) for name, run in runs.items()}
    print(format_results(evaluations, "md"))
    for pair in compare(evaluations, samples=2000).pairs:
        low, high = pair.interval
        print(
            f"{pair.first} -> {pair.second}: {pair.delta:+.2f} mAP, 95% interval {low:+.2f} to {high:+.2f}, "
            f"p = {pair.p:.4f}, {pair.wins} wins, {pair.losses} losses"
        )


if __name__ == "__main__":
    main()
