"""The command line for scripts: JSON, exit codes, completion, quiet logging, documented variables."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ilias_fast import cpu
from ilias_fast.store import GlobalStore
from tests.command_line import World, command, done, failing

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = (ROOT / "docs/settings.md").read_text("utf-8")


def test_json_of_every_command_that_prints_results(world: World, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(world.database, store)
    (tmp_path / "gone").write_text(GlobalStore.open(store).ids[0] + "\n")
    run = tmp_path / "run.json"
    calls = {
        "search": ("search", world.queries, store, "-k", 5, "-o", run, "--json"),
        "rerank": (
            "rerank",
            run,
            world.local_queries,
            world.local_database,
            "-o",
            tmp_path / "r.json",
            "--json",
        ),
        "info": ("store", "info", store, "--json"),
        "verify": ("store", "verify", store, "--json"),
        "delete": ("store", "delete", store, tmp_path / "gone", "--json"),
        "compact": ("store", "compact", store, "--json"),
        "gc": ("store", "gc", store, "--json"),
        "evaluate": ("evaluate", run, "-d", world.photos, "--json", "-"),
        "compare": ("compare", run, run, "-d", world.photos, "--samples", 10, "--json", "-"),
        "doctor": ("doctor", "--json"),
    }
    found = {name: json.loads(done(*arguments)) for name, arguments in calls.items()}
    assert found["search"]["queries"] == found["rerank"]["queries"]
    assert found["info"]["kind"] == "global"
    assert found["info"]["health"]["damages"] == []
    assert found["verify"]["ok"] is True
    assert found["delete"] == {"deleted": 1}
    assert found["compact"]["dropped"] == 1
    assert found["gc"] == {"removed": []}
    assert found["doctor"]["level"] == cpu.level()
    assert found["evaluate"]
    assert found["compare"]


def test_json_of_what_changes_stores(world: World, tmp_path: Path) -> None:
    store, made = world.database, tmp_path
    ids = list(GlobalStore.open(store).ids)
    (made / "some").write_text("\n".join(ids[:3]))
    (made / "others").write_text("\n".join(ids[3:]))
    derived = {
        "augment": ("store", "augment", store, "-o", made / "augmented", "-n", 2),
        "select": ("store", "select", store, made / "some", "-o", made / "selected"),
        "select others": ("store", "select", store, made / "others", "-o", made / "rest"),
        "merge": ("store", "merge", made / "selected", made / "rest", "-o", made / "merged"),
        "planes": ("store", "planes", made / "merged"),
        "drop": ("store", "planes", made / "merged", "--drop"),
        "signs": ("adapt", "apply", made / "selected", "--signs", "-o", made / "signs"),
    }
    found = {name: json.loads(done(*arguments, "--json")) for name, arguments in derived.items()}
    kinds = {name: facts.pop("kind") for name, facts in found.items()}
    assert kinds == dict.fromkeys(found, "global") | {"signs": "binary"}
    rows = {name: facts["rows"] for name, facts in found.items()}
    assert rows["augment"] == rows["merge"] == rows["planes"] == len(ids)
    assert rows["select"] == rows["signs"] == 3
    assert [one["kind"] for one in found["planes"]["derived"]] == ["planes"]
    assert found["drop"]["derived"] == []
    assert found["select"]["parent"]["path"].endswith(store.name)
    exported = json.loads(done("store", "export", store, "-o", made / "x.npy", "--json"))
    assert exported == {"rows": len(ids), "output": str(made / "x.npy")}
    again = json.loads(done("store", "import", made / "x.npy", "-o", made / "imported", "--json"))
    assert (again["rows"], again["dim"]) == (len(ids), GlobalStore.open(store).dim)


def test_json_of_adapters_sweeps_and_pages(world: World, tmp_path: Path) -> None:
    fitted = json.loads(
        done("adapt", "fit", world.database, "-o", tmp_path / "pca", "--method", "pcaw", "--dim", 2, "--json")
    )
    assert (fitted["kind"], fitted["output"]) == ("pca-whitening", str(tmp_path / "pca"))
    stores = (world.queries, world.database, "-d", world.photos)
    compared = json.loads(done("adapt", "compare", *stores, "--adapter", tmp_path / "pca", "--json"))
    assert compared["pca"]["dim"] == 2
    assert 0 <= compared["none"]["image"]["map"] <= 100
    swept = json.loads(done("sweep", "dimension", *stores, "--dims", "1,2", "--json", "-"))
    assert len(swept["series"][0]["maps"]) == 2
    pytest.importorskip("jinja2", reason="a report needs Jinja (extra: report)")
    page = ("report", world.run, "-d", world.photos, "--json")
    told = json.loads(done(*page, "-o", tmp_path / "page.html"))
    assert told["report"] == str(tmp_path / "page.html")
    assert set(told["map"]) == {world.run.stem}
    assert "--format md makes none" in failing(*page, "--format", "md")


def test_a_failed_check_is_json_and_exit_code_1(world: World, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(world.database, store)
    shard = max(store.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    result = command("store", "verify", store, "--json")
    assert result.code == 1
    assert json.loads(result.out)["ok"] is False


def test_the_documented_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", SETTINGS, re.MULTILINE)}
    assert codes == {0, 1, 2, 130}
    assert command("--version").code == 0
    assert command("store", "info", tmp_path / "none").code == 1
    assert command("store", "info").code == 2
    assert command("serch").code == 2

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ilias_fast.store.open_store", interrupted)
    assert command("store", "info", tmp_path).code == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    import os

    code = "import sys; sys.argv[0] = 'ilias-fast'; from ilias_fast.cli import main; main()"
    environment = {**os.environ, "_ILIAS_FAST_COMPLETE": f"complete_{shell}"}
    environment |= {
        "COMP_WORDS": "ilias-fast sto",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "ilias-fast sto",
    }
    environment |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_WORD_TO_COMPLETE": "sto"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "store" in found.stdout, found


def test_the_library_is_quiet_until_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = (
        "import logging, numpy as np, sys\n"
        "from ilias_fast.search import search\n"
        "from ilias_fast.store import GlobalStore\n"
        "if len(sys.argv) > 2: logging.basicConfig(level='DEBUG')\n"
        "with GlobalStore.create(sys.argv[1], dim=2, overwrite=True) as w: w.append(['a'], np.ones((1, 2)))\n"
        "search((['q'], np.ones((1, 2), 'f4')), GlobalStore.open(sys.argv[1]), 1)\n"
    )
    run = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "store")]
    quiet = subprocess.run(run, capture_output=True, text=True, check=True)
    assert (quiet.stdout, quiet.stderr) == ("", "")
    asked = subprocess.run([*run, "debug"], capture_output=True, text=True, check=True)
    assert "ilias_fast.search" in asked.stderr
    assert [type(handler) for handler in logging.getLogger("ilias_fast").handlers] == [logging.NullHandler]
    del caplog


def test_every_variable_is_documented_and_every_documented_one_exists() -> None:
    used = set()
    for folder, pattern in (("python", "*.py"), ("rust", "*.rs"), ("tests", "*.py"), ("bench", "*.py")):
        for path in (ROOT / folder).rglob(pattern):
            if path != Path(__file__):
                used |= set(re.findall(r"ILIAS_FAST_[A-Z_]+[A-Z]", path.read_text("utf-8")))
    for path in (ROOT / "Makefile", ROOT / ".ci/run"):
        used |= set(re.findall(r"ILIAS_FAST_[A-Z_]+[A-Z]", path.read_text("utf-8")))
    documented = set(re.findall(r"^\| `(ILIAS_FAST_\w+)`", SETTINGS, re.MULTILINE))
    assert used - {"ILIAS_FAST_COMPLETE"} == documented
