"""Searching takes memory for queries and results, not for the database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.store import GlobalStore

CHILD = """
import sys
import numpy as np
from ilias_fast.kernels import topk
from ilias_fast.store import GlobalStore

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

store = GlobalStore.open(sys.argv[1])
queries = np.random.default_rng(0).standard_normal((int(sys.argv[2]), store.dim)).astype(np.float32)
topk(queries[:1], store, 1, threads=2)  # pools and pages of the interpreter
before = peak = anonymous()

def look(done):
    global peak
    peak = max(peak, anonymous())

topk(queries, store, int(sys.argv[3]), threads=2, progress=look)
look(0)
print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_database(tmp_path: Path, rng: np.random.Generator) -> None:
    base = rng.standard_normal((20_000, 64)).astype(np.float16)
    for rows in (1, 12):
        with GlobalStore.create(tmp_path / str(rows), dim=64, shard_bytes=8 << 20) as writer:
            for part in range(rows):
                writer.append([f"{part}/{row}" for row in range(len(base))], base + np.float16(part / 64))
            writer.commit()
    for queries, k, allowed_mb in ((1, 100, 24), (200, 100, 96)):
        used = {}
        for rows in (1, 12):
            command = [sys.executable, "-c", CHILD, str(tmp_path / str(rows)), str(queries), str(k)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            used[rows] = int(done.stdout) / 1024
        assert used[12] < allowed_mb, used
        assert used[12] < used[1] + 24, used
