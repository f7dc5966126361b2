"""Sweeps of the ILIAS paper: mAP against the dimension of descriptors, and the cost of re-ranking.

Both return a `Sweep`, which prints, is saved as JSON, and is drawn by the report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast.datasets import Dataset
from ilias_fast.errors import ParameterError
from ilias_fast.evaluate import DistractorCurve, Sweep, SweepSeries, evaluate
from ilias_fast.kernels import topk
from ilias_fast.rerank import ChamferOptions, SpatialOptions, ensemble, rerank
from ilias_fast.run import Run
from ilias_fast.store import GlobalStore, LocalStore, check_compatible

__all__ = ["curve_sweep", "dimension_sweep", "rerank_sweep"]

Progress = Callable[[int, int], object]

_BLOCK = 65_536
"""Rows that are shortened and searched at once."""


def dimension_sweep(
    dataset: Dataset,
    queries: GlobalStore,
    database: Sequence[GlobalStore],
    *,
    dims: Sequence[int] | None = None,
    k: int = 1000,
    label: str = "leading dimensions",
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Evaluate the leading dimensions of descriptors (Fig. G), all of them in one pass over the database.

    The first d numbers of each descriptor are normalised to length 1 again and searched exactly. That is what
    a shorter output means for descriptors whose dimensions are ordered (PCA whitening). A layer that was
    trained for each d gives a pair of stores each: put their evaluations into a `SweepSeries`.

    Args:
        dataset: The ground truth.
        queries: Descriptors of the queries to evaluate.
        database: Descriptors of the database, in order.
        dims: The dimensions; None for the powers of two from 16 on, and all.
        k: Depth of the lists, and the cut of mAP@k.
        label: Name of the curve.
        force: Compare stores whose provenance contradicts.
        threads: Number of threads; None for all cores.
        progress: Called with (rows finished, rows in all).

    Returns:
        One series, with the bytes of a float16 descriptor at each dimension.

    Raises:
        ParameterError: A dimension is out of range, or there is no database.
        IncompatibleStoreError: The stores do not match.

    Memory: O(queries x k x dimensions) and a block of 65,536 rows.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("queries", dim=2) as writer:
        ...     writer.append(["mug/query/0.jpg"], [[0.6, 0.8]])
        >>> with GlobalStore.create("database", dim=2) as writer:
        ...     writer.append(["mug/pos/0.jpg", "1.jpg"], [[0.8, 0.6], [0.8, -0.6]])
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> queries, database = GlobalStore.open("queries"), GlobalStore.open("database")
        >>> sweep = dimension_sweep(dataset, queries, [database], dims=[1, 2])
        >>> sweep.series[0].x, sweep.series[0].maps
        ((1.0, 2.0), (50.0, 100.0))
    """
    stores = list(database)
    if not stores:
        raise ParameterError("database: expected at least one store, found none")
    for store in stores:
        check_compatible(queries, store, force=force)
    k = _arrays.at_least_one("k", k)
    most = queries.dim
    if dims is None:
        dims = [*(2**n for n in range(4, 20) if 2**n < most), most]
    chosen = sorted({_arrays.at_least_one("dims", dim) for dim in dims})
    if not chosen or chosen[-1] > most:
        raise ParameterError(f"dims: expected numbers from 1 to {most}, found {list(dims)}")
    vectors = queries.rows(np.arange(len(queries))).astype(np.float32)
    asked = {dim: _unit(vectors[:, :dim]) for dim in chosen}
    best = {dim: _Best(len(vectors), k) for dim in chosen}
    total, done = sum(map(len, stores)), 0
    starts = np.cumsum([0, *map(len, stores)])
    for start, store in zip(starts.tolist(), stores, strict=False):
        for first, shard in store.shards():
            for at in range(0, len(shard), _BLOCK):
                block = shard[at : at + _BLOCK].astype(np.float32)
                for dim in chosen:
                    part = _unit(block[:, :dim]).astype(np.float16)
                    found = topk(asked[dim], part, k, threads=threads)
                    best[dim].add(found.scores, found.indices + (start + first + at))
                done += len(block)
                if progress is not None:
                    progress(done, total)

    def id_of(rows: NDArray[np.int64]) -> list[str]:
        names: list[str] = []
        for (low, high), store in zip(pairwise(starts.tolist()), stores, strict=True):
            names += store.id_of(rows[(rows >= low) & (rows < high)] - low)
        return names

    maps = []
    for dim in chosen:
        run = Run.from_topk(tuple(queries.ids), best[dim].scores, best[dim].rows, id_of)
        maps.append(_map(run, dataset, k, threads))
    series = SweepSeries(
        label, tuple(map(float, chosen)), tuple(maps), bytes_per_image=tuple(2.0 * d for d in chosen)
    )
    return Sweep("mAP against the dimension", "Dimension", k, (series,), log=True)


def rerank_sweep(
    dataset: Dataset,
    run: Run,
    queries: LocalStore,
    database: LocalStore,
    *,
    method: Literal["chamfer", "spatial"] = "chamfer",
    shortlists: Sequence[int] = (50, 100, 200, 400, 1000),
    descriptors: Sequence[int] = (25, 50, 100, 200, 400),
    options: ChamferOptions | SpatialOptions | None = None,
    lam: float | None = None,
    gamma: float | None = None,
    k: int = 1000,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Evaluate re-ranking for every length of the shortlist and number of descriptors of a database image.

    Args:
        dataset: The ground truth.
        run: What is re-ranked.
        queries: Local descriptors of the queries.
        database: Local descriptors of the database images, the strongest first.
        method: How images are compared.
        shortlists: Numbers of images re-ranked; each is one cut of the longest, which alone is scored.
        descriptors: Numbers of descriptors of a database image, a series each.
        options: Other options of the method; None for its defaults.
        lam: Weight of the global score, as in `ensemble`.
        gamma: Slope of the local score, likewise.
        k: The cut of mAP@k.
        threads: Number of threads; None for all cores.
        progress: Called with (pairs finished, pairs in all).

    Returns:
        A series for each number of descriptors, with the bytes that so many of them take at most: codes, and
        for "spatial" positions, scales and angles where the store has them.

    Raises:
        ParameterError: A number is out of its range, the method unknown, or options of another one.
        UnknownIdError, IncompatibleStoreError, NonFiniteError: As `rerank`.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from ilias_fast.datasets import Dataset
        >>> from ilias_fast.run import Run
        >>> from ilias_fast.store import LocalStore
        >>> rng = np.random.default_rng(0)
        >>> codes, xy = rng.integers(0, 256, (40, 16), np.uint8), rng.random((40, 2), np.float32)
        >>> with LocalStore.create("queries", bits=128) as writer:
        ...     writer.append_arrays(["mug/query/0.jpg"], [0, 20], codes[:20], xy[:20], size=[[400, 300]])
        >>> with LocalStore.create("database", bits=128) as writer:
        ...     size = [[400, 300], [400, 300]]
        ...     writer.append_arrays(["mug/pos/0.jpg", "1.jpg"], [0, 20, 40], codes, xy, size=size)
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg",)
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> run = Run.from_dict({"mug/query/0.jpg": {"1.jpg": 0.5, "mug/pos/0.jpg": 0.45}})
        >>> stores = LocalStore.open("queries"), LocalStore.open("database")
        >>> options = {"method": "spatial", "shortlists": (1, 2), "descriptors": (10, 20)}
        >>> sweep = rerank_sweep(dataset, run, *stores, **options)
        >>> {series.label: series.maps for series in sweep.series}
        {'10 descriptors, 200 B an image': (50.0, 100.0), '20 descriptors, 400 B an image': (50.0, 100.0)}
    """
    _arrays.choice("method", method, ("chamfer", "spatial"))
    lengths = sorted({_arrays.at_least_one("shortlists", length) for length in shortlists})
    counts = sorted({_arrays.at_least_one("descriptors", count) for count in descriptors})
    if not lengths or not counts:
        raise ParameterError("shortlists, descriptors: expected at least one number of each, found none")
    chosen = options or (ChamferOptions() if method == "chamfer" else SpatialOptions())
    size = float(database.code_bytes)
    if method == "spatial":
        size += 4.0 + sum(2.0 for name in ("scale", "angle") if name in database.optional)
    series = []
    for number, count in enumerate(counts):

        def told(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, len(counts) * total)

        local = rerank(
            run,
            queries,
            database,
            method=method,
            shortlist=lengths[-1],
            options=replace(chosen, database_descriptors=count),
            threads=threads,
            progress=told,
        )
        maps = [
            _map(ensemble(run, local.truncate(length), lam=lam, gamma=gamma), dataset, k, threads)
            for length in lengths
        ]
        label = f"{count} descriptors, {_size(count * size)} an image"
        memory = (count * size,) * len(lengths)
        series.append(SweepSeries(label, tuple(map(float, lengths)), tuple(maps), bytes_per_image=memory))
    names = {"chamfer": "Chamfer similarity", "spatial": "spatial verification"}
    title = f"mAP against shortlist and descriptors, {names[method]}"
    return Sweep(title, "Images re-ranked", k, tuple(series), log=True)


def curve_sweep(curves: dict[str, DistractorCurve]) -> Sweep:
    """Return mAP against the number of distractors (Fig. C) as a sweep, a series for each curve.

    Args:
        curves: Curves by what they are called, all at the same k. The mean over random subsets of a size that
            a curve was evaluated on too is a series of its own, with its standard deviation.

    Raises:
        ParameterError: There is no curve, or they are at different k.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.evaluate import DistractorCurve
        >>> aps = np.array([[100.0], [50.0]])
        >>> curve = DistractorCurve(10, ("q",), np.array([0, 10]), aps, 0, np.empty((0, 1)))
        >>> curve_sweep({"global": curve}).series[0].maps
        (100.0, 50.0)
    """
    cuts = {curve.k for curve in curves.values()}
    if len(cuts) != 1:
        raise ParameterError(f"curves: expected curves at one k, found {sorted(cuts) or 'none'}")
    series = []
    for name, curve in curves.items():
        x = tuple(map(float, curve.distractors.tolist()))
        series.append(SweepSeries(name, x, tuple(curve.maps.tolist())))
        if len(curve.subset_maps):
            mean, std = curve.subset_mean_std
            spread = () if std != std else (std,)
            label = f"{name}, {len(curve.subset_maps)} random subsets"
            series.append(SweepSeries(label, (float(curve.subset_size),), (mean,), spread))
    title = "mAP against the number of distractors"
    return Sweep(title, "Distractors", cuts.pop(), tuple(series), log=True)


class _Best:
    """The best k of what is added, by (score descending, row ascending)."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.scores = np.empty((queries, 0), np.float32)
        self.rows = np.empty((queries, 0), np.int64)

    def add(self, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Add rows that all stand behind those before."""
        scores = np.concatenate([self.scores, scores], axis=1)
        rows = np.concatenate([self.rows, rows], axis=1)
        # Stable: of equal scores the earlier, lower row stays first.
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
        self.scores = np.take_along_axis(scores, order, axis=1)
        self.rows = np.take_along_axis(rows, order, axis=1)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))[:, None]
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32, order="C")


def _map(run: Run, dataset: Dataset, k: int, threads: int | None) -> float:
    return evaluate(run, dataset, k=k, missing="zero", threads=threads).map


def _size(count: float) -> str:
    return f"{count / 1000:.4g} kB" if count >= 1000 else f"{count:.4g} B"
