"""What a sweep trusts until it is proven: refuted guesses cost time, never an answer."""

from __future__ import annotations

import numpy as np
import pytest

from ilias_fast import _core

ROWS, DIM, K = 40_000, 512, 1000
# Of these numbers of rows and columns one row of 12 is sampled, and chunks are of 4,096 rows.
STRIDE, CHUNK = 12, 4096


def are_sampled(rows: np.ndarray) -> np.ndarray:
    """Whether these are the ones of their 12 that are sampled, as `Database::evenly` scatters them."""
    with np.errstate(over="ignore"):
        mixed = (rows // STRIDE).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(32)) % np.uint64(STRIDE) == (rows % STRIDE).astype(np.uint64)


def database(rng: np.random.Generator, sampled: int, others: int, *, chunk: int) -> np.ndarray:
    """Rows of which some of one chunk are far above the rest: so many of those in the sample, and others."""
    rows = rng.standard_normal((ROWS, DIM)).astype(np.float16)
    inside = np.arange(chunk * CHUNK, min(ROWS, (chunk + 1) * CHUNK))
    rare = are_sampled(inside)
    high = np.r_[inside[rare][:sampled], inside[~rare][:others]]
    rows[high, :8] += np.float16(20)
    return rows


@pytest.mark.parametrize("screen", ["int8", "bfloat16"])
@pytest.mark.parametrize(
    ("sampled", "others", "chunk"),
    [
        (0, 0, 0),
        (45, 300, 0),  # what is seen first says too much, and the sample no more than it should
        (100, 300, 0),  # both say too much
        (45, 300, 5),
        (0, 2000, 3),  # all of the best in one chunk that the sample says nothing of
        (300, 0, 7),
    ],
)
def test_refuted_guesses_change_nothing(
    rng: np.random.Generator, sampled: int, others: int, chunk: int, screen: str
) -> None:
    rows = database(rng, sampled, others, chunk=chunk)
    queries = rng.standard_normal((20, DIM)).astype(np.float32)
    queries[::2, :8] = np.abs(queries[::2, :8])
    # One row in eight is left out, and the chunks are cut elsewhere then.
    for mask in (None, np.arange(ROWS) % 8 != 3):
        scores, indices = _core.topk(queries, rows, K, mask, 2, None, "float32")
        for threads in (1, 2):
            found = _core.topk(queries, rows, K, mask, threads, None, screen)
            assert np.array_equal(found[0].view(np.uint32), scores.view(np.uint32))
            assert np.array_equal(found[1], indices)


@pytest.mark.parametrize("screen", ["int8", "bfloat16"])
def test_rows_in_the_order_of_their_scores(rng: np.random.Generator, screen: str) -> None:
    query = rng.standard_normal(DIM).astype(np.float32)
    rows = rng.standard_normal((ROWS, DIM)).astype(np.float16)
    queries = np.stack([query, -query, rng.standard_normal(DIM).astype(np.float32)])
    for order in (1, -1):
        ordered = rows[np.argsort(order * (rows.astype(np.float32) @ query), kind="stable")]
        scores, indices = _core.topk(queries, ordered, K, None, 2, None, "float32")
        found = _core.topk(queries, ordered, K, None, 2, None, screen)
        assert np.array_equal(found[0].view(np.uint32), scores.view(np.uint32))
        assert np.array_equal(found[1], indices)


@pytest.mark.parametrize("hopeless", [1, 100, 155, 160])
def test_queries_that_codes_tell_nothing_of(rng: np.random.Generator, cpu_level: str, hopeless: int) -> None:
    """For some queries rows lie on a line, in both directions, or nearly; the others tell them apart."""
    rows = rng.standard_normal((20_000, 64)).astype(np.float16)
    rows[:, :32] = rng.choice(np.array([-30, 30], np.float16), (20_000, 1))
    rows[:, 0] += rng.integers(0, 4, 20_000) / np.float16(8)
    queries = rng.standard_normal((160, 64)).astype(np.float32)
    queries[:, :32] = 0
    queries[rng.permutation(160)[:hopeless]] = np.r_[np.ones(32), np.zeros(32)]
    for k in (1, 100, 600):
        scores, indices = _core.topk(queries, rows, k, None, 2, None, "float32")
        for planes in (None, _core.Planes.build(rows, 2, None)):
            found = _core.topk(queries, rows, k, None, 2, None, "auto", planes)
            assert np.array_equal(found[0].view(np.uint32), scores.view(np.uint32)), cpu_level
            assert np.array_equal(found[1], indices), cpu_level
