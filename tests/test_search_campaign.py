"""A campaign against the exactness of `topk`: adversarial cases, every level, screen and size of batch.

Each case is drawn from its number, so a failure names what to repeat. `ILIAS_FAST_CAMPAIGN=20000 pytest
tests/test_search_campaign.py` runs the long version; `ILIAS_FAST_CAMPAIGN_FROM` begins elsewhere.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast import _core, cpu
from tests.oracles import search as oracle
from tests.oracles.search_many import topk_of_many

CASES = int(os.environ.get("ILIAS_FAST_CAMPAIGN", "100"))
FIRST = int(os.environ.get("ILIAS_FAST_CAMPAIGN_FROM", "0"))
BATCH = 20
LARGEST = float(np.finfo(np.float32).max)


def rows_of(rng: np.random.Generator, kind: str, n: int, d: int) -> NDArray[np.float64]:
    x = rng.standard_normal((n, d))
    match kind:
        case "near ties":  # one row, one coordinate an ulp up or down
            x = np.repeat(x[:1].astype(np.float16), n, axis=0)
            at = rng.integers(0, d, n)
            x[np.arange(n), at] = np.nextafter(
                x[np.arange(n), at], rng.choice(np.array([-9, 9], np.float16), n)
            )
        case "heavy tails":
            x = np.sign(x) * np.abs(x) ** rng.uniform(3, 9)
        case "one huge coordinate":
            x[:, rng.integers(0, d)] = rng.choice([-60000, 60000])
        case "few huge rows":
            x[rng.random(n) < 0.02] *= 10000
        case "low rank":
            x = rng.standard_normal((n, 1)) @ rng.standard_normal((1, d)) + 1e-3 * x
        case "subnormal":
            x *= 2.0**-24 * rng.integers(1, 40)
        case "norms":
            x *= 10.0 ** rng.uniform(-6, 4.5, (n, 1)) / np.sqrt(d)
        case "duplicates":
            x = x[rng.integers(0, max(1, n // 50), n)]
        case "equal":
            x[:] = x[0]
        case "zeros":
            x[rng.random(n) < 0.95] = 0
        case "signs":
            x = np.sign(x)
        case "cancelling":
            x[:, d // 2 :] = -x[:, : d - d // 2]
        case "sorted":
            x = x[np.argsort(x[:, 0])]
        case "off centre":  # a cone, from wide to narrower than the steps of float16
            x = rng.standard_normal(d) * 10.0 ** rng.uniform(0, 4) + x
        case "two cones":
            x += np.where(rng.random((n, 1)) < 0.1, 30, -20) * rng.standard_normal(d)
        case "all but one far away":  # the mean says nothing of the row
            x[1:] += 3000
    return np.clip(x.astype(np.float64), -65504, 65504)


KINDS = [
    "gaussian", "near ties", "heavy tails", "one huge coordinate", "few huge rows", "low rank", "subnormal",
    "norms", "duplicates", "equal", "zeros", "signs", "cancelling", "sorted",
    "off centre", "two cones", "all but one far away",
]  # fmt: skip


def case(number: int) -> None:
    rng = np.random.default_rng([71, number])
    kind = KINDS[number % len(KINDS)]
    q = int(rng.choice([1, 2, 3, 8, 9, 16, 32, 33, 70]))
    d = int(rng.choice([1, 2, 7, 16, 31, 64, 65, 96, 130]))
    n = int(rng.integers(1, max(40, 30_000 // (q + 8))))
    k = int(rng.choice([1, 2, 10, 50, n, 2 * n, max(1, n // 3)]))
    rows = rows_of(rng, kind, n, d)
    queries = rng.standard_normal((q, d))
    if rng.random() < 0.3:  # queries that are rows
        queries = rows[rng.integers(0, n, q)].copy()
    if kind == "cancelling":
        queries[:, d // 2 :] = queries[:, : d - d // 2]
    if rng.random() < 0.3:
        queries *= 10.0 ** rng.uniform(-44, 33)
    if rng.random() < 0.2:  # orthogonal to most of the database
        queries[:, : d // 2] = 0
        rows[: n - n // 10, d // 2 :] = 0
    queries = np.clip(queries, -LARGEST, LARGEST).astype(np.float32)
    narrow = rng.random() < 0.8
    database = rows.astype(np.float16) if narrow else rows.astype(np.float32)
    selected = rng.random(n) < rng.choice([0.02, 0.5, 0.98]) if rng.random() < 0.3 else None
    expected = topk_of_many(queries, database, k, selected)
    search = _core.topk if narrow else _core.topk_float32
    planes = _core.Planes.build(database, 1, None) if narrow else None
    for level in cpu.available_levels():
        for screen in ("auto", "float32", "bfloat16", "int8", "planes"):
            if screen == "planes" and planes is None:
                continue
            ready = {"planes": planes} if screen == "planes" else {}
            with cpu.pinned(level):
                threads = int(rng.integers(1, 4))
                named = "int8" if ready else screen
                scores, indices = search(queries, database, k, selected, threads, None, named, **ready)
            where = f"case {number}: {kind}, {q} x {n} x {d}, k {k}, {level}, {screen}, {threads} threads"
            np.testing.assert_array_equal(indices, expected[1], err_msg=where)
            np.testing.assert_array_equal(scores.view(np.uint32), expected[0].view(np.uint32), err_msg=where)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(FIRST, FIRST + CASES, BATCH))
def test_campaign(first: int) -> None:
    for number in range(first, min(first + BATCH, FIRST + CASES)):
        case(number)


def test_the_fast_oracle_is_the_slow_one() -> None:
    for number in range(28):
        rng = np.random.default_rng([3, number])
        kind = KINDS[number % len(KINDS)]
        rows = rows_of(rng, kind, 60, 9).astype(np.float16)
        queries = (rng.standard_normal((4, 9)) * 10.0 ** rng.uniform(-40, 30)).astype(np.float32)
        slow, fast = oracle.topk(queries, rows, 25), topk_of_many(queries, rows, 25)
        np.testing.assert_array_equal(slow[1], fast[1])
        np.testing.assert_array_equal(slow[0].view(np.uint32), fast[0].view(np.uint32))
