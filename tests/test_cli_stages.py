"""The command line: what the stages do on tiny data."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from ilias_fast import __version__
from ilias_fast.run import Run
from ilias_fast.store import BinaryStore, GlobalStore, LocalStore
from tests.command_line import (
    World,
    command,
    done,
    failing,
    write_features,
)


def test_the_stages_one_by_one(world: World) -> None:
    queries, database = GlobalStore.open(world.queries), GlobalStore.open(world.database)
    assert list(queries.ids) == ["bag/query/bag-q.jpg", "cup/query/cup-q.jpg"]
    assert len(database) == 10
    assert list(LocalStore.open(world.local_database).ids) == list(database.ids)
    assert len(Run.load(world.run)) == len(Run.load(world.reranked)) == 2
    printed = done("evaluate", world.run, world.reranked, "-d", world.photos)
    assert "mAP@1000" in printed
    assert "oracle" in printed
    (line,) = [line for line in printed.splitlines() if line.strip().startswith("spatial")]
    assert line.split() == ["spatial", "100.00", "100.00", "2"]


def test_extract_goes_on_and_counts(world: World) -> None:
    again = ["extract", world.photos, "--learnt", world.learnt, "--part", "queries", "-o", world.queries]
    assert done(*again).startswith("0 images described, 2 were there, 0 skipped")


def test_extract_learns_without_a_part_too(world: World, tmp_path: Path) -> None:
    printed = done("extract", world.photos, "--learnt", tmp_path / "new", "--local", tmp_path / "l", "-t", 2)
    assert printed.startswith("12 images described")
    assert (tmp_path / "new").stat().st_size > 10_000
    assert len(LocalStore.open(tmp_path / "l")) == 12


def test_extract_by_a_network(world: World, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="neural extraction needs timm (extra: torch)")
    model = ["--model", "resnet18", "--weights", "random", "--resolution", 32, "--batch-size", 4]
    assert done("extract", world.photos, *model, "-o", tmp_path / "g").startswith("12 images described")
    store = GlobalStore.open(tmp_path / "g")
    assert store.dim == 512
    assert store.provenance["model"] == "resnet18"
    assert "network" not in failing("extract", world.photos, *model, "-o", world.database)
    assert "no local codes" in failing("extract", world.photos, *model, "--local", tmp_path / "l")
    bad = ["extract", world.photos, "-o", tmp_path / "bad", "--model", "resnet18", "--weights"]
    assert "plain tensors" in failing(*bad, world.run)
    assert "cannot read" in failing(*bad, tmp_path / "nowhere.pth")
    assert "pooling" in failing(*bad, "random", "--pooling", "frob")
    assert "resolution" in failing(*bad, "random", "--resolution", 10**9)
    assert "seed" in failing(*bad, "random", "--seed", 10**30)
    assert "no model 'frob'" in failing("extract", world.photos, "-o", tmp_path / "bad", "--model", "frob")
    assert not (tmp_path / "bad").exists()


def test_store_commands(tmp_path: Path, rng: np.random.Generator) -> None:
    array, ids = write_features(tmp_path, rng)
    store = tmp_path / "s"
    printed = done("store", "import", array, "--ids", ids, "-o", store)
    assert printed.split()[:4] == ["path", str(store), "kind", "global"]
    done("store", "import", array, "--ids", ids, "-o", store)  # complete: opened as it is
    assert "same options" in failing("store", "import", array, "--number-rows", "-o", store)
    done("store", "import", array, "--ids", ids, "-o", store, "--overwrite")
    assert done("store", "info", store) == done("store", "info", store)
    assert "all good" in done("store", "verify", store)
    assert "all good" in done("store", "verify", store, "--quick", "-t", 1)
    (store / "shards" / "000007-0123456789abcdef.safetensors").write_bytes(b"left")
    assert "leftover" in done("store", "verify", store)
    assert "1 files removed" in done("store", "gc", store)
    assert "0 files removed" in done("store", "gc", store)
    done("store", "export", store, "-o", tmp_path / "y.npy")
    assert np.array_equal(np.load(tmp_path / "y.npy"), np.load(array))
    assert (tmp_path / "y.txt").read_text() == ids.read_text()
    assert "already exists" in failing("store", "export", store, "-o", tmp_path / "y.npy")
    done("store", "export", store, "-o", tmp_path / "y.npy", "--overwrite")
    np.save(tmp_path / "codes.npy", np.arange(40, dtype=np.uint8).reshape(20, 2))
    done("store", "import", tmp_path / "codes.npy", "--ids", ids, "-o", tmp_path / "b")
    assert BinaryStore.open(tmp_path / "b").bits == 16


def test_store_info_is_whole_when_piped(world: World) -> None:
    printed = done("store", "info", world.database)
    assert GlobalStore.open(world.database).provenance["vocabulary"] in "".join(printed.split())
    assert "…" not in printed


def test_store_import_and_search_of_hdf5(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("h5py", reason="HDF5 needs h5py (extra: hdf5)")
    for number in range(2):
        array, ids = write_features(tmp_path / str(number), rng)
        ids.write_text("".join(f"{number}/{row}\n" for row in range(20)))
        done("store", "import", array, "--ids", ids, "-o", tmp_path / f"s{number}")
        done("store", "export", tmp_path / f"s{number}", "-o", tmp_path / f"f{number:05d}.hdf5")
    template = tmp_path / "f{idx}.hdf5"
    done("store", "import", template, "-o", tmp_path / "all", "--total", 2)
    assert len(GlobalStore.open(tmp_path / "all")) == 40
    done("store", "import", template, "-o", tmp_path / "all")  # complete: opened as it is
    (tmp_path / "names.txt").write_text("3\n5\n")
    done("store", "import", template, "-o", tmp_path / "few", "--selected-ids", tmp_path / "names.txt")
    assert len(GlobalStore.open(tmp_path / "few")) == 4
    answers = []
    for number, database in enumerate([[tmp_path / "s0", tmp_path / "s1"], [template], [tmp_path / "all"]]):
        output = tmp_path / f"run{number}.npz"
        done("search", tmp_path / "f00001.hdf5", *database, "-o", output, "-k", 7)
        answers.append(Run.load(output))
    assert answers[0] == answers[1] == answers[2]
    # A typed number of files does not have to be true.
    missing = failing("store", "import", template, "-o", tmp_path / "many", "--total", 10**15)
    assert "f00002.hdf5: cannot open" in missing
    assert not (tmp_path / "many").exists()


def test_search_of_npy_with_and_without_ids(tmp_path: Path, rng: np.random.Generator) -> None:
    array, ids = write_features(tmp_path, rng)
    output = tmp_path / "run.json"
    printed = done("search", array, array, "-o", output, "-k", 1)
    assert printed == f"20 queries, 20 results: {output}\n"
    run = Run.load(output)
    assert run.query_ids == tuple(f"id {row}" for row in range(20))
    vectors = np.load(array)
    assert [run[query].ids for query in run.query_ids] == [
        [f"id {row}"] for row in np.argmax(vectors @ vectors.T, axis=1)
    ]
    ids.unlink()
    done("search", array, array, "-o", output, "-k", 1, "--qe", 2, "--alpha", 3, "--mode", "paper")
    assert set(Run.load(output).database_ids) <= set(map(str, range(20)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "x.npy"]


def test_ids_come_back_from_their_lines_as_they_were(tmp_path: Path) -> None:
    names = [" c d\u2028e ", "\x85", "\t"]
    with GlobalStore.create(tmp_path / "s", dim=3) as writer:
        writer.append(names, np.eye(3, dtype=np.float16))
    done("store", "export", tmp_path / "s", "-o", tmp_path / "x.npy")
    done("search", tmp_path / "x.npy", tmp_path / "s", "-o", tmp_path / "run.json", "-k", 1)
    run = Run.load(tmp_path / "run.json")
    assert [run[name].ids for name in names] == [[name] for name in names]


@pytest.mark.parametrize("extension", ["json", "pkl", "npz"])
def test_rerank_and_evaluate_in_every_format(world: World, tmp_path: Path, extension: str) -> None:
    before, after = tmp_path / f"before.{extension}", tmp_path / f"after.{extension}"
    Run.load(world.run).save(before)
    local = [world.local_queries, world.local_database]
    done("rerank", before, *local, "-o", after, "-m", "chamfer", "--lambda", 0.2, "--gamma", 0.1, "-M", 4)
    written = tmp_path / "scores.json"
    printed = done("evaluate", after, "-d", world.photos, "--json", written, "--per-query", "--official")
    assert "cup/query/cup-q.jpg" in printed
    scores = json.loads(written.read_text())
    assert scores["official"] is True
    assert scores["tasks"]["all"]["map"] == pytest.approx(100)
    done("evaluate", after, "-d", world.photos, "--task", "image", "--json", tmp_path / "scores.pkl")
    assert pickle.loads((tmp_path / "scores.pkl").read_bytes())["map"] == pytest.approx(100)


def test_evaluate_missing_queries(world: World, tmp_path: Path) -> None:
    entries = json.loads(world.run.read_text())
    del entries["bag/query/bag-q.jpg"]
    half = tmp_path / "half.json"
    half.write_text(json.dumps(entries))
    evaluate = ["evaluate", half, "-d", world.photos]
    assert "the run lacks 1 of 2 image queries" in done(*evaluate)
    assert done(*evaluate, "--missing", "zero").split()[-3:] == ["50.00", "50.00", "2"]
    assert "lacks 1 of 2" in failing(*evaluate, "--missing", "error")
    half.write_text("{}")
    assert "nothing to evaluate" in failing(*evaluate)
    half.write_text('{"bag/query/bag-q.jpg": {"nowhere/1.jpg": 1}}')
    assert "nowhere/1.jpg" in failing(*evaluate, "--check-ids")


def test_report(world: World, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="a report needs Jinja (extra: report)")
    page = tmp_path / "page.html"
    assert done("report", world.run, world.reranked, "-d", world.photos, "-o", page) == f"report: {page}\n"
    text = page.read_text("utf-8")
    assert "bag-q.jpg" in text
    assert '<section id="matches">' not in text


def test_report_of_matched_pairs(world: World, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="a report needs Jinja (extra: report)")
    page, pairs = tmp_path / "page.html", tmp_path / "pairs.json"
    report = ["report", world.run, world.reranked, "-d", world.photos, "-o", page]
    local = ["--local-queries", world.local_queries, "--local-database", world.local_database]

    def drawn() -> set[tuple[str, str]]:
        found = re.findall(r"inliers of \d+ between (\S+) and (\S+)\"", page.read_text("utf-8"))
        assert len(found) == len(set(found))
        return set(found)

    done(*report, *local)
    assert {query for query, _ in drawn()} == {"bag/query/bag-q.jpg", "cup/query/cup-q.jpg"}
    assert all(query.split("/")[0] == name.split("/")[0] for query, name in drawn())  # others match nothing
    chosen = {"bag/query/bag-q.jpg": ["cup/pos/cup-0.jpg", "bag/pos/bag-1.jpg"]}
    pairs.write_text(json.dumps(chosen))
    done(*report, *local, "--pairs", pairs)
    assert drawn() == {(query, name) for query, names in chosen.items() for name in names}
    assert "expected both" in failing(*report, *local[:2])
    assert "--pairs: needs --local-queries" in failing(*report, "--pairs", pairs)
    for wrong in ({"bag/query/bag-q.jpg": ["nowhere.jpg"]}, {"nobody": ["bag/pos/bag-1.jpg"]}):
        pairs.write_text(json.dumps(wrong))
        assert next(iter({"nowhere.jpg", "nobody"} & {*wrong, *wrong[next(iter(wrong))]})) in failing(
            *report, *local, "--pairs", pairs
        )
    pairs.write_text("[]")
    assert "expected an object {query id: [ids]}" in failing(*report, *local, "--pairs", pairs)


def test_compare_and_tables(world: World, tmp_path: Path) -> None:
    written = tmp_path / "comparison.json"
    compare = ["compare", world.run, world.reranked, "-d", world.photos, "--samples", 100]
    printed = done(*compare, "--json", written)
    assert "2 image queries, mAP@1000" in printed
    assert "95% interval" in printed
    assert json.loads(written.read_text())["pairs"][0]["ties"] >= 0
    assert "confidence: expected" in failing(*compare, "--confidence", 2)
    report = ["report", world.run, world.reranked, "-d", world.photos, "--format"]
    assert done(*report, "md").startswith("| method | task | queries | mAP@1k | oracle |")
    assert "dinov3_vitl16" in done(*report, "csv", "--leaderboard")
    assert done(*report, "latex", "-o", tmp_path / "table.tex") == ""
    assert "\\toprule" in (tmp_path / "table.tex").read_text()
    assert set(json.loads(done(*report, "json"))["methods"]) == {world.run.stem, world.reranked.stem}


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = done("doctor")
    assert __version__ in printed
    assert "[torch]" in printed
    monkeypatch.setenv("ILIAS_FAST_THREADS", "[/red]")
    result = command("doctor")
    assert result.code == 1
    assert 'problem: ILIAS_FAST_THREADS: expected a whole number from 1 to 1024, found "[/red]"' in result.out
    # Any other command stops before it starts.
    assert "ILIAS_FAST_THREADS" in failing("store", "info", "nowhere")
