"""Forks, threads and event loops: the kernels are called from wherever a pipeline happens to run."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast import kernels
from ilias_fast.datasets import load_dataset
from ilias_fast.evaluate import evaluate
from ilias_fast.rerank import rerank
from ilias_fast.run import Run
from ilias_fast.search import search
from ilias_fast.store import GlobalStore, LocalStore, verify
from tests.command_line import World

Answer = Callable[[], bytes]


def answers(world: World) -> dict[str, Answer]:
    """Return calls of every parallel part of the core, each with an answer to compare."""
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((3000, 32)).astype(np.float16)
    queries = generator.standard_normal((40, 32)).astype(np.float32)
    codes = generator.integers(0, 256, (2000, 16), np.uint8)
    points = generator.random((30, 2), np.float32)
    stores = GlobalStore.open(world.queries), GlobalStore.open(world.database)
    local = LocalStore.open(world.local_queries), LocalStore.open(world.local_database)
    run, truth = Run.load(world.run), load_dataset(world.photos)
    return {
        "topk": lambda: kernels.topk(queries, vectors, 9).indices.tobytes(),
        "hamming": lambda: kernels.hamming_topk(codes[:20], codes, 9).indices.tobytes(),
        "chamfer": lambda: kernels.chamfer(codes[:50], codes, [0, 900, 2000]).tobytes(),
        "verify_spatial": lambda: kernels.verify_spatial(points, points, threshold=0.01).mask.tobytes(),
        "search": lambda: search(stores[0], stores[1], 5, query_expansion=2).scores.tobytes(),
        "rerank": lambda: rerank(run, *local).scores.tobytes(),
        "evaluate": lambda: evaluate(run, truth, k=5).aps.tobytes(),
        "verify": lambda: str(verify(world.database)).encode(),
    }


def _in_child(connection: Connection, calls: dict[str, Answer]) -> None:
    connection.send({name: call() for name, call in calls.items()})


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_workers_after_use_in_the_parent(world: World) -> None:
    calls = answers(world)
    ours = {name: call() for name, call in calls.items()}
    context = multiprocessing.get_context("fork")
    children = []
    for _ in range(3):
        here, there = context.Pipe()
        child = context.Process(target=_in_child, args=(there, calls))
        child.start()
        children.append((child, here))
    # The parent goes on while its children work.
    assert {name: call() for name, call in calls.items()} == ours
    for child, here in children:
        assert here.poll(30), "a child hangs"
        assert here.recv() == ours
        child.join(10)
        assert child.exitcode == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_while_other_threads_compute(world: World) -> None:
    calls = answers(world)
    expected = calls["topk"]()
    context = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(calls["topk"]) for _ in range(60)]
        for _ in range(5):
            here, there = context.Pipe()
            child = context.Process(target=_in_child, args=(there, {"topk": calls["topk"]}))
            child.start()
            assert here.poll(30), "a child hangs"
            assert here.recv() == {"topk": expected}
            child.join(10)
            assert child.exitcode == 0
        assert {future.result() for future in busy} == {expected}


def _spawned(world: World, name: str) -> bytes:
    return answers(world)[name]()


def test_spawned_workers(world: World) -> None:
    ours = [_spawned(world, name) for name in ("search", "rerank")]
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.starmap(_spawned, [(world, "search"), (world, "rerank")]) == ours


def test_stores_and_runs_go_to_workers_by_pickle(world: World) -> None:
    database, run = GlobalStore.open(world.database), Run.load(world.run)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.apply(len, (database,)) == len(database)
        assert pool.apply(Run.truncate, (run, 2)) == run.truncate(2)


@pytest.mark.parametrize("workers", [2, 8])
def test_many_threads_at_once(world: World, workers: int) -> None:
    calls = answers(world)
    expected = {name: call() for name, call in calls.items()}
    with ThreadPoolExecutor(workers) as pool:
        found = [(name, pool.submit(call)) for _ in range(6) for name, call in calls.items()]
        for name, future in found:
            assert future.result(timeout=60) == expected[name], name


def test_threads_that_share_one_writer_never_mix_rows(tmp_path: Path) -> None:
    with GlobalStore.create(tmp_path / "s", dim=4, shard_bytes=2000) as writer:

        def append(batch: int) -> None:
            writer.append([f"{batch}/{row}" for row in range(20)], np.full((20, 4), batch, dtype=np.float16))

        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(append, batch) for batch in range(50)]:
                future.result()
    store = GlobalStore.open(tmp_path / "s")
    assert len(store) == 1000
    assert [int(name.split("/")[0]) for name in store.ids] == store.rows(np.arange(1000))[:, 0].tolist()


def test_an_event_loop_stays_responsive(world: World) -> None:
    calls = answers(world)
    generator = np.random.default_rng(2)
    queries = generator.standard_normal((3000, 64)).astype(np.float32)
    database = generator.standard_normal((60_000, 64)).astype(np.float16)

    async def tick(stop: asyncio.Event) -> int:
        ticks = 0
        while not stop.is_set():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks

    async def work() -> tuple[list[Any], int]:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        ticking = asyncio.ensure_future(tick(stop))
        jobs = [loop.run_in_executor(None, call) for call in calls.values()]
        long = loop.run_in_executor(None, lambda: kernels.topk(queries, database, 10, threads=1))
        found = await asyncio.gather(*jobs)
        await long
        stop.set()
        return found, await ticking

    found, ticks = asyncio.run(work())
    assert found == [call() for call in calls.values()]
    assert ticks > 5, "the event loop was blocked: the GIL was held"


def test_a_small_call_does_not_wait_for_a_long_one(rng: np.random.Generator) -> None:
    class StopError(Exception):
        pass

    running, stop = threading.Event(), threading.Event()

    def progress(_done: int) -> None:
        running.set()
        if stop.is_set():
            raise StopError

    database = rng.standard_normal((200_000, 64)).astype(np.float16)
    queries = rng.standard_normal((100_000, 64)).astype(np.float32)
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(kernels.topk, queries, database, 10, threads=2, progress=progress)
        try:
            assert running.wait(60)
            kernels.topk(queries[:1], database[:1000], 10, threads=2)
            assert not long.done()
        finally:
            stop.set()
        with pytest.raises(StopError):
            long.result()


def test_progress_may_call_the_library_again(world: World) -> None:
    calls = answers(world)
    database = np.random.default_rng(3).standard_normal((100_000, 64)).astype(np.float16)
    inner: list[bytes] = []

    def progress(_: int) -> None:
        if len(inner) < 3:
            inner.append(calls["topk"]())

    kernels.topk(np.ones((300, 64), np.float32), database, 3, progress=progress)
    assert inner
    assert set(inner) == {calls["topk"]()}


def test_a_daemon_thread_does_not_keep_the_process() -> None:
    code = (
        "import threading, numpy as np; from ilias_fast import kernels\n"
        "q, d = np.ones((20000, 64), 'f4'), np.ones((100000, 64), 'f2')\n"
        "threading.Thread(target=lambda: kernels.topk(q, d, 5, threads=1), daemon=True).start()\n"
        "kernels.topk(q[:1], d, 5, threads=2); print('end')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
