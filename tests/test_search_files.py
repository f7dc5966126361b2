"""Feature files searched while they are read give what a search of an import of them gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.errors import (
    DuplicateIdError,
    FileFormatError,
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    ShapeError,
)
from ilias_fast.search import files as search_files
from ilias_fast.search import search, sequence
from ilias_fast.store import FeatureFiles, GlobalStore, import_store
from ilias_fast.store.formats import streaming

h5py = pytest.importorskip("h5py", reason="feature files of the benchmark need h5py (extra: hdf5)")


def write(path: Path, ids: list[str], vectors: NDArray[Any]) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("index", data=ids, dtype=h5py.string_dtype("ascii"))
        file.create_dataset("features", data=vectors, compression="gzip", compression_opts=0)
    return path


@pytest.fixture
def shards(rng: np.random.Generator, tmp_path: Path) -> str:
    """Three unequal files, the second float32, with ties between them."""
    start = 0
    for number, rows in enumerate((70, 200, 31)):
        vectors = rng.integers(-2, 3, (rows, 6)).astype(np.float32 if number == 1 else np.float16)
        write(tmp_path / f"d_{number:05d}.hdf5", [f"tar/{start + row}" for row in range(rows)], vectors)
        start += rows
    return str(tmp_path / "d_{idx}.hdf5")


@pytest.fixture
def positives(rng: np.random.Generator, tmp_path: Path) -> GlobalStore:
    with GlobalStore.create(tmp_path / "positives", dim=6, shard_bytes=200) as writer:
        ids = [f"cup_{row}/pos/a.jpg" for row in range(40)]
        writer.append(ids, rng.integers(-2, 3, (40, 6)).astype(np.float16))
    return GlobalStore.open(tmp_path / "positives")


class Turn:
    """An adaptation."""

    def apply(self, vectors: Any) -> NDArray[np.float32]:
        return np.ascontiguousarray(np.asarray(vectors, np.float32)[:, ::-1]) * np.float32(1.1)


@pytest.mark.parametrize("block", [1, 17, 90, 5000])
@pytest.mark.parametrize(
    "options", [{}, {"selected_ids": ["3", "75", "290"]}, {"adapter": Turn()}], ids=["all", "mini", "adapted"]
)
def test_files_as_their_import(
    rng: np.random.Generator,
    shards: str,
    positives: GlobalStore,
    tmp_path: Path,
    block: int,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "_BLOCK_BYTES", block * 12)
    monkeypatch.setattr(search_files, "_MOST_NAMES", 50)
    monkeypatch.setattr(sequence, "_ADAPTED_BYTES", 400)
    stores = import_store(shards, tmp_path / "store")
    assert isinstance(stores, GlobalStore)
    queries = ([f"q{row}" for row in range(9)], rng.integers(-2, 3, (9, 6)).astype(np.float32))
    done: list[tuple[int, int]] = []

    def report(rows: int, total: int) -> None:
        done.append((rows, total))

    for k in (1, 30, 1000):
        files = FeatureFiles(shards)
        assert (len(files), files.dim) == (301, 6)
        run = search(queries, [positives, files], k, progress=report, **options)
        assert run == search(queries, [positives, stores], k, **options)
        assert done[-1] == (341, 341)
    told: Any = run.provenance["database"]
    assert [file["name"] for file in told[1]["files"]] == [f"d_{number:05d}.hdf5" for number in range(3)]


def test_what_needs_a_store_says_so(shards: str, rng: np.random.Generator) -> None:
    queries = (["q"], rng.standard_normal((1, 6)))
    files = FeatureFiles(shards)
    needs: list[dict[str, Any]] = [
        {"query_expansion": 2},
        {"exclude": {"q": ["tar/1"]}},
        {"backend": "torch"},
        {"resume": "state"},
    ]
    for options in needs:
        with pytest.raises(ParameterError, match=r"expected stores .*301 rows.*import it first"):
            search(queries, files, 3, **options)
    with pytest.raises(ShapeError, match="expected 6 columns"):
        search((["q"], np.zeros((1, 5))), files, 3)
    assert len(search(queries, files, 3)["q"]) == 3


def test_bad_files(tmp_path: Path, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((5, 4)).astype(np.float32)
    ids = [f"tar/{row}" for row in range(5)]
    queries = (["q"], np.ones((1, 4)))
    vectors[3, 1] = 1e6
    path = write(tmp_path / "large.hdf5", ids, vectors)
    with pytest.raises(NonFiniteError, match=r"large\.hdf5: row 3 holds NaN"):
        search(queries, FeatureFiles(path), 2)
    half = np.ones((5, 4), np.float16)
    half[2, 0] = np.nan
    path = write(tmp_path / "nan.hdf5", ids, half)
    with pytest.raises(NonFiniteError, match="row 2, column 0"):
        search(queries, FeatureFiles(path), 2)
    write(tmp_path / "x_00000.hdf5", ids, np.ones((5, 4), np.float16))
    write(tmp_path / "x_00001.hdf5", ids, np.ones((5, 3), np.float16))
    with pytest.raises(IncompatibleStoreError, match=r"x_00001.*dimension 4.*found 3"):
        FeatureFiles(tmp_path / "x_{idx}.hdf5")
    np.save(tmp_path / "codes.npy", np.zeros((5, 4), np.uint8))
    with pytest.raises(FileFormatError, match="expected vectors of floats, found binary rows"):
        FeatureFiles(tmp_path / "codes.npy", number_rows=True)
    with pytest.raises(ParameterError):
        FeatureFiles(tmp_path / "none.xyz")
    path = write(tmp_path / "empty.hdf5", [], np.empty((0, 4), np.float16))
    assert len(search(queries, FeatureFiles(path), 2)["q"]) == 0


def test_an_id_found_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.hdf5", ["tar/1", "tar/2", "tar/1"], np.ones((3, 4), np.float16))
    with pytest.raises(DuplicateIdError, match="tar/1"):
        search((["q"], np.ones((1, 4))), FeatureFiles(tmp_path / "x.hdf5"), 3)
