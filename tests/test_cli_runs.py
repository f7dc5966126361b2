"""Runs that are wrong, through every command that reads them: one line that says what, where, what to do."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.store import GlobalStore
from tests.command_line import command, done, failing

QUERIES = ("a_a_001/query/Q001_00.jpg", "b_b_002/query/Q002_00.jpg")
GOOD = {QUERIES[0]: {"a_a_001/pos/P001_00.jpg": 0.9, "t.tar/1": 0.5}, QUERIES[1]: {"t.tar/2": 0.8}}


class Malicious:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch pwned",)


def pickled(**changes: object) -> bytes:
    content = {
        "query_ids": list(QUERIES),
        "db_ids": ["t.tar/1", "t.tar/2"],
        "sims": np.array([[0.9, 0.5], [0.7, 0.1]], np.float32),
        "ranks": np.array([[0, 1], [1, 0]]),
    }
    return pickle.dumps({**content, **changes})


def text(results: object) -> bytes:
    return json.dumps(results).encode()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    ids = tmp_path / "data" / "image_ids"
    ids.mkdir(parents=True)
    (ids.parent / "ilias_core").mkdir()
    (ids / "image_query_ids.txt").write_text("\n".join(QUERIES))
    (ids / "positive_ids.txt").write_text("a_a_001/pos/P001_00.jpg,0.1,5\nb_b_002/pos/P002_00.jpg,0.5,60\n")
    (ids / "distractor_ids.txt").write_text("t.tar/1\nt.tar/2\n")
    return ids.parent


BAD = {
    "nan.json": (
        text({**GOOD, QUERIES[1]: {"t.tar/2": float("nan")}}),
        f"query {QUERIES[1]!r}, database id 't.tar/2': the score is nan",
    ),
    "inf.json": (text({QUERIES[0]: {"x": float("-inf")}}), "the score is -inf; all scores must be finite"),
    "strange.json": (
        text({**GOOD, "nobody/query/Q": {}}),
        "1 of 3 queries of the run are not in the dataset",
    ),
    "twice.json": (f'{{"{QUERIES[0]}": {{"x": 1, "x": 2}}}}'.encode(), "database id 'x' is listed twice"),
    "queries.json": (f'{{"{QUERIES[0]}": {{}}, "{QUERIES[0]}": {{}}}}'.encode(), "is given twice"),
    "cut.json": (text(GOOD)[:40], "not a JSON file: expected"),
    "list.json": (b"[]", "expected an object of queries, found a list"),
    "malicious.pkl": (pickle.dumps({"query_ids": Malicious()}), "refused: the pickle holds a reference to"),
    "nan.pkl": (pickled(sims=np.full((2, 2), np.nan, np.float32)), "the score is nan"),
    "outside.pkl": (pickled(ranks=np.full((2, 2), 7)), "ranks[0, 0]: expected an index from 0 to 1"),
    "nan.trec": (f"{QUERIES[0]} Q0 x 1 nan t\n".encode(), "the score is nan"),
    "fields.trec": (b"q Q0 x 1\n", "line 1: expected 'query Q0 id rank score tag'"),
    "junk.npz": (b"PK\x03\x04", "not a readable npz"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("words", ["evaluate", "compare", "report", "report -f md"])
def test_a_bad_run_is_one_clear_line(
    name: str, words: str, tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = BAD[name]
    Path(name).write_bytes(content)
    told = failing(*words.split(), name, "-d", dataset)
    assert name in told
    assert message in told
    assert not Path("pwned").exists()
    assert not Path("report.html").exists()


def test_unknown_database_ids_are_named_if_asked(tmp_path: Path, dataset: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(text({**GOOD, QUERIES[1]: {"t.tar/9": 0.8}}))
    done("evaluate", path, "-d", dataset, "--missing", "zero")
    told = failing("evaluate", path, "-d", dataset, "--check-ids")
    assert f"{path}: 1 database ids of the run are not in the dataset: 't.tar/9'" in told


def test_an_empty_run(tmp_path: Path, dataset: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("{}")
    assert "none of the dataset's image queries" in failing("evaluate", path, "-d", dataset)
    assert "0.00" in done("evaluate", path, "-d", dataset, "--missing", "zero")
    for words in ("compare", "report", "fuse"):
        rest = ["-o", tmp_path / "out.npz"] if words == "fuse" else ["-d", dataset]
        assert "expected a run with results, found an empty one" in failing(words, path, *rest)


def test_queries_that_a_run_lacks_are_said_to_count_as_zero(tmp_path: Path, dataset: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(text({QUERIES[0]: GOOD[QUERIES[0]]}))
    told = f"{path}: lacks 1 of 2 image queries, which count as zero: '{QUERIES[1]}'"
    for words in (["compare"], ["report", "-f", "csv"]):
        result = command(*words, path, "-d", dataset)
        assert result.code == 0
        assert told in result.err
    assert "50.0" in command("report", "-f", "csv", path, "-d", dataset).out
    assert "left out of the mean" in done("evaluate", path, "-d", dataset)


def test_duplicates_are_merged_if_asked(tmp_path: Path, dataset: Path) -> None:
    path = tmp_path / "run.json"
    positive = "a_a_001/pos/P001_00.jpg"
    path.write_text(f'{{"{QUERIES[0]}": {{"{positive}": 0.1, "t.tar/1": 0.5, "{positive}": 0.9}}}}')
    assert "100.00" in done("evaluate", path, "-d", dataset, "--duplicates", "max")
    done("fuse", path, "-o", tmp_path / "merged.json", "--duplicates", "max")
    assert json.loads((tmp_path / "merged.json").read_text()) == {QUERIES[0]: {positive: 0.9, "t.tar/1": 0.5}}


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("positive_ids.txt", "a_a_001/pos/P001_00.jpg,0.1,5", "is listed twice, first on line 1"),
        ("image_query_ids.txt", QUERIES[0], "is listed twice, first on line 1"),
        ("image_query_ids.txt", "c_c_003/query/Q003_00.jpg", "has no positives in positive_ids.txt"),
    ],
)
def test_a_wrong_ground_truth_is_named(
    tmp_path: Path, dataset: Path, file: str, line: str, message: str
) -> None:
    path = dataset / "image_ids" / file
    path.write_text(f"{path.read_text().strip()}\n{line}\n")
    (tmp_path / "run.json").write_bytes(text(GOOD))
    told = failing("evaluate", tmp_path / "run.json", "-d", dataset)
    assert f"{path}:3: " in told
    assert message in told


def test_lists_shorter_than_k_have_an_honest_oracle(tmp_path: Path, dataset: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(text(GOOD))
    printed = [
        *done("evaluate", path, "-d", dataset).split(),
        *done("evaluate", path, "-d", dataset, "--official").split(),
    ]
    # The official oracle divides by the length of the list: 1 of 2 results at k = 1000.
    assert [word for word in printed if "." in word] == ["50.00", "50.00", "50.00", "25000.00"]


def test_a_curve_is_counted_in_shares(tmp_path: Path, dataset: Path, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((30, 8)).astype(np.float32)
    ids = {
        "q": list(QUERIES),
        "p": ["a_a_001/pos/P001_00.jpg", "b_b_002/pos/P002_00.jpg"],
        "d": [f"t/{n}" for n in range(26)],
        "d0": [f"t/{n}" for n in range(10)],
        "d1": [f"t/{n}" for n in range(10, 26)],
    }
    starts = {"q": 0, "p": 2, "d": 4, "d0": 4, "d1": 14}
    for name, names in ids.items():
        with GlobalStore.create(tmp_path / name, dim=8) as writer:
            writer.append(names, vectors[starts[name] : starts[name] + len(names)])
    q, p, d, d0, d1 = (tmp_path / name for name in ids)
    common = ["-d", dataset, "--subsets", 2, "--subset-size", 5, "-k", 10, "--total", 26]
    whole = done("sweep", "distractors", q, p, d, *common)
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    printed = done("sweep", "distractors", q, p, d0, *common, "--state", a)
    assert printed == f"10 of 26 distractors counted; to bring all together: --merge {a}\n"
    done("sweep", "distractors", q, p, d1, *common, "--first", 10, "--state", b)
    assert done("sweep", "distractors", q, p, *common, "--merge", a, "--merge", b) == whole
    assert done("sweep", "distractors", q, p, d1, *common, "--first", 10, "--merge", a) == whole
    assert "have a gap" in failing("sweep", "distractors", q, p, *common, "--merge", b)
    assert "counted already" in failing("sweep", "distractors", q, p, *common, "--merge", a, "--merge", a)
    assert "other queries" in failing("sweep", "distractors", q, p, *common, "--seed", 1, "--merge", a)
    assert "expected stores of distractors" in failing("sweep", "distractors", q, p, *common, code=2)
