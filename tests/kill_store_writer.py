"""Kill writers at random moments and check the store after each. A script, run by test_store_faults.py.

A fresh process, because it forks: `python kill_store_writer.py FOLDER ROUNDS SEED`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from ilias_fast.errors import NotAStoreError
from ilias_fast.store import GlobalStore, exists, gc

ROWS = 60  # a commit: several shards, written in two appends
DIM = 16


def row_of(number: int) -> np.ndarray:
    return np.full(DIM, number % 2000, np.float16)


def write_for_ever(path: Path, report: int) -> None:
    if exists(path):
        writer = GlobalStore.append_to(path, shard_bytes=1500)
    else:
        writer = GlobalStore.create(path, dim=DIM, shard_bytes=1500)
    while True:
        for _ in range(2):
            numbers = range(len(writer), len(writer) + ROWS // 2)
            writer.append(
                [str(number) for number in numbers], np.stack([row_of(number) for number in numbers])
            )
        os.write(report, writer.commit().to_bytes(8, "little"))


def check(path: Path, least: int) -> tuple[int, int]:
    """Return (rows, leftovers) of a store that holds whole commits, all those reported, and nothing else."""
    try:
        store = GlobalStore.open(path)
    except NotAStoreError:
        assert least == 0, "a reported commit is gone"
        return 0, 0
    rows = len(store)
    assert rows % ROWS == 0, f"part of a commit: {rows} rows"
    assert least <= rows <= least + ROWS, f"{rows} rows after a reported commit of {least}"
    report = store.verify()
    assert report.ok, report
    for start, view in store.shards():
        assert np.array_equal(view, np.stack([row_of(start + row) for row in range(len(view))]))
    assert list(store.ids) == [str(number) for number in range(rows)]
    assert sorted(gc(path)) == sorted(report.leftovers)
    assert store.verify().leftovers == ()
    return rows, len(report.leftovers)


def main(path: Path, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = seen_leftovers = 0
    for _ in range(rounds):
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(path, send)
            finally:
                os._exit(1)
        os.close(send)
        time.sleep(rng.uniform(0.002, 0.06))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the writer failed by itself"
        with os.fdopen(receive, "rb") as pipe:
            reports = pipe.read()
        least = int.from_bytes(reports[-8:], "little") if reports else rows
        rows, leftovers = check(path, least)
        seen_leftovers += leftovers
    print(f"{rows} rows {seen_leftovers} leftovers")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
