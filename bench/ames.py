"""AMES beside the published network's forward in torch: answers checked, then timed in turns.

    python bench/ames.py [--images 1000] [--peer-images 32] [--threads 2] [--device cpu] [--out FILE]

One query of 600 descriptors against images of 100, the sizes of the ILIAS paper, binary variant, random
weights. The peer is the published forward (`tests/oracles/ames.py`): padded, masked, float32, nothing cached,
torch's own multi-head attention without the weights it would return by default, in the faster of two batch
sizes; on a GPU also under float16 autocast. It is timed on fewer images, as its time is proportional to them,
and its descriptors are embedded beforehand; ours includes the encoding of all images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.oracles import ames as published

from ilias_fast._doctor import machine
from ilias_fast.rerank.ames import Ames

QUERY, DATABASE, BITS = 600, 100, 128


def network() -> published.Ames:
    torch.manual_seed(0)
    made = published.Ames(binary=True).eval()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.xavier_uniform_(parameter)
    return made


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--peer-images", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    query = rng.integers(0, 256, (QUERY, BITS // 8), dtype=np.uint8)
    images = rng.integers(0, 256, (arguments.images, DATABASE, BITS // 8), dtype=np.uint8)
    device, on_cpu = arguments.device, arguments.device == "cpu"
    peer = network().to(device)
    state = peer.state_dict()

    def embedded(codes: np.ndarray) -> torch.Tensor:
        signs = torch.from_numpy(np.unpackbits(codes, axis=-1)).to(device).float() * 2 - 1
        tokens: torch.Tensor = peer.remap_local[2](peer.remap_local[1](signs))
        return tokens

    def theirs(number: int, batch: int, half: bool = False) -> np.ndarray:
        found = []
        with torch.autocast("cuda", torch.float16) if half else nullcontext():
            for start in range(0, number, batch):
                part = tokens[start : min(start + batch, number)]
                found.append(
                    peer.pairs(
                        query_tokens.expand(len(part), -1, -1),
                        torch.zeros(len(part), QUERY, dtype=torch.bool, device=device),
                        part,
                        torch.zeros(len(part), DATABASE, dtype=torch.bool, device=device),
                    )
                )
        return np.asarray(torch.cat(found).float().cpu().numpy())

    def ours(net: Ames, number: int) -> np.ndarray:
        encoded = net.encode(query)
        scores = [
            net.score(
                encoded,
                net.encode_images(images[s : min(s + 64, number)], database=True),
                batch=4 if on_cpu else 64,
            )
            for s in range(0, number, 64)
        ]
        return np.concatenate(scores)

    with torch.inference_mode():
        query_tokens, tokens = embedded(query[None]), embedded(images[: arguments.peer_images])
        few = arguments.peer_images
        dtypes = ("float32", "bfloat16") if on_cpu else ("float32", "bfloat16", "float16")
        networks = {dtype: Ames(state, dtype=dtype, device=device) for dtype in dtypes}
        expected = theirs(few, 2)
        errors = {dtype: float(np.abs(ours(net, few) - expected).max()) for dtype, net in networks.items()}
        assert errors["float32"] < (1e-4 if on_cpu else 1e-3), errors
        sizes = (2, 8) if on_cpu else (32, 128)
        batch = min(sizes, key=lambda size: timed(lambda: theirs(max(sizes), size)))
        times: dict[str, list[float]] = {"published forward": []} | {dtype: [] for dtype in networks}
        if not on_cpu:
            theirs(few, batch, half=True)
            times["published forward, float16"] = []
        for _ in range(arguments.repeat):
            times["published forward"].append(timed(lambda: theirs(few, batch)) / few)
            if not on_cpu:
                times["published forward, float16"].append(timed(lambda: theirs(few, batch, half=True)) / few)
            for dtype, net in networks.items():
                times[dtype].append(timed(lambda net=net: ours(net, few)) / few)
        whole = {}
        if arguments.images > few:
            whole = {
                dtype: timed(lambda net=net: ours(net, arguments.images)) for dtype, net in networks.items()
            }
    base = statistics.median(times["published forward"])
    record = {
        "machine": machine(),
        "device": device if on_cpu else torch.cuda.get_device_name(device),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "sizes": {"query": QUERY, "database": DATABASE, "images": arguments.images, "peer images": few},
        "milliseconds a pair": {name: [1e3 * t for t in values] for name, values in times.items()},
        "times faster": {
            name: [base / max(values), base / min(values)]
            for name, values in times.items()
            if name in networks
        },
        "largest error of a logit": errors,
        "standard deviation of the logits": float(expected.std()),
        f"seconds for {arguments.images} images": whole,
    }
    text = json.dumps(record, indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
