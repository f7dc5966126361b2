"""A benchmark's re-ranking from mapped stores: the data, and the timing.

Binary codes are the signs of 128 random projections of Gaussian vectors in `LATENT` dimensions. With 24, a
query of 600 descriptors and an image of 100 that does not match share 32 mutual nearest neighbours within 32
bits; 500 and 100 RootSIFT descriptors binarised by ITQ, of photographs of different places, share 31 on
average (5% to 95%: 7 to 46). Of every shortlist of 1,000 images, `POSITIVES` show the query's object: 30 of
their 100 descriptors are the query's with a tenth of the bits flipped, at positions mapped affinely.

The hard codes make more correspondences: half of an image's descriptors differ in few bits from those of all
images.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ilias_fast.rerank import ChamferOptions, LocalScores, SpatialOptions, rerank, rerank_both
from ilias_fast.run import Run
from ilias_fast.store import LocalImage, LocalStore

LATENT, BITS, QUERY, EACH, SHORTLIST = 24, 128, 600, 100, 1000
POSITIVES, SHARED = 5, 30
ALL = ChamferOptions(query_descriptors=None)
PIXELS = (500, 500)

Scores = TypeVar("Scores")
Codes = Callable[[np.random.Generator, int], NDArray[np.uint8]]


def realistic(projection: NDArray[np.float32]) -> Codes:
    """Codes whose nearest neighbours are as near as those of photographs."""

    def codes(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
        latent = rng.standard_normal((count, LATENT), dtype=np.float32)
        return np.packbits(latent @ projection > 0, axis=1)

    return codes


def hard(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Codes of one image, of which half are nearly alike in all images."""
    codes = rng.integers(0, 256, (count, BITS // 8), dtype=np.uint8)
    codes[: count // 2, :8] = 7
    codes[: count // 2, 8:14] = rng.choice([3, 5], (count // 2, 6))
    return codes


def image(codes: NDArray[np.uint8], xy: NDArray[np.float32]) -> LocalImage:
    return LocalImage(codes, xy, None, None, None, PIXELS)


def positive(rng: np.random.Generator, query: LocalImage, codes: NDArray[np.uint8]) -> LocalImage:
    """An image with these codes but for some of the query's, seen from elsewhere."""
    chosen = rng.permutation(QUERY)[:SHARED]
    flips = np.packbits(rng.random((SHARED, BITS)) < 0.1, axis=1)
    angle, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.4, 0.8)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn @ np.diag([1.0, rng.uniform(0.7, 1.0)])
    xy = rng.random((EACH, 2))
    mapped = (query.xy[chosen] - 0.5) @ linear.T + 0.5 + rng.normal(0, 0.004, (SHARED, 2))
    xy[:SHARED] = np.clip(mapped, 0, 1)
    codes = codes.copy()
    codes[:SHARED] = query.codes[chosen] ^ flips
    return image(codes, xy.astype(np.float32))


def build(
    folder: Path, codes: Codes, queries: int, distractors: int, seed: int = 3
) -> tuple[LocalStore, LocalStore, Run, dict[str, set[str]]]:
    """Stores of queries and images, the run to re-rank, and the positives of each query."""
    rng = np.random.default_rng(seed)

    def many(count: int, each: int) -> Iterator[LocalImage]:
        for _ in range(count):
            yield image(codes(rng, each), rng.random((each, 2), dtype=np.float32))

    asked = list(many(queries, QUERY))
    shown = [positive(rng, query, codes(rng, EACH)) for query in asked for _ in range(POSITIVES)]
    truth = {f"q{i}": {f"p{i * POSITIVES + j}" for j in range(POSITIVES)} for i in range(queries)}
    with LocalStore.create(folder / "queries", bits=BITS) as writer:
        writer.append(list(truth), asked)
    with LocalStore.create(folder / "database", bits=BITS) as writer:
        writer.append([f"p{i}" for i in range(len(shown))], shown)
        for start in range(0, distractors, 1000):
            part = list(many(min(1000, distractors - start), EACH))
            writer.append([f"d{start + i}" for i in range(len(part))], part)
    ranked = {}
    for query, positives in truth.items():
        others = rng.choice(distractors, SHORTLIST - POSITIVES, replace=False)
        ids = [*sorted(positives), *(f"d{i}" for i in others)]
        ranked[query] = {ids[i]: 1.0 - n / SHORTLIST for n, i in enumerate(rng.permutation(SHORTLIST))}
    return (
        LocalStore.open(folder / "queries"),
        LocalStore.open(folder / "database"),
        Run.from_dict(ranked),
        truth,
    )


def found(local: LocalScores, run: Run, truth: dict[str, set[str]]) -> tuple[float, float]:
    """The share of positives with a score above zero, and of the others."""
    above = local.scores > 0
    relevant = np.concatenate([[name in truth[query] for name in run[query].ids] for query in run.query_ids])
    return float(above[relevant].mean()), float(above[~relevant].mean())


def timed(call: Callable[[], Scores]) -> tuple[Scores, float, float]:
    """The result, seconds, and seconds of processor time of this process."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    start, before = time.perf_counter(), spent()
    scores = call()
    return scores, time.perf_counter() - start, spent() - before


def measure(
    say: Callable[[str], None], folder: Path, name: str, codes: Codes, queries: int, distractors: int
) -> None:
    """Re-rank by both methods, in one pass and one after the other, and say what it took."""
    *stores, run, truth = build(folder, codes, queries, distractors)
    options = SpatialOptions(threshold=0.024)
    chamfer, seconds, processor = timed(
        lambda: rerank(run, *stores, method="chamfer", options=ALL, threads=2)
    )
    spatial, more, more_processor = timed(lambda: rerank(run, *stores, options=options, threads=2))
    both, together, both_processor = timed(
        lambda: rerank_both(run, *stores, chamfer=ALL, spatial=options, threads=2)
    )
    np.testing.assert_array_equal(both[0].scores, chamfer.scores)
    for name_of in ("scores", "inliers", "tentative", "models"):
        np.testing.assert_array_equal(getattr(both[1], name_of), getattr(spatial, name_of))
    assert spatial.tentative is not None
    positives, others = found(spatial, run, truth)
    pairs = queries * SHORTLIST
    say(
        f"Whole run, {name} codes, {queries} queries of {QUERY} x {SHORTLIST} of {distractors} images of "
        f"{EACH}, 2 threads, mapped, positions only"
    )
    say(
        f"  both in one pass {together:.2f} s ({1e6 * together / pairs:.1f} us a pair), processor "
        f"{both_processor:.1f} s; the same scores from Chamfer {seconds:.2f} s, verification {more:.2f} s, "
        f"processor {processor:.1f} + {more_processor:.1f} s"
    )
    tentative = spatial.tentative
    say(
        f"  {tentative.mean():.0f} tentative correspondences a pair (5% to 95%: "
        f"{np.percentile(tentative, 5):.0f} to {np.percentile(tentative, 95):.0f}); significant: "
        f"{positives:.1%} of the positives, {others:.3%} of the others"
    )
    if queries < 1232:
        scale = 1232 / queries
        say(f"  1,232 queries at that rate: {scale * together:.1f} s")


def whole_run(say: Callable[[str], None], folder: Path, queries: int, distractors: int) -> None:
    """Realistic codes in full, hard ones for a tenth of the queries."""
    projection = np.random.default_rng(0).standard_normal((LATENT, BITS), dtype=np.float32)
    measure(say, folder / "realistic", "realistic", realistic(projection), queries, distractors)
    measure(say, folder / "hard", "hard", hard, max(1, queries // 10), min(distractors, 5000))
