"""What holds of every command: `--json` is one JSON value, an unknown option is answered with the nearest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from ilias_fast.cli import application
from ilias_fast.store import GlobalStore
from tests.command_line import World, command, done, failing


def leaves(tree: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command that does something, by its words."""
    for name, one in getattr(tree, "commands", {}).items():
        if getattr(one, "commands", None):
            yield from leaves(one, *path, name)
        else:
            yield (*path, name), one


COMMANDS = dict(leaves(get_command(application())))


@pytest.fixture(scope="module")
def calls(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], list[object]]:
    """A call of every command, in an order in which each finds what it needs."""
    made = tmp_path_factory.mktemp("calls")
    store = made / "store"
    shutil.copytree(world.database, store)
    ids = list(GlobalStore.open(store).ids)
    texts = {
        "gone": ids[:1],
        "some": ids[1:4],
        "labels": [f"{name},{row % 3}" for row, name in enumerate(ids)],
        "truth.txt": ["image_id class_id super_class_id path"]
        + [f"{row} {name.split('/')[0]} 1 {name}" for row, name in enumerate(ids, 1)],
    }
    for name, lines in texts.items():
        (made / name).write_text("\n".join(lines))
    queries, local = world.queries, (world.local_queries, world.local_database)
    data = ["-d", world.photos]
    layer = made / "layer"
    train = ["--dim", 2, "--epochs", 1, "--batch-size", 4, "-t", 1]
    network = ["--model", "dinov2_vitb14", "--weights", "random", "--side", 56, "--device", "cpu"]
    return {
        ("demo",): ["--images", world.photos, "-o", made / "demo", "-t", 1],
        ("extract",): [world.photos, "--learnt", world.learnt, "-o", made / "extracted"],
        ("extract-local",): [world.photos / "cup" / "query", "-o", made / "dino", *network],
        ("models",): [],
        ("adapt", "train"): [store, made / "labels", "-o", layer, *train],
        ("adapt", "export"): [layer, "-o", made / "layer.pth"],
        ("adapt", "fit"): [store, "-o", made / "pca", "--method", "pcaw", "--dim", 2],
        ("adapt", "apply"): [store, "--signs", "-o", made / "signs"],
        ("adapt", "compare"): [queries, store, *data, "--adapter", layer],
        ("store", "import"): [made / "x.npy", "-o", made / "imported"],
        ("store", "export"): [store, "-o", made / "x.npy"],
        ("store", "augment"): [store, "-o", made / "augmented", "-n", 2],
        ("store", "select"): [store, made / "some", "-o", made / "selected"],
        ("store", "merge"): [made / "selected", "-o", made / "merged"],
        ("store", "planes"): [made / "selected"],
        ("store", "info"): [store],
        ("store", "verify"): [store],
        ("store", "delete"): [store, made / "gone"],
        ("store", "compact"): [store],
        ("store", "gc"): [store],
        ("search",): [queries, world.database, "-k", 5, "-o", made / "run.json"],
        ("rerank",): [world.run, *local, "-o", made / "reranked.json", "--keep", made / "kept.npz"],
        ("tune",): [world.run, made / "kept.npz", *data, "--lambda", "0.5", "--gamma", "0.1"],
        ("match",): [*sorted((world.photos / "cup" / "pos").iterdir())[:2], "-o", made / "match.png"],
        ("fuse",): [world.run, world.run, "-o", made / "fused.json"],
        ("evaluate",): [world.run, *data],
        ("benchmark",): [world.run, "--truth", made / "truth.txt", "--kind", "sop"],
        ("compare",): [world.run, world.run, *data, "--samples", 10],
        ("sweep", "distractors"): [queries, world.database, *data, world.database],
        ("sweep", "dimension"): [queries, world.database, *data, "--dims", "1,2"],
        ("sweep", "rerank"): [world.run, *local, *data, "-M", "2", "-n", "5"],
        ("report",): [world.run, *data, "-o", made / "page.html"],
        ("doctor",): [],
    }


TO_A_FILE = {("tune",), ("evaluate",), ("compare",)} | {words for words in COMMANDS if words[0] == "sweep"}
NEEDS = {
    ("extract-local",): "torch",
    ("adapt", "train"): "torch",
    ("adapt", "export"): "torch",
    ("adapt", "compare"): "torch",
    ("report",): "jinja2",
    ("demo",): "jinja2",
}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_command_prints_one_json_value(
    calls: dict[tuple[str, ...], list[object]], world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for needed in set(NEEDS.values()):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    assert set(calls) == set(COMMANDS)
    order = sorted(calls, key=lambda words: (words == ("store", "import"), words == ("tune",)))
    for words in order:
        options = ["--json", "-"] if words in TO_A_FILE else ["--json"]
        result = command(*words, *calls[words], *options)
        assert result.code == 0, (words, result)
        value = json.loads(result.out)
        assert value, words
        assert json.loads(json.dumps(value, allow_nan=False)) == value, words
    share = ["sweep", "distractors", world.queries, world.database, *calls[("evaluate",)][1:], world.database]
    told = json.loads(done(*share, "--total", 100, "--state", tmp_path / "state.npz", "--json", "-"))
    assert told == {
        "counted": len(GlobalStore.open(world.database)),
        "total": 100,
        "state": f"{tmp_path}/state.npz",
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_typo_in_an_option_is_answered(words: tuple[str, ...]) -> None:
    names = [name for one in COMMANDS[words].params for name in one.opts if name.startswith("--")]
    assert "--json" in names
    for name in names:
        assert name == name.lower()
        assert COMMANDS[words].help
    said = failing(*words, "--jsom", code=2)
    assert said.startswith("No such option: --jsom")
    assert "--json" in said, "the nearest option"
    assert said.endswith(f"{' '.join(words)} --help)")


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("serch", "search"),
        ("rerenk", "rerank"),
        ("evalute", "evaluate"),
        ("stores", "store"),
        ("raport", "report"),
    ],
)
def test_a_typo_in_a_command_is_answered(typo: str, meant: str) -> None:
    assert f"Did you mean '{meant}'?" in failing(typo, code=2)


@pytest.mark.parametrize(
    ("typo", "meant"), [("chamfr", "chamfer"), ("spatail", "spatial"), ("diffuson", "diffusion")]
)
def test_a_typo_in_a_method_is_answered(typo: str, meant: str, world: World, tmp_path: Path) -> None:
    rerank = ["rerank", world.run, world.local_queries, world.local_database, "-o", tmp_path / "r.json"]
    assert f"did you mean '{meant}'?" in failing(*rerank, "-m", typo, code=2)


def test_two_adapters_of_one_name_are_both_compared(world: World, tmp_path: Path) -> None:
    fitted = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        fitted.append(tmp_path / str(number) / "pca")
        done("adapt", "fit", world.database, "-o", fitted[-1], "--method", "pcaw", "--dim", number)
    compare = ["adapt", "compare", world.queries, world.database, "-d", world.photos, "--json"]
    found = json.loads(command(*compare, "--adapter", fitted[0], "--adapter", fitted[1]).out)
    assert {name: one["dim"] for name, one in found.items() if name != "none"} == {
        "pca": 1,
        str(fitted[1]): 2,
    }


def test_names_that_are_too_long_are_errors_of_one_line(tmp_path: Path) -> None:
    name = "x" * 300
    np.save(tmp_path / "q.npy", np.eye(2, dtype=np.float32))
    assert name in failing("search", tmp_path / "q.npy", tmp_path / name, "-o", tmp_path / "r.json")
    assert name in failing("evaluate", tmp_path / "r.json", "-d", tmp_path / name)
