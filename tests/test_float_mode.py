"""Other libraries may make subnormal numbers count as zero: the answers stay what they are."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ilias_fast import cpu
from ilias_fast.kernels import average_precision, topk, verify_spatial

torch = pytest.importorskip("torch")

# Made here: NumPy itself would round them to zero.
QUERIES = np.array([[1e-40, 2e-40, 3e-41]], np.float32)
DATABASE = np.eye(3, dtype=np.float16)
POINTS = np.array([[x * 1e-41, x * x * 2e-42] for x in range(1, 21)], np.float32)
SCORES = np.array([3e-310, 2e-310, 1e-310])
RELEVANT = np.array([False, False, True])


def _answers(threads: int) -> list[bytes]:
    """Return answers that rest on subnormal numbers, each as its bits."""
    found = topk(QUERIES, DATABASE, 3, threads=threads)
    verified = verify_spatial(POINTS, POINTS, threshold=1e-42)
    ap = average_precision(SCORES, RELEVANT, positives=1, k=3)
    return [found.scores.tobytes(), found.indices.tobytes(), verified.mask.tobytes(), str(ap).encode()]


def test_answers_do_not_depend_on_the_mode_of_the_caller() -> None:
    expected = _answers(1)
    found: list[list[bytes]] = []
    flushed: list[bool] = []

    def flushing() -> None:
        # A thread of its own: what it is told ends with it.
        torch.set_flush_denormal(True)
        for level in cpu.available_levels():
            with cpu.pinned(level):
                # 13: a number of threads that no call before has asked for, so this one starts them.
                found.extend(_answers(threads) for threads in (1, 13))
        flushed.append(not (QUERIES[0] * np.float32(0.5)).any())

    thread = threading.Thread(target=flushing)
    thread.start()
    thread.join()
    if flushed == [False]:
        pytest.skip("this CPU cannot flush")
    assert flushed == [True], "the caller's own mode is left alone"
    assert len(found) == 2 * len(cpu.available_levels())
    assert all(answers == expected for answers in found)
