"""The search script published with the benchmark, written anew from the description of what it does.

Ids are Python strings in object arrays. A torch DataLoader with four processes reads the official feature
files, a file an item, and ships the matrices through pipes (`--workers 0` reads them in the process itself,
which is faster). Each is cast to float32 and searched with faiss.knn; faiss's heap merges. Similarities are
looked up in a dictionary of all database ids and written as indented JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator

import faiss
import h5py
import numpy as np


class Shards:
    """The features of the positives and of each shard."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> np.ndarray:
        with h5py.File(self.paths[number], "r") as file:
            return file["features"][:]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))


def first(batch: list[np.ndarray]) -> np.ndarray:
    return batch[0]


def ids_of(path: str) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return file["index"].asstr()[:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--query_hdf5")
    parser.add_argument("--positive_hdf5")
    parser.add_argument("--distractor_hdf5")
    parser.add_argument("--total_distractors", type=int, default=1)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--save")
    options = parser.parse_args()
    query_ids = ids_of(options.query_hdf5)
    queries = Shards([options.query_hdf5])[0].astype(np.float32)
    paths = [options.positive_hdf5]
    for index in range(options.total_distractors):
        paths.append(options.distractor_hdf5.replace("{idx}", f"{index:05d}"))
    database_ids = np.concatenate([ids_of(path) for path in paths])
    shards: Iterable[np.ndarray] = Shards(paths)
    if options.workers:
        from torch.utils.data import DataLoader

        shards = DataLoader(Shards(paths), batch_size=1, num_workers=options.workers, collate_fn=first)
    heap = faiss.ResultHeap(len(queries), options.k, keep_max=True)
    start = 0
    for shard in shards:
        scores, rows = faiss.knn(
            queries, shard.astype(np.float32), options.k, metric=faiss.METRIC_INNER_PRODUCT
        )
        heap.add_result(scores, rows + start)
        start += len(shard)
    heap.finalize()
    name_of = dict(enumerate(database_ids))
    similarities = {
        query: {name_of[row]: float(score) for score, row in zip(scores, rows, strict=True)}
        for query, scores, rows in zip(query_ids, heap.D, heap.I, strict=True)
    }
    with open(options.save, "w") as file:  # noqa: PTH123
        json.dump(similarities, file, indent=4)


if __name__ == "__main__":
    main()
