"""A search that saves its state after every shard, killed by its parent: test_search_features.py."""

from __future__ import annotations

import sys
import time

import numpy as np

from ilias_fast.search import resuming, search, sequence
from ilias_fast.search.backends import Cpu
from ilias_fast.store import GlobalStore


class Slow(Cpu):
    """Tells the parent of every part it begins, and gives it time to kill."""

    def topk(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        print("part", flush=True)
        time.sleep(0.05)
        return super().topk(*args, **kwargs)


if __name__ == "__main__":
    resuming._SECONDS = 0.0
    sequence._SAVED_BYTES = 1
    store, queries, folder = sys.argv[1:]
    vectors = np.load(queries)
    ids = [f"q{row}" for row in range(len(vectors))]
    search((ids, vectors), GlobalStore.open(store), 20, query_expansion=2, resume=folder, backend=Slow())
    print("done", flush=True)
