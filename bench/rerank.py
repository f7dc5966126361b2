"""Re-ranking kernels beside their peers, in one run, answers checked; a few minutes.

    python bench/rerank.py [--only SECTION ...] [--record bench/record/rerank-NAME.txt]

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
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import faiss
import maxsim_cpu
import numpy as np
import poselib
import pycolmap
import skimage
import torch
from numpy.typing import NDArray

from ilias_fast import cpu, kernels
from ilias_fast.rerank import ChamferOptions, SpatialOptions, rerank
from ilias_fast.run import Run
from ilias_fast.store import LocalImage, LocalStore
from support import rerank_run

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
            "ilias_fast.match_images": lambda: kernels.match_images(
                query, codes, offsets, max_distance=BITS, threads=1
            ),
            "same, within 32 bits": lambda: kernels.match_images(query, codes, offsets, threads=1),
            "ilias_fast.match, within 32 bits": lambda: ours_match(32),
            "ilias_fast.match, all indices": lambda: ours_match(BITS),
            "faiss knn_hamming": lambda: [faiss.knn_hamming(query, part, 1) for part in per_image],
            "torch +-1 bfloat16": lambda: torch_match(torch.bfloat16),
            "cv2.BFMatcher": lambda: [matcher.match(query, part) for part in per_image],
        },
        3,
    )


def match_shapes(rng: np.random.Generator) -> None:
    """`kernels.match` without a limit and within a quarter of the bits, beside faiss."""
    for bits in (64, 128, 256):
        for query, database in ((600, 100), (300, 300), (600, 600), (1000, 1000)):
            a, b = (rng.integers(0, 256, (rows, bits // 8), dtype=np.uint8) for rows in (query, database))
            distance, _ = faiss.knn_hamming(a, b, 1)
            np.testing.assert_array_equal(kernels.match(a, b, max_distance=bits).distance, distance[:, 0])
            calls = range(10_000_000 // (query * database))
            say(f"Nearest neighbour with index, {query} x {database}, {bits} bits, 1 thread, us a call")
            contestants: dict[str, Callable[[], Any]] = {
                "faiss knn_hamming": partial(faiss.knn_hamming, a, b, 1)
            }
            for limit in (bits // 4, bits):
                contestants[f"within {limit} bits"] = partial(kernels.match, a, b, max_distance=limit)
            repeated = {
                n: lambda call=call, calls=calls: [call() for _ in calls] for n, call in contestants.items()
            }
            race(dict(reversed(repeated.items())), 7, 1e6 / len(calls))


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
        # In random order: samplers with a fixed seed would draw the same places in every scene.
        order = rng.permutation(count)
        yield query[order].astype(np.float32), database[order].astype(np.float32), order < true


Verifier = Callable[[NDArray[np.float32], NDArray[np.float32], float], NDArray[np.bool_]]


def opencv(method: int, **options: Any) -> Verifier:
    def verify(
        query: NDArray[np.float32], database: NDArray[np.float32], threshold: float
    ) -> NDArray[np.bool_]:
        model, mask = cv2.estimateAffine2D(
            query, database, method=method, ransacReprojThreshold=threshold, **options
        )
        return np.zeros(len(query), bool) if model is None else mask.ravel() > 0

    return verify


def of_pycolmap(
    query: NDArray[np.float32], database: NDArray[np.float32], threshold: float
) -> NDArray[np.bool_]:
    options = pycolmap.RANSACOptions(max_error=threshold, max_num_trials=2000)
    found = pycolmap.estimate_affine2d_robust(query.astype(float), database.astype(float), options)
    return np.zeros(len(query), bool) if found is None else np.asarray(found["inlier_mask"])


def of_poselib(
    query: NDArray[np.float32], database: NDArray[np.float32], threshold: float
) -> NDArray[np.bool_]:
    options = {"max_reproj_error": threshold, "max_iterations": 2000, "min_iterations": 100}
    _, found = poselib.estimate_homography(query, database, options, {})
    return np.asarray(found["inliers"])


def of_skimage(
    query: NDArray[np.float32], database: NDArray[np.float32], threshold: float
) -> NDArray[np.bool_]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, mask = skimage.measure.ransac(
            (query, database),
            skimage.transform.AffineTransform,
            min_samples=3,
            residual_threshold=threshold,
            max_trials=1000,
            rng=0,
        )
    return np.zeros(len(query), bool) if mask is None else np.asarray(mask)


def verifiers() -> dict[str, Verifier]:
    return {
        "ilias_fast": lambda q, d, t: kernels.verify_spatial(q, d, threshold=t).mask,
        "cv2 RANSAC 2000": opencv(cv2.RANSAC),
        "1000, unrefined": opencv(cv2.RANSAC, maxIters=1000, refineIters=0),
        "cv2 USAC_FAST": opencv(cv2.USAC_FAST),
        "cv2 USAC_MAGSAC": opencv(cv2.USAC_MAGSAC),
        "pycolmap affine": of_pycolmap,
        "poselib homogr.": of_poselib,
        "skimage (3 of N)": of_skimage,
    }


def verification(repeats: int = 100) -> None:
    """Recall, pairs/s, false inliers over the grid; scikit-image, which is slow, on three scenes a cell.

    A recall p over n scenes has a standard error of sqrt(p (1 - p) / n): 0.05 at the most over a hundred.
    """
    chosen = verifiers()
    say("Verification from positions, 1 thread: recall (80% of the true inliers found) and pairs/s by call")
    say("(random: mean number of inliers and pairs/s); the last line compares pairs/s over the grid")
    say(f"  {'px':>3} {'kind':7} {'M':>4} {'inliers':>7} " + " ".join(f"{name:>16}" for name in chosen))
    ratios: dict[str, list[float]] = {name: [] for name in chosen}
    for threshold in (12.0, 4.0):
        for kind in ("mild", "strong", "random"):
            for count in (20, 50, 100, 300):
                for ratio in (0.0,) if kind == "random" else (0.1, 0.3, 0.6):
                    rng = np.random.default_rng([count, round(10 * ratio)])
                    cell = list(scenes(rng, repeats, count, ratio, kind == "strong", threshold))
                    shown, rates = [], []
                    for name, verify in chosen.items():
                        part = cell[:3] if name.startswith("skimage") else cell
                        best, masks = np.inf, []
                        for _ in range(1 if name.startswith("skimage") else 2):
                            start = time.perf_counter()
                            masks = [verify(q, d, threshold) for q, d, _ in part]
                            best = min(best, time.perf_counter() - start)
                        if kind == "random":
                            value = np.mean([mask.sum() for mask in masks])
                        else:
                            value = np.mean(
                                [
                                    (m & t).sum() >= 0.8 * t.sum()
                                    for m, (_, _, t) in zip(masks, part, strict=True)
                                ]
                            )
                        rates.append(len(part) / best)
                        if kind != "random":
                            ratios[name].append(rates[0] / rates[-1])
                        shown.append(f"{value:7.2f} {rates[-1]:8.0f}")
                    say(f"  {threshold:3.0f} {kind:7} {count:4d} {ratio:7.0%} " + " ".join(shown))
    means = (f"{np.exp(np.mean(np.log(values))):.1f} ({min(values):.1f})" for values in ratios.values())
    say("  faster than (least): " + " ".join(f"{mean:>16}" for mean in means))


def hard_recall(repeats: int = 2000) -> None:
    """Recall where one correspondence in ten is right, over enough scenes to tell methods apart."""
    chosen = {name: verify for name, verify in verifiers().items() if not name.startswith("skimage")}
    say(f"Recall where 10% are right, {repeats} scenes a cell: mean and its standard error")
    say("(chance: the same for as many wrong correspondences, named beforehand, among random ones)")
    say(f"  {'px':>3} {'kind':7} {'M':>4} " + " ".join(f"{name:>16}" for name in chosen))
    for threshold in (12.0, 4.0):
        for kind in ("mild", "strong", "chance"):
            for count in (20, 50, 100, 300) if kind != "chance" else (20, 50):
                rng = np.random.default_rng([count, 1, repeats])
                ratio = 0.0 if kind == "chance" else 0.1
                found: dict[str, list[bool]] = {name: [] for name in chosen}
                for q, d, right in scenes(rng, repeats, count, ratio, kind == "strong", threshold):
                    wanted = right if kind != "chance" else np.arange(count) < round(0.1 * count)
                    for name, verify in chosen.items():
                        inside = verify(q, d, threshold) & wanted
                        found[name].append(bool(inside.sum() >= 0.8 * wanted.sum()))
                means = {name: float(np.mean(values)) for name, values in found.items()}
                say(
                    f"  {threshold:3.0f} {kind:7} {count:4d} "
                    + " ".join(
                        f"{mean:8.3f} +- {np.sqrt(mean * (1 - mean) / repeats):.3f}"
                        for mean in means.values()
                    )
                )


def float_descriptors(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(QUERY + IMAGES * EACH, 128)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    half = rows.astype(np.float16)
    query, database = half[:QUERY].astype(np.float32), half[QUERY:]
    offsets = np.arange(0, IMAGES * EACH + 1, EACH)
    tensors = {
        d: (torch.from_numpy(query).to(d), torch.from_numpy(database).to(d))
        for d in (torch.float32, torch.bfloat16)
    }

    def by_torch(dtype: torch.dtype) -> NDArray[np.float32]:
        q, x = tensors[dtype]
        return (q @ x.T).view(QUERY, IMAGES, EACH).amax(dim=2).float().sum(dim=0).numpy()

    documents = database.reshape(IMAGES, EACH, -1).astype(np.float32)
    contestants: dict[str, Callable[[], Any]] = {
        "ilias_fast float32": lambda: kernels.chamfer(query, database, offsets, threads=1),
        "ilias_fast bfloat16": lambda: kernels.chamfer(
            query, database, offsets, precision="bfloat16", threads=1
        ),
        "torch float32": lambda: by_torch(torch.float32),
        "torch bfloat16": lambda: by_torch(torch.bfloat16),
        "maxsim-cpu": lambda: np.asarray(maxsim_cpu.maxsim_scores(query, documents)),
    }
    exact = [
        (query.astype(float) @ part.T.astype(float)).max(axis=1).sum()
        for part in database.reshape(IMAGES, EACH, -1)
    ]
    say(f"Chamfer of float descriptors (MaxSim), {QUERY} x {IMAGES} x {EACH}, 128-d, 1 thread, ms")
    for name, call in list(contestants.items()):
        error = np.abs(call() - exact).max()
        say(f"  {name:34s} largest error of a score {error:.1e}")
        if not error < 1:
            del contestants[name]  # maxsim-cpu 0.1.0 where its matrix library has no BLAS: not the answer
    race(contestants, 3)


def whole_run() -> None:
    """A benchmark's re-ranking from mapped stores, 2 threads: 1,232 queries, 50,000 images."""
    with tempfile.TemporaryDirectory() as folder:
        rerank_run.whole_run(say, Path(folder), 1232, 50_000)


def long_shortlists() -> None:
    """Linear in pairs, and memory that does not depend on them."""
    rng = np.random.default_rng(3)

    def many(count: int) -> list[LocalImage]:
        return [
            rerank_run.image(rerank_run.hard(rng, 600), rng.random((600, 2), dtype=np.float32))
            for _ in range(count)
        ]

    options = SpatialOptions(threshold=0.024)
    with tempfile.TemporaryDirectory() as folder:
        opened = []
        for name, number in (("q", 1), ("d", 10000)):
            with LocalStore.create(Path(folder) / name, bits=BITS) as writer:
                for start in range(0, number, 1000):
                    part = many(min(number - start, 1000))
                    writer.append([f"{name}{start + i}" for i in range(len(part))], part)
            opened.append(LocalStore.open(Path(folder) / name))
        say("Shortlists of images of 600 descriptors, hard codes, 2 threads")
        for length in (2500, 5000, 10000):
            run = Run.from_dict({"q0": {f"d{j}": 1.0 for j in range(length)}})
            start = time.perf_counter()
            rerank(
                run,
                *opened,
                method="chamfer",
                options=ChamferOptions(query_descriptors=None),
                threads=2,
                shortlist=length,
            )
            middle = time.perf_counter()
            rerank(run, *opened, options=options, threads=2, shortlist=length)
            say(
                f"  {length:5d} images: Chamfer {middle - start:.3f} s, verification "
                f"{time.perf_counter() - middle:.3f} s"
            )
        mapped = sum(
            int(line.split()[1])
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith(("RssAnon", "RssShmem"))
        )
        say(f"  memory of the process beyond the maps, libraries included: {mapped / 1024:.0f} MiB")


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
    parser.add_argument("--record", type=Path, help="also append what is printed to this file")
    parser.add_argument(
        "--only", nargs="+", help="sections: descriptors shapes floats verification recall stores run long"
    )
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
    say(", ".join(f"{peer.__name__} {peer.__version__}" for peer in (torch, faiss, cv2, np)))
    start = time.perf_counter()
    sections: dict[str, Callable[[], None]] = {
        "descriptors": lambda: descriptors(np.random.default_rng(0)),
        "shapes": lambda: match_shapes(np.random.default_rng(0)),
        "floats": lambda: float_descriptors(np.random.default_rng(0)),
        "verification": verification,
        "recall": hard_recall,
        "stores": stores,
        "run": whole_run,
        "long": long_shortlists,
    }
    for name in arguments.only or sections:
        sections[name]()
    say(f"{time.perf_counter() - start:.0f} s in all")
    if arguments.record:
        with arguments.record.open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
