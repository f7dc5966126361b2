"""Every public name is documented: what it takes, what it raises, and that both are real."""

from __future__ import annotations

import builtins
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ilias_fast
from ilias_fast import errors
from ilias_fast._extras import EXTRAS_OF


def modules() -> list[str]:
    """Return the modules users import: those directly below the package, and nothing private."""
    found = [info.name for info in pkgutil.iter_modules(ilias_fast.__path__) if not info.name.startswith("_")]
    return ["ilias_fast", *(f"ilias_fast.{name}" for name in found if name != "cli"), *DEEPER]


DEEPER = ["ilias_fast.datasets.generate", "ilias_fast.store.sources"]


def exported() -> Iterator[tuple[str, Any]]:
    for module in map(importlib.import_module, modules()):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield all public functions, and the public methods that public classes define or inherit from us."""
    for path, value in exported():
        if inspect.isfunction(value):
            yield path, inspect.unwrap(value)
            continue
        for name, member in inspect.getmembers(value):
            function = getattr(member, "__func__", member)
            if (
                not name.startswith("_")
                and inspect.isfunction(function)
                and function.__module__.startswith("ilias_fast")
            ):
                yield f"{path}.{name}", function


def section(function: object, title: str) -> str:
    """Return the indented text below `title:` in a docstring, or nothing."""
    found = re.search(rf"^{title}:\n((?:[ \t]+.*\n?|\n)+)", inspect.getdoc(function) or "", re.MULTILINE)
    return inspect.cleandoc("\n" + found[1]) if found else ""


FUNCTIONS = dict(functions())
EXPORTED = dict(exported())


def test_what_is_public() -> None:
    stages = ("images", "extract", "adapt", "store", "search", "rerank", "evaluate", "report")
    assert {f"ilias_fast.{stage}" for stage in stages} < set(modules())
    assert len(FUNCTIONS) > 100


@pytest.mark.parametrize("module", modules())
def test_modules_say_what_they_are_and_export_what_exists(module: str) -> None:
    loaded = importlib.import_module(module)
    assert loaded.__doc__
    assert sorted(set(loaded.__all__)) == sorted(loaded.__all__)
    for name in loaded.__all__:
        assert hasattr(loaded, name), name


@pytest.mark.parametrize("path", EXPORTED)
def test_every_public_name_has_a_docstring(path: str) -> None:
    value = EXPORTED[path]
    own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    assert own
    # What `dataclass` and `NamedTuple` make up when nothing is written.
    assert not own.startswith(f"{value.__name__}(")


@pytest.mark.parametrize("path", FUNCTIONS)
def test_every_parameter_is_described(path: str) -> None:
    function = FUNCTIONS[path]
    parameters = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    assert inspect.getdoc(function), "no docstring"
    described = re.findall(r"^\*{0,2}(\w+):", section(function, "Args"), re.MULTILINE)
    assert described == parameters


@pytest.mark.parametrize("path", {**FUNCTIONS, **EXPORTED})
def test_what_is_said_to_be_raised_exists(path: str) -> None:
    for line in section({**FUNCTIONS, **EXPORTED}[path], "Raises").splitlines():
        if line.startswith(" "):
            continue
        for name in re.split(r", ", line.partition(":")[0]):
            known = getattr(errors, name, None) or getattr(builtins, name, None)
            assert inspect.isclass(known), line
            assert issubclass(known, BaseException), line


def test_every_error_is_raised_somewhere_in_the_docs() -> None:
    """An exception nothing announces is either dead or undocumented."""
    said = "\n".join(section(value, "Raises") for value in {**FUNCTIONS, **EXPORTED}.values())
    bases = {"IliasFastError", "InputError", "StoreError"}
    assert [name for name in errors.__all__ if name not in bases and name not in said] == []


@pytest.mark.parametrize("path", FUNCTIONS)
def test_threads_and_progress_are_the_same_everywhere(path: str) -> None:
    """Last, in this order, by keyword, None for the default; stages know the total, kernels do not."""
    parameters = inspect.signature(FUNCTIONS[path]).parameters
    given = [name for name in ("threads", "progress") if name in parameters]
    if not given:
        return
    assert list(parameters)[-len(given) :] == given
    for name in given:
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default is None
    if "progress" in given:
        described = re.search(r"^progress: (.*(?:\n .*)*)", section(FUNCTIONS[path], "Args"), re.MULTILINE)
        assert described is not None
        if path.startswith("ilias_fast.kernels."):
            counted = (
                r"the number of (database rows|images|distances|query descriptors|results|distractors"
                r"|instances|models) (finished|counted|searched for|found)( so far|:)"
            )
            assert re.search(counted, described[1])
        elif path == "ilias_fast.pipeline.run_pipeline":
            assert "(stage, done, total)" in described[1]
        else:
            assert re.search(r"\(\w+ (done|finished|checked), \w+ in all\)", described[1]), described[1]


class Examples(doctest.DocTestRunner):
    """Runs examples, and keeps what was missing if one of them needs an extra that is not installed."""

    missing: BaseException | None = None

    def report_unexpected_exception(self, out: Any, test: Any, example: Any, exc_info: Any) -> None:
        absent = isinstance(exc_info[1], ModuleNotFoundError) and exc_info[1].name in EXTRAS_OF
        if absent or isinstance(exc_info[1], errors.MissingExtraError):
            self.missing = self.missing or exc_info[1]
        super().report_unexpected_exception(out, test, example, exc_info)


@pytest.mark.parametrize("path", EXPORTED)
def test_every_public_name_has_an_example_that_runs(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example finds the names of the module it documents, and imports the others."""
    value = EXPORTED[path]
    assert section(value, "Examples"), f"{path}: expected a section Examples that runs"
    monkeypatch.chdir(tmp_path)
    names = {"__name__": path, **vars(importlib.import_module(path.rpartition(".")[0]))}
    runner, said = Examples(), list[str]()
    for one in doctest.DocTestFinder(recurse=False).find(value, path, globs=names):
        assert one.examples, f"{path}: expected lines that begin with >>>"
        runner.run(one, out=said.append)
    if runner.missing is not None:
        pytest.skip(f"the example needs more than is installed: {runner.missing}")
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
