"""`rerank`, `tune` and `match` on the command line."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.rerank import SpatialOptions
from ilias_fast.run import Run
from tests.command_line import World, done, failing


def test_scores_are_kept_and_tuned(world: World, tmp_path: Path) -> None:
    local = [world.run, world.local_queries, world.local_database]
    keep = tmp_path / "kept.npz"
    done("rerank", *local, "-o", tmp_path / "a.npz", "--keep", keep, "--ratio", 0.9, "--no-mutual", "-M", 6)
    printed = done(
        "tune",
        world.run,
        keep,
        "-d",
        world.photos,
        "--lambda",
        "0.1,0.5",
        "--gamma",
        "0.1",
        "-M",
        "2,6",
        "--json",
        tmp_path / "t.json",
        "--plot",
        tmp_path / "t.svg",
    )
    assert "spatial, M = 2" in printed
    assert "best: 100.00 with --lambda" in printed
    assert "best order of the shortlists 100.00" in printed
    assert len(json.loads((tmp_path / "t.json").read_text())["points"]) == 4
    assert (tmp_path / "t.svg").read_text().startswith("<svg")
    assert "0 to 6" in failing("tune", world.run, keep, "-d", world.photos, "-M", 7)
    assert "separated by commas" in failing(
        "tune", world.run, keep, "-d", world.photos, "--gamma", "x", code=2
    )
    assert "not a file of local scores" in failing("tune", world.run, world.reranked, "-d", world.photos)


def test_the_paper_s_protocol_and_what_it_is_changed_by(world: World, tmp_path: Path) -> None:
    local = [world.run, world.local_queries, world.local_database]
    done("rerank", *local, "-o", tmp_path / "a.npz", "--preset", "paper", "--threshold", 0.05)
    kept = Run.load(tmp_path / "a.npz").provenance["rerank"]
    assert isinstance(kept, dict)
    assert kept["options"] == replace(SpatialOptions.paper(), threshold=0.05).to_dict()


@pytest.mark.parametrize("method", ["k-reciprocal", "diffusion"])
def test_neighbourhoods_of_global_descriptors(world: World, tmp_path: Path, method: str) -> None:
    after = tmp_path / "after.json"
    assert "2 queries" in done("rerank", world.run, world.queries, world.database, "-o", after, "-m", method)
    assert set(Run.load(after)["bag/query/bag-q.jpg"].ids) == set(
        Run.load(world.run)["bag/query/bag-q.jpg"].ids
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-m", "spatail"], 2, "did you mean 'spatial'"),
        (["-m", "chamfer", "--ratio", 0.5], 1, "--ratio: is no option of the method 'chamfer'"),
        (["-m", "spatial", "--neighbours", 5], 1, "--neighbours: is no option of the method 'spatial'"),
        (["-m", "chamfer", "--preset", "paper"], 1, "--preset: is no option of the method 'chamfer'"),
        (["-m", "ames"], 1, "needs a published network"),
        (["-m", "diffusion"], 1, "expected a global store"),
        (["-M", 0], 2, "-M"),
        (["--lambda", 1.5], 1, "lam: expected a number from 0 to 1"),
        (["--keep", "scores.json"], 2, "ending in .npz"),
        (["--max-distance", -1], 2, "--max-distance"),
        (["--query-list", "pyproject.toml"], 1, "expected both"),
    ],
)
def test_wrong_arguments(
    world: World, tmp_path: Path, arguments: list[object], code: int, message: str
) -> None:
    local = [world.run, world.local_queries, world.local_database]
    if message == "expected a global store":
        message = "global"
    assert message in failing("rerank", *local, "-o", tmp_path / "after.json", *arguments, code=code)
    assert not (tmp_path / "after.json").exists()


def test_nearest_neighbours_of_ames(world: World, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the pickle holds a torch tensor (extra: torch)")
    run = Run.load(world.run)
    names = list(run.database_ids)
    scores = np.stack([run[query].scores for query in run])
    rows = np.array([[names.index(name) for name in run[query].ids] for query in run])
    neighbours = tmp_path / "nn.pkl"
    neighbours.write_bytes(pickle.dumps(torch.tensor(np.stack([scores, rows]), dtype=torch.float32)))
    (tmp_path / "q.txt").write_text("".join(f"{query},160,120\n" for query in run))
    (tmp_path / "d.txt").write_text("".join(f"{name}\n" for name in names))
    lists = ["--query-list", tmp_path / "q.txt", "--database-list", tmp_path / "d.txt"]
    local = [world.local_queries, world.local_database]
    done("rerank", neighbours, *local, "-o", tmp_path / "after.npz", *lists)
    done("rerank", world.run, *local, "-o", tmp_path / "direct.npz")
    for query in run:
        assert Run.load(tmp_path / "after.npz")[query].ids == Run.load(tmp_path / "direct.npz")[query].ids


def test_match(world: World, tmp_path: Path) -> None:
    query, positive = world.photos / "bag/query/bag-q.jpg", world.photos / "bag/pos/bag-0.jpg"
    picture = tmp_path / "match.png"
    facts = json.loads(done("match", query, positive, "-o", picture, "--json"))
    assert facts["inliers"] >= 20
    assert facts["score"] > 20
    np.testing.assert_allclose(facts["model"], [[1, 0, 0], [0, 1, 0]], atol=2)
    assert picture.read_bytes().startswith(b"\x89PNG")
    by_learnt = json.loads(done("match", query, positive, "-o", picture, "--learnt", world.learnt, "--json"))
    assert by_learnt["inliers"] >= 20
    printed = done("match", query, world.photos / "distractors/d0.jpg", "-o", picture)
    assert "keypoints" in printed
    assert f"picture: {picture}" in printed
    assert "ending in .png" in failing("match", query, positive, "-o", tmp_path / "a.jpg", code=2)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    assert "bad.jpg: not an image" in failing("match", query, tmp_path / "bad.jpg", "-o", picture)
    assert "threshold" in failing("match", query, positive, "-o", picture, "--threshold", 0)
    from tests.oracles import images

    plain = tmp_path / "plain.png"
    plain.write_bytes(images.encode(np.full((40, 300, 3), 200, np.uint8), "PNG"))
    assert "model: none" in done("match", plain, plain, "-o", picture)
