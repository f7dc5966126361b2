"""Batches from a window, work in threads and processes, several devices: always in order, never twice."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ilias_fast.errors import IliasFastError, ImageError, ParameterError
from ilias_fast.extract import extract_on_devices, extract_to_stores, spreading
from ilias_fast.extract.batching import Batcher
from ilias_fast.extract.scheduling import decoders
from ilias_fast.images import FolderSource
from ilias_fast.store import GlobalStore

pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")

from tests.oracles import images as image_oracle  # needs Pillow


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=60),
    st.integers(1, 6),
    st.integers(1, 12),
)
def test_every_image_is_in_one_batch_of_its_bucket(
    images: list[tuple[int, int]], size: int, window: int
) -> None:
    batcher: Batcher[int] = Batcher(size, window=window, window_bytes=100, batch_bytes=60)
    batches, held = [], 0
    for place, (bucket, nbytes) in enumerate(images):
        ready = batcher.add(place, bucket, bucket, nbytes)
        held += 1 - sum(len(batch.places) for batch in ready)
        assert held <= window
        batches += ready
    batches += batcher.finish()
    assert sorted(place for batch in batches for place in batch.places) == list(range(len(images)))
    for batch in batches:
        assert 1 <= len(batch.places) <= size
        assert batch.items == [images[place][0] for place in batch.places]
        assert len(set(batch.items)) == 1
        assert batch.places == sorted(batch.places)


def test_a_window_keeps_batches_full() -> None:
    buckets = np.random.default_rng(0).integers(0, 20, 2000).tolist()
    sizes = []
    batcher: Batcher[int] = Batcher(16, window=500, window_bytes=10**9, batch_bytes=10**9)
    for place, bucket in enumerate(buckets):
        sizes += [len(batch.items) for batch in batcher.add(place, 0, bucket, 1)]
    assert sizes == [16] * len(sizes)
    assert len(sizes) > 100


class Shapes:
    """A staged extractor: the descriptor is the mean colour; what shares a batch has one size."""

    global_dim = 3
    code_bits = None
    local_optional = ()
    best_batch = 4
    uses_boxes = False

    def __init__(self, concurrent: bool = True) -> None:
        self.concurrent = concurrent
        self.batches: list[int] = []
        self.preparation = _shrink

    def provenance(self) -> dict[str, object]:
        return {"extractor": "shapes"}

    def prepare(self, image: NDArray[np.uint8], boxes: Any = None) -> Any:
        return _shrink(image, boxes)

    def bucket(self, prepared: Any) -> Any:
        return prepared.shape

    def describe(self, prepared: Sequence[Any]) -> Any:
        assert len({item.shape for item in prepared}) == 1
        self.batches.append(len(prepared))
        means = np.stack([item.mean(axis=(0, 1)) for item in prepared]).astype(np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True), None

    def extract(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        raise AssertionError(f"a staged extractor is given what it prepared, not {len(images)} images")


def _shrink(image: NDArray[np.uint8], boxes: Any = None) -> NDArray[np.uint8]:
    del boxes
    return np.ascontiguousarray(image[::2, ::2])


def make_shapes(device: str) -> Shapes:
    """Make an extractor for a device."""
    if device == "broken":
        raise ParameterError("device: broken")
    if device == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if device == "deaf":  # does not end when it is told to, nor by itself
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=time.sleep, args=(90,)).start()
        raise ParameterError("device: deaf")
    return Shapes(concurrent=device == "cpu")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images of three sizes in turn, one of them damaged."""
    root = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(1)
    for number in range(40):
        size = [(12, 8), (8, 12), (10, 10)][number % 3]
        image = np.broadcast_to(rng.integers(1, 256, 3).astype(np.uint8), (*size, 3))
        data = image_oracle.encode(np.ascontiguousarray(image))
        (root / f"{number:02d}.png").write_bytes(data[:40] if number == 17 else data)
    return root


@pytest.mark.parametrize("concurrent", [True, False])
@pytest.mark.parametrize(("threads", "processes"), [(1, 0), (3, 0), (2, 2)])
def test_batches_are_full_and_rows_in_order(
    shapes: Path, tmp_path: Path, concurrent: bool, threads: int, processes: int
) -> None:
    extractor = Shapes(concurrent)
    told: list[tuple[str, str]] = []
    report = extract_to_stores(
        extractor,
        FolderSource(shapes),
        global_store=tmp_path / "g",
        threads=threads,
        processes=processes,
        on_skip=lambda name, reason: told.append((name, reason)),
    )
    assert (report.extracted, report.skipped) == (39, told)
    assert [name for name, _ in told] == ["17.png"]
    assert sorted(extractor.batches, reverse=True) == [4] * 9 + [2, 1]
    store = GlobalStore.open(tmp_path / "g")
    assert list(store.ids) == [f"{number:02d}.png" for number in range(40) if number != 17]
    rng = np.random.default_rng(1)
    colours = np.array([rng.integers(1, 256, 3) for _ in range(40)], np.float32)
    expected = np.delete(colours / np.linalg.norm(colours, axis=1, keepdims=True), 17, axis=0)
    np.testing.assert_allclose(store.rows(np.arange(39)), expected, atol=1e-3)


def test_processes_for_a_gpu() -> None:
    class Placed:
        def __init__(self, kind: str) -> None:
            self.device = type("Device", (), {"type": kind})

    gpu: Any = Placed("cuda")
    on_cpu: Any = Placed("cpu")
    assert [decoders(gpu, cores) for cores in (1, 3, 4, 16)] == [0, 0, 4, 16]
    assert [decoders(on_cpu, 16), decoders(Shapes(), 16)] == [0, 0]


def test_several_batches_on_their_way(shapes: Path, tmp_path: Path) -> None:
    """As for a GPU: one is put together while another is computed, and the order stays."""

    class Overlapping(Shapes):
        describers = 2

        def __init__(self) -> None:
            super().__init__(concurrent=False)
            self.meeting = threading.Barrier(2, timeout=20)
            self.entered = itertools.count()

        def describe(self, prepared: Sequence[Any]) -> Any:
            if next(self.entered) < 4:
                self.meeting.wait()  # passes only if two are here at once
            return super().describe(prepared)

    for name, extractor in (("two", Overlapping()), ("one", Shapes(concurrent=False))):
        extract_to_stores(extractor, FolderSource(shapes), global_store=tmp_path / name)
    two, one = (GlobalStore.open(tmp_path / name) for name in ("two", "one"))
    assert list(two.ids) == list(one.ids)
    np.testing.assert_array_equal(two.rows(np.arange(39)), one.rows(np.arange(39)))


def test_strict_keeps_what_came_before(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"17\.png"):
        extract_to_stores(Shapes(), FolderSource(shapes), global_store=tmp_path / "g", strict=True, window=6)
    assert list(GlobalStore.open(tmp_path / "g").ids) == [f"{number:02d}.png" for number in range(17)]


def test_an_extractor_that_fails_keeps_what_came_before(shapes: Path, tmp_path: Path) -> None:
    class Failing(Shapes):
        def describe(self, prepared: Sequence[Any]) -> Any:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().describe(prepared)

    with pytest.raises(KeyboardInterrupt):
        extract_to_stores(Failing(False), FolderSource(shapes), global_store=tmp_path / "g", batch_size=1)
    assert list(GlobalStore.open(tmp_path / "g").ids) == ["00.png", "01.png", "02.png"]
    resumed = extract_to_stores(Shapes(), FolderSource(shapes), global_store=tmp_path / "g")
    assert (resumed.resumed, resumed.extracted) == (3, 36)


def test_boxes_reach_the_extractor(shapes: Path, tmp_path: Path) -> None:
    class Boxed(Shapes):
        uses_boxes = True

    with pytest.raises(ParameterError, match="boxes: the extractor crops"):
        extract_to_stores(Boxed(), FolderSource(shapes), global_store=tmp_path / "g")
    asked: list[str] = []

    def boxes(name: str) -> NDArray[np.int64]:
        asked.append(name)
        return np.zeros((0, 4), np.int64)

    extract_to_stores(Boxed(), FolderSource(shapes), ["03.png"], global_store=tmp_path / "g", boxes=boxes)
    assert asked == ["03.png"]


def test_bad_schedules(shapes: Path, tmp_path: Path) -> None:
    for name, value in (("window", 0), ("processes", -1), ("batch_size", 0), ("commit_every", 0)):
        options: dict[str, Any] = {name: value}
        with pytest.raises(ParameterError, match=f"^{name}: expected"):
            extract_to_stores(Shapes(), FolderSource(shapes), global_store=tmp_path / "g", **options)
    with pytest.raises(ParameterError, match="devices: expected at least one"):
        extract_on_devices(make_shapes, [], FolderSource(shapes), global_store=tmp_path / "g")


def test_several_devices_fill_one_store(shapes: Path, tmp_path: Path) -> None:
    source = FolderSource(shapes)
    extract_to_stores(Shapes(), source, global_store=tmp_path / "one")
    told: list[int] = []
    with pytest.raises(ParameterError, match="broken"):
        extract_on_devices(make_shapes, ["cpu", "broken"], source, global_store=tmp_path / "g")
    with pytest.raises(IliasFastError, match=r"process of killed ended with exit code -9.*run again"):
        extract_on_devices(make_shapes, ["killed"], source, global_store=tmp_path / "g")
    report = extract_on_devices(
        make_shapes,
        ["cpu", "other"],
        source,
        global_store=tmp_path / "g",
        options={"processes": 1},
        progress=lambda done, _: told.append(done),
    )
    assert report.extracted + report.resumed == 39
    assert [name for name, _ in report.skipped] == ["17.png"]
    assert told[-1] == 40
    assert told == sorted(told)
    one, several = GlobalStore.open(tmp_path / "one"), GlobalStore.open(tmp_path / "g")
    assert list(several.ids) == list(one.ids)
    np.testing.assert_array_equal(several.rows(np.arange(39)), one.rows(np.arange(39)))
    assert several.provenance == one.provenance
    assert not list(tmp_path.glob("g.part*"))
    again = extract_on_devices(make_shapes, ["cpu", "cpu"], source, global_store=tmp_path / "g")
    assert (again.extracted, again.resumed) == (0, 39)


def test_a_process_that_does_not_end_is_not_waited_for(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreading, "_GRACE_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(ParameterError, match="deaf"):
        extract_on_devices(make_shapes, ["deaf"], FolderSource(shapes), global_store=tmp_path / "g")
    assert time.monotonic() - start < 60


def test_threads_do_not_wait_for_each_other_forever(shapes: Path, tmp_path: Path) -> None:
    """A slow describing thread holds up what comes after it, and nothing is lost or doubled."""

    class Slow(Shapes):
        def describe(self, prepared: Sequence[Any]) -> Any:
            if not self.batches:
                self.batches.append(0)
                time.sleep(0.3)
            return super().describe(prepared)

    report = extract_to_stores(
        Slow(), FolderSource(shapes), global_store=tmp_path / "g", threads=4, window=5, commit_every=3
    )
    assert report.extracted == 39
    assert len(set(GlobalStore.open(tmp_path / "g").ids)) == 39
