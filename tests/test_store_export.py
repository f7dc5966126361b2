"""Stores out again, in every format, read by the peers' own readers."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.errors import (
    ParameterError,
    StorageError,
)
from ilias_fast.store import BinaryStore, GlobalStore, export_store, import_store
from tests.feature_files import DIM, NAMES, ROWS


@pytest.fixture
def vectors(tmp_path: Path, rng: np.random.Generator) -> GlobalStore:
    with GlobalStore.create(
        tmp_path / "global", dim=DIM, provenance={"model": "m"}, shard_bytes=700
    ) as writer:
        writer.append(NAMES, rng.standard_normal((ROWS, DIM)).astype(np.float16))
    return GlobalStore.open(tmp_path / "global")


@pytest.fixture
def codes(tmp_path: Path, rng: np.random.Generator) -> BinaryStore:
    with BinaryStore.create(tmp_path / "binary", bits=8 * DIM, shard_bytes=700) as writer:
        writer.append(NAMES, rng.integers(0, 256, (ROWS, DIM), dtype=np.uint8))
    return BinaryStore.open(tmp_path / "binary")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".hdf5"])
def test_what_is_exported_comes_back(
    suffix: str, tmp_path: Path, vectors: GlobalStore, codes: BinaryStore
) -> None:
    for number, store in enumerate((vectors, codes)):
        if suffix == ".hdf5" and store is codes:
            continue
        file = tmp_path / f"out{number}{suffix}"
        seen: list[int] = []
        export_store(store, file, progress=lambda done, _, seen=seen: seen.append(done))
        assert seen[-1] == ROWS
        back = import_store(file, tmp_path / f"back{number}")
        assert list(back.ids) == NAMES
        assert np.array_equal(back.rows(range(ROWS)), store.rows(range(ROWS)))
        with pytest.raises(StorageError, match="already exists"):
            export_store(store, file)
        export_store(store, file, overwrite=True)


def test_safetensors_is_read_by_its_library(tmp_path: Path, vectors: GlobalStore, codes: BinaryStore) -> None:
    safetensors = pytest.importorskip("safetensors")
    for store, name in ((vectors, "vectors"), (codes, "codes")):
        export_store(store, tmp_path / f"{name}.safetensors")
        with safetensors.safe_open(tmp_path / f"{name}.safetensors", "numpy") as file:
            assert np.array_equal(file.get_tensor(name), store.rows(range(ROWS)))
            offsets, ids = file.get_tensor("id_offsets"), file.get_tensor("ids").tobytes()
            assert [ids[a:b].decode() for a, b in pairwise(offsets)] == NAMES
            assert json.loads(file.metadata()["provenance"]) == store.provenance


def test_faiss_reads_what_it_would_have_written(
    tmp_path: Path, rng: np.random.Generator, vectors: GlobalStore, codes: BinaryStore
) -> None:
    faiss = pytest.importorskip("faiss")
    rows = vectors.rows(range(ROWS)).astype(np.float32)
    queries = rng.standard_normal((5, DIM)).astype(np.float32)
    flat = faiss.IndexFlatIP(DIM)
    fp16 = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for name, expected in (("flat", flat), ("fp16", fp16)):
        expected.train(rows)
        expected.add(rows)
        file = tmp_path / f"{name}.faiss"
        export_store(vectors, file, index=name)
        found = faiss.read_index(str(file))
        assert (type(found), found.ntotal, found.d) == (type(expected), ROWS, DIM)
        assert np.array_equal(found.search(queries, 10)[1], expected.search(queries, 10)[1])
        assert np.array_equal(found.reconstruct_n(0, ROWS), rows)
        assert file.read_bytes() == faiss.serialize_index(expected).tobytes()
        assert file.with_suffix(".txt").read_text("utf-8").splitlines() == NAMES
        found.add(rows)  # a whole index, not only one to look at
    binary = faiss.IndexBinaryFlat(8 * DIM)
    binary.add(codes.rows(range(ROWS)))
    export_store(codes, tmp_path / "b.faiss")
    assert (tmp_path / "b.faiss").read_bytes() == faiss.serialize_index_binary(binary).tobytes()
    with pytest.raises(ParameterError, match="index: expected 'fp16' or 'flat'"):
        export_store(vectors, tmp_path / "c.faiss", index="hnsw")


@pytest.mark.parametrize("name", ["f.npy", "f.hdf5", "f.safetensors", "f.faiss"])
def test_an_export_that_fails_leaves_nothing(name: str, tmp_path: Path, vectors: GlobalStore) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_store(vectors, folder / name, progress=stop)
    assert list(folder.iterdir()) == []
    with pytest.raises(StorageError, match="nowhere"):
        export_store(vectors, folder / "nowhere" / name)
