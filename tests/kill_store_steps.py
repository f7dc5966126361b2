"""Kill imports and derivations, or break their disk, at every step by which they change files.

A script, run by test_store_steps.py with `file_faults.c` preloaded, in a process of its own because it forks:
`python kill_store_steps.py FOLDER WHAT [WORK ...]`, WHAT being 0 (kill), -1 (kill in the middle of a write)
or an errno. After each disturbance the store must open, verify and hold what was committed last; what is left
over is listed and collected; and the same work, done again, ends as if nothing had happened.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ilias_fast.adapt import Itq, LinearAdapter, Signs, Strongest, derive, deriving, local
from ilias_fast.errors import StorageError
from ilias_fast.store import (
    BinaryStore,
    GlobalStore,
    LocalStore,
    exists,
    gc,
    import_store,
    merge,
    open_store,
    select,
)
from ilias_fast.store._writer import BaseWriter
from ilias_fast.store.formats import importing, npy

ROWS, DIM = 24, 8
IDS = [f"{row}.jpg" for row in range(ROWS)]
FAILED = 77

Work = Callable[[Path], object]


def content(store: GlobalStore | BinaryStore | LocalStore) -> list[bytes]:
    """Return every row as bytes."""
    if isinstance(store, LocalStore):
        return [b"".join(np.asarray(part).tobytes() for part in image if part is not None) for image in store]
    return [np.asarray(row).tobytes() for row in store.rows(range(len(store)))]


def works(folder: Path) -> dict[str, Work]:
    """Make what is read, and return what is disturbed."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((ROWS, DIM)).astype(np.float16)
    parts = []
    for number, rows in enumerate((slice(0, 14), slice(14, ROWS))):
        parts.append(folder / f"part{number}.npy")
        np.save(parts[-1], matrix[rows])
        parts[-1].with_suffix(".txt").write_text("".join(f"{name}\n" for name in IDS[rows]))
    with GlobalStore.create(folder / "vectors", dim=DIM) as writer:
        writer.append(IDS, matrix)
    with LocalStore.create(folder / "local", dim=DIM, optional=["weight"]) as writer:
        writer.append_arrays(
            IDS,
            np.arange(ROWS + 1) * 3,
            None,
            rng.random((3 * ROWS, 2)),
            descriptors=rng.standard_normal((3 * ROWS, DIM)),
            weight=rng.random(3 * ROWS),
            size=np.full((ROWS, 2), 9),
        )
    vectors, images = GlobalStore.open(folder / "vectors"), LocalStore.open(folder / "local")
    layer = LinearAdapter(rng.standard_normal((4, DIM)), np.zeros(4))
    itq = Itq.fit(matrix, 8)
    return {
        "import": lambda out: import_store(parts, out, shard_bytes=200),
        "import, adapted": lambda out: import_store(parts, out, adapter=layer),
        "import anew": lambda out: import_store(parts, out, overwrite=True),
        "derive, adapted": lambda out: derive(vectors, out, layer),
        "derive codes": lambda out: derive(vectors, out, itq),
        "derive local codes": lambda out: derive(images, out, Signs(DIM)),
        "derive fewer": lambda out: derive(images, out, Strongest(2)),
        "select": lambda out: select(vectors, out, IDS[::3], overwrite=True, shard_bytes=100),
        "merge": lambda out: merge([images], out, overwrite=True, shard_bytes=500),
    }


def in_child(work: Callable[[], object]) -> int | None:
    """Do something in a forked process; return its exit code, None if it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except StorageError as error:
            code = FAILED if error.filename else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"died of signal {os.WTERMSIG(status)}"
        return None
    return os.WEXITSTATUS(status)


def reporting(report: int) -> None:
    """Make every commit that returns write the number of rows to a pipe."""
    commit = BaseWriter.commit

    def reported(self: BaseWriter) -> int:
        rows = commit(self)
        os.write(report, rows.to_bytes(8, "little"))
        return rows

    BaseWriter.commit = reported  # type: ignore[method-assign]


def disturb(faults: Any, work: Work, out: Path, step: int, what: int) -> tuple[int | None, list[int]]:
    """Disturb the work at a step; return its exit code and the rows of each commit that returned."""
    receive, send = os.pipe()

    def armed() -> None:
        reporting(send)
        faults.file_faults_arm(os.fsencode(out), step, what)
        work(out)

    code = in_child(armed)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        reports = pipe.read()
    return code, np.frombuffer(reports, "<u8").tolist()


def check(out: Path, whole: Any, before: int, commits: list[int], states: list[int]) -> None:
    """Check that the store is in one of its states, at least the last one reported, and whole."""
    if not exists(out):
        assert not before, "the store is gone"
        assert not commits, "a reported commit is gone"
        return
    store = open_store(out)
    reached = commits[-1] if commits else None
    allowed = [before, *states] if reached is None else [reached, *(n for n in states if n > reached)]
    assert len(store) in allowed[:2], f"{len(store)} rows, expected one of {allowed[:2]}"
    report = store.verify()
    assert report.ok, report
    assert list(store.ids) == whole[0][: len(store)]
    assert content(store) == whole[1][: len(store)]
    assert sorted(gc(out)) == sorted(report.leftovers)
    assert store.verify().leftovers == ()


def main(folder: Path, what: int, chosen: list[str]) -> None:
    faults = ctypes.CDLL(None)
    faults.file_faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
    # Several blocks and a commit for each of them.
    importing._COMMIT_BYTES = deriving._COMMIT_BYTES = 1
    npy.BLOCK_BYTES, deriving._BLOCK_BYTES = 10 * DIM * 2, 9 * DIM * 4
    local._BLOCK_IMAGES = 9
    disturbances = torn = 0
    for name, work in works(folder).items():
        if chosen and name not in chosen:
            continue
        out = folder / "out"
        commits: list[int] = []
        shutil.rmtree(out, ignore_errors=True)
        code, states = disturb(faults, work, out, -1, 0)
        assert code == 0, name
        whole = (list(open_store(out).ids), content(open_store(out)))
        replaced = name == "import anew"
        for step in range(10_000):
            if not replaced or not exists(out):
                shutil.rmtree(out, ignore_errors=True)
            if replaced and not exists(out):
                work(out)
            before = len(open_store(out)) if replaced else 0
            code, commits = disturb(faults, work, out, step, what)
            where = f"{name}, step {step}, exit code {code}"
            try:
                check(out, whole, before, commits, states)
                if code == 0:
                    break
                assert code == (None if what <= 0 else FAILED), "expected another end"
                disturbances += 1
                torn += bool(commits)
                assert in_child(lambda work=work, out=out: work(out)) == 0, "it cannot be done again"
                check(out, whole, before, [len(whole[0])], states)
            except AssertionError as fault:
                raise AssertionError(f"{where}: {fault}") from fault
    print(f"{disturbances} disturbances {torn} after a commit")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
