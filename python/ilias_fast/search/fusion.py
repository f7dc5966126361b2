"""Weighted sums of similarities over aligned stores, exactly and in one pass.

The fused similarity of a query and an image is `sum_j w_j q_j . x_j` over the parts j. It is one inner
product: of the
weighted queries and the rows, both concatenated. Its canonical score is that of these long vectors, the
weighted queries
rounded to float32 once; so the answer is exact in the same sense, and by the same proof, as that of one
store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays, _core
from ilias_fast.errors import IncompatibleStoreError, NonFiniteError, ParameterError, ShapeError
from ilias_fast.run import Run
from ilias_fast.search.accumulating import accumulator
from ilias_fast.search.backends import Backend, BackendName, backend_of
from ilias_fast.search.ranking import Wanted
from ilias_fast.search.searching import (
    Depth,
    Progress,
    Queries,
    checked_selection,
    excluded_rows,
    read_depth,
    read_queries,
)
from ilias_fast.search.sequence import StoreSequence, checked_stores, masks_of
from ilias_fast.store import GlobalStore, check_compatible

__all__ = ["Part", "search_fused"]

_BLOCK_BYTES, _SMALL_BLOCK_BYTES = 128 << 20, 8 << 20
"""Size of the blocks in which rows are put side by side. For few queries, for which reading is all the work,
a block stays in the cache; for many it is large, as each block begins with work on all queries."""

_FEW, _COPIED = 64, 512
"""Queries that are few; rows that a thread copies at least."""

_IDS, _REMEMBERED = 65_536, 64
"""Ids compared at a time; pairs of databases remembered that hold the same images."""

_ALIKE: dict[tuple[tuple[str, ...], tuple[str, ...]], None] = {}
"""Checksums of such pairs: their ids are not compared again."""


class Part(NamedTuple):
    """One of the similarities that are added up.

    Attributes:
        queries: A store, or (ids, float32 [Q, d]). See `search_fused` for how they meet those of the first
            part.
        database: A store, or several that are searched as one sequence, with the images of the first part
            in the same order.
        weight: Factor of this similarity, finite.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], [[1.0, 0.0], [0.0, 1.0]])
        >>> part = Part((["q.jpg"], [[1.0, 0.0]]), GlobalStore.open("vectors"), weight=0.5)
        >>> search_fused([part], k=1)["q.jpg"].scores.tolist()
        [0.5]
    """

    queries: Queries
    database: GlobalStore | Sequence[GlobalStore]
    weight: float = 1.0


def _aligned(
    ids: Sequence[str], other_ids: Sequence[str], vectors: NDArray[np.float32], number: int
) -> NDArray[np.float32]:
    """Return the rows of `vectors` that belong to `ids`."""
    if list(other_ids) == list(ids):
        return vectors
    by_id = {name: row for row, name in enumerate(other_ids)}
    if all(name in by_id for name in ids):
        return vectors[[by_id[name] for name in ids]]
    by_instance: dict[str, list[int]] = {}
    for row, name in enumerate(other_ids):
        by_instance.setdefault(name.partition("/")[0], []).append(row)
    rows = [by_instance.get(name.partition("/")[0], []) for name in ids]
    for name, found in zip(ids, rows, strict=True):
        if len(found) != 1:
            raise ShapeError(
                f"parts: query {name!r} has {len(found)} counterparts in part {number}; expected the same "
                f"ids, or one query of each instance ({name.partition('/')[0]!r} here)"
            )
    return vectors[[found[0] for found in rows]]


def _check_order(first: list[GlobalStore], other: list[GlobalStore], number: int) -> None:
    """Refuse databases that do not hold the same images in the same order."""
    counts = [sum(len(store) for store in stores) for stores in (first, other)]
    if counts[0] != counts[1]:
        raise IncompatibleStoreError(
            f"parts: expected the same images in every part, found {counts[0]} in part 0 and {counts[1]} in "
            f"part {number}"
        )
    checksums = (tuple(store.checksum for store in first), tuple(store.checksum for store in other))
    if checksums[0] == checksums[1] or checksums in _ALIKE:
        return
    for start in range(0, counts[0], _IDS):
        ours, theirs = (_ids_of(stores, start, start + _IDS) for stores in (first, other))
        if ours != theirs:
            row = next(row for row, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
            raise IncompatibleStoreError(
                f"parts: expected the same images in the same order, found {ours[row]!r} in part 0 and "
                f"{theirs[row]!r} in part {number} at row {start + row}"
            )
    while len(_ALIKE) >= _REMEMBERED:
        _ALIKE.pop(next(iter(_ALIKE)))
    _ALIKE[checksums] = None


def _ids_of(stores: list[GlobalStore], start: int, stop: int) -> list[str]:
    """Return the ids of some rows of a sequence of stores."""
    names: list[str] = []
    before = 0
    for store in stores:
        names += store.ids[max(0, start - before) : max(0, stop - before)]
        before += len(store)
    return names


def _pieces(stores: Sequence[GlobalStore]) -> Iterator[NDArray[np.float16]]:
    for store in stores:
        for _, vectors in store.shards():
            yield vectors


def _blocks(parts: Sequence[Sequence[GlobalStore]], rows: int, threads: int) -> Iterator[NDArray[np.float16]]:
    """Yield float16 [m, sum of d_j] blocks of up to `rows` rows: those of all parts side by side.

    All but the last are full; they are views of one buffer.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from _filled(parts, rows, threads, pool)


def _copy(pool: Executor, threads: int, target: NDArray[np.float16], source: NDArray[np.float16]) -> None:
    """Copy rows, shared out over threads: NumPy lets others run meanwhile."""
    size = max(_COPIED, -(-len(source) // threads))
    starts = range(0, len(source), size)
    if len(starts) == 1:
        target[:] = source
        return
    list(pool.map(lambda at: np.copyto(target[at : at + size], source[at : at + size]), starts))


def _filled(
    parts: Sequence[Sequence[GlobalStore]], rows: int, threads: int, pool: Executor
) -> Iterator[NDArray[np.float16]]:
    dims = [stores[0].dim for stores in parts]
    edges = np.concatenate([[0], np.cumsum(dims)]).tolist()
    buffer = np.empty((rows, edges[-1]), np.float16)
    sources = [_pieces(stores) for stores in parts]
    rests = [np.empty((0, dim), np.float16) for dim in dims]
    while True:
        filled = 0
        for part, source in enumerate(sources):
            filled = 0
            while filled < rows:
                while not len(rests[part]):
                    piece = next(source, None)
                    if piece is None:
                        break
                    rests[part] = piece
                if not len(rests[part]):
                    break
                count = min(rows - filled, len(rests[part]))
                place = buffer[filled : filled + count, edges[part] : edges[part + 1]]
                _copy(pool, threads, place, rests[part][:count])
                rests[part] = rests[part][count:]
                filled += count
        if not filled:
            return
        yield buffer[:filled]


def search_fused(
    parts: Sequence[Part],
    k: Depth = 1000,
    *,
    selected_ids: Collection[str] | None = None,
    exclude: Mapping[str, Collection[str]] | None = None,
    backend: Backend | BackendName = "cpu",
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Find the k images with the largest weighted sum of similarities for each query, exactly.

    The similarity is `sum_j w_j q_j . x_j`; for the mean of image-to-image and text-to-image similarities,
    two parts with
    weights 1/2. The scores are canonical scores of the concatenated vectors, with `float32(w_j q_j)` for
    the queries.

    Queries of the parts meet by id. Where the ids differ, each query of the first part meets the one query
    of its
    instance (what stands before the first "/"), as in ILIAS, where an instance has several image queries
    and one text.

    Args:
        parts: What is added up, at least one part; the run has the query and image ids of the first.
        k: How many results per query, at least 1: one number, or one for each query id.
        selected_ids: As in `search`.
        exclude: As in `search`.
        backend: As in `search`.
        force: Search stores together although their provenance differs.
        threads: Number of threads; None for all cores.
        progress: Called now and then with (rows done, rows in all).

    Returns:
        A `Run` with min(k, rows searched) results per query.

    Raises:
        ParameterError: A parameter is out of range.
        ShapeError: Dimensions do not fit, or a query of the first part has no counterpart.
        IncompatibleStoreError: The parts do not hold the same images in the same order, or a part's stores
            cannot be compared.
        NonFiniteError: A weighted query or a searched row holds NaN or an infinity.

    Complexity: one pass over every database, whose rows are put side by side in blocks of 128 MiB; the
        time of a search in
    the sum of the dimensions. Memory: one block and O(Q (d + k)).

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], [[1.0, 0.0], [0.0, 1.0]])
        >>> database = GlobalStore.open("vectors")
        >>> image = Part((["mug/query/0.jpg"], [[1.0, 0.5]]), database, weight=0.5)
        >>> text = Part((["mug/query/0.txt"], [[0.0, 1.0]]), database, weight=0.5)
        >>> found = search_fused([image, text], k=2)["mug/query/0.jpg"]
        >>> found.ids, found.scores.tolist()
        (['b.jpg', 'a.jpg'], [0.75, 0.5])
    """
    if not (parts := list(parts)):
        raise ParameterError("parts: expected at least one part, found none")
    threads = _arrays.threads(threads)
    databases: list[list[GlobalStore]] = []
    weighted: list[NDArray[np.float32]] = []
    ids: list[str] = []
    for number, (queries, database, weight) in enumerate(parts):
        stores = checked_stores(database, force)
        if isinstance(queries, GlobalStore):
            check_compatible(queries, stores[0], force=force)
        names, vectors = read_queries(queries)
        if vectors.shape[1] != stores[0].dim:
            raise ShapeError(
                f"parts: expected queries of {stores[0].dim} columns in part {number}, as {stores[0]!r}, "
                f"found {vectors.shape[1]}"
            )
        factor = _arrays.real("weight", weight)
        if not np.isfinite(factor):
            raise ParameterError(f"weight: expected a finite number, found {factor} in part {number}")
        if number:
            vectors = _aligned(ids, names, vectors, number)
            _check_order(databases[0], stores, number)
        else:
            ids = names
        databases.append(stores)
        with np.errstate(over="ignore", invalid="ignore"):
            weighted.append((factor * vectors.astype(np.float64)).astype(np.float32))
        if not np.isfinite(weighted[-1]).all():
            row, column = np.argwhere(~np.isfinite(weighted[-1]))[0].tolist()
            raise NonFiniteError(
                f"parts: the weighted query in row {row}, column {column} of part {number} is "
                f"{weighted[-1][row, column]}; all values must be finite float32"
            )
    long_queries = np.ascontiguousarray(np.concatenate(weighted, axis=1))
    selected = checked_selection(selected_ids)
    engine = backend_of(backend)
    first = StoreSequence(databases[0], masks_of(databases[0], selected), None, engine, threads)
    wanted = Wanted(read_depth(k, ids), excluded_rows(exclude, ids, first.rows_of))

    scan, start = accumulator(engine, long_queries, wanted.depth, threads), 0
    size = _SMALL_BLOCK_BYTES if len(ids) <= _FEW else _BLOCK_BYTES
    rows = max(1, size // (2 * max(1, long_queries.shape[1])))
    for block in _blocks(databases, rows, threads or _core.default_threads()):
        part = None if first.mask is None else first.mask[start : start + len(block)]
        scan.add(block, part, None if progress is None else _within(progress, start, len(first)))
        start += len(block)
    found = wanted.select(scan.found())
    provenance = {
        "method": "search_fused",
        "k": int(wanted.k.max(initial=1)),
        "parts": [
            {
                "weight": float(part.weight),
                "queries": str(part.queries.path) if isinstance(part.queries, GlobalStore) else "array",
                "database": [{"path": str(store.path), "checksum": store.checksum} for store in stores],
            }
            for part, stores in zip(parts, databases, strict=True)
        ],
        "selected_ids": None if selected is None else len(selected),
    }
    return Run.from_topk(ids, found.scores, found.indices, first.id_of, provenance)


def _within(progress: Progress, start: int, total: int) -> Callable[[int], object]:
    return lambda done: progress(start + done, total)
