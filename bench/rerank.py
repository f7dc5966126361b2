"""Re-ranking kernels beside their peers, in one run, answers checked; under a minute.

    python bench/rerank.py [--record bench/record/rerank-NAME.txt]

Contestants alternate, one thread each. A line gives the best time, the median and the range of the
repetitions, and the ratio to ours repetition by repetition (median, range): ratios are what travels between
machines.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from ilias_fast import cpu, kernels
from ilias_fast.rerank import SpatialOptions, rerank
from ilias_fast.run import Run
from ilias_fast.store import LocalImage, LocalStore

QUERY, IMAGES, EACH, BITS = 600, 1000, 100, 128
lines: list[str] = []


def say(text: str = "") -> None:
    lines.append(text)
    print(text, flush=True)


def race(contestants: dict[str, Callable[[], Any]], repetitions: int, unit: float = 1e3) -> None:
    """Time the contestants in turn; the first is ours."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        call()  # first touch of memory
    for _ in range(repetitions):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * unit)
    ours = np.array(times[next(iter(times))])
    for name, values in times.items():
        ratio = np.array(values) / ours
        say(
            f"  {name:34s} best {min(values):9.2f}  median {np.median(values):9.2f}  "
            f"({min(values):.2f} to {max(values):.2f})  "
            f"ratio {np.median(ratio):6.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
        )


def signs(codes: NDArray[np.uint8], dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1).to(dtype)


def descriptors(rng: np.random.Generator) -> None:
    query = rng.integers(0, 256, (QUERY, BITS // 8), dtype=np.uint8)
    codes = rng.integers(0, 256, (IMAGES * EACH, BITS // 8), dtype=np.uint8)
    offsets = np.arange(0, IMAGES * EACH + 1, EACH)
    per_image = codes.reshape(IMAGES, EACH, -1)
    floats = {d: (signs(query, d), signs(codes, d)) for d in (torch.bfloat16, torch.float32)}

    def torch_chamfer(dtype: torch.dtype) -> NDArray[np.float32]:
        q, x = floats[dtype]
        best = (q @ x.T).view(QUERY, IMAGES, EACH).amax(dim=2)
        return (best.float().sum(dim=0) / BITS).numpy()

    def torch_match(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        q, x = floats[dtype]
        value, index = (q @ x.T).view(QUERY, IMAGES, EACH).max(dim=2)
        return value, index

    def numpy_chamfer() -> NDArray[np.float64]:
        q, x = query.view(np.uint64), codes.view(np.uint64)
        out = np.empty(IMAGES)
        for image in range(IMAGES):
            part = x[image * EACH : (image + 1) * EACH]
            ham = sum(np.bitwise_count(q[:, w, None] ^ part[None, :, w]) for w in range(2))
            out[image] = (BITS - 2.0 * ham.min(axis=1)).sum() / BITS
        return out

    ours = kernels.chamfer(query, codes, offsets, threads=1)
    for other in (torch_chamfer(torch.bfloat16), torch_chamfer(torch.float32), numpy_chamfer()):
        np.testing.assert_allclose(ours, other, rtol=1e-6)
    say(f"Chamfer, {QUERY} x {IMAGES} x {EACH}, {BITS} bit, 1 thread, ms; answers equal")
    contestants: dict[str, Callable[[], Any]] = {
        f"ilias_fast ({cpu.level()})": lambda: kernels.chamfer(query, codes, offsets, threads=1)
    }
    contestants["torch +-1 bfloat16"] = lambda: torch_chamfer(torch.bfloat16)
    contestants["torch +-1 float32"] = lambda: torch_chamfer(torch.float32)
    contestants["numpy bitwise_count"] = numpy_chamfer
    race(contestants, 7)
    with cpu.pinned("avx2") if "avx2" in cpu.available_levels() else cpu.pinned("scalar"):
        np.testing.assert_array_equal(kernels.chamfer(query, codes, offsets, threads=1), ours)
        race({f"ilias_fast ({cpu.level()})": contestants[f"ilias_fast ({cpu.available_levels()[-1]})"]}, 5)

    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)

    def ours_match(limit: int) -> list[kernels.Matches]:
        return [kernels.match(query, part, max_distance=limit) for part in per_image]

    found = ours_match(BITS)
    distance, _ = faiss.knn_hamming(query, per_image[3], 1)
    np.testing.assert_array_equal(found[3].distance, distance[:, 0])
    np.testing.assert_array_equal(
        found[3].distance, [int(m.distance) for m in matcher.match(query, per_image[3])]
    )
    np.testing.assert_array_equal(found[3].distance, (BITS - torch_match(torch.float32)[0][:, 3].numpy()) / 2)
    say(f"Nearest neighbour with index, {QUERY} x {EACH} for {IMAGES} images, 1 thread, ms; distances equal")
    race(
        {
            "ilias_fast, within 32 bits": lambda: ours_match(32),
            "ilias_fast, all indices": lambda: ours_match(BITS),
            "faiss knn_hamming": lambda: [faiss.knn_hamming(query, part, 1) for part in per_image],
            "torch +-1 bfloat16": lambda: torch_match(torch.bfloat16),
            "cv2.BFMatcher": lambda: [matcher.match(query, part) for part in per_image],
        },
        3,
    )


def scenes(
    rng: np.random.Generator, repeats: int, count: int, ratio: float, strong: bool, threshold: float
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]]:
    """Correspondences in 500 pixels, `ratio` of them explained by one affine map with noise."""
    turn = lambda a: np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])  # noqa: E731
    for _ in range(repeats):
        query, database = rng.uniform(0, 500, (2, count, 2))
        true = round(count * ratio)
        angle, tilt = rng.uniform(-np.pi, np.pi, 2)
        stretch = np.sqrt(rng.uniform(1, 2)) if strong else 1.0
        scale = np.exp(rng.uniform(np.log(0.4), np.log(1.5)) if strong else rng.uniform(-0.1, 0.1))
        linear = scale * turn(angle if strong else 0.03 * angle)
        linear = linear @ turn(tilt) @ np.diag([stretch, 1 / stretch]) @ turn(-tilt)
        mapped = (query[:true] - 250) @ linear.T + rng.uniform(150, 350, 2)
        database[:true] = mapped + rng.normal(0, threshold / 6, (true, 2))
        yield query.astype(np.float32), database.astype(np.float32), np.arange(count) < true


Verifier = Callable[[NDArray[np.float32], NDArray[np.float32], float], NDArray[np.bool_]]


def opencv(method: int) -> Verifier:
    def verify(
        query: NDArray[np.float32], database: NDArray[np.float32], threshold: float
    ) -> NDArray[np.bool_]:
        options: dict[str, Any] = {"ransacReprojThreshold": threshold, "maxIters": 2000}
        model, mask = cv2.estimateAffine2D(query, database, method=method, **options)
        return np.zeros(len(query), bool) if model is None else mask.ravel() > 0

    return verify


def verification() -> None:
    verifiers: dict[str, Verifier] = {
        "ilias_fast verify_spatial": lambda q, d, t: kernels.verify_spatial(q, d, threshold=t).mask,
        "cv2 RANSAC 2000": opencv(cv2.RANSAC),
        "cv2 USAC_MAGSAC": opencv(cv2.USAC_MAGSAC),
    }
    say("Verification from positions only, 1 thread: recall (80% of the true inliers found), pairs/s by call")
    say(
        f"  {'px':>3} {'kind':7} {'M':>4} {'inliers':>7}   " + "   ".join(f"{name:>26}" for name in verifiers)
    )
    for threshold in (12.0, 4.0):
        for strong in (False, True):
            for count, ratio in (
                (20, 0.3),
                (50, 0.1),
                (100, 0.1),
                (100, 0.3),
                (100, 0.6),
                (300, 0.1),
                (300, 0.3),
            ):
                cell = list(scenes(np.random.default_rng(7), 60, count, ratio, strong, threshold))
                shown = []
                for verify in verifiers.values():
                    start = time.perf_counter()
                    masks = [verify(q, d, threshold) for q, d, _ in cell]
                    took = time.perf_counter() - start
                    hits = [(m & t).sum() >= 0.8 * t.sum() for m, (_, _, t) in zip(masks, cell, strict=True)]
                    shown.append(f"{np.mean(hits):15.2f} {len(cell) / took:10.0f}")
                kind = "strong" if strong else "mild"
                say(f"  {threshold:3.0f} {kind:7} {count:4d} {ratio:7.0%}   " + "   ".join(shown))
    say("Inliers on random pairs (mean, 60 pairs)")
    for threshold in (12.0, 4.0):
        for count in (20, 100, 300):
            cell = list(scenes(np.random.default_rng(8), 60, count, 0.0, False, threshold))
            means = [
                np.mean([verify(q, d, threshold).sum() for q, d, _ in cell]) for verify in verifiers.values()
            ]
            say(
                f"  {threshold:3.0f} {'random':7} {count:4d} {'0%':>7}   "
                + "   ".join(f"{m:26.2f}" for m in means)
            )


def stores() -> None:
    """Matching and verification with scale and angle, from mapped stores, M correspondences a pair."""
    say("rerank('spatial') from mapped stores, M descriptors an image, all matching, 1 thread")
    for count, ratio in ((50, 0.0), (50, 0.3), (100, 0.0), (100, 0.1), (100, 0.3), (300, 0.1)):
        rng = np.random.default_rng(9)
        codes = rng.integers(0, 256, (count, 16), dtype=np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            images, truth = {}, {}
            first = rng.uniform(0, 1, (count, 2))
            angle = rng.uniform(-np.pi, np.pi, count)
            size = rng.uniform(5, 20, count)
            for number in range(1000):
                turn, scale = rng.uniform(-np.pi, np.pi), np.exp(rng.uniform(np.log(0.4), np.log(1.5)))
                linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
                places = rng.uniform(0, 1, (count, 2))
                true = rng.permutation(count) < round(count * ratio)
                mapped = (first - 0.5) @ linear.T + 0.5 + rng.normal(0, 0.003, (count, 2))
                true &= ((mapped >= 0) & (mapped <= 1)).all(axis=1)
                places[true] = mapped[true]
                angles = np.where(true, angle + turn, rng.uniform(-np.pi, np.pi, count)) + rng.normal(
                    0, 0.1, count
                )
                sizes = np.where(true, size * scale, rng.uniform(3, 20, count)) * np.exp(
                    rng.normal(0, 0.1, count)
                )
                images[str(number)] = LocalImage(
                    codes, places.astype("f4"), sizes.astype("f4"), angles.astype("f4"), None, (500, 500)
                )
                truth[str(number)] = true
            query = LocalImage(
                codes, first.astype("f4"), size.astype("f4"), angle.astype("f4"), None, (500, 500)
            )
            opened = []
            for name, content in (("q", {"q": query}), ("d", images)):
                with LocalStore.create(Path(folder) / name, bits=128, optional=("scale", "angle")) as writer:
                    writer.append(list(content), list(content.values()))
                    writer.commit()
                opened.append(LocalStore.open(Path(folder) / name))
            run = Run.from_dict({"q": dict.fromkeys(images, 1.0)})
            took, options = [], SpatialOptions(threshold=0.024)
            for _ in range(7):
                start = time.perf_counter()
                local = rerank(run, *opened, options=options, threads=1)
                took.append(time.perf_counter() - start)
            assert local.inliers is not None
            wanted = 0.8 * np.array([truth[name].sum() for name in run["q"].ids])
            recall = np.mean(local.inliers >= np.maximum(wanted, 1))
            say(
                f"  M {count:4d}, {ratio:4.0%} inliers: {1000 / min(took):9.0f} pairs/s "
                f"(median {1000 / np.median(took):.0f}), "
                f"recall {recall if ratio else float('nan'):.2f}, mean inliers {local.inliers.mean():.1f}, "
                f"score above 0: {np.mean(local.scores > 0):.3f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, help="also write what is printed to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    cv2.setNumThreads(1)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    processor = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    flags = Path("/proc/cpuinfo").read_text()
    amx = "with AMX" if "amx_tile" in flags else "no AMX"
    say(f"commit {commit}, {processor} ({amx}), level {cpu.level()}, {time.strftime('%Y-%m-%d')}")
    say(
        f"torch {torch.__version__}, faiss {faiss.__version__}, opencv {cv2.__version__}, "
        f"numpy {np.__version__}"
    )
    start = time.perf_counter()
    descriptors(np.random.default_rng(0))
    verification()
    stores()
    say(f"{time.perf_counter() - start:.0f} s in all")
    if arguments.record:
        arguments.record.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
