"""The layers of the package: who imports whom, what an import costs, and what a missing extra says."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ilias_fast
from ilias_fast._extras import EXTRAS_OF

PACKAGE = Path(ilias_fast.__file__).parent

# Lowest first. A part may import those above it in this table (that is, lower ones), and of these exactly
# the ones listed: a new dependency between parts is a decision, to be made here.
MAY_IMPORT: dict[str, set[str]] = {
    "_core": set(),
    "errors": set(),
    "_html": set(),
    "_files": {"errors"},
    "_extras": {"errors"},
    "_arrays": {"errors"},
    "_blas": {"_extras"},
    "_devices": {"_extras", "errors"},
    "_onednn": {"_extras"},
    "_tensors": {"_files", "errors"},
    "_checkpoints": {"_extras", "_files", "errors"},
    "cpu": {"_arrays", "_core"},
    "_doctor": {"_extras", "cpu", "errors"},
    "store": {"_arrays", "_core", "_extras", "_files", "_html", "_tensors", "errors"},
    "_counting": {"_arrays", "_core", "_files", "errors"},
    "kernels": {"_arrays", "_core", "_counting", "errors", "store"},
    "run": {"_arrays", "_core", "_extras", "_files", "_html", "errors"},
    "images": {"_arrays", "_extras", "_files", "errors"},
    "datasets": {"_arrays", "_core", "_extras", "_files", "cpu", "errors", "images", "run"},
    "adapt": {
        "_arrays",
        "_checkpoints",
        "_core",
        "_devices",
        "_extras",
        "_files",
        "_onednn",
        "_tensors",
        "errors",
        "store",
    },
    "extract": {
        "_arrays",
        "_blas",
        "_checkpoints",
        "_devices",
        "_extras",
        "_files",
        "_onednn",
        "_tensors",
        "adapt",
        "cpu",
        "errors",
        "images",
        "store",
    },
    "search": {
        "_arrays",
        "_core",
        "_devices",
        "_extras",
        "_files",
        "_tensors",
        "errors",
        "kernels",
        "run",
        "store",
    },
    "rerank": {
        "_arrays",
        "_checkpoints",
        "_core",
        "_devices",
        "_extras",
        "_files",
        "_onednn",
        "cpu",
        "errors",
        "run",
        "store",
    },
    "evaluate": {
        "_arrays",
        "_core",
        "_counting",
        "_files",
        "_html",
        "datasets",
        "errors",
        "kernels",
        "run",
        "store",
    },
    "sweep": {"_arrays", "datasets", "errors", "evaluate", "kernels", "rerank", "run", "store"},
    "report": {
        "_arrays",
        "_extras",
        "_files",
        "_html",
        "datasets",
        "errors",
        "evaluate",
        "rerank",
        "run",
        "store",
    },
    "pipeline": {
        "_doctor",
        "_extras",
        "_files",
        "adapt",
        "datasets",
        "errors",
        "evaluate",
        "extract",
        "images",
        "report",
        "rerank",
        "run",
        "search",
        "store",
    },
}
"""The command line stands above all of them and may import any."""

HEAVY = {*EXTRAS_OF, "webdataset"}
TERMINAL = {"rich", "typer"}


def part_of(path: Path) -> str:
    """Return the part of the package a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(node: ast.AST) -> Iterator[str]:
    """Yield the full names of the modules an import statement may load."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide who imports whom"
        assert node.module is not None
        if node.module == "ilias_fast":
            yield from (f"ilias_fast.{alias.name}" for alias in node.names)
        else:
            yield node.module


def on_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is imported: no function bodies, nothing for type checkers."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))


FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text("utf-8"), str(path)) for path in FILES}


def test_every_part_has_its_place() -> None:
    found = {part_of(path) for path in FILES} - {"__init__", "__main__", "cli"}
    assert found | {"_core"} == set(MAY_IMPORT)
    places = list(MAY_IMPORT)
    for part, allowed in MAY_IMPORT.items():
        assert allowed <= set(places[: places.index(part)]), f"{part} would import something above it"


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_what_it_may_and_nothing_else(part: str) -> None:
    used: set[str] = set()
    for path, tree in TREES.items():
        if part_of(path) == part:
            for node in ast.walk(tree):
                used |= {name.split(".")[1] for name in imported(node) if name.startswith("ilias_fast.")}
    # `kernels` knows of the stores in annotations only; `__version__` is no part.
    assert used - {part, "__version__"} == MAY_IMPORT[part]


def test_nothing_of_ours_imports_the_command_line() -> None:
    for path, tree in TREES.items():
        names = {name for node in ast.walk(tree) for name in imported(node)}
        if part_of(path) not in ("cli", "__main__"):
            assert not [name for name in names if name.startswith("ilias_fast.cli")], path
            assert not {name.partition(".")[0] for name in names} & TERMINAL, path


def test_kernels_load_no_store() -> None:
    files = sorted((PACKAGE / "kernels").glob("*.py"))
    names = {name for path in files for node in on_import(TREES[path]) for name in imported(node)}
    assert len(files) > 5
    assert not [name for name in names if name.startswith("ilias_fast.store")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_optional_library_is_imported_by_importing(path: Path) -> None:
    names = {name for node in on_import(TREES[path]) for name in imported(node)}
    assert not {name.partition(".")[0] for name in names} & HEAVY


WITHOUT_EXTRAS = """
import importlib, importlib.abc, json, pkgutil, sys, tempfile
from pathlib import Path

HEAVY = set(json.loads(sys.argv[1]))

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())

import ilias_fast
for module in pkgutil.walk_packages(ilias_fast.__path__, "ilias_fast."):
    if module.name != "ilias_fast.__main__":
        importlib.import_module(module.name)

import numpy as np
from ilias_fast.adapt import LinearAdapter
from ilias_fast.datasets.generate import generate
from ilias_fast.errors import MissingExtraError
from ilias_fast.extract import ClassicalExtractor, load_network
from ilias_fast.images import decode, resize
from ilias_fast.report import MethodResult, ReportData, write_report
from ilias_fast.store import GlobalStore, export_store, import_store, read_matrix

folder = Path(tempfile.mkdtemp())
with GlobalStore.create(folder / "store", dim=2) as writer:
    writer.append(["a"], np.ones((1, 2), np.float16))

class Source:
    def ids(self):
        return ["a"]
    def read(self, image_id):
        return b""

calls = {
    "decode": lambda: decode(b"", "a"),
    "resize": lambda: resize(np.zeros((2, 2, 3), np.uint8), 1),
    "fit": lambda: ClassicalExtractor.fit(Source()),
    "generate": lambda: generate(folder / "demo", images=10),
    "load_network": lambda: load_network("resnet18", weights="random"),
    "load": lambda: LinearAdapter.load(folder / "layer.pth"),
    "import_store": lambda: import_store(folder / "a.hdf5", folder / "b"),
    "read_matrix": lambda: read_matrix(folder / "a.hdf5"),
    "export_store": lambda: export_store(GlobalStore.open(folder / "store"), folder / "a.hdf5"),
    "write_report": lambda: write_report(folder / "r.html", None),
}
said = {}
for name, call in calls.items():
    try:
        call()
    except MissingExtraError as error:
        said[name] = str(error)
print(json.dumps({"said": said, "left": sorted(path.name for path in folder.iterdir())}))
"""


@pytest.fixture(scope="module")
def without_extras() -> dict[str, dict[str, str]]:
    """Import everything and call what needs an extra, in a process that has none of them."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, json.dumps(sorted(HEAVY))],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("call", "library", "extras"),
    [
        ("decode", "PIL", ["classical", "report", "torch"]),
        ("resize", "PIL", ["classical", "report", "torch"]),
        ("fit", "cv2", ["classical"]),
        ("generate", "cv2", ["classical"]),
        ("load_network", "torch", ["torch", "gpu"]),
        ("load", "torch", ["torch", "gpu"]),
        ("import_store", "h5py", ["hdf5"]),
        ("read_matrix", "h5py", ["hdf5"]),
        ("export_store", "h5py", ["hdf5"]),
        ("write_report", "jinja2", ["report"]),
    ],
)
def test_a_missing_extra_is_named(
    without_extras: dict[str, dict[str, str]], call: str, library: str, extras: list[str]
) -> None:
    message = without_extras["said"][call]
    assert message.startswith(f"{library} is needed to ")
    assert f"pip install 'ilias-fast[{extras[0]}]'" in message
    assert set(re.findall(r"\[(\w+)\]", message)) == set(extras)


def test_a_missing_extra_is_noticed_before_anything_is_written(
    without_extras: dict[str, dict[str, str]],
) -> None:
    assert without_extras["left"] == ["store"]


def test_extras_bring_what_they_are_said_to_bring() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml takes Python 3.11")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    distribution = {
        "PIL": "pillow",
        "cv2": "opencv-python-headless",
        "faiss": "faiss-cpu",
        "open_clip": "open_clip_torch",
    }
    for package, extras in EXTRAS_OF.items():
        for extra in extras:
            wanted = distribution.get(package, package)
            names = [re.split(r"[><=~!\[; ]", line)[0] for line in project["optional-dependencies"][extra]]
            assert wanted in names, (package, extra)


def test_importing_everything_loads_nothing_heavy() -> None:
    """With the optional libraries installed: importing our modules must not import them."""
    modules = [
        f"ilias_fast.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}".removesuffix(".__init__")
        for path in FILES
        if part_of(path) not in ("cli", "__main__")
    ]
    code = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(modules)], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert {"numpy", "ilias_fast"} <= loaded
    assert not loaded & (HEAVY | TERMINAL | {"scipy", "sklearn"})
