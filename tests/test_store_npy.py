"""Plain `.npy` matrices to and from stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.errors import (
    FileFormatError,
    IncompatibleStoreError,
    ShapeError,
    StorageError,
    StoreExistsError,
)
from ilias_fast.store import (
    BinaryStore,
    GlobalStore,
    exists,
    export_store,
    import_store,
)


def features(rng: np.random.Generator, rows: int, dim: int = 8, dtype: type = np.float16) -> NDArray[Any]:
    return rng.standard_normal((rows, dim)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
def test_npy_round_trip(tmp_path: Path, rng: np.random.Generator, dtype: type) -> None:
    matrix: NDArray[Any] = (50 * features(rng, 20, dtype=np.float32)).astype(np.int16).astype(dtype)
    ids = [f"é {row}" for row in range(20)]
    np.save(tmp_path / "m.npy", matrix)
    (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    store = import_store(tmp_path / "m.npy", tmp_path / "s", ids=tmp_path / "ids.txt")
    assert isinstance(store, BinaryStore if dtype is np.uint8 else GlobalStore)
    assert np.array_equal(store.rows(range(20)), matrix)
    assert list(store.ids) == ids
    export_store(store, tmp_path / "out.npy")
    assert np.array_equal(np.load(tmp_path / "out.npy"), matrix)
    assert (tmp_path / "out.txt").read_bytes() == (tmp_path / "ids.txt").read_bytes()
    with pytest.raises(StorageError, match="already exists"):
        export_store(store, tmp_path / "out.npy", ids=tmp_path / "new.txt")
    before = store.checksum  # complete: opened as it is
    assert import_store(tmp_path / "m.npy", tmp_path / "s", ids=tmp_path / "ids.txt").checksum == before
    with pytest.raises(IncompatibleStoreError, match="same options"):
        import_store(tmp_path / "out.npy", tmp_path / "s")
    (store.path / "manifest.json").unlink()
    with pytest.raises(StoreExistsError):
        import_store(tmp_path / "out.npy", tmp_path)


def test_bad_npy_files(tmp_path: Path, rng: np.random.Generator) -> None:
    array, ids, out = tmp_path / "m.npy", tmp_path / "ids.txt", tmp_path / "s"
    ids.write_text("a\nb\nc\n")

    def refuse(error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            import_store(array, out, ids=ids)
        assert not exists(out)

    refuse(StorageError, "m.npy")
    np.save(array, features(rng, 2))
    refuse(ShapeError, "expected 2 ids")
    np.save(array, features(rng, 3))
    good = array.read_bytes()
    for length in range(0, len(good) - 1, 3):
        array.write_bytes(good[:length])
        refuse(FileFormatError, "m.npy")
    for bad in (np.ones(3), np.ones((3, 2), np.int64), np.array([["a"]]), np.array([[{}]], dtype=object)):
        np.save(array, bad, allow_pickle=True)
        refuse(FileFormatError, "m.npy")
    np.savez(tmp_path / "m.npz", a=np.ones((3, 2)))
    (tmp_path / "m.npz").replace(array)
    refuse(FileFormatError, "m.npy")
    np.save(array, features(rng, 3))
    ids.write_bytes(b"\xff\xfe\n\n\n")
    refuse(FileFormatError, "UTF-8")
    ids.unlink()
    refuse(StorageError, "ids.txt")
