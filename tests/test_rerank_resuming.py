"""Scores on disk: saved, loaded, refused; interrupted re-ranking goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.errors import (
    FileFormatError,
    IncompatibleStoreError,
    ParameterError,
    ShapeError,
    StorageError,
    UnknownIdError,
)
from ilias_fast.rerank import ChamferOptions, LocalScores, ensemble, rerank
from ilias_fast.run import Run
from ilias_fast.store import LocalImage, LocalStore


class World:
    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        for side, count in (("q", 9), ("d", 30)):
            images = [
                LocalImage(
                    rng.integers(0, 256, (12, 8), dtype=np.uint8),
                    rng.random((12, 2), np.float32),
                    None,
                    None,
                    None,
                    (40, 30),
                )
                for _ in range(count)
            ]
            with LocalStore.create(folder / side, bits=64) as writer:
                writer.append([f"{side}{i}" for i in range(count)], images)
        self.queries, self.database = LocalStore.open(folder / "q"), LocalStore.open(folder / "d")
        found = {
            f"q{i}": {f"d{j}": float(rng.random()) for j in rng.permutation(30)[: 20 - 5 * (i % 4)]}
            for i in range(9)
        }
        self.run = Run.from_dict({**found, "q3": {}})


@pytest.fixture
def world(tmp_path: Path, rng: np.random.Generator) -> World:
    return World(tmp_path, rng)


class _StopError(Exception):
    pass


def same(a: LocalScores, b: LocalScores) -> None:
    for name in ("scores", "inliers", "tentative", "models"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.method, a.options, a.shortlist) == (b.method, b.options, b.shortlist)


@pytest.mark.parametrize("method", ["spatial", "chamfer"])
def test_interrupted_scores_go_on(world: World, tmp_path: Path, method: Any) -> None:
    whole = rerank(world.run, world.queries, world.database, method=method, shortlist=12)
    keep = tmp_path / "scores.npz"
    arguments = {"method": method, "shortlist": 12, "keep": keep}

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise _StopError

    with pytest.raises(_StopError):
        rerank(world.run, world.queries, world.database, progress=stop, **arguments)
    assert not keep.exists()
    parts = tmp_path / "scores.npz.parts"
    assert list(parts.iterdir())
    (parts / ".0-1.npz.abcd.partial").write_bytes(b"killed while writing")
    seen: list[tuple[int, int]] = []
    with pytest.raises(IncompatibleStoreError, match=r"differ in shortlist; .* remove .*parts"):
        rerank(world.run, world.queries, world.database, method=method, shortlist=11, keep=keep)
    again = rerank(
        world.run, world.queries, world.database, progress=lambda *done: seen.append(done), **arguments
    )
    assert seen[0][0] > 0
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    same(whole, again)
    assert not parts.exists()
    same(whole, rerank(world.run, world.queries, world.database, **arguments))
    same(whole, LocalScores.load(keep, world.run))
    with pytest.raises(IncompatibleStoreError, match="differ in shortlist; choose another file"):
        rerank(world.run, world.queries, world.database, method=method, keep=keep)
    # The same images described anew are other scores, of which the file knows nothing.
    renewed = LocalStore.create(tmp_path / "renewed", bits=64)
    with renewed as writer:
        images = [world.database.image(row) for row in range(len(world.database))]
        writer.append(list(world.database.ids), images[::-1])
    with pytest.raises(IncompatibleStoreError, match="differ in stores; choose another file"):
        rerank(world.run, world.queries, LocalStore.open(tmp_path / "renewed"), **arguments)
    # What was saved by hand says nothing of its stores.
    whole.save(keep)
    same(whole, rerank(world.run, world.queries, world.database, **arguments))
    other = world.run.truncate(3)
    with pytest.raises(ShapeError, match="scores of this run"):
        LocalScores.load(keep, other)


def test_damage_is_named(world: World, tmp_path: Path) -> None:
    keep = tmp_path / "scores.npz"
    rerank(world.run, world.queries, world.database, keep=keep)
    data = keep.read_bytes()
    for damaged in (b"", data[: len(data) // 2], b"PK" + bytes(100)):
        keep.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=r"scores\.npz"):
            LocalScores.load(keep, world.run)
    np.savez(keep, scores=np.zeros(3, np.float32))
    with pytest.raises(FileFormatError, match=r"scores\.npz"):
        LocalScores.load(keep, world.run)
    with pytest.raises(ParameterError, match=r"ending in \.npz"):
        rerank(world.run, world.queries, world.database, keep=tmp_path / "scores.txt")
    with pytest.raises(StorageError):
        rerank(world.run, world.queries, world.database, keep=tmp_path / "no" / "folder.npz")
    (tmp_path / "new.npz.parts").mkdir()
    (tmp_path / "new.npz.parts" / "notes.txt").write_text("mine")
    with pytest.raises(FileFormatError, match="move it away"):
        rerank(world.run, world.queries, world.database, keep=tmp_path / "new.npz")


def test_fewer_images_of_the_same_scores(world: World) -> None:
    local = rerank(world.run, world.queries, world.database, shortlist=12)
    same(local.truncate(4), rerank(world.run, world.queries, world.database, shortlist=4))
    assert ensemble(world.run, local.truncate(0)) == world.run
    with pytest.raises(ParameterError, match="0 to 12"):
        local.truncate(13)


def test_what_is_missing_is_named(world: World) -> None:
    strange = Run.from_dict({"q0": {"d0": 1.0}, "new/query.jpg": {"d1": 1.0}})
    with pytest.raises(UnknownIdError, match=r"lacks 1 of the 2 images of the run: 'new/query.jpg'"):
        rerank(strange, world.queries, world.database)
    strange = Run.from_dict({"q0": {"d0": 1.0, "tar/unknown": 0.5}})
    with pytest.raises(UnknownIdError, match=r"lacks 1 of the 2 images of the shortlists: 'tar/unknown'"):
        rerank(strange, world.queries, world.database)
    # Beyond the shortlist nobody asks.
    assert rerank(strange, world.queries, world.database, shortlist=1, options=None).shortlist == 1
    # A query without results needs no descriptors.
    empty = Run.from_dict({"q0": {"d0": 1.0}, "nowhere": {}})
    rerank(empty, world.queries, world.database, method="chamfer", options=ChamferOptions())
