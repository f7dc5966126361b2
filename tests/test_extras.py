"""Every extra: what it brings, what is said where it lacks, and that the doctor knows it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ilias_fast
from ilias_fast import _extras
from ilias_fast._extras import EXTRAS_OF, SIGN_OF, installed

CALL = """
import importlib.abc, json, sys, tempfile
from pathlib import Path

blocked, code = set(json.loads(sys.argv[1])), sys.argv[2]

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())

import numpy as np
from ilias_fast.errors import MissingExtraError
from ilias_fast.store import GlobalStore

folder = Path(tempfile.mkdtemp())
with GlobalStore.create(folder / "store", dim=2) as writer:
    writer.append(["a"], np.ones((1, 2), np.float16))
store = GlobalStore.open(folder / "store")
(folder / "gnd_x.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
try:
    exec(code)
except MissingExtraError as error:
    print(error)
"""

CALLS = {
    "classical": "from ilias_fast.datasets.generate import generate; generate(folder / 'demo', images=10)",
    "faiss": "from ilias_fast.search import search; search((['q'], [[1.0, 0.0]]), store, 1, backend='faiss')",
    "gpu": "from ilias_fast.search import search; search((['q'], [[1.0, 0.0]]), store, 1, backend='torch')",
    "hdf5": "from ilias_fast.store import export_store; export_store(store, folder / 'a.hdf5')",
    "mat": "from ilias_fast.datasets import load_gnd; load_gnd(folder / 'gnd_x.mat')",
    "parquet": "from ilias_fast.run import Run; Run.from_dict({'q': {'a': 1}}).save(folder / 'run.parquet')",
    "report": "from ilias_fast.report import write_report; write_report(folder / 'report.html', None)",
    "text": "from ilias_fast.extract.open_clip_models import tokenizer; tokenizer('ViT-B-16-SigLIP')",
    "torch": "from ilias_fast.extract import load_network; load_network('resnet18', weights='random')",
}
NEEDS = {"text": "open_clip"}
"""What has to be there for a call to come as far as the extra."""


def packages(extra: str) -> set[str]:
    return {package for package, extras in EXTRAS_OF.items() if extra in extras}


def test_every_extra_has_a_sign_and_a_call() -> None:
    assert set(SIGN_OF) == set(CALLS) == {extra for extras in EXTRAS_OF.values() for extra in extras}
    assert all(sign in packages(extra) for extra, sign in SIGN_OF.items())
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml takes Python 3.11")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(project["optional-dependencies"]) - {"all"}
    assert extras == set(SIGN_OF)
    (everything,) = project["optional-dependencies"]["all"]
    assert set(everything.removeprefix("ilias-fast[").removesuffix("]").split(",")) == extras


@pytest.mark.parametrize("extra", CALLS)
def test_an_absent_extra_is_named(extra: str) -> None:
    if extra in NEEDS and importlib.util.find_spec(NEEDS[extra]) is None:
        pytest.skip(f"{NEEDS[extra]} is not installed, which would be missed first")
    done = subprocess.run(
        [sys.executable, "-c", CALL, json.dumps(sorted(packages(extra))), CALLS[extra]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"[{extra}]" in done.stdout
    assert "pip install 'ilias-fast[" in done.stdout


@pytest.mark.parametrize("package", sorted(EXTRAS_OF))
def test_an_extra_without_one_of_its_packages_is_not_installed(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_extras, "_is_there", lambda name: name != package)
    assert {extra for extra, version in installed().items() if version is None} == set(EXTRAS_OF[package])


def test_the_doctor_lists_every_extra() -> None:
    assert set(ilias_fast.doctor().extras) == set(SIGN_OF)
