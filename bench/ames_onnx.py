"""AMES on a CPU in ONNX Runtime beside our path in torch: would another runtime be worth a dependency?

    python bench/ames_onnx.py [--threads 2] [--images 32] [--out FILE]

The pair part of the network (images encoded beforehand, as ours are) is exported as one graph for four pairs
of 600 and 100 tokens, random weights, float32, all optimisations on. Answers are checked, then the runtimes
take turns. What would be shipped is a runtime at least 1.5 times as fast.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import ames as bench
from ilias_fast.rerank.ames import Ames, operations
from ilias_fast.rerank.ames.network import EncodedImage

GROUP = 4
NAMES = ["query", "query_lse", "query_value", "image", "image_lse", "image_value"]


class Pairs(torch.nn.Module):
    """The logits of `GROUP` pairs; as `Ames.score`, without writing in place, which is not exported."""

    def __init__(self, net: Ames) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Any, lse: Any, value: Any, far: Any, far_lse: Any, far_value: Any) -> Any:
        net = self.net
        images = [EncodedImage(far[i], far_lse[i], far_value[i]) for i in range(GROUP)]
        mtc = net._first_mtc(EncodedImage(tokens, lse, value), images)[:, None]
        near, far = torch.cat([mtc, tokens.expand(GROUP, -1, -1)], 1), torch.cat([mtc, far], 1)
        for number, layer in enumerate(net._layers):
            if number:
                near, far = self.attention(layer.own, layer.norms[0], near, far, cross=False)
            if number == len(net._layers) - 1:
                return net._read_out(layer, near, far, None)
            near, far = self.attention(layer.other, layer.norms[1], near, far, cross=True)
            near, far = net._forward(layer, near), net._forward(layer, far)
        raise AssertionError("a network has a layer")

    def attention(self, part: Any, norm: Any, near: Any, far: Any, *, cross: bool) -> tuple[Any, Any]:
        linear, attend, heads = operations.linear, operations.attend, self.net._heads
        (nq, nk, nv), (fq, fk, fv) = (linear(x, part.projection).chunk(3, -1) for x in (near, far))
        from_near = attend(nq[:, 1:], *((fk, fv) if cross else (nk, nv)), heads)
        from_far = attend(fq[:, 1:], *((nk, nv) if cross else (fk, fv)), heads)
        seen = attend(nq[:, :1], torch.cat([nk, fk[:, 1:]], 1), torch.cat([nv, fv[:, 1:]], 1), heads)
        return (
            operations.normalise(linear(torch.cat([seen, from_near], 1), part.out) + near, norm),
            operations.normalise(linear(torch.cat([seen, from_far], 1), part.out) + far, norm),
        )


def arrays(images: list[EncodedImage]) -> list[Any]:
    return [torch.stack([getattr(image, name) for image in images]) for name in EncodedImage._fields]


def session(net: Ames, query: EncodedImage, images: list[EncodedImage], threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    onednn = operations._has_onednn
    operations._has_onednn = lambda _: False  # its operators are not exported
    try:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path, inputs = Path(folder) / "pairs.onnx", (*query, *arrays(images[:GROUP]))
            torch.onnx.export(
                Pairs(net).eval(), inputs, path, dynamo=False, opset_version=17, input_names=NAMES
            )
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    finally:
        operations._has_onednn = onednn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (bench.QUERY, bench.BITS // 8), dtype=np.uint8)
    count = -(-arguments.images // GROUP) * GROUP
    shown = rng.integers(0, 256, (count, bench.DATABASE, bench.BITS // 8), dtype=np.uint8)
    state = bench.network().state_dict()
    nets = {dtype: Ames(state, dtype=dtype) for dtype in ("float32", "bfloat16")}
    encoded = {
        dtype: (net.encode(codes), [net.encode(image, database=True) for image in shown])
        for dtype, net in nets.items()
    }
    query, images = encoded["float32"]
    runtime = session(nets["float32"], query, images, arguments.threads)

    def by_onnx() -> Any:
        found = []
        for start in range(0, count, GROUP):
            tensors = (*query, *arrays(images[start : start + GROUP]))
            found += [runtime.run(None, {k: v.numpy() for k, v in zip(NAMES, tensors, strict=True)})[0]]
        return np.concatenate(found)

    def by_torch(dtype: str) -> Callable[[], Any]:
        return lambda: nets[dtype].score(*encoded[dtype], batch=GROUP)

    calls = {"onnxruntime float32": by_onnx} | {f"torch {dtype}": by_torch(dtype) for dtype in nets}
    error = np.abs(by_onnx() - by_torch("float32")()).max()
    assert error < 1e-4, error
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(5):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - started) / count)
    ours = statistics.median(times["onnxruntime float32"])
    lines = [f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {arguments.threads} threads"]
    for name, values in times.items():
        median = statistics.median(values)
        lines.append(
            f"{name:20} {median:6.2f} ms a pair ({min(values):.2f} to {max(values):.2f}); "
            f"onnxruntime is {median / ours:.2f} times as fast"
        )
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
