"""The worked examples of the official ILIAS evaluator, to 1e-8."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.datasets import Dataset, load_dataset
from ilias_fast.evaluate import evaluate
from ilias_fast.run import Run

NAMES = ["e1_basic", "e2_ties", "e3_denominators", "e4_report_groups", "e5_pickle"]


@pytest.fixture(params=NAMES)
def example(request: pytest.FixtureRequest, examples: Path) -> dict[str, Any]:
    return json.loads((examples / f"{request.param}.json").read_text())


def write_dataset(root: Path, rows: dict[str, Any]) -> Dataset:
    """Write the rows as the official id files and load them."""
    lists = root / "image_ids"
    lists.mkdir(parents=True)
    for name in ("image_query_ids", "positive_ids"):
        lines = [",".join(map(str, row)) for row in rows[name]]
        (lists / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (lists / "text_query_ids.txt").write_text("\n".join(rows["text_query_ids"]) + "\n")
    with gzip.open(lists / "distractor_ids.txt.gz", "wt") as file:
        file.write("yfcc_000.tar/1\n")
    (root / "taxonomy.json").write_text(json.dumps(rows["taxonomy"]))
    return load_dataset(root)


def write_run(folder: Path, given: dict[str, Any]) -> Run:
    """Write the input as the official file it stands for and load it."""
    if given["format"] == "json":
        path = folder / "similarities.json"
        path.write_text(json.dumps(given["similarities"], indent=4))
    else:
        path = folder / "similarities.pkl"
        content = {
            "query_ids": np.array(given["query_ids"], dtype=object),
            "db_ids": np.array(given["db_ids"]),
            "sims": np.array(given["sims"], dtype=np.float32),
            "ranks": np.array(given["ranks"], dtype=np.int64),
        }
        path.write_bytes(pickle.dumps(content))
    return Run.load(path)


def assert_close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_official_mode_equals_the_official_report(example: dict[str, Any], tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", example["dataset"])
    run = write_run(tmp_path, example["input"])
    expected = example["expected"]
    evaluation = evaluate(run, dataset, k=example["k"], official=True)
    report = evaluation.official_report()
    assert set(report) == set(expected) - {"per_query_oracle"}
    assert report["queries"] == expected["queries"]
    assert_close(report["map"], expected["map"])
    assert_close(report["aps"], expected["aps"])
    assert_close(report["oracle"], expected["oracle"])
    assert_close(evaluation.oracles, expected["per_query_oracle"])
    for name in ("scale", "clutter", "categories", "subcategories"):
        assert report[name].keys() == expected[name].keys()  # type: ignore[attr-defined]
        for key, value in expected[name].items():
            assert_close(report[name][key], value)  # type: ignore[index]


@pytest.mark.filterwarnings("ignore::ilias_fast.evaluate.MissingQueriesWarning")
def test_default_mode_differs_only_where_the_official_code_errs(
    example: dict[str, Any], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", example["dataset"])
    run = write_run(tmp_path, example["input"])
    evaluation = evaluate(run, dataset, k=example["k"])
    expected = dict(zip(example["expected"]["queries"], example["expected"]["aps"], strict=True))
    rows = evaluation.per_query()
    assert {row.query for row in rows} == set(expected)
    for row in rows:
        assert_close(row.ap, expected[row.query])
        assert row.ap - 1e-9 <= row.oracle <= 100
        assert_close(row.oracle, 100 * row.found / min(example["k"], row.positives))
    for name, task in evaluation.tasks.items():
        marker = {"image": "/query/Q", "text": "/query/T"}[name]
        assert all(marker in query for query in task.queries)
        assert_close(task.map, np.mean([expected[query] for query in task.queries]))


def test_official_similarity_files_load_and_agree(examples: Path) -> None:
    from_json = Run.load(examples / "formats" / "similarities.json")
    from_pickle = Run.load(examples / "formats" / "similarities.pkl")
    assert from_json == from_pickle
    raw = json.loads((examples / "formats" / "similarities.json").read_text())
    assert {query: dict(zip(*result_of(from_json, query), strict=True)) for query in from_json} == raw


def test_json_is_written_as_the_official_tool_writes_it(examples: Path, tmp_path: Path) -> None:
    official = examples / "formats" / "similarities.json"
    Run.load(examples / "formats" / "similarities.pkl").save(tmp_path / "run.json")
    assert (tmp_path / "run.json").read_bytes() == official.read_bytes()


def test_pickle_is_written_as_the_official_tool_writes_it(examples: Path, tmp_path: Path) -> None:
    official = pickle.loads((examples / "formats" / "similarities.pkl").read_bytes())
    Run.load(examples / "formats" / "similarities.pkl").save(tmp_path / "run.pkl")
    written = pickle.loads((tmp_path / "run.pkl").read_bytes())
    assert list(written) == list(official)
    for name, value in official.items():
        assert written[name].dtype == value.dtype
        np.testing.assert_array_equal(written[name], value)


def result_of(run: Run, query: str) -> tuple[list[str], list[float]]:
    result = run[query]
    return result.ids, result.scores.tolist()
