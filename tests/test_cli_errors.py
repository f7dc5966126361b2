"""The command line: errors are one line, on stderr, with the right exit code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.command_line import (
    World,
    failing,
    write_features,
)


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
