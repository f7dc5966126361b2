"""The pages in docs/: their Python runs, their links lead somewhere, their tables say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ilias_fast.rerank.methods import METHODS, default_weights
from tests.test_layering import MAY_IMPORT

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(page, found, id=f"{page.stem}:{page.read_text('utf-8')[: found.start()].count(chr(10)) + 1}")
    for page in PAGES
    for found in BLOCK.finditer(page.read_text("utf-8"))
]


def test_there_is_something_to_run() -> None:
    assert {param.id.partition(":")[0] for param in BLOCKS} >= {
        "architecture",
        "format",
        "index",
        "parity",
        "rerank",
    }


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_every_block_of_python_runs_on_its_own(
    page: Path, block: re.Match[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "safetensors" in block[1]:
        pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    # As many lines before it as on the page, so that a traceback names the page's line.
    lines = block.string[: block.start(1)].count("\n")
    exec(compile("\n" * lines + block[1], str(page), "exec"), {"__name__": "page"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_nothing_names_a_machine(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        assert target.startswith("https://") or (DOCS / target).is_file(), target
    assert not re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users)\b", text)
    for path in re.findall(r"`((?:rust|python|tests|bench|docs)/[\w./]+)`", text):
        assert (DOCS.parent / path).exists(), path


def test_the_index_names_every_page() -> None:
    text = (DOCS / "index.md").read_text("utf-8")
    assert [page.name for page in PAGES if page.stem != "index" and f"({page.name})" not in text] == []


def test_the_table_of_layers_is_the_one_that_is_tested() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    table = text.partition("## The layers")[2].partition("##")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"\w+", row)]
    hidden = {"_core", "_doctor"}
    assert set(named) == (set(MAY_IMPORT) | {"cli"}) - hidden
    order = {name: place for place, name in enumerate(named)}
    for part, allowed in MAY_IMPORT.items():
        for below in allowed - hidden if part not in hidden else ():
            assert order[below] < order[part], (below, part)


def test_the_table_of_weights_is_the_one_in_use() -> None:
    text = (DOCS / "rerank.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+ \| [\d.-]+ \| \w+) \|$", text, re.MULTILINE))
    for method in METHODS:
        weights = default_weights(method)
        gamma = "-" if weights.gamma is None else weights.gamma
        assert rows[method] == f"{weights.lam} | {gamma} | {'yes' if weights.centre else 'no'}"
