"""Every exception is raised by some public call, is what handlers expect, and says what is wrong where."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ilias_fast import _core, _extras, cpu, errors, kernels
from ilias_fast.datasets import load_dataset
from ilias_fast.errors import IliasFastError
from ilias_fast.evaluate import evaluate
from ilias_fast.images import FolderSource
from ilias_fast.rerank import rerank
from ilias_fast.run import Run
from ilias_fast.store import GlobalStore, LocalStore, delete

Raiser = Callable[[Path], object]

BASES = {
    "IliasFastError": Exception,
    "InputError": ValueError,
    "StoreError": IliasFastError,
}
"""The classes that handlers name and nothing raises itself, or for a mixture only (an id of a run)."""

BUILT_IN: dict[str, type[Exception]] = {
    **BASES,
    "ShapeError": ValueError,
    "DtypeError": TypeError,
    "NonFiniteError": ValueError,
    "ParameterError": ValueError,
    "CpuLevelError": ValueError,
    "MissingExtraError": ImportError,
    "StorageError": OSError,
    "CorruptStoreError": ValueError,
    "NotAStoreError": ValueError,
    "StoreExistsError": FileExistsError,
    "StoreLockedError": errors.StoreError,
    "IncompatibleStoreError": ValueError,
    "UnknownIdError": KeyError,
    "DuplicateIdError": ValueError,
    "FileFormatError": ValueError,
    "DatasetError": ValueError,
    "ImageError": OSError,
}

FLOATS = np.eye(3, dtype=np.float32)
HALVES = FLOATS.astype(np.float16)


def store(path: Path) -> Path:
    """Write the store `s` of rows "a", "b", "c"."""
    with GlobalStore.create(path / "s", dim=3) as writer:
        writer.append(["a", "b", "c"], HALVES)
    return path / "s"


def corrupt(path: Path) -> object:
    (shard,) = (store(path) / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-1])
    return GlobalStore.open(path / "s")


def locked(path: Path) -> object:
    with GlobalStore.append_to(store(path)):
        return GlobalStore.append_to(path / "s")


def nan(path: Path) -> object:
    del path
    return kernels.topk(np.full((1, 3), np.nan, np.float32), HALVES, 1)


def twice(path: Path) -> object:
    with GlobalStore.append_to(store(path)) as writer:
        return writer.append(["b"], HALVES[:1])


def unwritable(path: Path) -> object:
    return Run.from_dict({"q": {"a": 1.0}}).save(path / "nowhere" / "run.json")


def missing_extra(path: Path) -> object:
    del path
    return _extras.require("h5py.a_module_that_is_not_there", "read HDF5 files")


def unreadable_image(path: Path) -> object:
    return FolderSource(path, ids=["x.jpg"]).read("x.jpg")


def pinned_to_nothing(path: Path) -> None:
    del path
    with cpu.pinned("mmx"):
        pass


def codes_of_two_lengths(path: Path) -> object:
    stores = []
    for bits in (8, 16):
        with LocalStore.create(path / str(bits), bits=bits) as writer:
            size = np.full((1, 2), 9)
            writer.append_arrays(
                ["a"], [0, 1], np.zeros((1, bits // 8), np.uint8), np.zeros((1, 2)), size=size
            )
        stores.append(LocalStore.open(path / str(bits)))
    return rerank(Run.from_dict({"a": {"a": 1.0}}), *stores)


# class -> a public call that raises it, and what its message must say: found or expected, and where.
RAISED: dict[str, tuple[Raiser, str]] = {
    "InputError": (
        lambda path: Run.from_dict({"q": {"": 1.0}}),  # noqa: ARG005
        r"^database id 0: expected a non-empty string .*, found ''$",
    ),
    "ShapeError": (
        lambda path: kernels.topk(FLOATS, HALVES[:, :2], 1),  # noqa: ARG005
        r"^queries: expected 2 columns, as the database has, found 3 columns$",
    ),
    "DtypeError": (
        lambda path: kernels.topk(FLOATS > 0, HALVES, 1),  # noqa: ARG005
        r"^queries: expected float32 .*, found bool$",
    ),
    "NonFiniteError": (nan, r"^queries: row 0, column 0 is NaN; all values must be finite"),
    "ParameterError": (
        lambda path: kernels.topk(FLOATS, HALVES, 0),  # noqa: ARG005
        r"^k: expected .*1.*, found 0$",
    ),
    "CpuLevelError": (pinned_to_nothing, r'^CPU level "mmx" is not available; this machine has: scalar'),
    "MissingExtraError": (
        missing_extra,
        r"^h5py is needed to read HDF5 files; .*pip install 'ilias-fast\[hdf5\]'$",
    ),
    "StorageError": (unwritable, r"nowhere/run\.json: cannot write: No such file or directory$"),
    "CorruptStoreError": (
        corrupt,
        r"\.safetensors: expected \d+ bytes, found \d+ \(restore the file from a copy; `ilias-fast",
    ),
    "NotAStoreError": (
        GlobalStore.open,
        r"expected a store \(a folder with manifest\.json\), found a folder",
    ),
    "StoreExistsError": (
        lambda path: GlobalStore.create(store(path), dim=3),
        r"/s: already exists \(open it to append, choose another path",
    ),
    "StoreLockedError": (locked, r"/s: another writer has this store open"),
    "IncompatibleStoreError": (
        lambda path: LocalStore.open(store(path)),
        r"/s: expected a local store, found a global one$",
    ),
    "UnknownIdError": (
        lambda path: GlobalStore.open(store(path)).find(["a", "z"]),
        r"/s: unknown id 'z' \(the store has 3 ids\)$",
    ),
    "DuplicateIdError": (twice, r'/s: id "b" is given twice, or is already there'),
    "FileFormatError": (
        lambda path: Run.load(_written(path / "r.json", "[1]")),
        r"r\.json: expected an object",
    ),
    "DatasetError": (load_dataset, r"no instance folder found; expected '<instance>/query/'"),
    "ImageError": (unreadable_image, r"^x\.jpg: "),
}

# Rust variant -> a public call in which the core itself finds out.
CORE: dict[str, Raiser] = {
    "Shape": RAISED["ShapeError"][0],
    "Parameter": RAISED["ParameterError"][0],
    "NonFinite": nan,
    "Level": pinned_to_nothing,
    "Io": lambda path: GlobalStore.create(_written(path / "file", "") / "s", dim=3),
    "Corrupt": corrupt,
    "Format": lambda _: _core.read_run_json(b"{"),
    "NotAStore": GlobalStore.open,
    "StoreExists": RAISED["StoreExistsError"][0],
    "Locked": locked,
    "Incompatible": codes_of_two_lengths,
    "DuplicateId": twice,
    "UnknownId": lambda path: delete(store(path), ["nobody"]),
}


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_every_class_is_raised_here() -> None:
    assert set(RAISED) | set(BASES) == set(errors.__all__)
    assert set(BUILT_IN) == set(errors.__all__)
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert defined == set(errors.__all__)


@pytest.mark.parametrize("name", errors.__all__)
def test_classes_derive_from_what_handlers_expect(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, BUILT_IN[name])
    assert issubclass(error, IliasFastError)
    assert error.__doc__


@pytest.mark.parametrize("name", sorted(RAISED))
def test_messages_say_what_is_wrong_and_where(name: str, tmp_path: Path) -> None:
    error = getattr(errors, name)
    call, message = RAISED[name]
    with pytest.raises(error) as raised:
        call(tmp_path)
    assert type(raised.value) is error
    assert re.search(message, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)


def _variants() -> dict[str, str]:
    """Return the core's variants and the classes the bindings make of them, from the sources."""
    rust = Path(__file__).resolve().parents[1] / "rust"
    text = (rust / "core" / "src" / "error.rs").read_text("utf-8")
    body = text[text.index("pub enum Error {") : text.index("\n}\n")]
    declared = re.findall(r"^    (\w+)(?: \{|,)$", body, re.MULTILINE)
    bound = dict(
        re.findall(
            r'Error::(\w+) \{ \.\. \} => "(\w+)"', (rust / "py" / "src" / "error.rs").read_text("utf-8")
        )
    )
    assert set(bound) == set(declared) - {"Interrupted"}
    return bound


def test_every_variant_of_the_core_is_raised_here() -> None:
    assert set(_variants()) == set(CORE)


@pytest.mark.parametrize("variant", sorted(CORE))
def test_variants_of_the_core_become_their_class(variant: str, tmp_path: Path) -> None:
    with pytest.raises(IliasFastError) as raised:
        CORE[variant](tmp_path)
    assert type(raised.value).__name__ == _variants()[variant]
    assert raised.value.__cause__ is None, "raised by Python, not by the core"


def test_an_interruption_is_python_s_own() -> None:
    queries, database = np.ones((20_000, 64), np.float32), np.ones((200_000, 64), np.float16)
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        kernels.topk(queries, database, 10)
    timer.join()


def test_storage_errors_know_their_file(tmp_path: Path) -> None:
    for call in (unwritable, CORE["Io"]):
        with pytest.raises(errors.StorageError) as raised:
            call(tmp_path)
        assert raised.value.errno in (2, 20)
        assert str(tmp_path) in str(raised.value.filename)


def test_unknown_queries_are_named_by_evaluation(tmp_path: Path) -> None:
    for part in ("bag/query", "bag/pos"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "1.jpg").write_bytes(b"")
    with pytest.raises(
        errors.UnknownIdError, match="1 queries of the run are not in the dataset: 'cup/query'"
    ):
        evaluate(Run.from_dict({"cup/query": {"bag/pos/1.jpg": 1.0}}), load_dataset(tmp_path))
