"""The compiled core; use the public modules instead. Checked against the binary by stubtest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, final, overload

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ChunkGrid",
    "IdSearch",
    "Ids",
    "Layer",
    "Planes",
    "RunningSearch",
    "Store",
    "StoreWriter",
    "__version__",
    "available_cpu_levels",
    "average_precision",
    "best_rows",
    "build_store_planes",
    "calibrate",
    "chamfer",
    "chamfer_float",
    "committed_bytes",
    "compact_store",
    "compactable_rows",
    "count_above",
    "cpu_level",
    "default_threads",
    "first_repeated_index",
    "gc_store",
    "hamming_matrix",
    "hamming_topk",
    "hamming_topk_store",
    "ids_of_stores",
    "judge",
    "match_codes",
    "match_images",
    "pin_cpu_level",
    "read_run_json",
    "read_run_trec",
    "rerank_both",
    "rerank_chamfer",
    "rerank_spatial",
    "topk",
    "topk_float32",
    "topk_store",
    "verify_instances",
    "verify_pair",
    "verify_spatial",
    "verify_store",
    "vocabulary",
    "write_run_json",
]

__version__: str

# --- run ---

@final
class Ids(Sequence[str]):
    def __new__(cls, ids: Iterable[str]) -> Ids: ...
    @staticmethod
    def from_packed(text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> Ids: ...
    @staticmethod
    def from_characters(characters: NDArray[np.uint32]) -> Ids: ...
    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]: ...
    def take(self, positions: NDArray[np.int64]) -> list[str]: ...
    def locate(self, wanted: Ids, threads: int | None = None) -> NDArray[np.int64]: ...
    def first_repeated(self) -> str | None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> str: ...
    @overload
    def __getitem__(self, index: slice, /) -> tuple[str, ...]: ...
    def __iter__(self) -> Iterator[str]: ...
    def __contains__(self, id: object, /) -> bool: ...  # noqa: A002
    def __reduce__(self) -> tuple[object, tuple[NDArray[np.uint8], NDArray[np.int64]]]: ...

@final
class IdSearch:
    def __new__(cls, wanted: Ids) -> IdSearch: ...
    def feed(self, piece: bytes) -> None: ...
    def found(self, asked: Ids) -> NDArray[np.bool_]: ...

_Lists: TypeAlias = tuple[list[str], NDArray[np.int64], Ids, NDArray[np.int64], NDArray[np.float64]]

def read_run_json(data: bytes) -> _Lists: ...
def read_run_trec(data: bytes) -> _Lists: ...
def write_run_json(
    queries: Ids,
    offsets: NDArray[np.int64],
    ids: Ids,
    indices: NDArray[np.int64],
    scores: NDArray[np.float64],
    indent: int | None,
    file: str | os.PathLike[str],
    path: str | os.PathLike[str],
) -> None: ...
def vocabulary(entries: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def first_repeated_index(
    offsets: NDArray[np.int64], indices: NDArray[np.int64], size: int
) -> tuple[int, int] | None: ...
def ids_of_stores(stores: Sequence[Store], rows: NDArray[np.int64]) -> Ids: ...

# --- cpu ---

def cpu_level() -> str: ...
def available_cpu_levels() -> list[str]: ...
def pin_cpu_level(name: str | None, /) -> None: ...
def default_threads() -> int: ...
def calibrate(
    memory: NDArray[np.uint8], seconds: float, threads: int | None
) -> tuple[float, float, float]: ...

# --- chunks ---

@final
class ChunkGrid:
    def __new__(
        cls,
        path: str | os.PathLike[str],
        shape: tuple[int, int, int, int, int],
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int64],
        filters: NDArray[np.uint8],
        fill: bytes,
    ) -> ChunkGrid: ...
    def block_rows(self, size: int) -> int: ...
    def read(
        self,
        start: int,
        out: NDArray[np.uint8],
        threads: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None: ...

# --- store ---

@final
class Store:
    def __new__(cls, path: str | os.PathLike[str]) -> Store: ...
    def __len__(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def bits(self) -> int: ...
    @property
    def code_bytes(self) -> int: ...
    @property
    def optional(self) -> list[str]: ...
    @property
    def descriptors(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def starts(self) -> list[int]: ...
    @property
    def shards(self) -> int: ...
    @property
    def deleted(self) -> int: ...
    @property
    def derived(self) -> list[tuple[str, int, int]]: ...
    @property
    def provenance(self) -> str: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def checksum(self) -> str: ...
    def vector(self, row: int) -> NDArray[np.float16]: ...
    def code(self, row: int) -> NDArray[np.uint8]: ...
    def vectors(self) -> list[NDArray[np.float16]]: ...
    def codes(self) -> list[NDArray[np.uint8]]: ...
    def local(
        self, row: int
    ) -> tuple[
        NDArray[np.uint8],
        NDArray[np.float16],
        NDArray[np.float32],
        NDArray[np.float32] | None,
        NDArray[np.float32] | None,
        NDArray[np.float32] | None,
        tuple[int, int],
    ]: ...
    def gather_vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float16]: ...
    def gather_codes(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]: ...
    def ids(self, rows: NDArray[np.int64]) -> list[str]: ...
    def find(self, ids: list[str]) -> NDArray[np.int64]: ...

@final
class StoreWriter:
    @staticmethod
    def create(
        path: str | os.PathLike[str],
        kind: str,
        floats: bool,
        length: int,
        optional: list[str],
        provenance: str,
        parent: str | None,
        overwrite: bool,
        shard_bytes: int | None,
    ) -> StoreWriter: ...
    @staticmethod
    def append_to(path: str | os.PathLike[str], shard_bytes: int | None) -> StoreWriter: ...
    def spec(self) -> tuple[str, int, int, list[str]]: ...
    def __len__(self) -> int: ...
    @property
    def provenance(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def set_provenance(self, provenance: str) -> None: ...
    def contains(self, ids: list[str]) -> list[bool]: ...
    def append_vectors(self, ids: list[str], vectors: NDArray[np.float16]) -> None: ...
    def append_codes(self, ids: list[str], codes: NDArray[np.uint8]) -> None: ...
    def append_local(
        self,
        ids: list[str],
        offsets: NDArray[np.int64],
        codes: NDArray[np.uint8],
        descriptors: NDArray[np.float16],
        xy: NDArray[np.float32],
        scale: NDArray[np.float32] | None,
        angle: NDArray[np.float32] | None,
        weight: NDArray[np.float32] | None,
        size: NDArray[np.int32],
    ) -> None: ...
    def delete(self, ids: list[str]) -> int: ...
    def append_rows(
        self, store: Store, rows: NDArray[np.int64], progress: Callable[[int], object] | None
    ) -> None: ...
    def detach(self, kind: str) -> int: ...
    def commit(self) -> int: ...
    def close(self) -> None: ...

def committed_bytes(path: str | os.PathLike[str]) -> int: ...
def compactable_rows(path: str | os.PathLike[str], shard_bytes: int) -> int: ...
def compact_store(
    path: str | os.PathLike[str], shard_bytes: int, progress: Callable[[int], object] | None
) -> tuple[int, int, int]: ...
def verify_store(
    path: str | os.PathLike[str],
    quick: bool,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[list[tuple[str, list[str], int, int, str]], list[str], int, int]: ...
def gc_store(path: str | os.PathLike[str]) -> list[str]: ...

# --- adapt ---

@final
class Layer:
    """An affine map, packed for the kernels."""

    def __new__(
        cls,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        mean: NDArray[np.float32] | None,
        before: tuple[float, float] | None,
        after: tuple[float, float] | None,
    ) -> Layer: ...
    def vectors(
        self, rows: NDArray[np.float16] | NDArray[np.float32], threads: int | None
    ) -> NDArray[np.float32]:
        """The results of float16 or float32 rows, as float32."""
    def halves(
        self, rows: NDArray[np.float16] | NDArray[np.float32], threads: int | None
    ) -> NDArray[np.float16]:
        """The same, rounded to float16."""
    def signs(
        self, rows: NDArray[np.float16] | NDArray[np.float32], threads: int | None
    ) -> NDArray[np.uint8]:
        """Their signs, packed."""

# --- search ---

@final
class Planes:
    """Int8 planes of a database in memory: what `build_planes` makes and `topk` takes."""

    @staticmethod
    def build(
        database: NDArray[np.float16], threads: int | None, progress: Callable[[int], object] | None
    ) -> Planes: ...
    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the database."""

def topk(
    queries: NDArray[np.float32],
    database: NDArray[np.float16],
    k: int,
    selected: NDArray[np.bool_] | None,
    threads: int | None,
    progress: Callable[[int], object] | None,
    screen: str = "auto",
    planes: Planes | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def build_store_planes(
    path: str | os.PathLike[str], threads: int | None, progress: Callable[[int], object] | None
) -> int: ...
def topk_float32(
    queries: NDArray[np.float32],
    database: NDArray[np.float32],
    k: int,
    selected: NDArray[np.bool_] | None,
    threads: int | None,
    progress: Callable[[int], object] | None,
    screen: str = "auto",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def topk_store(
    queries: NDArray[np.float32],
    store: Store,
    k: int,
    selected: NDArray[np.bool_] | None,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...

@final
class RunningSearch:
    """The best rows of each query among the parts added so far, numbered on from the first part."""

    def __new__(
        cls,
        queries: NDArray[np.float32],
        k: int,
        state: tuple[int, NDArray[np.float32], NDArray[np.int64]] | None = None,
    ) -> RunningSearch: ...
    def add(
        self,
        database: NDArray[np.float16],
        selected: NDArray[np.bool_] | None,
        threads: int | None,
        progress: Callable[[int], object] | None,
    ) -> None: ...
    def add_float32(
        self,
        database: NDArray[np.float32],
        selected: NDArray[np.bool_] | None,
        threads: int | None,
        progress: Callable[[int], object] | None,
    ) -> None: ...
    def add_stores(
        self,
        parts: Sequence[tuple[Store, int, int]],
        selected: NDArray[np.bool_] | None,
        threads: int | None,
        progress: Callable[[int], object] | None,
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    def found(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...

def best_rows(
    queries: NDArray[np.float32],
    database: NDArray[np.float16],
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    k: int,
    threads: int | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def hamming_matrix(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    out: NDArray[np.int32],
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> None: ...
def hamming_topk(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    k: int,
    selected: NDArray[np.bool_] | None,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]: ...
def hamming_topk_store(
    queries: NDArray[np.uint8],
    store: Store,
    k: int,
    selected: NDArray[np.bool_] | None,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]: ...

# --- rerank ---

_ImageArrays: TypeAlias = tuple[
    NDArray[np.uint8],
    NDArray[np.float32],
    NDArray[np.float32] | None,
    NDArray[np.float32] | None,
    tuple[int, int],
]
_SpatialFields: TypeAlias = tuple[int, float, bool, float, int, str, bool, str, str]

# None: an argument is not uint8 [rows, bytes], C-contiguous, an int, a float, a bool as they are.
def match_codes(
    query_codes: object,
    database_codes: object,
    max_distance: object,
    ratio: object,
    mutual: object,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]] | None: ...
def match_images(
    query_codes: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    max_distance: int,
    ratio: float,
    mutual: bool,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]]: ...
def chamfer(
    query_codes: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    direction: str,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> NDArray[np.float32]: ...
def chamfer_float(
    query: NDArray[np.float32],
    descriptors: NDArray[np.float16],
    offsets: NDArray[np.int64],
    direction: str,
    precision: str,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> NDArray[np.float32]: ...

# None: an argument is not float32 [t, 2], C-contiguous, or a float as it is.
def verify_spatial(
    query_xy: object,
    database_xy: object,
    threshold: object,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[int, NDArray[np.float64] | None, NDArray[np.bool_]] | None: ...
def verify_instances(
    query_xy: NDArray[np.float32],
    database_xy: NDArray[np.float32],
    geometry: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    fields: tuple[float, str, str],
    most: int,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> list[tuple[int, NDArray[np.float64] | None, NDArray[np.bool_], float, int]]: ...
def verify_pair(
    query: _ImageArrays, database: _ImageArrays, options: _SpatialFields
) -> tuple[
    tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]],
    NDArray[np.bool_],
    NDArray[np.float64] | None,
    float,
]: ...
def rerank_chamfer(
    queries: Store,
    database: Store,
    query_rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    descriptors: tuple[int | None, int | None],
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> NDArray[np.float32]: ...
def rerank_spatial(
    queries: Store,
    database: Store,
    query_rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    options: _SpatialFields,
    descriptors: tuple[int | None, int | None],
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]: ...
def rerank_both(
    queries: Store,
    database: Store,
    query_rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    options: _SpatialFields,
    descriptors: tuple[int | None, int | None],
    summed: int | None,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> tuple[
    NDArray[np.float32],
    tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]],
]: ...

# --- evaluate ---

def average_precision(
    scores: NDArray[np.float64],
    relevant: NDArray[np.bool_],
    positives: int,
    k: int,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> float: ...
def count_above(
    scores: NDArray[np.float32],
    offsets: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    start: int,
    stop: int,
    members: NDArray[np.int64] | None,
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]: ...
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
