"""`topk` and `hamming_topk`: bit equality with `math.fsum` and a full sort, on data made to break them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ilias_fast import _core, cpu
from ilias_fast.errors import DtypeError, NonFiniteError, ParameterError, ShapeError
from ilias_fast.kernels import HammingTopK, TopK, hamming_topk, topk
from tests.oracles import search as oracle

LEVELS = cpu.available_levels()
SCREENS = ("float32", "bfloat16", "int8")
LARGEST_F32 = float(np.finfo(np.float32).max)


def check(queries: Any, database: Any, k: int, selected: Any = None) -> None:
    """Every level, every screen, several thread counts: the bits of the oracle."""
    expected = oracle.topk(queries, database, k, selected)
    search = _core.topk if database.dtype == np.float16 else _core.topk_float32
    for level, screen, threads in itertools.product(LEVELS, SCREENS, (1, 3)):
        with cpu.pinned(level):
            scores, indices = search(queries, database, k, selected, threads, None, screen)
            np.testing.assert_array_equal(
                indices, expected[1], err_msg=f"{level}, {screen}, {threads} threads"
            )
            np.testing.assert_array_equal(scores.view(np.uint32), expected[0].view(np.uint32))


# --- against the oracle, any finite input ---

halves = st.floats(width=16, allow_nan=False, allow_infinity=False)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.data())
def test_any_finite_input(data: st.DataObject) -> None:
    d = data.draw(st.integers(0, 20))
    n, q = data.draw(st.integers(0, 12)), data.draw(st.sampled_from([0, 1, 2, 9]))
    database = data.draw(hnp.arrays(np.float16, (n, d), elements=halves))
    queries = data.draw(hnp.arrays(np.float32, (q, d), elements=singles))
    selected = data.draw(st.none() | hnp.arrays(np.bool_, n))
    check(queries, database, data.draw(st.integers(1, 14)), selected)


@given(st.data())
def test_near_ties_and_duplicates(data: st.DataObject) -> None:
    """Few distinct values, one ulp apart, many equal rows: order hangs on the last bit and on the index."""
    d = data.draw(st.integers(1, 9))
    one = np.float16(1)
    values = [
        0.0,
        -0.0,
        1.0,
        float(np.nextafter(one, np.float16(2))),
        float(np.nextafter(one, np.float16(0))),
        -1.0,
    ]
    database = data.draw(
        hnp.arrays(np.float16, (data.draw(st.integers(1, 40)), d), elements=st.sampled_from(values))
    )
    near = [0.0, 1.0, float(np.nextafter(np.float32(1), np.float32(2))), -1.0, 2.0**-24, 1e-45]
    queries = data.draw(
        hnp.arrays(np.float32, (data.draw(st.sampled_from([1, 3, 10])), d), elements=st.sampled_from(near))
    )
    check(queries, database, data.draw(st.integers(1, 20)))


def adversarial(rng: np.random.Generator, kind: str, n: int, d: int) -> NDArray[np.float16]:
    x = rng.standard_normal((n, d))
    match kind:
        case "gaussian":
            pass
        case "equal":
            x[:] = x[0]
        case "clusters":
            x = x[rng.integers(0, 7, n)]
        case "cancelling":
            x[:, d // 2 :] = -x[:, : d - d // 2]
        case "subnormal":
            x *= 2.0**-23
        case "huge":
            x = np.clip(x * 3e4, -65504, 65504)
        case "spread":
            x *= 10.0 ** rng.uniform(-7, 4, (n, 1))
        case "one coordinate":
            x[:, 0] = 60000.0
        case "zeros":
            x[rng.random(n) < 0.9] = 0.0
        case "low rank":
            x = rng.standard_normal((n, 2)) @ rng.standard_normal((2, d))
    return np.clip(x, -65504, 65504).astype(np.float16)


@pytest.mark.parametrize(
    "kind",
    [
        "gaussian",
        "equal",
        "clusters",
        "cancelling",
        "subnormal",
        "huge",
        "spread",
        "one coordinate",
        "zeros",
        "low rank",
    ],
)
@pytest.mark.parametrize(("q", "scale"), [(2, 1.0), (10, 1e-40), (10, 1e30)])
def test_adversarial_data(rng: np.random.Generator, kind: str, q: int, scale: float) -> None:
    n, d = 700, 37
    database = adversarial(rng, kind, n, d)
    queries = np.clip(rng.standard_normal((q, d)) * scale, -LARGEST_F32, LARGEST_F32).astype(np.float32)
    if kind == "cancelling":
        queries[:, d // 2 :] = queries[:, : d - d // 2]
    check(queries, database, 50)


@pytest.mark.parametrize(
    ("d", "magnitude"), [(1, 0), (63, -20), (64, 100), (65, -6), (128, 2), (200, -44), (1025, 0)]
)
def test_int8_of_any_length_and_size(rng: np.random.Generator, d: int, magnitude: int) -> None:
    """Whole and partial transforms, tiny and huge sizes, clusters with near ties."""
    n, q = 300, 5
    centres = rng.standard_normal((6, d))
    rows = centres[rng.integers(0, 6, n)] + rng.standard_normal((n, d)) * rng.choice([0, 1e-3, 0.3], (n, 1))
    queries = (centres[:q] * 2.0**magnitude).astype(np.float32)
    check(queries, rows.astype(np.float16), 60)
    check(queries[:2], np.clip(rows * 2.0 ** (magnitude / 2), -1e37, 1e37).astype(np.float32), 60)


def test_scores_beyond_float32_tie_at_infinity() -> None:
    database = np.array([[1], [60000], [2], [60000], [-60000]], np.float16)
    queries = np.full((9, 1), LARGEST_F32, np.float32)
    scores, indices = topk(queries, database, 5)
    assert indices[0].tolist() == [1, 2, 3, 0, 4]
    assert scores[8].tolist() == [np.inf, np.inf, np.inf, LARGEST_F32, -np.inf]
    check(queries, database, 2)


def test_minus_zero_is_zero() -> None:
    scores, _ = topk([[-1e-45, 0.0]], np.array([[6e-8, 1]], np.float16), 1)
    assert scores.view(np.uint32).item() == 0


# --- the same answer whatever the path, on data too large for the oracle ---


def reference(queries: NDArray[np.float32], database: NDArray[np.float16], k: int) -> TopK:
    """float64, which tells these scores apart (the test asserts it)."""
    scores = queries.astype(np.float64) @ database.astype(np.float64).T
    order = np.lexsort((np.broadcast_to(np.arange(len(database)), scores.shape), -scores.astype(np.float32)))[
        :, :k
    ]
    return TopK(np.take_along_axis(scores, order, axis=1).astype(np.float32), order)


@pytest.mark.parametrize("screen", ["auto", *SCREENS])
@pytest.mark.parametrize("q", [1, 2, 5, 8, 9, 16, 17, 33, 100, 257])
def test_every_path_agrees(rng: np.random.Generator, q: int, screen: str, cpu_level: str) -> None:
    n, d, k = (3000, 64, 20) if cpu_level == "scalar" else (20000, 96, 100)
    database = rng.standard_normal((n, d)).astype(np.float16)
    database[rng.integers(0, n, n // 3)] = database[rng.integers(0, n, n // 3)]
    queries = rng.standard_normal((q, d)).astype(np.float32)
    expected = reference(queries, database, k)
    for threads in (1, 2, 5):
        scores, indices = _core.topk(queries, database, k, None, threads, None, screen)
        np.testing.assert_array_equal(indices, expected.indices)
        np.testing.assert_array_equal(scores, expected.scores)


def test_float32_rows_of_any_size(rng: np.random.Generator) -> None:
    """The screen refuses rows beyond 2^60 and passes them on unscreened."""
    database = (rng.standard_normal((300, 19)) * 10.0 ** rng.uniform(-44, 37, (300, 1))).astype(np.float32)
    queries = rng.standard_normal((9, 19)).astype(np.float32)
    check(queries, database, 40)


def test_selection_keeps_row_numbers(rng: np.random.Generator) -> None:
    database = rng.standard_normal((5000, 24)).astype(np.float16)
    for share in (0.0, 0.001, 0.3, 1.0):
        selected = rng.random(5000) < share
        rows = np.flatnonzero(selected)
        for q in (3, 40):
            queries = rng.standard_normal((q, 24)).astype(np.float32)
            found, direct = topk(queries, database, 30, selected=selected), topk(queries, database[rows], 30)
            assert found.scores.shape == (q, min(30, len(rows)))
            np.testing.assert_array_equal(found.indices, rows[direct.indices])
            np.testing.assert_array_equal(found.scores, direct.scores)


# --- the int8 screen where it is chosen, misled and given up ---


def large(rng: np.random.Generator, n: int = 40000, d: int = 64) -> NDArray[np.float16]:
    return rng.standard_normal((n, d)).astype(np.float16)


@pytest.mark.parametrize("shift", [0, 1, 5])
def test_a_sample_that_misleads_is_refuted(rng: np.random.Generator, shift: int) -> None:
    """The sampled rows (every 12th) are far better than all others, or all worse."""
    database, k = large(rng), 1000
    queries = np.abs(rng.standard_normal((100, 64))).astype(np.float32)
    database[shift::12] += np.float16(1.5)
    expected = reference(queries, database, k)
    for level in LEVELS[1:] or LEVELS:
        with cpu.pinned(level):
            found = topk(queries, database, k)
            np.testing.assert_array_equal(found.indices, expected.indices)
            np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("kind", ["equal", "two values", "one coordinate", "orthogonal"])
def test_data_the_int8_screen_is_useless_for(rng: np.random.Generator, kind: str) -> None:
    database, k = large(rng), 200
    queries = rng.standard_normal((96, 64)).astype(np.float32)
    match kind:
        case "equal":
            database[:] = database[0]
        case "two values":
            database[:] = database[rng.integers(0, 2, len(database))]
        case "one coordinate":
            database[:, 7] = 60000
        case _:
            database[:, :32], queries[:, 32:] = 0, 0
    expected = reference(queries, database, k)
    for screen in ("auto", "bfloat16", "int8"):
        scores, indices = _core.topk(queries, database, k, None, None, None, screen)
        if kind == "one coordinate":  # float64 rounds these sums: compare with the other screen
            scores_32, indices_32 = _core.topk(queries, database, k, None, None, None, "float32")
            np.testing.assert_array_equal(indices, indices_32)
            np.testing.assert_array_equal(scores, scores_32)
        else:
            np.testing.assert_array_equal(indices, expected.indices)
            np.testing.assert_array_equal(scores, expected.scores)


def test_the_screens_agree_on_much_data(rng: np.random.Generator) -> None:
    """Selected rows, float32 rows, many shards' worth of blocks: same bits."""
    centres = rng.standard_normal((50, 200))
    rows = centres[rng.integers(0, 50, 30000)] + 0.5 * rng.standard_normal((30000, 200))
    rows *= 10.0 ** rng.uniform(-2, 2, (30000, 1))
    queries = (centres[rng.integers(0, 50, 130)] + 0.5 * rng.standard_normal((130, 200))).astype(np.float32)
    for selected in (None, rng.random(30000) < 0.7):
        for search, dtype in ((_core.topk, np.float16), (_core.topk_float32, np.float32)):
            found = [
                search(queries, rows.astype(dtype), 100, selected, threads, None, screen)  # type: ignore[operator]
                for threads in (1, 2)
                for screen in ("auto", *SCREENS)
            ]
            for scores, indices in found[1:]:
                np.testing.assert_array_equal(indices, found[0][1])
                np.testing.assert_array_equal(scores, found[0][0])


# --- Hamming ---


@given(st.data())
def test_hamming_equals_the_oracle(data: st.DataObject) -> None:
    b, n, q = (
        data.draw(st.integers(0, 70)),
        data.draw(st.integers(0, 150)),
        data.draw(st.sampled_from([0, 1, 2, 70])),
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    top = data.draw(st.sampled_from([2, 256]))
    database = rng.integers(0, top, (n, b)).astype(np.uint8)
    queries = rng.integers(0, top, (q, b)).astype(np.uint8)
    k = data.draw(st.integers(1, 160))
    expected = oracle.hamming_topk(queries, database, k)
    for level in LEVELS:
        with cpu.pinned(level):
            found = hamming_topk(queries, database, k, threads=2)
            np.testing.assert_array_equal(found.indices, expected[1])
            np.testing.assert_array_equal(found.distances, expected[0])


@pytest.mark.usefixtures("cpu_level")
@pytest.mark.parametrize("bits", [8, 64, 128, 256, 512, 1024, 24, 192, 136])
def test_hamming_of_many_codes(rng: np.random.Generator, bits: int) -> None:
    """More candidates than the buffers hold, all at few distances: ties across the k boundary everywhere."""
    n = 20000
    database = rng.integers(0, 256, (n, bits // 8)).astype(np.uint8)
    database[:, 1:] &= rng.integers(0, 2, (n, 1)).astype(np.uint8) * 3
    for q in (1, 70):
        queries = rng.integers(0, 256, (q, bits // 8)).astype(np.uint8)
        distances = (
            np.bitwise_count(queries[:, None] ^ database[None]).sum(axis=2, dtype=np.int32)
            if q == 1
            else None
        )
        for threads in (1, 3):
            found = hamming_topk(queries, database, 500, threads=threads)
            if distances is not None:
                order = np.argsort(distances, axis=1, kind="stable")[:, :500]
                np.testing.assert_array_equal(found.indices, order)
            else:
                alone = hamming_topk(queries[69:], database, 500)
                np.testing.assert_array_equal(found.indices[69:], alone.indices)
                np.testing.assert_array_equal(found.distances[69:], alone.distances)


def nearest(queries: NDArray[np.uint8], database: NDArray[np.uint8], k: int) -> HammingTopK:
    """Counting in NumPy, for data too large for the oracle."""
    distances = np.stack(
        [np.bitwise_count(query ^ database).sum(axis=1, dtype=np.int32) for query in queries]
    )
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return HammingTopK(np.take_along_axis(distances, order, axis=1), order)


@pytest.mark.parametrize("kind", ["random", "sample is near", "sample is far", "ordered", "two codes"])
def test_hamming_where_a_sample_guesses_the_limit(rng: np.random.Generator, kind: str) -> None:
    """The guess holds, is far too small and refuted, or far too large."""
    n, k = 150_000, 300
    database = rng.integers(0, 256, (n, 8)).astype(np.uint8)
    queries = rng.integers(0, 256, (12, 8)).astype(np.uint8)
    sampled = np.arange(n) // 64 % 128 == 0
    match kind:
        case "sample is near":
            database[sampled, 1:] = queries[0, 1:]
        case "sample is far":
            database[~sampled, 1:] = queries[0, 1:]
        case "ordered":
            database = database[np.argsort(np.bitwise_count(database ^ queries[0]).sum(axis=1))]
        case "two codes":
            database[:] = database[rng.integers(0, 2, n)]
    for q in (3, 12):
        expected = nearest(queries[:q], database, k)
        for level, threads in itertools.product(LEVELS, (1, 3)):
            with cpu.pinned(level):
                found = hamming_topk(queries[:q], database, k, threads=threads)
                np.testing.assert_array_equal(found.indices, expected.indices)
                np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("n", [900, 150_000])
def test_hamming_of_selected_rows(rng: np.random.Generator, n: int) -> None:
    database = rng.integers(0, 256, (n, 4)).astype(np.uint8)
    for share in (0.0, 0.001, 0.5, 0.99, 1.0):
        selected = rng.random(n) < share
        rows = np.flatnonzero(selected)
        for q in (1, 8, 9):
            queries = rng.integers(0, 256, (q, 4)).astype(np.uint8)
            found, direct = (
                hamming_topk(queries, database, 400, selected=selected),
                hamming_topk(queries, database[rows], 400),
            )
            assert found.distances.shape == (q, min(400, len(rows)))
            np.testing.assert_array_equal(found.indices, rows[direct.indices])
            np.testing.assert_array_equal(found.distances, direct.distances)
    with pytest.raises(ShapeError, match=f"{n} database rows"):
        hamming_topk(queries, database, 1, selected=selected[1:])


# --- shapes and errors ---


@pytest.mark.parametrize(("q", "n", "d"), [(0, 5, 3), (4, 0, 3), (4, 5, 0), (0, 0, 0), (4, 0, 0)])
def test_empty_inputs(q: int, n: int, d: int) -> None:
    scores, indices = topk(np.zeros((q, d)), np.zeros((n, d), np.float16), 3)
    assert scores.shape == indices.shape == (q, min(n, 3))
    assert (scores.dtype, indices.dtype) == (np.float32, np.int64)
    assert indices.tolist() == [[0, 1, 2][: min(n, 3)]] * q
    found = hamming_topk(np.zeros((q, d), np.uint8), np.zeros((n, d), np.uint8), 3)
    assert isinstance(found, HammingTopK)
    assert found.indices.tolist() == [[0, 1, 2][: min(n, 3)]] * q


@pytest.mark.usefixtures("cpu_level")
@pytest.mark.parametrize("q", [1, 9, 100])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_rows_are_named(rng: np.random.Generator, q: int, bad: float) -> None:
    database = rng.standard_normal((4000, 33)).astype(np.float16)
    queries = rng.standard_normal((q, 33)).astype(np.float32)
    database[[3111, 1234, 3999], [5, 32, 0]] = bad
    for threads in (1, 4):
        with pytest.raises(NonFiniteError, match="database: row 1234, column 32"):
            topk(queries, database, 3, threads=threads)
    selected = np.isfinite(database).all(axis=1)
    assert topk(queries, database, 3, selected=selected).scores.shape == (q, 3)
    queries[q - 1, 7] = bad
    with pytest.raises(NonFiniteError, match=f"queries: row {q - 1}, column 7"):
        topk(queries, database, 3)


def test_wrong_arguments() -> None:
    queries, database = np.ones((2, 3), np.float32), np.ones((5, 3), np.float16)
    codes = np.ones((5, 3), np.uint8)
    with pytest.raises(ParameterError, match="screen: expected auto, float32, bfloat16 or int8"):
        _core.topk(queries, database, 1, None, None, None, "int4")
    for k in (0, -1, 1.5, 2**70):
        with pytest.raises(ParameterError, match="k: expected"):
            topk(queries, database, k)  # type: ignore[arg-type]
        with pytest.raises(ParameterError, match="k: expected"):
            hamming_topk(codes, codes, k)  # type: ignore[arg-type]
    for threads in (0, -3, 10**6):
        with pytest.raises(ParameterError, match="threads: expected"):
            topk(queries, database, 1, threads=threads)
    with pytest.raises(ShapeError, match="2 columns"):
        topk(queries[:, :2], database, 1)
    with pytest.raises(ShapeError, match="2 bytes"):
        hamming_topk(codes[:, :2], codes, 1)
    with pytest.raises(ShapeError):
        topk(queries[0], database, 1)
    with pytest.raises(ShapeError, match="selected"):
        topk(queries, database, 1, selected=[True])
    with pytest.raises(DtypeError):
        topk(queries, database + 1e-3, 1, selected=[1, 2, 3, 4, 5])
    with pytest.raises(DtypeError):
        topk(queries, np.full((5, 3), 0.1), 1)
    with pytest.raises(DtypeError):
        hamming_topk(codes, codes.astype(np.int64), 1)


def test_huge_k_is_the_whole_database(rng: np.random.Generator) -> None:
    database = rng.standard_normal((1000, 5)).astype(np.float16)
    found = topk(database[:2].astype(np.float32), database, 2**62)
    assert sorted(found.indices[1].tolist()) == list(range(1000))


# --- behaviour in a process ---


def test_progress_counts_rows(rng: np.random.Generator) -> None:
    seen: list[int] = []
    database = rng.standard_normal((9000, 8)).astype(np.float16)
    topk(database[:2].astype(np.float32), database, 3, progress=seen.append)
    assert seen[-1] == 9000
    assert seen == sorted(seen)


def test_an_exception_in_progress_stops_the_work() -> None:
    def progress(_: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        topk(np.ones((1, 8)), np.ones((100, 8), np.float16), 3, progress=progress)


def test_ctrl_c_stops_within_a_second() -> None:
    code = (
        "import numpy as np; from ilias_fast.kernels import topk\n"
        "x = np.ones((20000, 256), np.float16); x[:, 0] = np.arange(20000) % 7\n"
        "q = np.random.default_rng(0).standard_normal((60000, 256), dtype=np.float32)\n"
        "print('ready', flush=True); topk(q, x, 1000)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.3)
        assert child.poll() is None, "the search ended before it could be interrupted"
        child.send_signal(signal.SIGINT)
        sent = time.monotonic()
        _, errors = child.communicate(timeout=30)
        assert b"KeyboardInterrupt" in errors
        assert time.monotonic() - sent < 1.5


def _in_child(connection: Any, queries: Any, database: Any) -> None:
    connection.send(topk(queries, database, 5).indices.tolist())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_can_search(rng: np.random.Generator) -> None:
    database = rng.standard_normal((5000, 16)).astype(np.float16)
    queries = rng.standard_normal((100, 16)).astype(np.float32)
    ours = topk(queries, database, 5).indices.tolist()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_in_child, args=(there, queries, database))
    child.start()
    assert here.poll(30), "the child hangs"
    assert here.recv() == ours
    child.join(10)
    assert child.exitcode == 0
