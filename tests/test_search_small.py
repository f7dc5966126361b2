"""Small databases: every way they are searched gives the bits of `math.fsum`, at every CPU level."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast import _core
from ilias_fast.errors import NonFiniteError, ParameterError
from ilias_fast.kernels import topk
from tests.oracles import search as oracle

# By dense scores of all rows, one by one or transposed; by lines, by panels, and by groups of panels.
SHAPES = [
    (1, 1, 1), (1, 9, 3), (17, 9, 2), (40, 130, 40), (3, 300, 5), (8, 300, 40), (9, 300, 5), (20, 300, 50),
    (33, 200, 2), (70, 140, 1), (70, 140, 60),
]  # fmt: skip


def vectors(rng: np.random.Generator, kind: str, count: int, dim: int) -> NDArray[np.float64]:
    x = rng.standard_normal((count, dim))
    if kind == "ties":
        return np.round(x)
    if kind == "scales":
        return x * 10.0 ** rng.uniform(-6, 4, (count, 1))
    if kind == "cancelling":
        x[:, 0], x[:, 1] = 30000, -30000
    elif kind == "equal":
        x[:] = x[0]
    elif kind == "rising":  # a sample in a rhythm would see nothing of the best
        x = np.abs(x) * np.linspace(0.01, 1, count)[:, None] ** 4
    elif kind == "zeros":
        x[::2] = 0
    return x


@pytest.mark.usefixtures("cpu_level")
@pytest.mark.parametrize("kind", ["plain", "ties", "scales", "cancelling", "equal", "rising", "zeros"])
@pytest.mark.parametrize("shape", SHAPES)
def test_answers_are_those_of_fsum(shape: tuple[int, int, int], kind: str) -> None:
    queries, rows, k = shape
    rng = np.random.default_rng([queries, rows, k])
    dim = int(rng.integers(1, 40))
    wanted = vectors(rng, kind, queries, dim).astype(np.float32)
    database = vectors(rng, kind, rows, dim).astype(np.float16)
    selected = rng.random(rows) < 0.9
    for mask in (None, selected):
        expected = oracle.topk(wanted, database, k, mask)
        for threads in (1, 2, 3):
            found = topk(wanted, database, k, threads=threads, selected=mask)
            np.testing.assert_array_equal(found.indices, expected[1])
            assert found.scores.tobytes() == expected[0].tobytes()


@pytest.mark.usefixtures("cpu_level")
@pytest.mark.parametrize("shape", SHAPES)
def test_float32_rows_of_any_size(shape: tuple[int, int, int]) -> None:
    queries, rows, k = shape
    rng = np.random.default_rng([rows, k])
    wanted = (rng.standard_normal((queries, 7)) * 10.0 ** rng.uniform(-30, 30, (queries, 1))).astype(
        np.float32
    )
    database = (rng.standard_normal((rows, 7)) * 10.0 ** rng.uniform(-30, 37, (rows, 1))).astype(np.float32)
    expected = oracle.topk(wanted, database, k)
    for threads in (1, 2):
        scores, indices = _core.topk_float32(wanted, database, k, None, threads, None)
        np.testing.assert_array_equal(indices, expected[1])
        assert scores.tobytes() == expected[0].tobytes()


@pytest.mark.usefixtures("cpu_level")
@pytest.mark.parametrize(
    ("queries", "rows", "k"), [(1, 3000, 10), (8, 5000, 300), (100, 4000, 7), (600, 2000, 150)]
)
def test_the_answer_is_that_of_the_other_screens(queries: int, rows: int, k: int) -> None:
    rng = np.random.default_rng(rows)
    wanted = rng.standard_normal((queries, 32)).astype(np.float32)
    database = rng.standard_normal((rows, 32)).astype(np.float16)
    database[rows // 2 :: 3] = database[: len(database[rows // 2 :: 3])]
    expected = _core.topk(wanted, database, k, None, 2, None, screen="float32")
    for threads in (1, 2):
        found = topk(wanted, database, k, threads=threads)
        np.testing.assert_array_equal(found.indices, expected[1])
        assert found.scores.tobytes() == expected[0].tobytes()


@pytest.mark.parametrize(
    ("queries", "rows", "k"), [(1, 9, 2), (1, 200, 3), (9, 300, 5), (70, 300, 5), (40, 100, 50)]
)
def test_what_is_not_finite_is_named(queries: int, rows: int, k: int) -> None:
    wanted = np.ones((queries, 20), np.float32)
    database = np.ones((rows, 20), np.float16)
    database[rows - 1, 3] = database[rows - 4, 7] = np.inf
    with pytest.raises(NonFiniteError, match=rf"database.*{rows - 4}.*7"):
        topk(wanted, database, k)
    np.testing.assert_array_equal(
        topk(wanted, database, 1, selected=np.arange(rows) < rows - 4).indices, np.zeros((queries, 1))
    )
    wanted[queries // 2, 19] = np.nan
    with pytest.raises(NonFiniteError, match=rf"queries.*{queries // 2}.*19"):
        topk(wanted, database, k)


def test_wishes_that_cannot_be_met_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, few = np.ones((1, 4), np.float32), np.ones((5, 4), np.float16)
    with pytest.raises(ParameterError, match="threads"):
        _core.topk(one, few, 1, None, 0, None)
    monkeypatch.setenv("ILIAS_FAST_THREADS", "many")
    with pytest.raises(ParameterError, match="ILIAS_FAST_THREADS"):
        topk(one, few, 1)


def test_progress_counts_all_rows() -> None:
    for queries in (1, 500):
        counted: list[int] = []
        topk(np.ones((queries, 64), np.float32), np.ones((3000, 64), np.float16), 4, progress=counted.append)
        assert counted[-1] == 3000
