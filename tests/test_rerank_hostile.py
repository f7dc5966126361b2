"""Re-ranking of images that say nothing or too much, and of stores that are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.errors import NonFiniteError, ParameterError, ShapeError
from ilias_fast.kernels import chamfer, match, match_images, verify_spatial
from ilias_fast.rerank import ensemble, rerank
from ilias_fast.run import Run
from ilias_fast.store import LocalImage, LocalStore
from tests.command_line import done, failing
from tests.oracles import images as pictures

COUNT = 80


def stored(path: Path, images: dict[str, LocalImage], *, bits: int = 128) -> LocalStore:
    with LocalStore.create(path, bits=bits) as writer:
        writer.append(list(images), list(images.values()))
        writer.commit()
    return LocalStore.open(path)


def image(codes: NDArray[np.uint8], xy: NDArray[np.float64]) -> LocalImage:
    return LocalImage(codes, xy.astype(np.float32), None, None, None, (640, 480))


def hostile(rng: np.random.Generator) -> dict[str, LocalImage]:
    """Images by what is wrong with them; `line` and `spot` have the descriptors of `good`."""
    codes = rng.integers(0, 256, (COUNT, 16), dtype=np.uint8)
    places = rng.uniform(0, 1, (COUNT, 2))
    along = rng.uniform(0, 1, (COUNT, 1))
    return {
        "good": image(codes, places),
        "empty": image(codes[:0], places[:0]),
        "equal": image(np.repeat(codes[:1], COUNT, axis=0), places),
        "line": image(codes, np.hstack([along, 0.5 * along + 0.2])),
        "row": image(codes, np.hstack([along, np.full_like(along, 0.5)])),
        "spot": image(codes, np.full((COUNT, 2), 0.5)),
        "one": image(codes[:1], places[:1]),
    }


@pytest.mark.usefixtures("cpu_level")
@pytest.mark.parametrize("method", ["chamfer", "spatial"])
def test_images_that_say_nothing(tmp_path: Path, rng: np.random.Generator, method: str) -> None:
    images = hostile(rng)
    database = stored(tmp_path / "store", images)
    run = Run.from_dict({name: {other: 1.0 - i / 10 for i, other in enumerate(images)} for name in images})
    local = rerank(run, database, database, method=method)  # type: ignore[arg-type]
    assert np.isfinite(local.scores).all()
    scores = {
        (name, found): float(score)
        for name, part in zip(run, local.scores.reshape(len(run), -1), strict=True)
        for found, score in zip(run[name].ids, part, strict=True)
    }
    for name in images:
        assert scores[name, "empty"] == scores["empty", name] == 0
    if method == "spatial":
        # Only what has a place on both sides can be verified; equal descriptors vote once, for nothing.
        assert scores["good", "good"] > 20
        for name in images:
            assert scores[name, "equal"] == scores[name, "spot"] == scores[name, "one"] == 0
            assert scores["equal", name] == scores["spot", name] == scores["one", name] == 0
        assert scores["good", "line"] == scores["good", "row"] == 0
    final = ensemble(run, local)
    assert all(np.isfinite(final[name].scores).all() for name in run)
    assert set(final["empty"].ids) == set(images)


def test_points_on_a_line_are_no_affine_map(rng: np.random.Generator) -> None:
    along = rng.uniform(0, 500, (60, 1)).astype(np.float32)
    line, plane = np.hstack([along, 2 * along]), rng.uniform(0, 500, (60, 2)).astype(np.float32)
    for query, database in [(plane, line), (line, plane), (np.zeros_like(plane), plane), (plane, line * 0)]:
        found = verify_spatial(query, database, threshold=4)
        assert found.mask.sum() < 12
        assert found.model is None or np.isfinite(found.model).all()
    same = verify_spatial(line, line, threshold=4)
    assert same.mask.all()
    assert same.model is not None
    np.testing.assert_allclose(line @ same.model[:, :2].T + same.model[:, 2], line, atol=4)


def test_a_store_whose_positions_went_bad(tmp_path: Path, rng: np.random.Generator) -> None:
    images = hostile(rng)
    bad = images["good"].xy.copy()
    bad[7] = np.nan
    with pytest.raises(NonFiniteError, match=r'xy of image 0 \("good"\): row 7'):
        stored(tmp_path / "refused", {"good": images["good"]._replace(xy=bad)})
    # The same bytes, changed behind the store's back.
    stored(tmp_path / "store", images)
    value = images["good"].xy[7].tobytes()
    files = [
        file for file in (tmp_path / "store").rglob("*") if file.is_file() and value in file.read_bytes()
    ]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes().replace(value, np.full(2, np.nan, np.float32).tobytes()))
    database = LocalStore.open(tmp_path / "store")
    run = Run.from_dict({"line": {"good": 1.0}, "good": {"line": 1.0, "good": 0.5}})
    with pytest.raises(NonFiniteError, match="good"):
        rerank(run, database, database)
    assert np.isfinite(rerank(run, database, database, method="chamfer").scores).all()


def test_stores_that_do_not_fit_on_the_command_line(tmp_path: Path, rng: np.random.Generator) -> None:
    images = hostile(rng)
    stored(tmp_path / "store", images)
    stored(
        tmp_path / "short", {"good": image(images["good"].codes[:, :8].copy(), images["good"].xy)}, bits=64
    )
    run, after = tmp_path / "run.json", tmp_path / "after.json"
    Run.from_dict({"good": dict.fromkeys(images, 0.5)}).save(run)
    for method in ("spatial", "chamfer"):
        done("rerank", run, tmp_path / "store", tmp_path / "store", "-o", after, "-m", method)
        assert set(Run.load(after)["good"].ids) == set(images)
        after.unlink()
        message = failing("rerank", run, tmp_path / "short", tmp_path / "store", "-o", after, "-m", method)
        assert "64 bits" in message
        assert "128 bits" in message
    Run.from_dict({"good": {"line": 1.0}, "lost/query.jpg": {"line": 1.0}}).save(run)
    message = failing("rerank", run, tmp_path / "store", tmp_path / "store", "-o", after)
    assert "lost/query.jpg" in message
    Run.from_dict({"good": {"line": 1.0, "lost/image.jpg": 0.5}}).save(run)
    assert "lost/image.jpg" in failing("rerank", run, tmp_path / "store", tmp_path / "store", "-o", after)
    assert not after.exists()


@pytest.mark.parametrize("offsets", [[0, 3, 2, 4], [1, 2, 4], [0, 2], [0, 5], [0, -1, 4], [[0, 4]]])
def test_offsets_that_are_none(offsets: list[int]) -> None:
    codes = np.zeros((4, 16), np.uint8)
    for call in (chamfer, match_images):
        with pytest.raises((ParameterError, ShapeError), match="offsets"):
            call(codes, codes, offsets)


@pytest.mark.usefixtures("cpu_level")
def test_a_match_does_not_depend_on_the_one_before(rng: np.random.Generator) -> None:
    """What a call keeps of the last query, and memory it is given back, are nobody's business."""
    query, other = rng.integers(0, 256, (2, 600, 16), dtype=np.uint8)
    database = rng.integers(0, 256, (100, 16), dtype=np.uint8)
    first = match(query, database, max_distance=128)
    kept = [column.copy() for column in first]
    match(other, database[:50], max_distance=128)
    match(query[:, :8], database[:, :8], max_distance=40, mutual=True)
    query[3] ^= 255
    changed = match(query, database, max_distance=128)
    query[3] ^= 255
    for column, before, again in zip(first, kept, match(query, database, max_distance=128), strict=True):
        np.testing.assert_array_equal(column, before)
        np.testing.assert_array_equal(again, before)
    assert changed.distance[3] != first.distance[3]
    for column in (*first, *changed):
        assert column.flags.writeable
        assert column.flags.c_contiguous
    first.query[:] = -1
    assert (first.distance == kept[2]).all()
    nothing = match(query, database, max_distance=0)
    assert [column.shape for column in nothing] == [(0,)] * 3
    assert [column.dtype for column in nothing] == [np.int32] * 3


def test_pictures_without_anything_to_match(tmp_path: Path) -> None:
    y, x = np.mgrid[:240, :320]
    drawn = {
        "dot": np.full((1, 1, 3), 90, np.uint8),
        "plain": np.full((240, 320, 3), 200, np.uint8),
        "checks": np.repeat(((x // 16 + y // 16) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2),
        "edge": np.repeat(((x > 160) * 255).astype(np.uint8)[..., None], 3, axis=2),
    }
    for name, pixels in drawn.items():
        (tmp_path / f"{name}.png").write_bytes(pictures.encode(pixels, "PNG"))
    for first in drawn:
        for second in ("plain", "checks"):
            out = tmp_path / "match.png"
            facts = json.loads(
                done("match", tmp_path / f"{first}.png", tmp_path / f"{second}.png", "-o", out, "--json")
            )
            assert out.read_bytes().startswith(b"\x89PNG")
            assert facts["inliers"] <= facts["tentative"]
            if first != second:
                assert facts["score"] == 0
