"""Adaptation beside the published training loop and torch's float32 route: answers checked, then in turns.

    python bench/adapt.py train [--steps 30] [--rounds 4] [--size small|published] [--device cpu] [--out FILE]
    python bench/adapt.py whole [--epochs 1] [--size small|published] [--device cpu] [--out FILE]
    python bench/adapt.py classes [--out FILE]
    python bench/adapt.py apply [--rows 1000000] [--rounds 3] [--folder DIR] [--out FILE]

* train: steps of the published loop (`tests/oracles/adapt_training.py`: autograd, one-hot targets, Adam) and
  of ours on the same batches from the same weights, batch 128, losses compared step by step; 100,000 x 768
  features of 20,000 classes, or the published 1,000,000 x 1,024 of 191,513. Ours reads from a store, the peer
  from one float32 matrix on the device.
* whole: a training from beginning to end by `train_linear`, once.
* classes: steps of ours with the benchmark's 191,513 classes, and with 8,192 of them sampled.
* apply: a 1024 -> 512 layer on float16 rows: in memory, and from one store into another against the same rows
  through torch into one file, both synced to the disk. The memory of a pass is the growth of the anonymous
  resident set; mapped pages of files are the system's to take back.

Ratios above 1 mean that ours is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.oracles.adapt_training import Published

from ilias_fast._doctor import machine
from ilias_fast.adapt import Labelled, LinearAdapter, TrainingOptions, derive, train_linear, training
from ilias_fast.store import GlobalStore

BATCH, BLOCK = 128, 8192


class Size(NamedTuple):
    """Of a training set."""

    images: int
    width: int
    classes: int


SIZES = {"small": Size(100_000, 768, 20_000), "published": Size(1_000_000, 1024, 191_513)}


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    found = sorted(t / o for t, o in zip(theirs, ours, strict=True))
    return {"median": statistics.median(found), "least": found[0], "most": found[-1]}


def features(folder: Path, size: Size, device: str) -> tuple[GlobalStore, dict[str, int]]:
    """Images around class centres, of unit length."""
    images, width, count = size
    classes = np.random.default_rng(0).integers(0, count, images)
    classes[:count] = np.arange(count)
    random = torch.Generator(device).manual_seed(0)
    centres = torch.randn(count, width, generator=random, device=device)
    ids = [f"{row:07d}.jpg" for row in range(images)]
    with GlobalStore.create(folder / "features", dim=width) as writer:
        for start in range(0, images, 10_000):
            part = slice(start, start + 10_000)
            rows = centres[torch.from_numpy(classes[part]).to(device)]
            rows = rows + 1.5 * torch.randn(rows.shape, generator=random, device=device)
            writer.append(ids[part], torch.nn.functional.normalize(rows).half().cpu().numpy())
    return GlobalStore.open(folder / "features"), dict(zip(ids, classes.tolist(), strict=True))


def train(folder: Path, size: Size, device: str, steps: int, rounds: int) -> dict[str, Any]:
    store, labels = features(folder, size, device)
    options = TrainingOptions(epochs=1, batch_size=BATCH)
    labelled = Labelled.match(store, labels)
    state = training.initial_state(store.dim, labelled.count, options)
    peer = Published(state["weight"], state["bias"], state["classifier"], device)
    trainer = training._Trainer(
        torch, {name: torch.from_numpy(value.copy()).to(device) for name, value in state.items()}, options
    )
    matrix = torch.from_numpy(store.rows(labelled.rows)).to(device).float()
    classes = torch.from_numpy(labelled.classes).to(device)
    order = torch.from_numpy(np.random.default_rng([0, 1, 0]).permutation(size.images)).to(device)
    batches = (
        (x, y)
        for group in training._groups(store, labelled, options, 0, size.images // BATCH)
        for x, y in zip(*group, strict=True)
    )
    losses: dict[str, list[float]] = {"published": [], "ours": []}
    taken: dict[str, list[float]] = {"published": [], "ours": []}

    def published() -> None:
        for _ in range(steps):
            start = len(losses["published"]) * BATCH
            batch = order[start : start + BATCH]
            losses["published"].append(peer.step(matrix[batch], classes[batch]))

    def ours() -> None:
        found = []
        for done, (x, y) in zip(
            range(len(losses["ours"]), len(losses["ours"]) + steps), batches, strict=False
        ):
            rows, targets = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
            found.append(trainer.step(rows.float(), targets, done))
        losses["ours"] += torch.stack(found).tolist()

    with torch.no_grad():
        for _ in range(rounds):
            with torch.enable_grad():
                taken["published"].append(timed(published) / steps)
            taken["ours"].append(timed(ours) / steps)
    difference = float(np.abs(np.subtract(losses["published"], losses["ours"])).max())
    assert difference < 1e-3, difference
    weights = float((peer.layer.weight.detach() - trainer.state["weight"]).abs().max())
    return {
        **size._asdict(),
        "steps": steps * rounds,
        "milliseconds a step": {name: [1e3 * t for t in times] for name, times in taken.items()},
        "times faster": ratio(taken["published"], taken["ours"]),
        "first and last loss": [losses["ours"][0], losses["ours"][-1]],
        "largest difference of a loss": difference,
        "largest difference of a weight": weights,
    }


def whole(folder: Path, size: Size, device: str, epochs: int) -> dict[str, Any]:
    store, labels = features(folder, size, device)
    options = TrainingOptions(epochs=epochs)
    started = time.perf_counter()
    done = train_linear(store, labels, options, device=device, checkpoint=folder / "state")
    seconds = time.perf_counter() - started
    return {
        **size._asdict(),
        "epochs": epochs,
        "seconds": seconds,
        "losses": done.losses,
        "steps": epochs * (size.images // BATCH),
    }


def classes() -> dict[str, Any]:
    """Time steps with the benchmark's 191,513 classes, all of them and 8,192 sampled."""
    found: dict[str, Any] = {}
    count = SIZES["published"].classes
    x = torch.nn.functional.normalize(torch.randn(BATCH, 1024, generator=torch.Generator().manual_seed(0)))
    y = torch.from_numpy(np.random.default_rng(0).integers(0, count, BATCH))
    for name, sampled in (("all", None), ("8192 sampled", 8192)):
        options = TrainingOptions(sampled_classes=sampled)
        state = training.initial_state(1024, count, options)
        tensors = {part: torch.from_numpy(value) for part, value in state.items()}
        with torch.no_grad():
            trainer = training._Trainer(torch, tensors, options)
            times = [
                timed(lambda step=trainer.step, done=done: float(step(x, y, done))) for done in range(10)
            ]
        found[name] = {"milliseconds a step": [1e3 * t for t in times[2:]]}
        del state, tensors, trainer
    found["peak memory, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


class Anonymous:
    """The growth of the anonymous resident set, in MiB."""

    def __enter__(self) -> Anonymous:
        self._stop, self.peak = threading.Event(), 0.0
        self._before = self._now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, self._now() - self._before)

    @staticmethod
    def _now() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def apply(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    layer = LinearAdapter(rng.standard_normal((512, 1024)) / 32, 0.1 * rng.standard_normal(512))
    weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
    pool = rng.standard_normal((50_000, 1024), np.float32).astype(np.float16)
    with GlobalStore.create(folder / "rows", dim=1024) as writer:
        for start in range(0, rows, len(pool)):
            count = min(len(pool), rows - start)
            writer.append([f"{row:08d}" for row in range(start, start + count)], pool[:count])
    store = GlobalStore.open(folder / "rows")

    def through_torch(block: np.ndarray) -> np.ndarray:
        adapted = torch.nn.functional.linear(torch.from_numpy(block).float(), weight, bias)
        return torch.nn.functional.normalize(adapted).half().numpy()

    wide = pool[:2000].astype(np.float64) @ layer.weight.T.astype(np.float64) + layer.bias
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    error = float(np.abs(layer.apply(pool[:2000]) - wide).max())
    assert error < 1e-6, error
    assert np.abs(through_torch(pool[:2000]).astype(np.float64) - wide).max() < 3e-4

    def blocks(adapt: Callable[[np.ndarray], np.ndarray]) -> None:
        for start in range(0, len(pool), BLOCK):
            adapt(pool[start : start + BLOCK])

    def into_file() -> None:
        with (folder / "out.bin").open("wb") as file:
            for start in range(0, rows, BLOCK):
                block = store.rows(np.arange(start, min(start + BLOCK, rows)))
                file.write(through_torch(block).data)
            file.flush()
            os.fsync(file.fileno())

    def into_store() -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        derive(store, folder / "out", layer)

    taken: dict[str, list[float]] = {name: [] for name in ("torch", "ours", "torch, file", "ours, store")}
    memory: dict[str, list[float]] = {"torch, file": [], "ours, store": []}
    for _ in range(rounds):
        for name, work in (
            ("torch", lambda: blocks(through_torch)),
            ("ours", lambda: blocks(layer.apply_half)),
        ):
            taken[name].append(timed(work))
        for name, work in (("torch, file", into_file), ("ours, store", into_store)):
            with Anonymous() as grown:
                taken[name].append(timed(work))
            memory[name].append(grown.peak)
    work = 2 * len(pool) * 1024 * 512
    return {
        "rows": rows,
        "seconds": taken,
        "times faster": ratio(taken["torch"], taken["ours"]),
        "times faster, disk to disk": ratio(taken["torch, file"], taken["ours, store"]),
        "GFLOP/s": {name: work / statistics.median(taken[name]) / 1e9 for name in ("torch", "ours")},
        "anonymous memory, MiB": memory,
        "largest error in float32": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "whole", "classes", "apply"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to write (default: temporary)")
    parser.add_argument("--out", type=Path, help="a JSON file; other parts of it are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    size = SIZES[arguments.size]
    try:
        if arguments.what == "train":
            found = train(folder, size, arguments.device, arguments.steps, arguments.rounds)
        elif arguments.what == "whole":
            found = whole(folder, size, arguments.device, arguments.epochs)
        elif arguments.what == "classes":
            found = classes()
        else:
            found = apply(folder, arguments.rows, arguments.rounds)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(found, indent=1))
    if arguments.out is not None:
        record = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        record |= {"machine": machine(), "threads": arguments.threads, "torch": torch.__version__}
        if arguments.device != "cpu":
            record["device"] = torch.cuda.get_device_name(arguments.device)
        tunables = os.environ.get("GLIBC_TUNABLES")
        record[arguments.what + (" (tuned malloc)" if tunables else "")] = found
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
