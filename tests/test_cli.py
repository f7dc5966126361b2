"""The command line: help, happy paths on tiny data, errors in one line, interruption, odd outputs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from ilias_fast import __version__
from ilias_fast.cli import application
from ilias_fast.run import Run
from ilias_fast.store import BinaryStore, GlobalStore, LocalStore
from tests.command_line import (
    World,
    command,
    done,
    draw_photos,
    failing,
    finished,
    only_progress,
    process,
    the_error,
)

COMMANDS = [
    (),
    ("demo",),
    ("extract",),
    ("extract-local",),
    ("models",),
    ("adapt",),
    ("adapt", "train"),
    ("adapt", "fit"),
    ("adapt", "apply"),
    ("adapt", "export"),
    ("adapt", "compare"),
    ("store",),
    ("store", "import"),
    ("store", "export"),
    ("store", "augment"),
    ("store", "planes"),
    ("store", "compact"),
    ("store", "merge"),
    ("store", "select"),
    ("store", "delete"),
    ("benchmark",),
    ("compare",),
    ("store", "info"),
    ("store", "verify"),
    ("store", "gc"),
    ("search",),
    ("fuse",),
    ("rerank",),
    ("tune",),
    ("match",),
    ("evaluate",),
    ("report",),
    ("sweep",),
    ("sweep", "distractors"),
    ("sweep", "dimension"),
    ("sweep", "rerank"),
    ("doctor",),
]


def write_features(folder: Path, rng: np.random.Generator, rows: int = 20) -> tuple[Path, Path]:
    """Write `x.npy` of float32 [rows, 8] and `x.txt` of ids."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "x.npy", rng.standard_normal((rows, 8)).astype(np.float16).astype(np.float32))
    (folder / "x.txt").write_text("".join(f"id {row}\n" for row in range(rows)))
    return folder / "x.npy", folder / "x.txt"


# --- help -------------------------------------------------------------------------------------------------


def every_command() -> dict[tuple[str, ...], Any]:
    """Return all commands and groups by the words that call them."""

    def below(words: tuple[str, ...], node: Any) -> dict[tuple[str, ...], Any]:
        children = getattr(node, "commands", {}).items()
        return {words: node} | {
            key: value for name, child in children for key, value in below((*words, name), child).items()
        }

    return below((), typer.main.get_command(application()))


def test_every_command_is_listed_here() -> None:
    assert set(every_command()) == set(COMMANDS)


def test_everything_has_a_help_text() -> None:
    for words, node in every_command().items():
        assert node.help, words
        for parameter in node.params:
            where = (*words, parameter.name)
            assert parameter.name == "help" or (parameter.help or "").endswith("."), where


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_printed(words: tuple[str, ...], flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = command(*words, flag)
    assert (result.code, result.err) == (0, "")
    assert "Usage:" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines())
    assert "\x1b" not in result.out


@pytest.mark.parametrize("words", [(), ("store",)], ids=["ilias-fast", "store"])
def test_a_group_alone_shows_its_help(words: tuple[str, ...]) -> None:
    result = command(*words)
    assert result.code == 2
    assert "Usage:" in result.out + result.err
    assert "error:" not in result.err


def test_version() -> None:
    assert done("--version") == f"ilias-fast {__version__}\n"


# --- happy paths ------------------------------------------------------------------------------------------


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
    assert "bag-q.jpg" in page.read_text("utf-8")


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


# --- errors are one line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frob"], "No such command 'frob' (see"),
        (["search"], "Missing argument"),
        (["search", "q", "d"], "Missing option '--output'"),
        (["search", "q", "d", "-o", "r.json", "-k", "0"], "-k"),
        (["search", "q", "d", "-o", "r.json", "-k", "many"], "-k"),
        (["search", "q", "d", "-o", "r.json", "--frob"], "--frob"),
        (["search", "q", "d", "-o", "r.json", "--mode", "frob"], "'frob'"),
        (["search", "q", "d", "-o", "r.json", "--qe", "-1"], "--qe"),
        (["search", "q", "d", "-o", "r.json", "--alpha", "nan"], "--alpha"),
        (["search", "q", "d", "-o", "r.json", "-t", "1025"], "--threads"),
        (["search", "q", "d", "-o", "r.txt"], "expected a file name ending in .json, .pkl or .npz"),
        (["search", "q", "d", "-o", "nowhere/r.json"], "there is no folder nowhere to write r.json to"),
        (["rerank", "nowhere.json", "q", "d", "-o", "r.json"], "nowhere.json"),
        (["rerank", ".", "q", "d", "-o", "r.json"], "directory"),
        (["rerank", "r.json", "q", "d", "-o", "r.html"], ".npz"),
        (["evaluate", "r.json"], "--dataset"),
        (["evaluate", "r.json", "-d", ".", "--json", "no/where.json"], "there is no folder"),
        (["report", "r.json", "-d", ".", "-o", "no/where.html"], "there is no folder"),
        (["extract", "nowhere", "-o", "s"], "nowhere"),
        (["extract", ".", "-o", "s", "--learnt", "no/where"], "there is no folder"),
        (["demo", "--size", "3"], "--size"),
        (["store", "frob"], "frob"),
        (["store", "info"], "Missing argument"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = failing(*arguments, code=2)
    assert message in found
    assert found.endswith("--help)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "{nowhere}", "{db}", "-o", "{out}.json"], "nowhere: expected a store"),
        (["search", "{q}", "{db}", "{nowhere}", "-o", "{out}.json"], "nowhere: expected a store"),
        (["search", "{q}", "{db-local}", "-o", "{out}.json"], "expected a global store"),
        (["search", "{q}", "{db}", "-o", "{out}.json", "-k", str(10**30)], "k: expected a whole number"),
        (["search", "{q}", "{db}", "-o", "{out}.json", "--adapter", "{learnt}"], "layer.weight"),
        (["search", "{q}", "{db}", "-o", "{out}.json", "--adapter", "{run}"], "safetensors"),
        (["search", "{q}", "{db}", "-o", "{out}.json", "--selected-ids", "{learnt}"], "UTF-8"),
        (["search", "{q}", "{db}", "-o", "{out}.json", "--selected-ids", "{nowhere}"], "cannot read"),
        (["search", "{q}", "{db}", "-o", "{out}.json", "--mode", "official", "--alpha", "2"], "alpha"),
        (["rerank", "{run}", "{q}", "{db}", "-o", "{out}.json"], "expected a local store, found a global"),
        (["rerank", "{run}", "{db-local}", "{q-local}", "-o", "{out}.json"], "lacks 2 of the 2 images"),
        (["rerank", "{run}", "{q-local}", "{db-local}", "-o", "{out}.json", "-M", str(10**30)], "shortlist"),
        (["rerank", "{run}", "{q-local}", "{db-local}", "-o", "{out}.json", "--lambda", "2"], "lam"),
        (["rerank", "{run}", "{q-local}", "{db-local}", "-o", "{out}.json", "--gamma", "nan"], "gamma"),
        (["rerank", "{learnt}", "{q-local}", "{db-local}", "-o", "{out}.json"], "ending in .json"),
        (["evaluate", "{nowhere}.json", "-d", "{photos}"], "cannot read"),
        (["evaluate", "{q}", "-d", "{photos}"], "ending in .json"),
        (["evaluate", "{run}", "-d", "{nowhere}"], "expected a folder that holds a dataset"),
        (["evaluate", "{run}", "-d", "{run}"], "expected a folder that holds a dataset, found a file"),
        (["evaluate", "{run}", "-d", "{q}"], "no query images"),
        (["evaluate", "{run}", "-d", "{photos}", "--task", "text"], "text"),
        (["evaluate", "{run}", "{run}", "-d", "{photos}", "--json", "{out}.json"], "expected one run"),
        (["evaluate", "{run}", "-d", "{photos}", "--json", "{out}.txt"], ".json or .pkl"),
        (["report", "{run}", "-d", "{photos}", "-o", "{photos}"], "cannot write"),
        (
            ["store", "import", "{run}", "--format", "npy", "--ids", "{run}", "-o", "{out}"],
            "expected a .npy file",
        ),
        (["store", "import", "{run}", "-o", "{out}"], "or name the format"),
        (["store", "import", "{nowhere}-{idx}.hdf5", "-o", "{out}"], "found none"),
        (["store", "export", "{db}", "-o", "{out}.txt"], "or name the format"),
        (["store", "export", "{db-local}", "-o", "{out}.npy"], "local"),
        (["store", "export", "{db}", "-o", "{nowhere}/x.hdf5"], "cannot write"),
        (["store", "export", "{db}", "-o", "{nowhere}/x.npy"], "cannot write"),
        (["store", "info", "{photos}"], "expected a store"),
        (["store", "verify", "{nowhere}"], "expected a store"),
        (["store", "gc", "{photos}"], "expected a store"),
        (["store", "gc", "{run}"], "expected a store"),
        (["extract", "{photos}", "--learnt", "{learnt}"], "--output"),
        (["extract", "{photos}", "-o", "{out}"], "--learnt"),
        (["extract", "{photos}", "-o", "{out}", "--local", "{out}", "--learnt", "{learnt}"], "two stores"),
        (["extract", "{photos}", "-o", "{out}", "--learnt", "{photos}"], "cannot read"),
        (["extract", "{photos}", "-o", "{out}", "--learnt", "{run}"], "safetensors"),
        (["extract", "{q}", "-o", "{out}", "--learnt", "{learnt}"], "expected images"),
        (["extract", "{run}", "-o", "{out}", "--learnt", "{learnt}"], "image files"),
        (["extract", "{photos}", "{photos}", "-o", "{out}", "--learnt", "{learnt}"], "one folder"),
        (["extract", "{q}", "--part", "queries", "-o", "{out}", "--learnt", "{learnt}"], "no query images"),
        (
            ["extract", "{q}", "{q}", "--part", "queries", "-o", "{out}", "--learnt", "{learnt}"],
            "one dataset",
        ),
        (["extract", "{photos}", "-o", "{run}", "--learnt", "{learnt}"], "global.json"),
        (["demo", "--images", "{nowhere}", "-o", "{out}"], "expected a folder that holds a dataset"),
        (["demo", "--images", "{photos}", "-o", "{run}"], "cannot create"),
    ],
)
def test_what_cannot_be_done(world: World, arguments: list[str], message: str, tmp_path: Path) -> None:
    places = {path.name.split(".")[0].replace("global", "run"): str(path) for path in world}
    places |= {"nowhere": str(tmp_path / "nowhere"), "out": str(tmp_path / "out")}
    before = sorted(path for path in world.photos.parent.rglob("*") if path.name != "lock")
    found = failing(
        *(argument.replace("{idx}", "\0").format(**places).replace("\0", "{idx}") for argument in arguments)
    )
    assert message in found
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"]
    assert sorted(path for path in world.photos.parent.rglob("*") if path.name != "lock") == before
    assert not (world.photos / "lock").exists()


def test_overflowing_expansion_is_one_line_too(tmp_path: Path, rng: np.random.Generator) -> None:
    array, _ = write_features(tmp_path, rng)
    found = failing("search", array, array, "-o", tmp_path / "r.json", "--qe", 2, "--alpha", "1e308")
    assert "smaller alpha" in found


# --- hostile names and outputs ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["[red]x", "[bold", ":cat:", "a\nb", "\x1b[2J", "café", "x" * 150, "\udcff"])
def test_names_are_printed_as_they_are_and_do_nothing(name: str, tmp_path: Path) -> None:
    array = tmp_path / "x.npy"
    np.save(array, np.eye(3, dtype=np.float32))
    array = array.rename(tmp_path / f"{name}.npy")
    output = tmp_path / f"{name}.json"
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert done("search", array, array, "-o", output).endswith(f"{shown}.json\n")
    assert f"{shown}.hdf5" in failing("search", tmp_path / f"{name}.hdf5", array, "-o", output)


def test_an_output_without_unicode(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    search = ["search", tmp_path / "x.npy", tmp_path / "x.npy", "-o", tmp_path / "café.json"]
    result = finished(*search, environment={"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"})
    assert (result.code, result.out) == (0, f"3 queries, 9 results: {tmp_path}/caf\\xe9.json\n")
    only_progress(result.err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_is_full() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = finished("doctor", stdout=full)
    assert result.code == 1
    assert the_error(result.err) == "cannot print: No space left on device"


def test_a_reader_that_has_seen_enough(world: World) -> None:
    for arguments in (
        ["--help"],
        ["store", "info", world.database],
        ["evaluate", world.run, "-d", world.photos],
    ):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as nobody:
            result = finished(*arguments, stdout=nobody)
        assert result.err == "", arguments
        assert result.code in (0, 1), arguments


def test_color_only_on_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in done("store", "info", world.database)
    script = shutil.which("script")
    if script is None:
        pytest.skip("there is no script command to make a terminal")
    line = f"{sys.executable} -m ilias_fast store info {world.database}"
    monkeypatch.setenv("TERM", "xterm")
    for setting, colored in ((None, True), ("1", False)):
        if setting is not None:
            monkeypatch.setenv("NO_COLOR", setting)
        shown = subprocess.run([script, "-qec", line, "/dev/null"], capture_output=True, text=True).stdout
        assert "vocabulary" in shown
        assert ("\x1b[1m" in shown or "\x1b[31m" in shown) or not colored


# --- interruption -----------------------------------------------------------------------------------------


def interrupted(started: subprocess.Popen[str]) -> tuple[str, float]:
    """Send Ctrl-C; return stderr and how long the end took."""
    began = time.monotonic()
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=30)
    return err, time.monotonic() - began


def test_ctrl_c_during_a_search(tmp_path: Path, rng: np.random.Generator) -> None:
    store, output = tmp_path / "s", tmp_path / "run.json"
    with GlobalStore.create(store, dim=256) as writer:
        writer.append([str(row) for row in range(40_000)], rng.standard_normal((40_000, 256)).astype("f2"))
    np.save(tmp_path / "q.npy", rng.standard_normal((100_000, 256)).astype(np.float32))
    with process("search", tmp_path / "q.npy", store, "-o", output, "-t", 1) as started:
        time.sleep(1.5)
        assert started.poll() is None, "the search was over before it could be stopped"
        err, seconds = interrupted(started)
    assert started.returncode == 130
    assert the_error(err) == "interrupted"
    # The promise is one second on a machine with nothing else to do; the whole search takes over 25.
    assert seconds < 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.npy", "s"]


def cpu_seconds(process: int) -> float:
    """What a process has computed so far, however busy the machine is."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_extraction_goes_on(world: World, tmp_path: Path, stop: signal.Signals) -> None:
    photos = tmp_path / "photos"
    draw_photos(photos)
    for number in range(300):
        (photos / "distractors" / f"e{number:03d}.jpg").hardlink_to(photos / "distractors" / "d0.jpg")
    extract = ["extract", photos, "--learnt", world.learnt, "-o", tmp_path / "g", "--local", tmp_path / "l"]
    with process(*extract, "--batch-size", 4, "-t", 1) as started:
        while not (tmp_path / "l" / "lock").exists():
            assert started.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)
        assert started.poll() is None, "the extraction was over before it could be stopped"
        started.send_signal(stop)
        _, err = started.communicate(timeout=30)
    if stop == signal.SIGINT:
        assert (started.returncode, the_error(err)) == (130, "interrupted")
        assert 0 < len(GlobalStore.open(tmp_path / "g")) == len(LocalStore.open(tmp_path / "l")) < 312
    else:
        assert started.returncode == -signal.SIGKILL
    printed = done(*extract)
    resumed = int(printed.split(" were there")[0].split()[-1])
    assert (resumed > 0) == (stop == signal.SIGINT)  # nothing was committed when the process was killed
    assert len(GlobalStore.open(tmp_path / "g")) == len(LocalStore.open(tmp_path / "l")) == 312
    assert "all good" in done("store", "verify", tmp_path / "g")
