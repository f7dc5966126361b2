"""`ilias-fast store` as somebody uses it who never saw it: cards, refusals, what is left behind."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.store import GlobalStore, LocalStore
from tests.command_line import done, failing

IDS = ["a", "ć/日本 語.jpg", "../b", "x" * 4096]


@pytest.fixture
def features(tmp_path: Path) -> Path:
    file = tmp_path / "f.npy"
    np.save(file, np.arange(16).reshape(4, 4).astype(np.float32))
    file.with_suffix(".txt").write_text("".join(f"{name}\n" for name in IDS), "utf-8")
    return file


def test_a_card_says_where_a_store_came_from_in_a_line_each(features: Path, tmp_path: Path) -> None:
    store, codes = tmp_path / "s", tmp_path / "codes"
    done("store", "import", features, "-o", store)
    shown = done("store", "info", store)
    assert re.search(r"^import +npy \(float32\): f\.npy *$", shown, re.MULTILINE)
    assert "sha256" not in shown
    assert '"ends"' not in shown
    done("adapt", "apply", store, "-o", codes, "--signs")
    shown = done("store", "info", codes)
    assert "signs, fingerprint" in shown
    assert "derived from" in shown
    (tmp_path / "mini").write_text("nobody\n")
    few = tmp_path / "few"
    done("store", "import", features, "-o", few, "--selected-ids", tmp_path / "mini")
    assert "0 of 4 rows selected" in done("store", "info", few)


def test_provenance_of_others_is_shown_as_it_is(tmp_path: Path) -> None:
    provenance = {"import": {"files": 3}, "adaptation": 7, "model": "m", "note": "[bold]ć"}
    with GlobalStore.create(tmp_path / "s", dim=2, provenance=provenance) as writer:
        writer.append(["a"], np.ones((1, 2)))
    shown = done("store", "info", tmp_path / "s")
    for text in ('{"files": 3}', "7", "[bold]ć"):
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["apply", "s", "-o", "x", "--unpack"], "expected a store of binary codes"),
        (["apply", "codes", "-o", "x", "--signs"], "expected a store of float16 vectors or descriptors"),
        (["export", "s", "-o", "x.npz"], r"ilias-hdf5, npy, safetensors, faiss for this store"),
        (["export", "local", "-o", "x.parquet"], r"none for this store"),
        (["export", "local", "-o", "x.npy"], "expected a global, binary store"),
        (["import", "empty.npy", "-o", "x"], "found an empty file"),
        (["import", "bad.npy", "-o", "x"], r"row 2 \('../b'\) holds NaN"),
        (["import", "twice.npy", "-o", "x"], '"a" is given twice'),
        (["import", "blank.npy", "-o", "x"], "an empty id at position 1"),
        (["delete", "s", "wanted.txt"], 'unknown id "nobody"'),
        (["select", "s", "wanted.txt", "-o", "x"], "unknown id 'nobody'"),
        (["merge", "s", "s", "-o", "x"], "and 3 more"),
        (["merge", "s", "codes", "-o", "x"], "stores of one kind and length"),
    ],
)
def test_refusals_say_what_to_do_and_leave_nothing(
    arguments: list[str], says: str, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done("store", "import", features, "-o", "s")
    done("adapt", "apply", "s", "-o", "codes", "--signs")
    with LocalStore.create("local", bits=8) as writer:
        writer.commit()
    matrix = np.load(features)
    matrix[2, 1] = np.nan
    for name, names in (("bad", IDS), ("twice", ["a", "b", "c", "a"]), ("blank", ["a", "", "b", "c"])):
        np.save(f"{name}.npy", matrix if name == "bad" else np.load(features))
        Path(f"{name}.txt").write_text("".join(f"{line}\n" for line in names), "utf-8")
    Path("empty.npy").touch()
    Path("wanted.txt").write_text("nobody\n")
    before = sorted(Path().rglob("*"))
    assert re.search(says, failing("adapt" if arguments[0] == "apply" else "store", *arguments))
    assert sorted(Path().rglob("*")) == before
