"""Arguments of the wrong sort: a typed error that names the argument, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast import cpu, kernels
from ilias_fast.errors import ParameterError
from ilias_fast.rerank import ChamferOptions, LocalScores, ensemble
from ilias_fast.run import Run
from ilias_fast.search import search
from ilias_fast.store import GlobalStore

CODES = np.zeros((2, 16), np.uint8)
POINTS = np.zeros((3, 2), np.float32)
QUERY = (["q"], np.ones((1, 4), np.float32))
NOT_WHOLE = [1.5, "3", True, None, 2**70, -(2**70), [1]]
NOT_REAL = ["1", None, [1.0], True, 1j]


def whole(name: str) -> Callable[[Any, Path], object]:
    calls: dict[str, Callable[[Any, Path], object]] = {
        "k": lambda value, path: search(QUERY, GlobalStore.open(path), value),
        "query_expansion": lambda value, path: search(QUERY, GlobalStore.open(path), query_expansion=value),
        "dim": lambda value, path: GlobalStore.create(path / "new", dim=value),
        "max_distance": lambda value, _: kernels.match(CODES, CODES, max_distance=value),
        "positives": lambda value, _: kernels.average_precision([1.0], [True], positives=value, k=1),
    }
    return calls[name]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with GlobalStore.create(tmp_path / "s", dim=4) as writer:
        writer.append(["a"], np.ones((1, 4), np.float16))
    return tmp_path / "s"


@pytest.mark.parametrize("name", ["k", "query_expansion", "dim", "max_distance", "positives"])
@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_whole_numbers(name: str, value: object, store: Path) -> None:
    with pytest.raises(ParameterError, match=f"^{name}: expected"):
        whole(name)(value, store)


@pytest.mark.parametrize("value", [value for value in NOT_WHOLE if value is not None] + [0, -1], ids=repr)
def test_threads_and_shard_sizes(value: Any, store: Path) -> None:
    for call in (
        lambda: kernels.topk(np.ones((1, 2)), np.ones((1, 2), np.float16), 1, threads=value),
        lambda: kernels.chamfer(CODES, CODES, [0, 2], threads=value),
        lambda: search(QUERY, GlobalStore.open(store), threads=value),
        lambda: GlobalStore.open(store).verify(threads=value),
        lambda: cpu.threads(value),
    ):
        with pytest.raises(ParameterError, match=r"^threads: expected"):
            call()
    for create in (
        lambda: GlobalStore.create(store / "new", dim=4, shard_bytes=value),
        lambda: GlobalStore.append_to(store, shard_bytes=value),
    ):
        with pytest.raises(ParameterError, match=r"^shard_bytes: expected"):
            create()


@pytest.mark.parametrize("value", NOT_REAL, ids=repr)
def test_real_numbers(value: Any, store: Path) -> None:
    with pytest.raises(ParameterError, match=r"^threshold: expected a number"):
        kernels.verify_spatial(POINTS, POINTS, threshold=value)
    with pytest.raises(ParameterError, match=r"^alpha: expected a number"):
        search(QUERY, GlobalStore.open(store), alpha=value)
    if value is not None:
        run = Run.from_dict({"q": {"a": 1.0}})
        local = LocalScores(run, "chamfer", ChamferOptions(), 1, np.ones(1, np.float32))
        for name in ("lam", "gamma"):
            with pytest.raises(ParameterError, match=f"^{name}: expected a number"):
                ensemble(run, local, **{name: value})


def test_numpy_numbers_are_numbers(store: Path) -> None:
    run = search(QUERY, GlobalStore.open(store), np.int32(3), alpha=np.float32(0.5), threads=np.int64(1))
    assert run["q"].ids == ["a"]


@pytest.mark.parametrize("value", [3, "store", (["q"],), None], ids=repr)
def test_queries_and_databases_of_no_known_sort(value: Any, store: Path) -> None:
    with pytest.raises(ParameterError, match=r"^queries: expected"):
        search(value, GlobalStore.open(store))
    with pytest.raises(ParameterError, match=r"^database: expected"):
        search(QUERY, value)
    with pytest.raises(ParameterError, match=r"^database: expected"):
        search(QUERY, [GlobalStore.open(store), value])
