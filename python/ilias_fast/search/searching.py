"""`search`: each query against several databases as one sequence of rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.errors import ParameterError, ShapeError
from ilias_fast.kernels import TopK
from ilias_fast.run import Run
from ilias_fast.search.backends import Backend, BackendName, backend_of
from ilias_fast.search.expansion import Mode, expanded
from ilias_fast.search.files import FileSequence
from ilias_fast.search.ranking import Wanted
from ilias_fast.search.resuming import Checkpoint
from ilias_fast.search.sequence import (
    DescriptorAdapter,
    StoreSequence,
    adapted,
    checked_stores,
    masks_of,
)
from ilias_fast.store import FeatureFiles, GlobalStore, check_compatible

__all__ = ["Depth", "Progress", "Queries", "excluded_rows", "read_depth", "read_queries", "search"]

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], object]
Queries = GlobalStore | tuple[Sequence[str], ArrayLike]
Depth = SupportsIndex | Mapping[str, int]


def read_queries(queries: Queries) -> tuple[list[str], NDArray[np.float32]]:
    """Return (ids, float32 [Q, d]) of a store or a pair."""
    if isinstance(queries, GlobalStore):
        rows = np.arange(len(queries), dtype=np.int64)
        return list(queries.ids), queries.rows(rows).astype(np.float32)
    if not isinstance(queries, Sequence) or len(queries) != 2:
        raise ParameterError(f"queries: expected a global store or (ids, vectors), found {queries!r}")
    if isinstance(queries[0], str):
        raise ParameterError(f"queries: expected a sequence of ids, found the single str {queries[0]!r}")
    ids, vectors = list(queries[0]), _arrays.float32_rows("queries", queries[1])
    if len(ids) != len(vectors):
        raise ShapeError(f"queries: expected one id a row, found {len(ids)} ids and {len(vectors)} rows")
    return ids, vectors


def read_depth(k: Depth, ids: Sequence[str]) -> NDArray[np.int64]:
    """Return one k a query."""
    if not isinstance(k, Mapping):
        return np.full(len(ids), _arrays.at_least_one("k", k), np.int64)
    missing, unknown = set(ids) - k.keys(), k.keys() - set(ids)
    if missing or unknown:
        name = min(missing or unknown)
        raise ParameterError(
            f"k: expected one number for each query, found {'none' if missing else 'one'} for {name!r}"
        )
    return np.array([_arrays.at_least_one(f"k of query {name!r}", k[name]) for name in ids], np.int64)


def excluded_rows(
    exclude: Mapping[str, Collection[str]] | None,
    ids: Sequence[str],
    rows_of: Callable[[Sequence[str]], tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> list[NDArray[np.int64]] | None:
    """Return the rows that each query must not find."""
    if not exclude:
        return None
    unknown = exclude.keys() - set(ids)
    if unknown:
        raise ParameterError(f"exclude: expected ids of queries as keys, found {min(unknown)!r}")
    for query, names in exclude.items():
        if isinstance(names, str):
            raise ParameterError(
                f"exclude: expected a collection of ids for {query!r}, found the single str {names!r}"
            )
    everything = sorted({name for names in exclude.values() for name in names})
    rows: dict[str, list[int]] = {name: [] for name in everything}
    for position, row in zip(*rows_of(everything), strict=True):
        rows[everything[position]].append(int(row))
    return [
        np.array([row for name in exclude.get(query, ()) for row in rows[name]], np.int64) for query in ids
    ]


def search(
    queries: Queries,
    database: GlobalStore | FeatureFiles | Sequence[GlobalStore | FeatureFiles],
    k: Depth = 1000,
    *,
    query_expansion: int = 0,
    alpha: float = 1.0,
    mode: Mode = "paper",
    adapter: DescriptorAdapter | None = None,
    selected_ids: Collection[str] | None = None,
    exclude: Mapping[str, Collection[str]] | None = None,
    backend: Backend | BackendName = "cpu",
    resume: StrPath | None = None,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Find the k database images most similar to each query, exactly.

    With query expansion the n = `query_expansion` best neighbours x_i of a first pass, with similarities s_i,
    are added to the query, which is normalised and searched again; the returned similarities are those of
    the second pass. A(.) is the adapter, or the identity:

    * "paper": `A(q) + sum_i max(s_i, 0)^alpha A(x_i)`. Negative similarities weigh nothing: a power of them
      is not defined for every alpha.
    * "official" (the published code): `A(q) + sum_i A(s_i x_i)`, alpha 1, negative s_i not clipped. With a
      linear adapter, which normalises, the weights survive only through its bias.

    An adapter is applied to queries and database, block by block, in float32, and the adapted vectors are
    searched as they are, without rounding to float16: exact for the numbers the adapter returned. Adapted
    vectors are screened by the core, whatever the backend.

    Args:
        queries: A store, or (ids, float32 [Q, d]).
        database: A store, or several that are searched as one sequence in one pass; of one dimension and,
            unless `force`, of compatible provenance. Feature files (`ilias_fast.store.FeatureFiles`) are
            searched while they are read; what needs them twice (query expansion, exclusions, another
            backend, `resume`) needs a store (`import_store`).
        k: How many results per query, at least 1: one number, or one for each query id.
        query_expansion: Number of neighbours n; 0 for none.
        alpha: Exponent of the weights, at least 0 and finite; 1 in the ILIAS paper.
        mode: "paper" or "official"; without adapter and negative similarities they are the same at alpha 1.
        adapter: An adaptation to float32 descriptors.
        selected_ids: Search only positives and these distractors (see `ilias_fast.store.is_selected`); None
            searches everything.
        exclude: Ids of database images that a query must not find (nor be expanded with), by query id; ids
            that are not in the database are no error.
        backend: Who screens: "cpu", "torch" or "faiss", or one of `ilias_fast.search.backends` with options.
        resume: A folder for the state of unfinished work. The same search with the same folder goes on
            where it was
            killed, a shard at most is searched twice; `ilias_fast.search.resuming.discard` empties the
            folder.
        force: Search stores together although their provenance differs.
        threads: Number of threads; None for all cores.
        progress: Called now and then with (rows done, rows in all), over all passes.

    Returns:
        A `Run` with min(k, rows searched) results per query.

    Raises:
        ParameterError: A parameter is out of range.
        ShapeError: Dimensions do not fit, or there is not one id a query.
        IncompatibleStoreError: The stores hold descriptors that cannot be compared.
        NonFiniteError: A query or a searched row holds NaN or an infinity, or a similarity exceeds float32.
        DuplicateIdError: Two stores hold the same id and a query found both.
        MissingExtraError: The backend's library is not installed.

    Complexity: one pass over the database, two with query expansion; memory O(Q (d + k)).

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg", "c.jpg"], [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
        >>> run = search((["q.jpg"], [[1.0, 0.25]]), GlobalStore.open("vectors"), k=2)
        >>> run["q.jpg"].ids, run["q.jpg"].scores.tolist()
        (['a.jpg', 'c.jpg'], [1.0, 0.625])
    """
    neighbours = _arrays.at_least("query_expansion", query_expansion, 0)
    threads = _arrays.threads(threads)
    _arrays.choice("mode", mode, ("paper", "official"))
    alpha = _arrays.real("alpha", alpha)
    if not 0 <= alpha < np.inf or (mode == "official" and alpha != 1):
        expected = "1 in official mode" if mode == "official" else "a finite number, at least 0"
        raise ParameterError(f"alpha: expected {expected}, found {alpha}")
    parts = list(database) if isinstance(database, Sequence) else [database]
    stores = [part for part in parts if not isinstance(part, FeatureFiles)]
    streamed = len(stores) < len(parts)
    if stores or not parts:
        stores = checked_stores(stores, force)
    if streamed and (neighbours or exclude or resume is not None or backend != "cpu"):
        raise ParameterError(
            "database: expected stores for query expansion, exclusions, resume or another backend, found "
            f"{next(part for part in parts if isinstance(part, FeatureFiles))!r} (import it first)"
        )
    if stores and isinstance(queries, GlobalStore):
        check_compatible(queries, stores[0], force=force)
    ids, vectors = read_queries(queries)
    depths = read_depth(k, ids)
    for part in parts:
        if vectors.shape[1] != part.dim:
            raise ShapeError(f"queries: expected {part.dim} columns, as {part!r}, found {vectors.shape[1]}")
    selected = checked_selection(selected_ids)
    provenance = {
        "method": "search",
        "k": int(depths.max(initial=1)),
        "queries": str(queries.path) if isinstance(queries, GlobalStore) else "array",
        "database": [_told(part) for part in parts],
        "query_expansion": None if not neighbours else {"n": neighbours, "alpha": float(alpha), "mode": mode},
        "adapter": None if adapter is None else getattr(adapter, "fingerprint", type(adapter).__name__),
        "selected_ids": None if selected is None else len(selected),
    }
    if streamed:
        files = FileSequence(parts, selected, adapter, threads)
        report = None if progress is None else lambda done: progress(done, len(files))
        embedded = vectors if adapter is None else adapted(adapter, vectors)
        wanted = Wanted(depths, None)
        found = wanted.select(files.topk(embedded, wanted.depth, report))
        return Run.from_topk(ids, found.scores, found.indices, files.id_of, provenance)
    sequence = StoreSequence(stores, masks_of(stores, selected), adapter, backend_of(backend), threads)
    excluded = excluded_rows(exclude, ids, sequence.rows_of)

    _log.debug("search: %d queries, %d rows in %d stores", len(ids), len(sequence), len(stores))
    passes = 2 if neighbours else 1

    def one_pass(number: int, embedded: NDArray[np.float32], wanted: Wanted) -> TopK:
        start, total = number * len(sequence), passes * len(sequence)
        report = None if progress is None else lambda done: progress(start + done, total)
        state = None
        if resume is not None:
            state = Checkpoint(resume, sequence.fingerprint(embedded, wanted.depth))
        return wanted.select(sequence.topk(embedded, wanted.depth, report, state))

    embedded = sequence.adapt(vectors)
    if neighbours:
        first = one_pass(0, embedded, Wanted(np.full(len(ids), neighbours, np.int64), excluded))
        embedded = expanded(embedded, sequence, first, alpha, mode)
    found = one_pass(passes - 1, embedded, Wanted(depths, excluded))
    return Run.from_topk(ids, found.scores, found.indices, sequence.id_of, provenance)


def _told(part: GlobalStore | FeatureFiles) -> dict[str, object]:
    if isinstance(part, FeatureFiles):
        return part.provenance()
    return {"path": str(part.path), "checksum": part.checksum}


def checked_selection(selected_ids: Collection[str] | None) -> frozenset[str] | None:
    """Return the selected ids as a set."""
    if isinstance(selected_ids, str):
        raise ParameterError(
            f"selected_ids: expected a collection of ids, found the single str {selected_ids!r}"
        )
    return None if selected_ids is None else frozenset(selected_ids)
