"""`ilias-fast search` and `store augment`: what the options do to the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.run import Run
from ilias_fast.search import Part, augment, search, search_fused
from ilias_fast.store import GlobalStore
from tests.command_line import done, failing


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    for name, rows, dim in (("q", 5, 8), ("x", 60, 8), ("t", 5, 3), ("y", 60, 3)):
        vectors = rng.standard_normal((rows, dim)).astype(np.float16)
        with GlobalStore.create(tmp_path / name, dim=dim, shard_bytes=400) as writer:
            writer.append([f"{'q' if rows == 5 else 'i'}{row}" for row in range(rows)], vectors)
            writer.commit()
    return tmp_path


def stores(folder: Path, *names: str) -> list[GlobalStore]:
    return [GlobalStore.open(folder / name) for name in names]


def test_exclude_resume_json(folder: Path) -> None:
    q, x = stores(folder, "q", "x")
    output = folder / "run.npz"
    (folder / "exclude.json").write_text(json.dumps({"q1": ["i3", "i4"], "q2": []}))
    printed = done(
        "search", q.path, x.path, "-o", output, "-k", 9, "--exclude", folder / "exclude.json", "--json",
        "--resume", folder / "state",
    )  # fmt: skip
    assert json.loads(printed) == {"queries": 5, "results": 45, "output": str(output)}
    assert Run.load(output) == search(q, x, 9, exclude={"q1": ["i3", "i4"]})
    assert not (folder / "state").exists()
    for wrong in ("[", "[]", '{"q1": "i3"}', '{"q1": [1]}'):
        (folder / "exclude.json").write_text(wrong)
        said = failing("search", q.path, x.path, "-o", output, "--exclude", folder / "exclude.json")
        assert "exclude.json: expected" in said


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_backends(folder: Path, backend: str) -> None:
    pytest.importorskip(backend)
    q, x = stores(folder, "q", "x")
    done("search", q.path, x.path, "-o", folder / "run.npz", "-k", 9, "--backend", backend)
    assert Run.load(folder / "run.npz") == search(q, x, 9)


def test_fusion(folder: Path) -> None:
    q, x, t, y = stores(folder, "q", "x", "t", "y")
    output = folder / "run.npz"
    fuse: list[object] = ["--fuse-queries", t.path, "--fuse-database", y.path]
    done("search", q.path, x.path, "-o", output, "-k", 9, *fuse, "--weight", 0.25, "--weight", -2)
    assert Run.load(output) == search_fused([Part(q, x, 0.25), Part(t, y, -2.0)], 9)
    done("search", q.path, x.path, "-o", output, "-k", 9, "--fuse-queries", q.path)
    assert Run.load(output) == search_fused([Part(q, x), Part(q, x)], 9)
    wrong: list[tuple[list[object], str]] = [
        ([*fuse, "--weight", 1], "expected 2 --weight"),
        ([*fuse, "--qe", 1], "cannot be combined with --qe"),
        ([*fuse, *fuse[2:]], "expected one --fuse-database"),
    ]
    for arguments, message in wrong:
        assert message in failing("search", q.path, x.path, "-o", output, *arguments, code=2)


def test_augment(folder: Path) -> None:
    (x,) = stores(folder, "x")
    done("store", "augment", x.path, "-o", folder / "a", "-n", 3, "--alpha", 2)
    expected = augment(x, folder / "b", neighbours=3, alpha=2.0)
    rows = np.arange(60)
    np.testing.assert_array_equal(GlobalStore.open(folder / "a").rows(rows), expected.rows(rows))


def test_planes_are_made_and_dropped(folder: Path) -> None:
    (x,) = stores(folder, "x")
    assert "planes" in done("store", "planes", x.path)
    assert [one.kind for one in GlobalStore.open(x.path).info().derived] == ["planes"]
    assert "removed" in done("store", "planes", x.path, "--drop")
    assert GlobalStore.open(x.path).info().derived == ()
