"""The nearest-neighbour pickle of AMES: as pickle and torch write it, and as nobody should."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the pickle holds a torch tensor (extra: torch)")

import torch

from ilias_fast.errors import FileFormatError, ShapeError
from ilias_fast.run import read_ames_list, read_ames_neighbours

DATABASE = [f"d{i}.jpg" for i in range(6)]


@pytest.fixture
def table() -> torch.Tensor:
    return torch.tensor([[[0.9, 0.5, 0.1], [0.8, 0.8, 0.2]], [[3.0, 0.0, 5.0], [1.0, 4.0, 2.0]]])


@pytest.mark.parametrize("kind", ["pickle", "torch", "torch before 1.6", "numpy", "slice"])
def test_as_it_is_written(tmp_path: Path, table: torch.Tensor, kind: str) -> None:
    path = tmp_path / "nn.pkl"
    if kind.startswith("torch"):
        torch.save(table, path, _use_new_zipfile_serialization=kind == "torch")
    elif kind == "slice":
        wide = torch.zeros(2, 2, 9)
        wide[:, :, 2:8:2] = table
        path.write_bytes(pickle.dumps(wide[:, :, 2:8:2]))
    else:
        path.write_bytes(pickle.dumps(table if kind == "pickle" else table.numpy()))
    run = read_ames_neighbours(path, ["a", "b"], DATABASE)
    assert run["a"].ids == ["d3.jpg", "d0.jpg", "d5.jpg"]
    assert run["b"].ids == ["d1.jpg", "d4.jpg", "d2.jpg"]
    np.testing.assert_allclose(run["b"].scores, [0.8, 0.8, 0.2], atol=1e-6)


def test_what_cannot_be_right(tmp_path: Path, table: torch.Tensor) -> None:
    path = tmp_path / "nn.pkl"

    def refused(value: Any, match: str, error: type[Exception] = FileFormatError) -> None:
        path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))
        with pytest.raises(error, match=match):
            read_ames_neighbours(path, ["a", "b"], DATABASE)

    refused(table[:1], r"shape \[2, Q, K\]")
    refused(table[:, :1], "expected 2 queries, as query_ids, found 1", ShapeError)
    for wrong in (6.0, -1.0, 0.5, float("nan")):
        bad = table.clone()
        bad[1, 1, 2] = wrong
        refused(bad, "query 1, rank 2: expected a position from 0 to below 6")
    bad = table.clone()
    bad[0, 0, 1] = torch.inf
    refused(bad, "query 0, rank 1: expected a number")
    refused([1, 2], "expected one tensor, found list")
    refused(b"", "not a readable pickle")
    refused(b"PK\x03\x04" + bytes(50), "damaged")
    refused(pickle.dumps(table)[:-9], "not a readable pickle")
    refused(print, "refused")


class _Call:
    def __init__(self, function: Any, *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def test_code_within_a_storage_is_not_run(tmp_path: Path) -> None:
    inner = io.BytesIO()
    torch.save(_Call(os.mkdir, str(tmp_path / "made")), inner, _use_new_zipfile_serialization=False)
    for data in (inner.getvalue(), pickle.dumps(_Call(torch.storage._load_from_bytes, inner.getvalue()))):
        (tmp_path / "nn.pkl").write_bytes(data)
        with pytest.raises(FileFormatError, match="damaged, or of objects that run code") as refused:
            read_ames_neighbours(tmp_path / "nn.pkl", ["a"], DATABASE)
        assert "weights_only" not in str(refused.value), "torch's advice is to run it"
    assert not (tmp_path / "made").exists()


class _Forged:
    """Pickles as a call of torch's own rebuilding, with arguments that reach beyond the storage."""

    def __init__(self, *arguments: object) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self._arguments


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(0, (2, 2, 4), (8, 4, 1)), (9, (2, 2, 3), (6, 3, 1)), (0, (2,), (-1,))]
)
def test_forged_tensors_read_nothing_beyond(
    tmp_path: Path, table: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    storage = table.__reduce_ex__(2)[1][0]
    (tmp_path / "nn.pkl").write_bytes(pickle.dumps(_Forged(storage, offset, size, stride, False, {})))
    with pytest.raises(FileFormatError, match="not a readable pickle"):
        read_ames_neighbours(tmp_path / "nn.pkl", ["a", "b"], DATABASE)


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "test_gallery.txt").write_text("a/1.jpg,640,480\n\nb/2.jpg\n")
    assert read_ames_list(tmp_path / "test_gallery.txt") == ["a/1.jpg", "b/2.jpg"]
