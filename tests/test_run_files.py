"""The file formats of runs, whole and damaged: official JSON and pickle, TREC, npz, Parquet."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilias_fast.errors import (
    DuplicateIdError,
    FileFormatError,
    IliasFastError,
    NonFiniteError,
    ParameterError,
    StorageError,
)
from ilias_fast.run import Ids, Run
from tests.test_run import RESULTS, as_dict, example

FORMATS = ["json", "pkl", "npz"]


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("results", [RESULTS, {}, {"q": {}}, {"q": {"a": 1 / 3, "b": 1e-300}}])
def test_round_trip(results: dict[str, dict[str, float]], extension: str, tmp_path: Path) -> None:
    run = Run.from_dict(results, {"method": "test"})
    run.save(tmp_path / f"run.{extension}")
    again = Run.load(tmp_path / f"run.{extension}")
    assert again == run
    assert [file.name for file in tmp_path.iterdir()] == [f"run.{extension}"]
    if extension == "npz":
        assert again.provenance == run.provenance
    else:
        assert again.provenance["format"] == {"json": "json", "pkl": "pickle"}[extension]


@pytest.mark.parametrize("extension", ["trec", "run", "parquet"])
def test_other_tools_formats(extension: str, tmp_path: Path) -> None:
    if extension == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra [parquet]")
    results = {"q": {"a": 1 / 3, "b": 1e-300, "c": -2.0}, "ü": {"c": 0.5, "a": 0.5}}
    run = Run.from_dict(results, {"method": "test"})
    path = tmp_path / f"run.{extension}"
    run.save(path)
    again = Run.load(path)
    assert again == run
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if extension == "parquet":
        assert again.provenance == run.provenance
        Run.from_dict({"q": {}, **results}).save(path)
        assert list(Run.load(path)) == ["q", "ü"]
    else:
        assert again.provenance["format"] == "trec"
        assert path.read_text().splitlines()[0] == "q Q0 a 1 0.3333333333333333 ilias-fast"
        with pytest.raises(ParameterError, match="'a b' holds white space"):
            Run.from_dict({"q": {"a b": 1.0}}).save(tmp_path / "no.trec")
        path.write_text("q Q0 a 1 nan x\n")
        with pytest.raises(NonFiniteError, match=f"run.{extension}: query 'q', database id 'a'"):
            Run.load(path)
        path.write_text("q Q0 a 1 0.5 x\nq Q0 a 2 0.4 x\n")
        with pytest.raises(DuplicateIdError, match=r"query 'q': database id 'a' is listed twice"):
            Run.load(path)
        path.write_text("q Q0 a 1 0.5 x\nq a\n")
        with pytest.raises(FileFormatError, match="line 2: expected 'query Q0 id rank score tag'"):
            Run.load(path)


def test_parquet_of_other_tools(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs the extra [parquet]")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "run.parquet"
    columns = {"q_id": ["q", "r", "q"], "doc_id": ["a", "b", "b"], "score": [1.0, 2.0, 3.0]}
    parquet.write_table(arrow.table(columns), path)
    assert as_dict(Run.load(path)) == {"q": {"b": 3.0, "a": 1.0}, "r": {"b": 2.0}}
    for change, place in (
        ({"score": ["a", "b", "c"]}, "score: expected numbers"),
        ({"doc_id": ["a", None, "b"]}, "an id in every row, found 1"),
        ({"doc_id": [1, 2, 3]}, "ids as strings"),
        ({"q_id": None}, "expected a column query_id or q_id"),
    ):
        changed = {name: value for name, value in {**columns, **change}.items() if value is not None}
        parquet.write_table(arrow.table(changed), path)
        with pytest.raises(FileFormatError, match=place):
            Run.load(path)
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(FileFormatError, match=r"run\.parquet: not readable as Parquet"):
        Run.load(path)


def test_ids_are_a_sequence() -> None:
    ids = Ids(["a", "bü", "c"])
    assert isinstance(ids, Sequence)
    assert (ids[0], ids[-1], ids[::-2], len(ids)) == ("a", "c", ("c", "a"), 3)
    assert ids == ["a", "bü", "c"] == list(ids)
    assert ids != ["a", "bü"]
    assert "bü" in ids
    assert "x" not in ids
    assert pickle.loads(pickle.dumps(ids)) == ids
    assert repr(ids) == 'Ids(3 ids: "a", "bü", "c")'
    assert ids.take(np.array([2, 0])) == ["c", "a"]
    assert ids.locate(Ids(["c", "x", "a"])).tolist() == [2, -1, 0]
    for wrong in (3, -4):
        with pytest.raises(IndexError):
            ids[wrong]
    with pytest.raises(IndexError):
        ids.take(np.array([-1]))


@given(
    st.dictionaries(
        st.text('aé/"\\\n0', min_size=1, max_size=5),
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
            st.floats(allow_nan=False, allow_infinity=False),
            max_size=6,
        ),
        max_size=4,
    ),
    st.sampled_from([None, 0, 1, 4]),
)
def test_any_run_survives_every_format(
    tmp_path: Path, results: dict[str, dict[str, float]], indent: int | None
) -> None:
    run = Run.from_dict(results)
    run.save(tmp_path / "run.json", indent=indent)
    assert (tmp_path / "run.json").read_text() == json.dumps(as_dict(run), indent=indent)
    assert Run.load(tmp_path / "run.json") == run
    pytest.importorskip("pyarrow", reason="needs the extra [parquet]")
    for extension in ("npz", "parquet"):
        run.save(tmp_path / f"run.{extension}")
        assert Run.load(tmp_path / f"run.{extension}") == run
    # Where a format has no place for a run, the run it has a place for.
    even = run.truncate(int(np.diff(run.offsets).min(initial=9)))
    even.save(tmp_path / "run.pkl")
    assert Run.load(tmp_path / "run.pkl") == even
    without = str.maketrans(dict.fromkeys("\n ", "_"))
    plain = {
        query.translate(without): {"".join(name.split()) or "x": value for name, value in found.items()}
        for query, found in as_dict(run).items()
        if found
    }
    Run.from_dict(plain).save(tmp_path / "run.trec")
    assert Run.load(tmp_path / "run.trec") == Run.from_dict(plain)


@pytest.mark.parametrize("places", [15, 16, 17, 18, 24, 29, 30, 31, 47, 60])
def test_numbers_in_the_middle_of_two_are_printed_as_python_does(places: int, tmp_path: Path) -> None:
    """With 17 binary places, 16 digits tell a number from 0.5 to 1 from its neighbours; two are as close."""
    rng = np.random.default_rng(places)
    odd = 2 * rng.integers(2 ** min(places - 3, 50), 2 ** min(places - 1, 51), 3000) + 1
    scores = np.unique(odd / 2.0**places).tolist()[::-1]
    results = {"q": {f"{row}": score for row, score in enumerate(scores)}}
    Run.from_dict(results).save(tmp_path / "run.json")
    assert (tmp_path / "run.json").read_text() == json.dumps(results, indent=4)


@pytest.mark.parametrize("extension", ["json", "npz"])
def test_lists_of_unequal_length(extension: str, tmp_path: Path) -> None:
    run = Run.from_dict({"p": {"a": 2, "b": 1}, "q": {}, "r": {"b": 3}})
    run.save(tmp_path / f"run.{extension}")
    assert Run.load(tmp_path / f"run.{extension}") == run


def test_a_pickle_needs_equal_lengths(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="1 results for 'q' and up to 2"):
        Run.from_dict({"p": {"a": 2, "b": 1}, "q": {"a": 1}}).save(tmp_path / "run.pkl")
    assert not list(tmp_path.iterdir())


def test_pickle_holds_only_the_ids_that_occur(tmp_path: Path) -> None:
    Run.from_arrays(["q"], [0, 2], ["x", "b", "y", "a"], [3, 1], [2, 1]).save(tmp_path / "run.pkl")
    content = pickle.loads((tmp_path / "run.pkl").read_bytes())
    assert content["db_ids"].tolist() == ["b", "a"]
    assert content["ranks"].tolist() == [[1, 0]]
    assert content["sims"].dtype == np.float32


def test_unknown_extension(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"\.json, \.pkl or \.npz"):
        example().save(tmp_path / "run.txt")
    with pytest.raises(ParameterError, match=r"\.json, \.pkl or \.npz"):
        Run.load(tmp_path / "run.txt")


@pytest.mark.parametrize("extension", FORMATS)
def test_missing_files_and_folders(extension: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"nowhere.{extension}"):
        Run.load(tmp_path / f"nowhere.{extension}")
    with pytest.raises(StorageError, match="cannot write"):
        example().save(tmp_path / "no" / f"run.{extension}")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    example().save(tmp_path / "run.npz")
    before = (tmp_path / "run.npz").read_bytes()
    with pytest.raises(ParameterError, match="plain JSON values"):
        Run.from_dict({}, {"x": object()}).save(tmp_path / "run.npz")
    assert (tmp_path / "run.npz").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "not a JSON file"),
        ("{", "not a JSON file"),
        ("[]", "expected an object of queries, found a list"),
        ('{"q": [1, 2]}', "query 'q': expected an object of scores by database id, found a list"),
        ('{"q": {"a": "1"}}', "query 'q', database id 'a': expected a number, found a string"),
        ('{"q": {"a": true}}', "query 'q', database id 'a': expected a number, found a boolean"),
        ('{"q": {"a": null}}', "query 'q', database id 'a': expected a number, found nothing"),
        ('{"q": {"a": {}}}', "query 'q', database id 'a': expected a number, found an object"),
        ('{"q": {"": 1}}', "database id 0"),
        ('{"q": {"a\\u0000": 1}}', "database id 0"),
        ('{"q": {"\\ud800": 1}}', "half surrogate pair"),
        ('{"q": {"a": 1' + "0" * 400 + "}}", "larger than any float64"),
        ("1" * 5000, "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        (b"\xff\xfe\x00", "not a JSON file"),
    ],
)
def test_malformed_json(text: str | bytes, place: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileFormatError) as raised:
        Run.load(path)
    assert str(path) in str(raised.value)
    assert place in str(raised.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_json_of_numbers_that_are_not_finite(number: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(f'{{"q": {{"a": 1, "b": {number}}}}}')
    with pytest.raises(NonFiniteError, match=r"run\.json: query 'q', database id 'b'"):
        Run.load(tmp_path / "run.json")


def test_json_that_repeats_ids(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"q": {"a": 1, "b": 2, "a": 3}}')
    with pytest.raises(DuplicateIdError, match=r"run\.json: query 'q': database id 'a'"):
        Run.load(path)
    assert as_dict(Run.load(path, duplicates="max")) == {"q": {"a": 3, "b": 2}}
    path.write_text('{"q": {"a": 1}, "q": {"b": 2}}')
    with pytest.raises(DuplicateIdError, match="query id 'q'"):
        Run.load(path)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"ilias_fast_run": np.int64(2)}, "expected a run of version 1, found version 2"),
        ({"ilias_fast_run": None}, "not a run"),
        ({"ilias_fast_run": np.array(["1"])}, "not a run"),
        ({"scores": None}, "scores: expected a vector of dtype kind 'f', found nothing"),
        ({"scores": np.ones((2, 3))}, "scores: expected a vector"),
        ({"scores": np.ones(5)}, "expected 6 entries each"),
        ({"scores": np.full(6, np.nan)}, "the score is nan"),
        ({"indices": np.full(6, 9)}, "expected an index below 4"),
        ({"indices": np.zeros(6, np.int64)}, "is listed twice"),
        ({"query_id_offsets": np.array([0, 99, 28])}, "query_ids: expected offsets rising from 0"),
        ({"query_id_offsets": np.empty(0, np.int64)}, "query_ids: expected offsets rising from 0"),
        ({"database_ids": np.full(34, 255, np.uint8)}, "database_ids"),
        ({"provenance": np.frombuffer(b"[]", np.uint8)}, "provenance: expected an object"),
        ({"provenance": np.frombuffer(b"{", np.uint8)}, "provenance: not JSON"),
        ({"scores": np.array([None] * 6)}, "not a readable npz"),
    ],
)
def test_malformed_npz(change: dict[str, Any], place: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    example().save(path)
    with np.load(path) as archive:
        content: dict[str, Any] = {name: archive[name] for name in archive.files}
    np.savez(path, **{name: value for name, value in (content | change).items() if value is not None})
    with pytest.raises(FileFormatError) as raised:
        Run.load(path)
    assert str(path) in str(raised.value)
    assert place in str(raised.value)


@pytest.mark.parametrize("extension", FORMATS)
def test_every_truncation_is_refused(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"run.{extension}"
    example().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            Run.load(path)


@pytest.mark.parametrize("extension", FORMATS)
def test_no_mutation_crashes(extension: str, rng: np.random.Generator, tmp_path: Path) -> None:
    """A damaged file loads as some valid run (a digit changed) or is refused with a typed error."""
    path = tmp_path / f"run.{extension}"
    example().save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    messages: list[str] = []
    for _ in range(300):
        damaged = whole.copy()
        at = rng.integers(0, len(damaged), size=int(rng.integers(1, 4)))
        damaged[at] = rng.integers(0, 256, size=len(at))
        path.write_bytes(damaged.tobytes())
        try:
            Run.load(path)
        except IliasFastError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(path.name in message for message in messages)


@pytest.mark.parametrize("indent", [1025, 10**18, 10**30])
def test_an_indentation_beyond_reason_is_refused(tmp_path: Path, indent: int) -> None:
    with pytest.raises(ParameterError, match="indent: expected"):
        Run.from_dict({"q": {"a": 1.0}}).save(tmp_path / "run.json", indent=indent)
    assert list(tmp_path.iterdir()) == []
