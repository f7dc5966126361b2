"""Official pickles: of every protocol, malformed, malicious."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.errors import (
    FileFormatError,
)
from ilias_fast.run import Run
from tests.test_run import as_dict


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
