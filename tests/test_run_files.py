"""The file formats of runs, whole and damaged: official JSON and pickle, npz."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
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
from ilias_fast.run import Run
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
def test_any_run_survives_json_and_npz(
    tmp_path: Path, results: dict[str, dict[str, float]], indent: int | None
) -> None:
    run = Run.from_dict(results)
    run.save(tmp_path / "run.json", indent=indent)
    assert (tmp_path / "run.json").read_text() == json.dumps(as_dict(run), indent=indent)
    run.save(tmp_path / "run.npz")
    assert Run.load(tmp_path / "run.json") == Run.load(tmp_path / "run.npz") == run


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
        ('{"q": {"\\ud800": 1}}', "database id 0"),
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


def pickled(**change: Any) -> dict[str, Any]:
    content = {
        "query_ids": np.array(["p", "q"], dtype=object),
        "db_ids": np.array(["a", "b", "c"]),
        "sims": np.array([[0.9, 0.5], [0.5, 0.25]], np.float32),
        "ranks": np.array([[0, 1], [2, 0]], np.int64),
    }
    return content | change


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"query_ids": ["p", "q"]},
        {"query_ids": np.array(["p", "q"])},
        {"query_ids": list(np.array(["p", "q"]))},
        {"db_ids": ("a", "b", "c")},
        {"sims": np.asfortranarray(pickled()["sims"])},
        {"sims": pickled()["sims"].astype(">f8")},
        {"ranks": pickled()["ranks"].astype(np.uint8)},
    ],
)
def test_pickles_of_every_protocol_and_spelling(
    change: dict[str, Any], protocol: int, tmp_path: Path
) -> None:
    written = pickle.dumps(pickled(**change), protocol=protocol)
    for data in (written, with_old_names(written, protocol)):
        (tmp_path / "run.pkl").write_bytes(data)
        run = Run.load(tmp_path / "run.pkl")
        assert as_dict(run) == {"p": {"a": float(np.float32(0.9)), "b": 0.5}, "q": {"c": 0.5, "a": 0.25}}


def with_old_names(data: bytes, protocol: int) -> bytes:
    """Return the pickle as numpy 1 would have written it."""
    if protocol < 4:
        renamed = data.replace(b"numpy._core", b"numpy.core")
    else:
        # Names carry their length, and the frame (0x95 and eight bytes, after PROTO) the length of it all.
        renamed = data.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
        renamed = renamed.replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
        assert renamed[2:3] == b"\x95"
        renamed = renamed[:2] + renamed[11:]
    assert b"numpy.core" in renamed
    assert b"numpy._core" not in renamed
    return renamed


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"query_ids": "pq"}, "query_ids: expected a list or vector of strings, found a string"),
        ({"query_ids": [1, 2]}, "query_ids[0]: expected a string, found int"),
        ({"query_ids": np.array([["p", "q"]])}, "query_ids: expected a list or vector"),
        ({"query_ids": ["p"]}, "sims: expected shape [1, k]"),
        ({"db_ids": np.arange(3)}, "db_ids: expected a list or vector"),
        ({"db_ids": ["a", None, "c"]}, "db_ids[1]"),
        (
            {"sims": [[0.9, 0.5], [0.5, 0.25]]},
            "sims: expected a matrix of floating-point numbers, found a list",
        ),
        ({"sims": np.ones((2, 2), np.int64)}, "sims: expected a matrix of floating-point"),
        ({"sims": np.ones(4, np.float32)}, "sims: expected shape [2, k]"),
        (
            {"sims": np.ones((2, 3), np.float32)},
            "sims, ranks: expected equal shapes, found [2, 3] and [2, 2]",
        ),
        ({"sims": np.ones((2, 2), dtype=object)}, "sims: expected a matrix of floating-point"),
        ({"ranks": np.ones((2, 2))}, "ranks: expected a matrix of integer"),
        ({"ranks": np.array([[0, 1], [2, 3]])}, "ranks[1, 1]: expected an index from 0 to 2"),
        ({"ranks": np.array([[0, 1], [-1, 2]])}, "ranks[1, 0]: expected an index from 0 to 2"),
        ({"ranks": np.full((2, 2), 2**64 - 1, np.uint64)}, "ranks[0, 0]"),
        ({"extra": 1}, "expected a dictionary with the keys"),
        ({"sims": np.zeros((2, 2), dtype=[("x", "f4")])}, "an array of dtype 'V4'"),
        ({"sims": np.zeros((2, 2), np.complex64)}, "an array of dtype 'c8'"),
    ],
)
def test_malformed_pickles(change: dict[str, Any], place: str, tmp_path: Path) -> None:
    path = tmp_path / "run.pkl"
    path.write_bytes(pickle.dumps(pickled(**change)))
    with pytest.raises(FileFormatError) as raised:
        Run.load(path)
    assert str(path) in str(raised.value)
    assert place in str(raised.value)


def test_what_faiss_pads_short_lists_with_is_left_out(tmp_path: Path) -> None:
    content = pickled(sims=np.array([[0.9, np.finfo(np.float32).min], [0.5, 0.25]], np.float32))
    (tmp_path / "run.pkl").write_bytes(pickle.dumps(content))
    assert [len(result) for result in map(Run.load(tmp_path / "run.pkl").__getitem__, "pq")] == [1, 2]


class Executes:
    """Leaves a mark when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.mkdir, builtins.eval, subprocess.call, np.load, np.array, io.open])
def test_malicious_pickles_are_refused_and_not_executed(
    function: Callable[..., object], protocol: int, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    argument: object = {
        builtins.eval: f"__import__('os').mkdir({str(mark)!r})",
        subprocess.call: ["mkdir", str(mark)],
    }.get(function, str(mark))  # type: ignore[call-overload]
    evil = Executes(function, argument, "w") if function is io.open else Executes(function, argument)
    for content in (evil, pickled(sims=evil), pickled(query_ids=[evil])):
        (tmp_path / "run.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises(FileFormatError, match="refused: the pickle holds a reference to"):
            Run.load(tmp_path / "run.pkl")
        assert not mark.exists()


def test_a_dtype_state_cannot_turn_bytes_into_pointers(tmp_path: Path) -> None:
    """NumPy itself would read the bytes of a void array as objects if the dtype's state says so."""
    inner = np.dtype("O")

    class Crafted:
        def __reduce__(self) -> tuple[Any, ...]:
            state = (3, "|", None, ("x",), {"x": (inner, 0)}, 8, 1, 0)
            return np.dtype, ("V8", False, True), state

    class Array:
        def __reduce__(self) -> tuple[Any, ...]:
            reconstruct = np.empty(0).__reduce__()[0]
            return reconstruct, (np.ndarray, (0,), b"b"), (1, (2, 2), Crafted(), False, b"\x41" * 32)

    (tmp_path / "run.pkl").write_bytes(pickle.dumps(pickled(sims=Array())))
    with pytest.raises(FileFormatError, match="refused"):
        Run.load(tmp_path / "run.pkl")


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\ndtype\n(N}V__setstate__\nNsutb.",  # setattr(numpy.dtype, "__setstate__", None)
        b"cnumpy\ndtype\n(N}V__setstate__\nNstb.",
        b"cnumpy\ndtype\n}Vx\nNsb.",
        b"cnumpy.core.multiarray\n_reconstruct\n}Vx\nNsb.",
        b"cnumpy\nndarray\n)\x81.",  # ndarray.__new__(ndarray)
        b"cnumpy\nndarray\n(I4\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n)R.",
        b"cnumpy\ndtype\n(Vf4\ntRN}b.",
        b"cnumpy\ndtype\n(VU0\ntR.",
    ],
)
def test_pickles_cannot_change_or_misuse_the_reader(program: bytes, tmp_path: Path) -> None:
    (tmp_path / "evil.pkl").write_bytes(b"\x80\x02" + program)
    with pytest.raises(FileFormatError):
        Run.load(tmp_path / "evil.pkl")
    (tmp_path / "run.pkl").write_bytes(pickle.dumps(pickled()))
    assert len(Run.load(tmp_path / "run.pkl")) == 2


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("character", [0x110000, 0xFFFFFFFF])
def test_text_in_a_pickle_must_be_unicode(order: str, character: int, tmp_path: Path) -> None:
    numbers = np.array([ord("a"), ord("b"), character], f"{order}u4")
    (tmp_path / "run.pkl").write_bytes(pickle.dumps(pickled(db_ids=numbers.view(f"{order}U1"))))
    with pytest.raises(FileFormatError, match="text that is not Unicode"):
        Run.load(tmp_path / "run.pkl")


@pytest.mark.parametrize("extent", [10**18, 10**9, 2**63, -1])
@pytest.mark.parametrize("code", ["U0", "S0", "f4"])
def test_a_pickle_cannot_claim_more_than_it_holds(code: str, extent: int, tmp_path: Path) -> None:
    class Array:
        def __reduce__(self) -> tuple[Any, ...]:
            reconstruct = np.empty(0).__reduce__()[0]
            return reconstruct, (np.ndarray, (0,), b"b"), (1, (extent,), np.dtype(code), False, b"")

    (tmp_path / "run.pkl").write_bytes(pickle.dumps(pickled(db_ids=Array())))
    with pytest.raises(FileFormatError, match="refused"):
        Run.load(tmp_path / "run.pkl")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04.",
        b"\x80\x04}",
        b"\x80\x04Nr\xff\xff\xff\x7f.",  # a memo of 2 billion entries
        b"\x80\x04Np4000000000\n.",
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of 9 exabytes
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04" + b"(" * 100_000 + b".",
        b"\x80\x04" + b"]" + b"]a" * 50_000 + b".",
        b"\x80\x04N.N.",
        b"(i__main__\nExecutes\n.",
        b"P1\n.",
    ],
)
def test_pickles_meant_to_exhaust_or_confuse(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.pkl").write_bytes(data)
    with pytest.raises(FileFormatError):
        Run.load(tmp_path / "run.pkl")


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


def test_importing_does_not_load_the_heavy_packages() -> None:
    heavy = "{'torch', 'cv2', 'h5py', 'PIL', 'jinja2', 'sklearn'}"
    code = (
        "import sys, ilias_fast.run, ilias_fast.evaluate, ilias_fast.datasets; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
