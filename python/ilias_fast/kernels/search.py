"""The k nearest, exactly: inner products of vectors, Hamming distances of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._core import Planes
from ilias_fast.errors import ParameterError
from ilias_fast.kernels.progress import Progress

if TYPE_CHECKING:
    from ilias_fast.store import BinaryStore, GlobalStore

__all__ = [
    "HammingTopK",
    "Planes",
    "TopK",
    "build_planes",
    "hamming_matrix",
    "hamming_topk",
    "topk",
]


@runtime_checkable
class _StoreBacked(Protocol):
    """What `GlobalStore` and `BinaryStore` are to a kernel: the owner of an opened core store."""

    @property
    def _core_store(self) -> _core.Store: ...


class TopK(NamedTuple):
    """The k best database rows of each query, best first.

    Attributes:
        scores: float32 [Q, k'], inner products.
        indices: int64 [Q, k'], database rows.

    Examples:
        >>> import numpy as np
        >>> found = topk([[2.0]], np.ones((3, 1), np.float16), 2)
        >>> found.scores.dtype, found.indices.shape
        (dtype('float32'), (1, 2))
    """

    scores: NDArray[np.float32]
    indices: NDArray[np.int64]


class HammingTopK(NamedTuple):
    """The k nearest codes of each query, nearest first.

    Attributes:
        distances: int32 [Q, k'], in bits.
        indices: int64 [Q, k'], database rows.

    Examples:
        >>> import numpy as np
        >>> hamming_topk(np.zeros((1, 2), np.uint8), np.full((1, 2), 255, np.uint8), 1).distances.item()
        16
    """

    distances: NDArray[np.int32]
    indices: NDArray[np.int64]


def topk(
    queries: ArrayLike,
    database: ArrayLike | GlobalStore,
    k: int,
    *,
    planes: Planes | None = None,
    selected: ArrayLike | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> TopK:
    """Find the k database vectors with the largest inner product, exactly.

    The score of a pair is `numpy.float32(math.fsum(q_i * x_i))`: the exact inner product of the float32 query
    and the float16 row, rounded to float64 and then to float32 (-0.0 becomes 0.0; a score beyond float32 is
    infinite). Results are ordered by (score descending,
    index ascending). The answer is the same, bit for bit, for any CPU level, number of threads, batch and
    shard size.

    Args:
        queries: float32 [Q, d], finite.
        database: float16 [n, d], finite, or a `GlobalStore`, which is streamed.
        k: How many results per query, at least 1; fewer are returned if the database has fewer rows.
        planes: What `build_planes` made of this very array: searches with few queries read half the bytes. A
            store brings its own (`ilias_fast.store.build_planes`).
        selected: bool [n]; only rows where it is true are searched. None searches all.
        threads: Number of threads; None for all cores (or `ILIAS_FAST_THREADS`).
        progress: Called now and then with the number of database rows finished so far.

    Returns:
        `TopK(scores float32 [Q, k'], indices int64 [Q, k'])` with k' = min(k, rows searched).

    Raises:
        ShapeError: The dimensions of queries and database differ, or an array is not a matrix.
        DtypeError: The database is not float16 and would have to be rounded.
        NonFiniteError: A query or a searched database row holds NaN or an infinity.
        ParameterError: k or threads is below 1.

    Complexity: O(Q n d) multiply-adds; memory O(Q (d + k)), with few queries times the number of threads,
    independent of n.

    Examples:
        >>> import numpy as np
        >>> database = np.array([[1, 0], [0, 1], [0.5, 0.5]], np.float16)
        >>> scores, indices = topk([[1.0, 0.25]], database, 2)
        >>> scores.tolist(), indices.tolist()
        ([[1.0, 0.625]], [[0, 2]])
    """
    rows = _arrays.float32_rows("queries", queries)
    mask = None if selected is None else _arrays.vector("selected", selected, "b", np.bool_)
    k = _arrays.at_least_one("k", k)
    threads = _arrays.threads(threads)
    if type(database) is not np.ndarray and isinstance(database, _StoreBacked):
        if planes is not None:
            raise ParameterError("planes: expected None, as a store brings its own, found planes of an array")
        return TopK(*_core.topk_store(rows, database._core_store, k, mask, threads, progress))
    array = _arrays.float16_rows("database", database)
    if planes is not None and not isinstance(planes, Planes):
        raise ParameterError(f"planes: expected what `build_planes` made, found {type(planes).__name__}")
    return TopK(*_core.topk(rows, array, k, mask, threads, progress, planes=planes))


def build_planes(
    database: ArrayLike, *, threads: int | None = None, progress: Progress | None = None
) -> Planes:
    """Rotate and quantise the rows of a database once, for many calls of `topk` with it.

    They tell which rows are looked at closer; the answer of `topk` has the same bits with and without them.

    Args:
        database: float16 [n, d], finite, d at least 1.
        threads: Number of threads; None for all cores.
        progress: Called now and then with the number of database rows finished so far.

    Returns:
        Planes to hand to `topk` with the same array; d + 16 bytes a row, d rounded up to a multiple of 64.

    Raises:
        ShapeError, DtypeError: The database is not a float16 matrix.
        NonFiniteError: A row holds NaN or an infinity.
        ParameterError: Rows are empty, or longer than 65,536 values.

    Examples:
        >>> import numpy as np
        >>> database = np.eye(3, 8, dtype=np.float16)
        >>> planes = build_planes(database)
        >>> topk([[0, 1, 0, 0, 0, 0, 0, 0]], database, 1, planes=planes).indices.tolist()
        [[1]]
    """
    return Planes.build(_arrays.float16_rows("database", database), _arrays.threads(threads), progress)


def hamming_topk(
    queries: ArrayLike,
    database: ArrayLike | BinaryStore,
    k: int,
    *,
    selected: ArrayLike | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> HammingTopK:
    """Find the k database codes with the smallest Hamming distance, exactly; ties by index.

    Args:
        queries: uint8 [Q, b], packed codes.
        database: uint8 [n, b], or a `BinaryStore`, which is streamed.
        k: How many results per query, at least 1; fewer are returned if the database has fewer rows.
        selected: bool [n]; only rows where it is true are searched. None searches all.
        threads: Number of threads; None for all cores.
        progress: Called now and then with the number of database rows finished so far.

    Returns:
        `HammingTopK(distances int32 [Q, k'], indices int64 [Q, k'])` with k' = min(k, rows searched).

    Raises:
        ShapeError: The code lengths of queries and database differ, or an array is not a matrix.
        DtypeError: Codes are not uint8.
        ParameterError: k or threads is below 1.

    Complexity: O(Q n b) bits counted; memory O(Q k), independent of n.

    Examples:
        >>> import numpy as np
        >>> codes = np.array([[0b1111], [0b0111], [0b0000]], np.uint8)
        >>> distances, indices = hamming_topk(codes[:1], codes, 2)
        >>> distances.tolist(), indices.tolist()
        ([[0, 1]], [[0, 1]])
    """
    rows = _arrays.codes("queries", queries, "Q, bytes")
    mask = None if selected is None else _arrays.vector("selected", selected, "b", np.bool_)
    k = _arrays.at_least_one("k", k)
    threads = _arrays.threads(threads)
    if type(database) is not np.ndarray and isinstance(database, _StoreBacked):
        return HammingTopK(*_core.hamming_topk_store(rows, database._core_store, k, mask, threads, progress))
    codes = _arrays.codes("database", database)
    return HammingTopK(*_core.hamming_topk(rows, codes, k, mask, threads, progress))


def hamming_matrix(
    queries: ArrayLike,
    database: ArrayLike,
    *,
    out: NDArray[np.int32] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int32]:
    """Count the bits in which every query differs from every code of a database.

    For the nearest codes alone `hamming_topk` is faster and takes no memory for the rest.

    Args:
        queries: uint8 [Q, b], packed codes.
        database: uint8 [n, b].
        out: int32 [Q, n], C-contiguous, to write the distances into (a CPU tensor or a memmap will do); None
            for a new array. It is never converted.
        threads: Number of threads; None for all cores.
        progress: Called now and then with the number of distances counted so far.

    Returns:
        int32 [Q, n], in bits: `out` as NumPy sees it, if it was given.

    Raises:
        ShapeError: The code lengths differ, or an array has another shape.
        DtypeError: Codes are not uint8, or `out` not int32.
        ParameterError: `out` is not C-contiguous, read-only, or the memory of another argument.

    Complexity: O(Q n b) bits counted, 4 Q n bytes written.

    Examples:
        >>> import numpy as np
        >>> codes = np.array([[0b1111], [0b0111], [0b0000]], np.uint8)
        >>> hamming_matrix(codes[:2], codes).tolist()
        [[0, 1, 4], [1, 0, 3]]
    """
    rows = _arrays.codes("queries", queries, "Q, bytes")
    codes = _arrays.codes("database", database)
    distances = _arrays.output("out", out, (len(rows), len(codes)), np.int32, (rows, codes))
    _core.hamming_matrix(rows, codes, distances, _arrays.threads(threads), progress)
    return distances
