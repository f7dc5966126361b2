"""The pages in docs/: their Python runs, their links lead somewhere, their tables say what the code says."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import pytest

import ilias_fast
from ilias_fast.rerank.methods import METHODS, default_weights
from tests.test_docstrings import modules
from tests.test_layering import MAY_IMPORT

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
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
    for library in ("safetensors", "torch", "PIL"):
        if library in block[1]:
            pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    # As many lines before it as on the page, so that a traceback names the page's line.
    lines = block.string[: block.start(1)].count("\n")
    exec(compile("\n" * lines + block[1], str(page), "exec"), {"__name__": "page"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_nothing_names_a_machine(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        assert target.startswith("https://") or (page.parent / target).is_file(), target
    assert not re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users)\b", text)
    for path in re.findall(r"`((?:rust|python|tests|bench|docs)/[\w./]+)`", text):
        assert (DOCS.parent / path).exists(), path


def test_the_index_names_every_page() -> None:
    text = (DOCS / "index.md").read_text("utf-8")
    names = [page.relative_to(DOCS).as_posix() for page in PAGES if page.parent.name != "reference"]
    assert [name for name in names if name != "index.md" and f"({name})" not in text] == []


def test_the_site_has_every_page_and_every_public_module() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    named = set(re.findall(r": ([\w/]+\.md)$", navigation, re.MULTILINE))
    assert named == {page.relative_to(DOCS).as_posix() for page in PAGES}
    shown = {
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    }
    assert set(modules()) - {"ilias_fast"} <= shown
    assert {f"ilias_fast.{name}" for name in ilias_fast.__all__ if name != "__version__"} <= shown


def test_included_code_exists_and_is_included() -> None:
    included = []
    for page in PAGES:
        text = page.read_text("utf-8")
        # A formatter once took the dashes for operators, and the site showed them instead of the code.
        marked = [line for line in text.splitlines() if re.match(r"-+ *8 *<", line)]
        found = [re.fullmatch(r'--8<-- "([\w/.]+):(\w+)"', line) for line in marked]
        for line, one in zip(marked, found, strict=True):
            assert one is not None, (page, line)
            source = (DOCS.parent / one[1]).read_text("utf-8")
            assert f"# --8<-- [start:{one[2]}]" in source, (page, line)
            assert f"# --8<-- [end:{one[2]}]" in source, (page, line)
            included.append(one[1])
    assert set(included) >= {
        path.relative_to(DOCS.parent).as_posix()
        for path in (DOCS.parent / "examples/recipes").glob("*.py")
        if path.stem != "__init__"
    }


def test_estimates_are_the_records_times_the_size() -> None:
    """The times of `reproduce.md` follow from `bench/record`, to the digits given."""
    record = DOCS.parent / "bench" / "record"
    table = (DOCS / "reproduce.md").read_text("utf-8")
    cost = json.loads((record / "cost-epyc-2026-11-25.json").read_text("utf-8"))["results"]
    largest = {one["queries"]: statistics.median(one["seconds"]) for one in cost if one["rows"] == 10_000_000}
    imports = json.loads((record / "imports-2026-11-26.json").read_text("utf-8"))["works"]
    rows = imports["import gzip4.hdf5"]["seconds"]
    local = (record / "rerank-epyc-2026-11-26.txt").read_text("utf-8")
    whole = re.search(r"realistic codes, 1232 .*\n  both in one pass ([\d.]+) s", local)
    assert whole is not None
    both = float(whole[1])
    judging = json.loads((record / "evaluate-epyc-2026-11-26.json").read_text("utf-8"))["judging"]
    judged = statistics.median(judging["report"]["ours"]["seconds"])

    def stated(row: str) -> list[float]:
        cells = next(line for line in table.splitlines() if line.startswith(f"| {row}")).split("|")[3:5]
        units = {"ms": 0.001, "s": 1, "min": 60}
        return [float(n) * units[unit] for n, unit in (cell.split() for cell in cells)]

    for row, mini, full in (
        ("import of official", 5 * statistics.median(rows), 100 * statistics.median(rows)),
        ("search, 1,232", largest[1232] / 2, 10 * largest[1232]),
        ("search, 1 query", largest[1] / 2, 10 * largest[1]),
        ("Chamfer and spatial verification", both, both),
        ("evaluation, all groups", judged, judged),
    ):
        assert stated(row) == pytest.approx([mini, full], rel=0.03), row


def test_the_table_of_recipes_is_the_record() -> None:
    text = (DOCS / "benchmarks.md").read_text("utf-8").partition("## Recipes")[2].partition("\n## ")[0]
    name = re.search(r"bench/record/recipes-[\w-]+\.json", text)
    assert name is not None
    results = json.loads((DOCS.parent / name[0]).read_text("utf-8"))["results"]
    stated = re.findall(
        r"\| ([\d.]+) ms \| ([\d.]+) ms \| ([\d.]+) \[([\d.]+), ([\d.]+)\] \|$", text, re.MULTILINE
    )
    assert len(stated) == len(results)
    for row, one in zip(stated, results.values(), strict=True):
        ratios = one["ratios"]
        times = (1000 * statistics.median(one["before"]), 1000 * statistics.median(one["after"]))
        found = (*times, statistics.median(ratios), min(ratios), max(ratios))
        assert tuple(map(float, row)) == pytest.approx(found, rel=0.01)


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
        assert rows[method] == f"{weights.lam} | {gamma} | {'yes' if weights.calibrate else 'no'}"
