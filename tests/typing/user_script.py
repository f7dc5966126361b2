"""A user's script, checked by `mypy --strict` and pyright: what the library gives has exact types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import ilias_fast
from ilias_fast import cpu
from ilias_fast.datasets import load_dataset
from ilias_fast.errors import IliasFastError
from ilias_fast.evaluate import Evaluation, evaluate
from ilias_fast.kernels import TopK, chamfer, hamming_matrix, match, topk, verify_spatial
from ilias_fast.rerank import SpatialOptions, ensemble, rerank
from ilias_fast.run import Run
from ilias_fast.search import search
from ilias_fast.store import GlobalStore, LocalStore


def nearest(queries: NDArray[np.float32], database: NDArray[np.float16]) -> NDArray[np.int64]:
    found: TopK = topk(queries, database, 10, threads=2, progress=lambda done: print(done))
    scores, indices = found
    best: NDArray[np.float32] = scores
    del best
    return indices


def compare(codes: NDArray[np.uint8], xy: NDArray[np.float32]) -> int:
    pairs = match(codes, codes, max_distance=32, mutual=True)
    distances: NDArray[np.int32] = hamming_matrix(codes, codes)
    similarity: NDArray[np.float32] = chamfer(codes, codes, [0, len(codes)], direction="symmetric")
    verified = verify_spatial(xy[pairs.query], xy[pairs.database], threshold=2.0)
    if verified.model is not None:
        model: NDArray[np.float64] = verified.model
        print(model, distances, similarity)
    return verified.inliers


def whole(folder: Path) -> Evaluation:
    with GlobalStore.create(folder / "store", dim=4) as writer:
        writer.append(["a"], np.ones((1, 4), np.float16))
    store = GlobalStore.open(folder / "store")
    run: Run = search(store, store, 5, query_expansion=1, mode="official")
    local = LocalStore.open(folder / "local")
    scores = rerank(run, local, local, method="spatial", options=SpatialOptions(mutual=False))
    try:
        return evaluate(ensemble(run, scores, lam=0.5), load_dataset(folder), missing="zero")
    except IliasFastError as error:
        print(error, cpu.level(), ilias_fast.__version__)
        raise
