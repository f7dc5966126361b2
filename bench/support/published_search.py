"""The search script published with the benchmark, written anew from the description of what it does.

Reads the official feature files into float32 matrices, searches one chunk (the positives, then each shard)
after the other with faiss.knn, merges by faiss's heap, writes the similarity JSON. In one process, as it is
run.
"""

from __future__ import annotations

import argparse
import json

import faiss
import h5py
import numpy as np


def features(path: str) -> tuple[list[str], np.ndarray]:
    with h5py.File(path, "r") as file:
        return file["index"].asstr()[:].tolist(), file["features"][:].astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--query_hdf5")
    parser.add_argument("--positive_hdf5")
    parser.add_argument("--distractor_hdf5")
    parser.add_argument("--total_distractors", type=int, default=1)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--save")
    options = parser.parse_args()
    query_ids, queries = features(options.query_hdf5)
    database_ids: list[str] = []
    heap = faiss.ResultHeap(len(queries), options.k, keep_max=True)
    shards = [
        options.distractor_hdf5.replace("{idx}", f"{index:05d}") for index in range(options.total_distractors)
    ]
    for path in [options.positive_hdf5, *shards]:
        ids, vectors = features(path)
        scores, rows = faiss.knn(queries, vectors, options.k, metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, rows + len(database_ids))
        database_ids += ids
    heap.finalize()
    similarities = {
        query: {database_ids[row]: float(score) for score, row in zip(scores, rows, strict=True)}
        for query, scores, rows in zip(query_ids, heap.D, heap.I, strict=True)
    }
    with open(options.save, "w") as file:  # noqa: PTH123
        json.dump(similarities, file, indent=4)


if __name__ == "__main__":
    main()
