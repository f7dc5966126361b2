"""The compiled core; use the public modules instead. Checked against the binary by stubtest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__version__: str

# --- cpu ---

def cpu_level() -> str: ...
def available_cpu_levels() -> list[str]: ...
def pin_cpu_level(name: str | None, /) -> None: ...
def default_threads() -> int: ...

# --- store ---

class Store: ...

# --- search ---

def topk(
    queries: NDArray[np.float32],
    database: NDArray[np.float16],
    k: int,
    selected: NDArray[np.bool_] | None,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def topk_float32(
    queries: NDArray[np.float32],
    database: NDArray[np.float32],
    k: int,
    selected: NDArray[np.bool_] | None,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def topk_store(
    queries: NDArray[np.float32],
    store: Store,
    k: int,
    selected: NDArray[np.bool_] | None,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def hamming_topk(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    k: int,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]: ...
def hamming_topk_store(
    queries: NDArray[np.uint8],
    store: Store,
    k: int,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]: ...

# --- rerank ---

def match_codes(
    query_codes: NDArray[np.uint8], database_codes: NDArray[np.uint8], max_distance: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]: ...
def chamfer(
    query_codes: NDArray[np.uint8], codes: NDArray[np.uint8], offsets: NDArray[np.int64], threads: int | None
) -> NDArray[np.float32]: ...
def verify_spatial(
    query_xy: NDArray[np.float32], database_xy: NDArray[np.float32], threshold: float
) -> tuple[int, NDArray[np.float64] | None, NDArray[np.bool_]]: ...

# --- evaluate ---

def average_precision(
    scores: NDArray[np.float64], relevant: NDArray[np.bool_], positives: int, k: int
) -> float: ...
def judge(
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    scores: NDArray[np.float64],
    instances: NDArray[np.int32],
    groups: NDArray[np.uint32],
    queries: NDArray[np.int32],
    positives: NDArray[np.int64],
    group_count: int,
    k: int,
    threads: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]: ...
