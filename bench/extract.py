"""Extraction of a folder of photographs against the published loop and against the bare network.

    python bench/extract.py [--networks vit_tiny_patch16_224 resnet18] [--images 2000] [--repeats 3]
                            [--workers N] [--device cpu] [--resolution 224] [--folder DIR] [--record FILE]

Contestants, in processes of their own and alternated, on the same JPEGs (longer side 500, quality 90, 4:4:4,
a mixture of aspect ratios), in float32 on the CPU or under float16 autocast on a GPU:

* ilias-fast: `extract_to_stores`, decoding, store and commit included;
* published: a loop that follows the published code: a DataLoader with batches of 128, in each of them groups
  of exactly equal size, a forward pass a group;
* forward N: the network of timm alone on all images, prepared before the clock starts, in batches of N over
  the whole folder, on the device already: what is left when nothing else has to be done.

The stored descriptors are compared with the published loop's first. Ratios are of images per second, ours
over theirs, medians of pairs with their range.
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
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SHAPES = ((4 / 3, 0.3), (3 / 2, 0.25), (3 / 4, 0.12), (2 / 3, 0.1), (16 / 9, 0.06), (1.0, 0.07), (0.0, 0.1))


def photograph(folder: Path, number: int) -> None:
    """Write a JPEG: smooth colours, edges and grain; the ratio 0 stands for any between 1:2 and 2:1."""
    from PIL import Image

    rng = np.random.default_rng(number)
    ratio = rng.choice([ratio for ratio, _ in SHAPES], p=[share for _, share in SHAPES])
    ratio = ratio or 2 ** rng.uniform(-1, 1)
    width, height = (500, round(500 / ratio)) if ratio >= 1 else (round(500 * ratio), 500)
    coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
    for _ in range(12):
        x, y = rng.integers(0, width), rng.integers(0, height)
        pixels[y : y + height // 5, x : x + width // 5] += rng.normal(0, 60, 3)
    pixels += rng.normal(0, 6, (height, width, 1))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(folder / f"{number:05d}.jpg", quality=90, subsampling=0)


def make(folder: Path, count: int) -> None:
    """Write JPEGs, on all cores."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(partial(photograph, folder), range(count), chunksize=32):
            pass


class Photos:
    """The published dataset: Pillow, the protocol's resizing, torchvision's normalisation, padding."""

    def __init__(self, folder: Path, resolution: int, mean: Any, std: Any, multiple: int) -> None:
        from torchvision import transforms

        self.paths = sorted(folder.glob("*.jpg"))
        self.normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
        self.resolution, self.multiple = resolution, multiple

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Any:
        from PIL import Image, ImageOps
        from torch.nn import functional

        image = ImageOps.exif_transpose(Image.open(self.paths[row]).convert("RGB"))
        ratio, side = image.height / image.width, self.resolution
        size = (side, int(side * ratio)) if ratio <= 1 else (int(side / ratio), side)
        x = self.normalise(image.resize(size))
        down, across = (-side % self.multiple for side in x.shape[1:])
        return functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))


class Contest(NamedTuple):
    """What is extracted, and where."""

    name: str
    folder: Path
    workers: int
    device: str
    resolution: int

    def model(self) -> Any:
        """Return timm's model as the published code makes it, weights from one seed."""
        import timm
        import torch

        torch.manual_seed(0)
        options = {"dynamic_img_size": True} if "vit" in self.name else {}
        return timm.create_model(self.name, num_classes=0, **options).eval().to(self.device)

    def photos(self) -> Photos:
        """Return the dataset as the model wants it."""
        import timm

        config = timm.get_pretrained_cfg(self.name).to_dict()
        multiple = 16 if "vit" in self.name else 1
        return Photos(self.folder, self.resolution, config["mean"], config["std"], multiple)

    def autocast(self) -> Any:
        """Return the context that the published code computes in."""
        import torch

        return nullcontext() if self.device == "cpu" else torch.autocast("cuda", torch.float16)


def grouped(rows: Any) -> dict[tuple[int, ...], list[Any]]:
    """Group prepared images by their exact size."""
    groups: dict[tuple[int, ...], list[Any]] = defaultdict(list)
    for row, x in rows:
        groups[tuple(x.shape)].append((row, x))
    return groups


def published(contest: Contest) -> tuple[float, Any]:
    """Run the published loop; return its seconds and descriptors."""
    import torch

    model, photos = contest.model(), contest.photos()
    start = time.perf_counter()
    loader = torch.utils.data.DataLoader(
        photos,
        batch_size=128,
        num_workers=contest.workers,
        collate_fn=list,
        pin_memory=contest.device != "cpu",
    )
    features: list[Any] = [None] * len(photos)
    seen = 0
    with torch.no_grad(), contest.autocast():
        for batch in loader:
            for group in grouped(enumerate(batch)).values():
                images = torch.stack([x for _, x in group]).to(contest.device)
                found = torch.nn.functional.normalize(model(images).float()).cpu()
                for (row, _), feature in zip(group, found, strict=True):
                    features[seen + row] = feature.half().numpy()
            seen += len(batch)
    result = np.stack(features)
    return time.perf_counter() - start, result


def forward(contest: Contest, batch: int) -> float:
    """Return the seconds that the forward passes alone take, in batches as full as sizes allow."""
    import torch

    model, photos = contest.model(), contest.photos()
    loader = torch.utils.data.DataLoader(photos, batch_size=None, num_workers=contest.workers)
    groups = grouped(enumerate(loader))
    batches = [
        torch.stack([x for _, x in group[at : at + batch]]).to(contest.device)
        for group in groups.values()
        for at in range(0, len(group), batch)
    ]
    groups.clear()
    with torch.inference_mode(), contest.autocast():
        for x in batches[: 1 if contest.device == "cpu" else None]:  # a GPU chooses kernels by size
            model(x).cpu()
        found = None
        start = time.perf_counter()
        for x in batches:
            found = model(x)
        if found is not None:
            found.cpu()
    return time.perf_counter() - start


def ours(contest: Contest) -> tuple[float, Any]:
    """Extract into a store; return the seconds and the rows."""
    from ilias_fast.extract import NeuralExtractor, extract_to_stores, load_network
    from ilias_fast.images import FolderSource
    from ilias_fast.store import GlobalStore

    with tempfile.TemporaryDirectory() as out:
        network = load_network(f"timm:{contest.name}", weights="random", seed=0)
        extractor = NeuralExtractor(network, resolution=contest.resolution, device=contest.device)
        start = time.perf_counter()
        extract_to_stores(
            extractor, FolderSource(contest.folder), global_store=Path(out) / "store", processes=None
        )
        seconds = time.perf_counter() - start
        store = GlobalStore.open(Path(out) / "store")
        return seconds, store.rows(np.arange(len(store)))


def run(contestant: str, contest: Contest, rows: Path | None) -> None:
    """Run one contestant once, in this process, and print its seconds."""
    if contestant.startswith("forward"):
        seconds = forward(contest, int(contestant.split()[1]))
    else:
        seconds, found = (ours if contestant == "ilias-fast" else published)(contest)
        if rows is not None:
            np.save(rows, found)
    print(json.dumps(seconds))


def once(contestant: str, contest: Contest, rows: Path | None = None) -> float:
    """Run one contestant once in a process of its own."""
    arguments = [sys.executable, __file__, "--contest", contestant, "--networks", contest.name]
    for option in ("folder", "workers", "device", "resolution"):
        arguments += [f"--{option}", str(getattr(contest, option))]
    arguments += [] if rows is None else ["--rows", str(rows)]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure(contest: Contest, contestants: list[str], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each contestant, the answers verified."""
    seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    with tempfile.TemporaryDirectory() as temporary:
        for repeat in range(repeats):
            for contestant in contestants if repeat % 2 == 0 else contestants[::-1]:
                keep = (
                    Path(temporary) / f"{contestant}.npy" if repeat == 0 and " " not in contestant else None
                )
                seconds[contestant].append(once(contestant, contest, keep))
        mine, theirs = (
            np.load(Path(temporary) / f"{one}.npy").astype(np.float32) for one in ("ilias-fast", "published")
        )
    np.testing.assert_allclose(mine, theirs, atol=1e-3 if contest.device == "cpu" else 2e-2)
    return seconds


def gpu() -> str:
    """Return the name of the GPU."""
    import torch

    return str(torch.cuda.get_device_name())


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="+", default=["vit_tiny_patch16_224", "resnet18"])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 16], help="of the bare network")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--commit", help="what to record where there is no repository")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--contest", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contest:
        name = options.networks[0]
        run(
            options.contest,
            Contest(name, options.folder, options.workers, options.device, options.resolution),
            options.rows,
        )
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "photos"
        if not folder.exists():
            make(folder, options.images)
        count = len(list(folder.glob("*.jpg")))
        record: dict[str, Any] = {
            "machine": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "commit": options.commit
            or subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
            "device": options.device if options.device == "cpu" else gpu(),
            "resolution": options.resolution,
            "images": count,
            "workers": options.workers,
            "networks": {},
        }
        for name in options.networks:
            contestants = ["ilias-fast", "published", *(f"forward {size}" for size in options.batches)]
            contest = Contest(name, folder, options.workers, options.device, options.resolution)
            seconds = measure(contest, contestants, options.repeats)
            record["networks"][name] = seconds
            mine = seconds["ilias-fast"]
            for contestant, theirs in seconds.items():
                ratios = sorted(other / own for own, other in zip(mine, theirs, strict=True))
                print(
                    f"{name:<22} {contestant:<12} {count / statistics.median(theirs):7.1f} images/s   "
                    f"ours is {statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                )
        if options.record:
            options.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
