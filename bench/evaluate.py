"""Evaluation: ours against the official evaluator and the field's libraries, alternated in one run.

    python bench/evaluate.py [--rounds 7] [--demo DIR] [--out FILE] [--only NAME]

The data has the shape of ILIAS: 1,232 queries of 1,000 instances, 4,715 positives, lists of 1,000 with
distractor ids that hardly repeat. `official` is the published evaluator, re-stated step by step as the
protocol describes it: a Python loop over the results where positives are excluded, one scikit-learn call a
query and group. Every answer equals it before anything is timed. Times are median [least, largest] over
rounds in which all contestants ran one after the other; a ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _core, cpu
from ilias_fast.datasets import Dataset
from ilias_fast.evaluate import CLUTTER_BOUNDS, SCALE_BOUNDS, evaluate
from ilias_fast.kernels import MapCounter
from ilias_fast.run import Run

K = 1000
Results = dict[str, dict[str, float]]
Prepared = list[tuple[str, NDArray[Any], NDArray[Any]]]


def make(rng: np.random.Generator, depth: int = K) -> tuple[Dataset, Results]:
    instances = [f"object_name_{i:03d}" for i in range(1000)]
    counts = np.bincount([*range(1000), *rng.integers(0, 1000, 232).tolist()], minlength=1000)
    image = [f"{instances[i]}/query/Q{i:03d}_{y:02d}.jpg" for i in range(1000) for y in range(counts[i])]
    members = np.bincount([*range(1000), *rng.integers(0, 1000, 3715).tolist()], minlength=1000)
    positives = [f"{instances[i]}/pos/P{i:03d}_{z:02d}.jpg" for i in range(1000) for z in range(members[i])]
    taxonomy = {
        f"c{c}": {f"m{m}": {"f": instances[c * 125 + m * 25 : c * 125 + m * 25 + 25]} for m in range(5)}
        for c in range(8)
    }
    dataset = Dataset(
        "ilias",
        Path(),
        Path(),
        tuple(sorted(image)),
        (),
        tuple(sorted(positives)),
        scale=dict(zip(positives, rng.random(len(positives)).tolist(), strict=True)),
        clutter=dict(zip(positives, rng.integers(0, 90, len(positives)).tolist(), strict=True)),
        taxonomy=taxonomy,
    )
    results: Results = {}
    for query in dataset.image_queries:
        own = sorted(dataset.positives_of(query))
        own = own[: int(rng.integers(0, len(own) + 1))]
        keys = rng.integers(10**9, 10**10, depth - len(own)).tolist()
        shards = rng.integers(0, 1000, depth - len(own)).tolist()
        names = own + [f"yfcc100m_{s:03d}.tar/{key}" for s, key in zip(shards, keys, strict=True)]
        names = [names[row] for row in rng.permutation(depth)]
        scores = np.sort(rng.random(depth, np.float32))[::-1]
        results[query] = dict(zip(names, map(float, scores), strict=True))
    return dataset, results


def official_prepare(results: Results) -> Prepared:
    """Return what the official evaluator makes of the loaded JSON: arrays of ids and scores a query."""
    return [(q, np.array(list(found)), np.array(list(found.values()))) for q, found in results.items()]


def official(dataset: Dataset, prepared: Prepared, groups: bool) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score

    truth: dict[str, set[str]] = {}
    for positive in dataset.positives:
        truth.setdefault(dataset.instance_of(positive), set()).add(positive)

    def one(
        instance: str, names: NDArray[Any], scores: NDArray[Any], excluded: set[str]
    ) -> tuple[float, float]:
        if excluded:
            keep = np.array([name not in excluded for name in names])
            names, scores = names[keep], scores[keep]
        order = np.argsort(-scores)[:K]
        names, scores = names[order], scores[order]
        wanted = truth[instance] - excluded
        relevant = np.array([name in wanted for name in names])
        if not relevant.any():
            return 0.0, 0.0
        value = average_precision_score(relevant, scores)
        return value * relevant.sum() / min(K, len(wanted)), relevant.mean() * K / len(wanted)

    single = [one(dataset.instance_of(q), names, scores, set()) for q, names, scores in prepared]
    report: dict[str, Any] = {
        "aps": 100 * np.array([ap for ap, _ in single]),
        "oracle": 100 * np.mean([best for _, best in single]),
    }
    if not groups:
        return report
    annotations = (("scale", dataset.scale, SCALE_BOUNDS), ("clutter", dataset.clutter, CLUTTER_BOUNDS))
    for name, values, bounds in annotations:
        report[name] = {}
        for low, high in pairwise(bounds):
            found = []
            for query, names, scores in prepared:
                instance = dataset.instance_of(query)
                excluded = {p for p in truth[instance] if not low <= values[p] < high}
                if truth[instance] - excluded:
                    found.append(one(instance, names, scores, excluded)[0])
            report[name][f"{low}-{high}"] = 100 * float(np.mean(found))
    of: dict[str, list[float]] = {}
    for (query, _, _), value in zip(prepared, report["aps"], strict=True):
        of.setdefault(dataset.instance_of(query), []).append(value)
    categories: dict[str, list[float]] = {}
    for instance, aps in of.items():
        categories.setdefault(dataset.category_of[instance][0], []).append(float(np.mean(aps)))
    report["categories"] = {name: float(np.mean(aps)) for name, aps in categories.items()}
    return report


def rounds(contestants: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(count + 1):
        for name, work in contestants.items():
            started = time.perf_counter()
            work()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    return times


def report(title: str, times: dict[str, list[float]], ours: str) -> dict[str, Any]:
    print(f"\n{title}")
    found = {}
    for name, values in times.items():
        ratios = [other / mine for other, mine in zip(values, times[ours], strict=True)]
        found[name] = {"seconds": values, "ratio": statistics.median(ratios), "ratios": ratios}
        low, middle, high = (1e3 * v for v in (min(values), statistics.median(values), max(values)))
        print(
            f"  {name:30s} {middle:9.2f} ms [{low:.2f}, {high:.2f}]"
            f"  {statistics.median(ratios):8.2f} x [{min(ratios):.2f}, {max(ratios):.2f}]"
        )
    return found


def judging(dataset: Dataset, results: Results, count: int, slow: int) -> dict[str, Any]:
    import pytrec_eval
    import ranx

    run = Run.from_dict(results)
    prepared = official_prepare(results)
    expected = official(dataset, prepared, True)
    mine = evaluate(run, dataset, official=True)
    order = [mine.queries.index(query) for query, _, _ in prepared]
    assert np.allclose(mine.aps[order], expected["aps"], atol=1e-8, rtol=0)
    assert abs(mine.oracle - expected["oracle"]) < 1e-8
    for name in ("scale", "clutter", "categories"):
        for key, value in expected[name].items():
            assert abs(getattr(mine, name)[key] - value) < 1e-8, (name, key)
    record = {}
    # AP alone on integer ids, as arrays: what a vectorised NumPy program would do.
    position = {name: number for number, name in enumerate(dataset.positives)}
    number_of = {name: number for number, name in enumerate(dataset.instances)}
    instance = np.array([number_of[dataset.instance_of(p)] for p in dataset.positives] + [-1], np.int32)
    of_row = instance[[position.get(name, -1) for name in run.database_ids]]
    owner = np.array([number_of[dataset.instance_of(q)] for q in run.query_ids], np.int32)
    total = np.array([len(dataset.positives_of(q)) for q in run.query_ids], np.int64)
    depth = len(run.indices) // len(run)
    matrix = run.indices.reshape(len(run), depth)
    groups = np.zeros(len(of_row), np.uint32)

    def by_numpy() -> NDArray[np.float64]:
        relevant = of_row[matrix] == owner[:, None]
        precision = np.cumsum(relevant, axis=1) / np.arange(1, depth + 1)
        return np.asarray((precision * relevant).sum(axis=1) / np.minimum(K, total))

    def by_core() -> NDArray[np.float64]:
        arrays = (run.offsets, run.indices, run.scores, of_row, groups, owner, total)
        return _core.judge(*arrays, 0, K, None)[0]

    assert np.allclose(by_core(), by_numpy(), atol=1e-12)
    times = rounds({"ours": by_core, "NumPy cumulative sum": by_numpy}, count)
    record["ap"] = report("AP alone, on integer ids", times, "ours")
    qrels = {q: dict.fromkeys(dataset.positives_of(q), 1) for q in results}
    trec = pytrec_eval.RelevanceEvaluator(qrels, {"map"})
    ranx_qrels, ranx_run = ranx.Qrels(qrels), ranx.Run(results)
    assert abs(100 * ranx.evaluate(ranx_qrels, ranx_run, "map") - mine.map) < 1e-6
    contestants: dict[str, Callable[[], object]] = {
        "ours": lambda: evaluate(run, dataset),
        "official, groups report": lambda: official(dataset, prepared, True),
        "official, mAP alone": lambda: official(dataset, prepared, False),
        "ranx, mAP alone": lambda: ranx.evaluate(ranx_qrels, ranx_run, "map"),
        "pytrec_eval, mAP alone": lambda: trec.evaluate(results),
    }
    times = rounds(contestants, slow)
    record["report"] = report("mAP, oracle, all groups and categories", times, "ours")
    return record


def loading(results: Results, count: int) -> dict[str, Any]:
    import orjson

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "similarities.json"
        path.write_text(json.dumps(results, indent=4))
        size = path.stat().st_size / 1e6
        assert Run.load(path) == Run.from_dict(results)
        contestants: dict[str, Callable[[], object]] = {
            "ours, a checked Run": lambda: Run.load(path),
            "json.load": lambda: json.loads(path.read_text()),
            "json.load + preparation": lambda: official_prepare(json.loads(path.read_text())),
            "orjson": lambda: orjson.loads(path.read_bytes()),
        }
        times = rounds(contestants, count)
    return {"megabytes": size, **report(f"Loading a JSON of {size:.0f} MB", times, "ours, a checked Run")}


def streaming(count: int) -> dict[str, Any]:
    """1,232 queries against 10M distractors in blocks of 65,536; the same 323 MB block again and again.

    What it can reach is the rate at which the machine reads that block and does nothing else, measured by the
    core's calibration on as many threads, before and after; `numpy.max` reads it too.
    """
    rng = np.random.default_rng(1)
    own = [rng.random(rng.integers(1, 8), np.float32) for _ in range(1232)]
    width, total = 65_536, 10_000_000
    block = rng.random((1232, width), np.float32)
    size = 4e-9 * 1232 * width * (total // width)

    def ours(threads: int) -> float:
        counter = MapCounter(own, prefixes=[100_000, 1_000_000, total // width * width])
        started = time.perf_counter()
        for first in range(0, total - width, width):
            counter.add(block, first, threads=threads)
        counter.result()
        return size / (time.perf_counter() - started)

    def machine(threads: int) -> float:
        return _core.calibrate(block.view(np.uint8).reshape(-1), 0.3, threads)[2] / 1e9

    def by_numpy() -> float:
        started = time.perf_counter()
        for _ in range(8):
            np.max(block)
        return 8e-9 * block.nbytes / (time.perf_counter() - started)

    ours(1)
    found: dict[str, list[float]] = {"numpy.max": []}
    for threads in (1, 2):
        found |= {f"{who}, {threads} threads": [] for who in ("ours", "machine", "share")}
    for _ in range(count):
        for threads in (1, 2):
            before, rate, after = machine(threads), ours(threads), machine(threads)
            found[f"machine, {threads} threads"] += [before, after]
            found[f"ours, {threads} threads"].append(rate)
            found[f"share, {threads} threads"].append(2 * rate / (before + after))
        found["numpy.max"].append(by_numpy())
    print(f"\nStreaming mAP, 10M random-score distractors x 1,232 queries: {size:.1f} GB of scores")
    for name, values in found.items():
        unit = "of the machine's read rate" if name.startswith("share") else "GB/s"
        middle = statistics.median(values)
        print(f"  {name:20s} {middle:6.2f} [{min(values):.2f}, {max(values):.2f}] {unit}")
    return {"gb": size, "gb_per_s": found}


def identifiers(total: int, folder: Path | None) -> dict[str, Any]:
    """Check a run's ids against a list of `total` distractors, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "distractors.txt"
        rng = np.random.default_rng(2)
        step = 1_000_000
        wanted = []
        with path.open("wb") as file:
            for block in range(0, total, step):
                # "yfcc100m_SSS.tar/KKKKKKKKKK", a line each: digits written into a table of bytes.
                count = min(step, total - block)
                lines = np.tile(np.frombuffer(b"yfcc100m_000.tar/0000000000\n", np.uint8), (count, 1))
                lines[:, 9:12] = np.frombuffer(b"%03d" % (block // step % 1000), np.uint8)
                keys = (block + np.arange(count)) * 97 % 10**10
                for digit in range(10):
                    lines[:, 26 - digit] = 48 + keys // 10**digit % 10
                wanted += [lines[at].tobytes().decode().strip() for at in rng.integers(0, count, 1000)]
                file.write(lines.tobytes())
        (Path(place) / "wanted.txt").write_text(
            "\n".join([*wanted, "yfcc100m_000.tar/9999999999", "unknown"])
        )
        code = """
import json, re, sys, time
from pathlib import Path
from ilias_fast.datasets import Dataset
from ilias_fast.datasets.ilias import DistractorIds
wanted = Path(sys.argv[2]).read_text().split("\\n")
dataset = Dataset("d", Path(), Path(), ("i/query/q",), (), ("i/pos/p",), DistractorIds(Path(sys.argv[1])))
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before, started = peak(), time.perf_counter()
unknown = dataset.unknown_ids(wanted)
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "mb_before": before, "mb": peak(), "unknown": unknown}))
"""
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(Path(place) / "wanted.txt")],
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        size = path.stat().st_size / 1e9
    assert found.pop("unknown") == ["unknown", "yfcc100m_000.tar/9999999999"]
    print(f"\n{len(wanted)} ids looked up in {total:,} distractor ids, a text of {size:.1f} GB")
    rate = size / found["seconds"]
    print(
        f"  {found['seconds']:.2f} s, {rate:.2f} GB/s; peak memory {found['mb']:.0f} MB, "
        f"{found['mb_before']:.0f} MB before"
    )
    return {"total": total, "gb": size, **found}


def page(demo: Path, count: int) -> dict[str, Any]:
    """Make the report of `ilias-fast demo -o DEMO` again, and fuse and compare its runs."""
    from ilias_fast.datasets import load_dataset
    from ilias_fast.evaluate import compare
    from ilias_fast.pipeline import run_pipeline
    from ilias_fast.run import fuse

    dataset = load_dataset(demo / "images")
    seconds = []
    for _ in range(count):
        result = run_pipeline(dataset, demo / "run")
        seconds.append(result.seconds["report"])
    size = result.report.stat().st_size / 1e6
    print(f"\nThe report of the demo: {statistics.median(seconds):.2f} s, {size:.1f} MB")
    methods = {method.name: method for method in result.methods}
    compared = rounds({"compare": lambda: compare({n: m.evaluation for n, m in methods.items()})}, 3)
    fused = rounds({"fuse": lambda: fuse([m.run for m in methods.values()])}, 3)
    for name, values in (compared | fused).items():
        print(f"  {name} its {len(methods)} runs: {statistics.median(values):.2f} s")
    return {"seconds": seconds, "megabytes": size, **compared, **fused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slow-rounds", type=int, default=3, help="with the official evaluator in them")
    parser.add_argument("--only", choices=("judging", "loading", "streaming", "ids", "report"))
    parser.add_argument("--demo", type=Path, help="what `ilias-fast demo -o` made, for the report")
    parser.add_argument("--ids", type=int, default=100_000_000, help="distractor ids to look ids up in")
    parser.add_argument("--folder", type=Path, help="where the list of ids goes: 28 bytes an id")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    wanted = [options.only] if options.only else ["judging", "loading", "streaming", "ids"]
    git = ["git", "rev-parse", "--short", "HEAD"]
    record: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "level": cpu.level(),
        "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip(),
    }
    dataset, results = make(np.random.default_rng(0))
    if "judging" in wanted:
        record["judging"] = judging(dataset, results, options.rounds, options.slow_rounds)
    if "loading" in wanted:
        record["loading"] = loading(results, options.rounds)
    if "streaming" in wanted:
        record["streaming"] = streaming(options.slow_rounds)
    if "ids" in wanted:
        record["ids"] = identifiers(options.ids, options.folder)
    if options.demo and options.only in (None, "report"):
        record["report"] = page(options.demo, options.slow_rounds)
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
