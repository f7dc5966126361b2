"""Derived files and tombstones, mutated: refused, or the right answer, and never a crash."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilias_fast.errors import CorruptStoreError, IliasFastError
from ilias_fast.kernels import topk
from ilias_fast.store import GlobalStore, build_planes, compact, gc, verify
from tests.store_samples import write_manifest

ROWS, DIM = 20_000, 32  # fewer rows are searched without planes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one shard with planes and deleted rows."""
    rng = np.random.default_rng(7)
    path = tmp_path_factory.mktemp("planes") / "s"
    with GlobalStore.create(path, dim=DIM) as writer:
        writer.append([f"id{row}" for row in range(ROWS)], rng.standard_normal((ROWS, DIM)))
    with GlobalStore.append_to(path) as writer:
        writer.delete(["id0", "id1", "id2", "id77"])
    build_planes(path)
    return path


def _answer(path: Path) -> tuple[list[int], list[float]]:
    queries = np.random.default_rng(8).standard_normal((2, DIM), dtype=np.float32)
    scores, indices = topk(queries, GlobalStore.open(path), 9)
    return indices.ravel().tolist(), scores.ravel().tolist()


def _planes(path: Path) -> Path:
    (file,) = (path / "shards").glob("*.planes-*")
    return file


def test_whatever_the_header_of_planes_says_the_answer_is_right(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "s"))
    file, expected = _planes(path), _answer(whole)
    good = file.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    rng = np.random.default_rng(1)
    for _ in range(200):
        bad = bytearray(good)
        for at in rng.integers(0, header, int(rng.integers(1, 4))):
            bad[at] = int(rng.choice(list(b'0123456789"[]{},: \xffUIF')))
        if bad == good:
            continue
        file.write_bytes(bad)
        # Bounds of other rows could hide the best ones: planes that do not fit their shard are passed over.
        assert _answer(path) == expected, bytes(bad[:header])
        (damage,) = verify(path).damages
        assert damage.file == file.name
    for length in range(0, len(good), len(good) // 40):
        file.write_bytes(good[:length])
        assert _answer(path) == expected
        assert not verify(path, quick=True).ok
    file.unlink()
    assert _answer(path) == expected
    file.mkdir()
    assert _answer(path) == expected


def test_changed_values_of_planes_are_found_by_verify_and_crash_nothing(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "s"))
    file = _planes(path)
    good = file.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    rng = np.random.default_rng(2)
    expected, _ = _answer(whole)
    # A bound of nothing hides the best row of a query: what only `verify` can find out.
    row = expected[0] + 4
    hidden = bytearray(good)
    tensors = json.loads(good[8:header])
    for fact in (1, 2):  # the scale and the bound of the residual
        at = header + tensors["facts"]["data_offsets"][0] + 20 * row + 4 * fact
        hidden[at : at + 4] = b"\x00" * 4
    file.write_bytes(hidden)
    assert expected[0] not in _answer(path)[0][:9], "planes are not read: the test tests nothing"
    for _ in range(60):
        bad = bytearray(good)
        at = int(rng.integers(header, len(good) - 8))
        bad[at : at + 8] = rng.choice([b"\xff" * 8, b"\x00" * 8, rng.bytes(8), b"\x00\x00\x80\x7f" * 2])
        if bad == good:
            continue
        file.write_bytes(bad)
        indices, scores = _answer(path)
        assert all(0 <= row < ROWS - 4 for row in indices)
        assert np.isfinite(scores).all()
        (damage,) = verify(path).damages
        assert damage.file == file.name
    file.write_bytes(good)
    assert verify(path).ok


@pytest.mark.parametrize(
    "parameters",
    [
        {"version": 2},
        {"columns": DIM + 1},
        {"limit": 126},
        {"seed": 1},
        {"seed": None},
        {},
        {"columns": 2**63},
        {"version": "1"},
    ],
)
def test_planes_made_in_another_way_are_passed_over(
    parameters: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "s"))
    manifest = json.loads((path / "manifest.json").read_text())
    (derived,) = manifest["shards"][0]["derived"]
    derived["parameters"] = {**derived["parameters"], **parameters} if parameters else {}
    write_manifest(path, manifest)
    assert _answer(path) == _answer(whole)
    assert verify(path).ok


NUMBERS = st.one_of(st.integers(-2, 12), st.sampled_from([2**31, 2**32 - 1, 2**32, 2**63, 2**64]))


def _runs(listed: list[int], rows: int) -> set[int] | None:
    """Return the rows a list of runs deletes, or None if the format forbids it."""
    if len(listed) % 2 or not all(0 <= number < 2**32 for number in listed):
        return None
    runs = [(first, first + count) for first, count in zip(listed[::2], listed[1::2], strict=True)]
    rising = all(one[1] < other[0] for one, other in pairwise(runs))
    if not rising or not all(start < end <= rows for start, end in runs):
        return None
    return {row for start, end in runs for row in range(start, end)}


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tombstones") / "s"
    with GlobalStore.create(path, dim=2) as writer:
        writer.append([f"id{row}" for row in range(10)], np.arange(20).reshape(10, 2).astype(np.float16))
    return path


@settings(max_examples=300, deadline=None)
@given(listed=st.lists(NUMBERS, max_size=6), lie=st.sampled_from([0, 0, 0, 1, -1]))
def test_tombstones_are_refused_or_right(listed: list[int], lie: int, ten: Path) -> None:
    manifest_file = ten / "manifest.json"
    good = manifest_file.read_bytes()
    gone = _runs(listed, 10)
    manifest = json.loads(good)
    manifest["shards"][0]["deleted"] = listed
    manifest["rows"] = 10 - len(gone or ()) + lie
    try:
        write_manifest(ten, manifest)
        if gone is None or lie:
            with pytest.raises(CorruptStoreError, match=r"manifest\.json"):
                GlobalStore.open(ten)
            return
        store = GlobalStore.open(ten)
        left = [row for row in range(10) if row not in gone]
        assert list(store.ids) == [f"id{row}" for row in left]
        assert store.rows(range(len(store)))[:, 0].tolist() == [2 * row for row in left]
        assert store.contains([f"id{row}" for row in range(10)]).tolist() == [
            row not in gone for row in range(10)
        ]
        assert store.info().deleted == len(gone)
        assert verify(ten).ok
        if left:
            _, indices = topk(np.ones((1, 2), np.float32), store, 3)
            assert indices[0].tolist() == list(range(len(left)))[::-1][:3]
    finally:
        manifest_file.write_bytes(good)


@settings(max_examples=15, deadline=None)
@given(
    rounds=st.lists(
        st.tuples(st.sets(st.integers(0, 29), max_size=12), st.booleans()), min_size=1, max_size=4
    )
)
def test_a_store_that_lost_rows_is_as_if_it_never_had_them(
    rounds: list[tuple[set[int], bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("deleted") / "s"
    with GlobalStore.create(path, dim=2, shard_bytes=300) as writer:
        writer.append([f"id{row}" for row in range(30)], np.arange(60).reshape(30, 2).astype(np.float16))
    left = list(range(30))
    for chosen, again in rounds:
        gone = [row for row in left if row in chosen]
        with GlobalStore.append_to(path) as writer:
            assert writer.delete([f"id{row}" for row in gone]) == len(gone)
            left = [row for row in left if row not in chosen]
            if again and gone:
                # What was deleted may come again, at the end.
                writer.append([f"id{gone[0]}"], np.array([[2 * gone[0], 0]], np.float16))
                left.append(gone[0])
        if again:
            compact(path, shard_bytes=300)
        store = GlobalStore.open(path)
        assert list(store.ids) == [f"id{row}" for row in left]
        assert store.rows(range(len(left)))[:, 0].tolist() == [2 * row for row in left]
        assert np.array_equal(store.find([f"id{row}" for row in left]), np.arange(len(left)))
        assert verify(path).ok
        assert gc(path) == ()
    with pytest.raises(IliasFastError, match="unknown id"):
        store.find(["id30"])
