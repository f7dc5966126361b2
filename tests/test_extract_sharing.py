"""Results of worker processes in shared memory: equal to what was sent, with or without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ilias_fast.errors import ImageError
from ilias_fast.extract import sharing
from ilias_fast.extract.preparing import Prepared
from ilias_fast.extract.sharing import SharedSlots, WorkerSlots


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, tuple):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


@pytest.fixture
def results(rng: np.random.Generator) -> list[Any]:
    pixels = rng.integers(0, 256, (30, 20, 3), np.uint8)
    return [
        Prepared(pixels, None),
        Prepared(pixels[::2, ::3], rng.random((15, 7)) < 0.5),
        (pixels, (pixels.astype(np.float32), np.empty((0, 3), np.uint8))),
        "text",
        None,
    ]


def test_slots_are_found_used_and_freed(results: list[Any]) -> None:
    slots = SharedSlots(2)
    if slots.address is None:
        pytest.skip("this system has no memory that processes can share by a path")
    worker = WorkerSlots(slots.address)
    for _ in range(3):
        for result in results:
            one, two, none = slots.take(), slots.take(), slots.take()
            assert (sorted([one, two]), none) == ([0, 1], None)  # type: ignore[type-var]
            packed = [worker.pack(result, slot) for slot in (one, two, none)]
            assert packed[2].sizes is None
            for each, slot in zip(packed, (one, two, none), strict=True):
                found = slots.unpack(each, slot)
                same(found, result)
                if isinstance(found, Prepared):
                    found.pixels[:] = 0  # its own, to be written to
                slots.give(slot)
    slots.close()


def test_what_does_not_fit_goes_through_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SLOT_BYTES", 1000)
    slots = SharedSlots(1)
    worker = WorkerSlots(slots.address)
    for length in (1000, 1001):
        packed = worker.pack(np.arange(length, dtype=np.uint8), slots.take())
        assert (packed.sizes is None) == (length > 1000 or slots.address is None)
        np.testing.assert_array_equal(slots.unpack(packed, 0), np.arange(length, dtype=np.uint8))
        slots.give(0)
    slots.close()


def test_without_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, results: list[Any]) -> None:
    monkeypatch.setattr(sharing, "_MEMORY", tmp_path / "nowhere")
    slots = SharedSlots(3)
    assert (slots.address, slots.take()) == (None, None)
    for worker in (WorkerSlots(None), WorkerSlots(str(tmp_path / "gone"))):
        for result in results:
            same(slots.unpack(worker.pack(result, None), None), result)
    slots.close()


def test_errors_travel_too() -> None:
    slots = SharedSlots(1)
    error = slots.unpack(WorkerSlots(slots.address).pack(ImageError("a.jpg: is damaged"), slots.take()), 0)
    assert isinstance(error, ImageError)
    assert str(error) == "a.jpg: is damaged"
    slots.close()
