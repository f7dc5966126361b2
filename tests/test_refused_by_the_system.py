"""What the system refuses: threads, memory, blocks of a disk. An error says so, and all works afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ilias_fast import kernels
from ilias_fast.errors import ParameterError
from ilias_fast.store import GlobalStore
from tests.preloading import compiled

THREADS = """
import os
import numpy as np
from ilias_fast import kernels
from ilias_fast.errors import ParameterError

codes = np.arange(64, dtype=np.uint8).reshape(8, 8)
expected = kernels.hamming_topk(codes, codes, 3, threads=1).distances.tolist()
os.environ["THREAD_FAULTS"] = "5"
for _ in range(2):
    try:
        kernels.hamming_topk(codes, codes, 3, threads=64)
    except ParameterError as error:
        print(error)
assert kernels.hamming_topk(codes, codes, 3, threads=1).distances.tolist() == expected
del os.environ["THREAD_FAULTS"]
for threads in (1, 2, 64):
    assert kernels.hamming_topk(codes, codes, 3, threads=threads).distances.tolist() == expected
print("fine")
"""


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`system_faults.c`, compiled."""
    return compiled("system_faults.c", tmp_path_factory.mktemp("faults"))


def output(preloaded: Path, script: str, *arguments: object, **environment: object) -> list[str]:
    """Return what a script prints with the library loaded; it must end well."""
    variables = {name: str(value) for name, value in environment.items()}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "LD_PRELOAD": str(preloaded), **variables},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_more_threads_than_the_system_starts_are_an_error(preloaded: Path) -> None:
    first, second, last = output(preloaded, THREADS)
    for line in (first, second):
        assert line.startswith("threads: expected a number the system can start, found 64 (")
    assert last == "fine"


def test_results_beyond_memory_are_refused_before_the_work() -> None:
    queries, database = np.zeros((4_000_000, 1), np.float32), np.zeros((4_000_000, 1), np.float16)
    with pytest.raises(ParameterError, match=r"^k: expected results that fit in memory .* 4000000 x 4000000"):
        kernels.topk(queries, database, 4_000_000)
    with pytest.raises(ParameterError, match=r"^k: expected results that fit in memory"):
        kernels.hamming_topk(np.zeros((4_000_000, 1), np.uint8), np.zeros((4_000_000, 1), np.uint8), 2**62)


VERIFY = """
import sys
from ilias_fast.store import verify

for damage in verify(sys.argv[1]).damages:
    print(damage)
"""


def test_blocks_the_disk_has_lost_are_damage_and_no_crash(preloaded: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with GlobalStore.create(store, dim=512) as writer:
        writer.append([f"{row}.jpg" for row in range(4000)], np.ones((4000, 512), np.float16))

    def verified(start: int, stop: int) -> list[str]:
        stretch = {"READ_FAULTS_FROM": start, "READ_FAULTS_TO": stop}
        return output(preloaded, VERIFY, store, READ_FAULTS=store / "shards", **stretch)

    assert verified(1 << 40, 1 << 41) == []
    (middle,) = verified(2_000_000, 2_000_001)
    assert "cannot be read" in middle
    assert "vectors" in middle
    (head,) = verified(0, 1)
    assert "cannot be read" in head
