"""Ctrl-C in the middle of one huge call: it is heard at once, and everything works afterwards."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast import kernels
from ilias_fast.adapt import Itq, LinearAdapter
from ilias_fast.errors import NonFiniteError, ParameterError
from ilias_fast.store import GlobalStore, LocalStore

SECONDS = 1.5  # the calls below take several times as long; mostly they end within some hundredths


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt, whatever the process that runs the tests was started with."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def codes(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def points(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).uniform(0, 1000, (count, 2)).astype(np.float32)


def huge_match(**options: Any) -> Callable[..., object]:
    many = codes(400_000)
    return lambda **more: kernels.match(many, many, **options, **more)


def huge_images() -> Callable[..., object]:
    many = codes(400_000)
    return lambda **more: kernels.match_images(many, many, [0, len(many)], **more)


def huge_chamfer(**options: Any) -> Callable[..., object]:
    many = codes(400_000)
    return lambda **more: kernels.chamfer(many, many, [0, len(many)], **options, **more)


def huge_float_chamfer(**options: Any) -> Callable[..., object]:
    many = np.random.default_rng(0).standard_normal((100_000, 128), dtype=np.float32)
    half = many.astype(np.float16)
    return lambda **more: kernels.chamfer(many, half, [0, len(many)], **options, **more)


def huge_instances(**options: Any) -> Callable[..., object]:
    xy = points(600_000)
    return lambda **more: kernels.verify_instances(xy, xy + 5, threshold=1.0, most=9, **options, **more)


def huge_streaming() -> Callable[..., object]:
    rng = np.random.default_rng(0)
    scores = rng.random((1, 20_000_000), dtype=np.float32)
    positives = [rng.random(30_000, dtype=np.float32)]
    return lambda **more: kernels.streaming_map(positives, [scores], prefixes=[20_000_000], **more)


HUGE: dict[str, Callable[[], Callable[..., object]]] = {
    "match": huge_match,
    "match, both ways": lambda: huge_match(max_distance=128, mutual=True, ratio=0.9),
    "match_images": huge_images,
    "chamfer": huge_chamfer,
    "chamfer, symmetric": lambda: huge_chamfer(direction="symmetric"),
    "chamfer of floats": huge_float_chamfer,
    "chamfer of floats, database": lambda: huge_float_chamfer(direction="database", precision="bfloat16"),
    "verify_instances": huge_instances,
    "verify_instances, homography": lambda: huge_instances(model="homography"),
    "streaming_map": huge_streaming,
}


@pytest.mark.parametrize("name", HUGE)
def test_ctrl_c_in_one_huge_call(name: str) -> None:
    call = HUGE[name]()
    sent: list[float] = []

    def press() -> None:
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    for threads in (None, 1):
        timer = threading.Timer(0.12, press)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            call(threads=threads)
        assert time.perf_counter() - sent[-1] < SECONDS
        timer.join()
    few = codes(40)
    assert kernels.match(few, few).query.tolist() == list(range(40)), "pools and buffers are as before"
    xy = points(50)
    assert kernels.verify_spatial(xy, 2 * xy + 5, threshold=1.0).inliers == 50


class EnoughError(Exception):
    """What a progress callback raises here."""


def small_calls() -> dict[str, Callable[..., object]]:
    few, xy = codes(30), points(30)
    vectors = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float16)
    offsets, queries = [0, 10, 30], vectors.astype(np.float32)
    scores = np.linspace(1, 0, 30)
    rows = scores[None].astype(np.float32)
    return {
        "topk": lambda **more: kernels.topk(queries, vectors, 3, **more),
        "hamming_topk": lambda **more: kernels.hamming_topk(few, few, 3, **more),
        "hamming_matrix": lambda **more: kernels.hamming_matrix(few, few, **more),
        "match": lambda **more: kernels.match(few, few, **more),
        "match_images": lambda **more: kernels.match_images(few, few, offsets, **more),
        "chamfer": lambda **more: kernels.chamfer(few, few, offsets, **more),
        "chamfer of floats": lambda **more: kernels.chamfer(queries, vectors, offsets, **more),
        "verify_spatial": lambda **more: kernels.verify_spatial(xy, xy, threshold=1.0, **more),
        "verify_instances": lambda **more: kernels.verify_instances(xy, xy, threshold=1.0, **more),
        "average_precision": lambda **more: kernels.average_precision(
            scores, scores > 0.5, positives=15, k=9, **more
        ),
        "streaming_map": lambda **more: kernels.streaming_map([[0.9]], [rows], **more),
    }


COUNTED = {
    "topk": 30,
    "hamming_topk": 30,
    "hamming_matrix": 900,
    "match": 30,
    "match_images": 2,
    "chamfer": 2,
    "chamfer of floats": 2,
    "verify_spatial": 1,
    "verify_instances": 1,
    "average_precision": 30,
    "streaming_map": 30,
}


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_every_kernel_takes_threads_and_says_how_far_it_is(name: str, threads: int | None) -> None:
    call = small_calls()[name]
    seen: list[int] = []
    with_progress = call(threads=threads, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == COUNTED[name], "all of it is done at the end"
    assert repr(with_progress) == repr(call())

    def enough(done: int) -> None:
        raise EnoughError(done)

    with pytest.raises(EnoughError):
        call(threads=threads, progress=enough)


def test_progress_that_raises_stops_a_huge_call() -> None:
    started = time.perf_counter()
    seen: list[int] = []

    def enough(done: int) -> None:
        seen.append(done)
        if done:
            raise EnoughError

    with pytest.raises(EnoughError):
        huge_match()(progress=enough)
    assert 0 < seen[-1] < 400_000
    assert time.perf_counter() - started < 2 * SECONDS


def test_long_pairs_do_not_depend_on_threads() -> None:
    query, database = codes(5000), codes(4000, 1)
    found = [kernels.match(query, database, max_distance=128, mutual=True, threads=t) for t in (1, 2)]
    assert all(np.array_equal(*columns) for columns in zip(*found, strict=True))
    table = kernels.hamming_matrix(query, database)
    one = kernels.match(query, database, max_distance=128, threads=2)
    assert np.array_equal(one.database, table.argmin(axis=1))
    assert np.array_equal(one.distance, table.min(axis=1))
    xy = points(6000)
    moved = np.concatenate([2 * xy[:3000] + 5, points(6000)[::-1][:3000]])
    first, second = (kernels.verify_instances(xy, moved, threshold=1.0, threads=t)[0] for t in (1, 2))
    assert (first.inliers, first.score) == (second.inliers, second.score)
    scores = np.random.default_rng(0).random(2_500_000)
    relevant = scores > 0.999
    precisions = {
        kernels.average_precision(scores, relevant, positives=5000, k=9000, threads=t) for t in (1, 2)
    }
    assert len(precisions) == 1


def test_a_writer_used_by_its_own_progress_callback_is_refused_at_once(tmp_path: Path) -> None:
    count = 60_000
    with GlobalStore.create(tmp_path / "from", dim=256) as writer:
        writer.append([str(row) for row in range(count)], np.zeros((count, 256), np.float16))
    source = GlobalStore.open(tmp_path / "from")
    refused: list[BaseException] = []
    for attempt in range(20):
        with GlobalStore.create(tmp_path / f"to{attempt}", dim=256) as writer:
            uses: list[Callable[[], object]] = [writer.__len__, writer.commit, writer.close, writer.__repr__]

            def look(done: int, uses: list[Callable[[], object]] = uses) -> None:
                for use in uses if done < count and not refused else ():
                    with pytest.raises(ParameterError, match="in the middle of the append") as caught:
                        use()
                    refused.append(caught.value)

            writer._core.append_rows(source._core_store, np.arange(count), look)
            assert len(writer) == count, "it is as good as ever"
        if refused:  # else it was too fast to say how far it was
            break
    assert refused
    assert len(GlobalStore.open(tmp_path / f"to{attempt}")) == count


def test_what_is_not_finite_is_named_with_its_image(tmp_path: Path) -> None:
    vectors = np.ones((3, 4), np.float16)
    vectors[1, 2] = np.nan
    with (
        GlobalStore.create(tmp_path / "global", dim=4) as writer,
        pytest.raises(NonFiniteError, match=r'vectors \(of "b.jpg"\): row 1, column 2 is NaN'),
    ):
        writer.append(["a.jpg", "b.jpg", "c.jpg"], vectors)
    xy = np.full((5, 2), 0.5, np.float32)
    xy[3, 1] = np.inf
    codes_of_all = np.zeros((5, 1), np.uint8)
    with (
        LocalStore.create(tmp_path / "local", bits=8) as local,
        pytest.raises(NonFiniteError, match=r'xy of image 2 \("c.jpg"\): row 0, column 1 is inf'),
    ):
        local.append_arrays(
            ["a.jpg", "b.jpg", "c.jpg"], [0, 3, 3, 5], codes_of_all, xy, size=np.full((3, 2), 100)
        )


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-30, 1e-19, 1.0, 1e19, 1e38, 3.4e38])
def test_rows_of_any_length_are_normalised_as_float64_would(scale: float) -> None:
    rows = (np.array([[1.0, -1.0], [0.25, 0.0]]) * scale).astype(np.float32)
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    adapter = LinearAdapter(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    np.testing.assert_allclose(adapter.apply(rows), wide / np.maximum(lengths, 1e-12), rtol=1e-6, atol=1e-45)
    binary = Itq.fit(np.random.default_rng(0).standard_normal((50, 8)), 8)
    rows = (np.random.default_rng(1).uniform(-1, 1, (9, 8)) * scale).astype(np.float32)
    wide = rows.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    if scale > 1e-10:  # shorter rows stay short
        assert np.array_equal(binary.apply(rows), binary.apply(unit))
