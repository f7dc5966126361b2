"""What a sweep trusts until it is proven: refuted guesses cost time, never an answer."""

from __future__ import annotations

import numpy as np
import pytest

from ilias_fast import _core

ROWS, DIM, K = 40_000, 512, 1000
# Of these numbers of rows and columns every 12th row is sampled, and chunks are of 4,096 rows.
STRIDE, CHUNK = 12, 4096


def database(rng: np.random.Generator, sampled: int, others: int, *, chunk: int) -> np.ndarray:
    """Rows of which some of one chunk are far above the rest: so many of those in the sample, and others."""
    rows = rng.standard_normal((ROWS, DIM)).astype(np.float16)
    inside = np.arange(chunk * CHUNK, min(ROWS, (chunk + 1) * CHUNK))
    rare = inside % STRIDE == 0
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
