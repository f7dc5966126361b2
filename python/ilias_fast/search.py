"""Search of stores: exact top-k over several databases, alpha query expansion, adaptation, id selection.

Several databases are searched as one sequence of rows (ILIAS: the positives, then the distractor shards), and
equal scores are ordered by position in that sequence. Scores are canonical (`ilias_fast.kernels.topk`): how
the rows are cut into stores, shards and blocks never changes the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast.errors import NonFiniteError, ParameterError, ShapeError
from ilias_fast.kernels import TopK, topk
from ilias_fast.run import Run
from ilias_fast.store import GlobalStore, check_compatible, is_selected

__all__ = ["DescriptorAdapter", "search"]

Mode = Literal["paper", "official"]
Progress = Callable[[int, int], object]

_ADAPTED_BYTES = 64 << 20
"""Size of the float32 blocks in which a database is adapted."""

_TINY = 1e-12
"""Smallest norm a vector is divided by (as in the official code): zero vectors stay zero."""


class DescriptorAdapter(Protocol):
    """What `search` needs of an adaptation; `ilias_fast.adapt.LinearAdapter` is one."""

    def apply(self, vectors: ArrayLike) -> NDArray[Any]:
        """Map float32 [m, d] to float32 [m, d'], row by row.

        Args:
            vectors: float32 [m, d].
        """
        ...


class _Sequence:
    """Stores as one sequence of rows, some of them left out, optionally adapted while they are read."""

    def __init__(
        self,
        stores: Sequence[GlobalStore],
        selected: Collection[str] | None,
        adapter: DescriptorAdapter | None,
        threads: int | None,
    ):
        self.stores = stores
        self.starts = np.concatenate([[0], np.cumsum([len(store) for store in stores])]).astype(np.int64)
        self.adapter = adapter
        self.threads = threads
        self.masks: list[NDArray[np.bool_] | None] = [None] * len(stores)
        if selected is not None:
            self.masks = [
                np.fromiter((is_selected(name, selected) for name in store.ids), np.bool_, len(store))
                for store in stores
            ]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def topk(self, queries: NDArray[np.float32], k: int, progress: Callable[[int], object] | None) -> TopK:
        """Search all rows."""
        best = TopK(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64))
        for start, part in self._parts(queries, k, progress):
            scores = np.concatenate([best.scores, part.scores], axis=1)
            indices = np.concatenate([best.indices, part.indices + start], axis=1)
            # Rows of `part` come after those of `best`, and both are in order: stable sorting keeps ties so.
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            best = TopK(np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1))
        return best

    def _parts(
        self, queries: NDArray[np.float32], k: int, progress: Callable[[int], object] | None
    ) -> Iterator[tuple[int, TopK]]:
        """Yield (first row, its best rows) for consecutive parts of the sequence."""
        for store, start, mask in zip(self.stores, self.starts.tolist(), self.masks, strict=False):
            if self.adapter is None:
                report = None if progress is None else _shifted(progress, start)
                yield start, topk(queries, store, k, selected=mask, threads=self.threads, progress=report)
                continue
            for first, vectors in store.shards():
                rows = max(1, _ADAPTED_BYTES // (4 * max(vectors.shape[1], queries.shape[1], 1)))
                for at in range(0, len(vectors), rows):
                    row = start + first + at
                    adapted = self.adapt(vectors[at : at + rows], row)
                    part = None if mask is None else mask[first + at : first + at + len(adapted)]
                    report = None if progress is None else _shifted(progress, row)
                    yield row, TopK(*_core.topk_float32(queries, adapted, k, part, self.threads, report))

    def adapt(self, vectors: NDArray[Any], first: int | None = None) -> NDArray[np.float32]:
        """Return vectors as float32, adapted if there is an adapter."""
        wide = vectors.astype(np.float32)
        if self.adapter is None:
            return wide
        if first is not None and not np.isfinite(wide).all():
            row, column = np.argwhere(~np.isfinite(wide))[0].tolist()
            raise NonFiniteError(
                f"database: row {first + row}, column {column} is {wide[row, column]}; all values must be "
                f"finite (drop or repair the row)"
            )
        return _arrays.float32_rows("adapted vectors", self.adapter.apply(wide))

    def _split(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[GlobalStore, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (store, positions in `rows`, rows of the store) for each store that occurs."""
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for owner in np.unique(owners).tolist():
            positions = np.flatnonzero(owners == owner)
            yield self.stores[owner], positions, rows[positions] - self.starts[owner]

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows of the sequence as stored, float32 [m, d]."""
        vectors = np.empty((len(rows), self.stores[0].dim), np.float32)
        for store, positions, local in self._split(rows):
            vectors[positions] = store.rows(local)
        return vectors

    def id_of(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the ids of rows of the sequence."""
        names = np.empty(len(rows), object)
        for store, positions, local in self._split(rows):
            names[positions] = store.id_of(local)
        return names.tolist()


def _shifted(progress: Callable[[int], object], start: int) -> Callable[[int], object]:
    return lambda done: progress(start + done)


def _expanded(
    queries: NDArray[np.float32], database: _Sequence, neighbours: TopK, alpha: float, mode: Mode
) -> NDArray[np.float32]:
    """Return the expanded queries, of unit norm."""
    count = neighbours.indices.shape[1]
    expanded = queries.astype(np.float64)
    block = max(1, 16384 // max(count, 1))
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        similarities = neighbours.scores[rows].astype(np.float64)
        vectors = database.gather(neighbours.indices[rows].reshape(-1))
        if mode == "official":
            weighted = database.adapt(similarities.reshape(-1, 1).astype(np.float32) * vectors)
            terms = weighted.astype(np.float64).reshape(*similarities.shape, -1)
        else:
            terms = database.adapt(vectors).astype(np.float64).reshape(*similarities.shape, -1)
            with np.errstate(over="ignore", invalid="ignore"):  # the norms below tell
                terms *= (np.maximum(similarities, 0.0) ** alpha)[..., None]
        with np.errstate(over="ignore", invalid="ignore"):
            expanded[rows] += terms.sum(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(expanded, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise NonFiniteError(
            f"queries: row {int(np.argmin(np.isfinite(norms)))} exceeds float64 when it is expanded with "
            f"alpha {alpha} (use a smaller alpha, or descriptors of unit length)"
        )
    unit: NDArray[np.float64] = expanded / np.maximum(norms, _TINY)
    return unit.astype(np.float32)


def _checked_stores(database: GlobalStore | Sequence[GlobalStore], force: bool) -> list[GlobalStore]:
    stores = list(database) if isinstance(database, Sequence) else [database]
    for store in stores:
        if not isinstance(store, GlobalStore):
            raise ParameterError(f"database: expected global stores, found {store!r}")
    if not stores:
        raise ParameterError("database: expected at least one store, found none")
    for store in stores[1:]:
        check_compatible(stores[0], store, force=force)
    return stores


def search(
    queries: GlobalStore | tuple[Sequence[str], ArrayLike],
    database: GlobalStore | Sequence[GlobalStore],
    k: int = 1000,
    *,
    query_expansion: int = 0,
    alpha: float = 1.0,
    mode: Mode = "paper",
    adapter: DescriptorAdapter | None = None,
    selected_ids: Collection[str] | None = None,
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
    searched as they are, without rounding to float16: exact for the numbers the adapter returned (whose
    last bits may depend on NumPy's matrix product).

    Args:
        queries: A store, or (ids, float32 [Q, d]).
        database: A store, or several that are searched as one sequence; of one dimension and, unless `force`,
            of compatible provenance.
        k: How many results per query, at least 1.
        query_expansion: Number of neighbours n; 0 for none.
        alpha: Exponent of the weights, at least 0 and finite; 1 in the ILIAS paper.
        mode: "paper" or "official"; without adapter and negative similarities they are the same at alpha 1.
        adapter: An adaptation to float32 descriptors.
        selected_ids: Search only positives and these distractors (see `ilias_fast.store.is_selected`); None
            searches everything.
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

    Complexity: one pass over the database, two with query expansion; memory O(Q (d + k)).
    """
    k, neighbours = _arrays.at_least_one("k", k), _arrays.at_least("query_expansion", query_expansion, 0)
    threads = _arrays.threads(threads)
    if mode not in ("paper", "official"):
        raise ParameterError(f"mode: expected 'paper' or 'official', found {mode!r}")
    alpha = _arrays.real("alpha", alpha)
    if not 0 <= alpha < np.inf or (mode == "official" and alpha != 1):
        expected = "1 in official mode" if mode == "official" else "a finite number, at least 0"
        raise ParameterError(f"alpha: expected {expected}, found {alpha}")
    stores = _checked_stores(database, force)
    if isinstance(queries, GlobalStore):
        check_compatible(queries, stores[0], force=force)
        ids: Sequence[str] = list(queries.ids)
        vectors = queries.rows(np.arange(len(queries), dtype=np.int64)).astype(np.float32)
    elif not isinstance(queries, Sequence) or len(queries) != 2:
        raise ParameterError(f"queries: expected a global store or (ids, vectors), found {queries!r}")
    else:
        ids, vectors = list(queries[0]), _arrays.float32_rows("queries", queries[1])
    if len(ids) != len(vectors):
        raise ShapeError(f"queries: expected one id a row, found {len(ids)} ids and {len(vectors)} rows")
    if vectors.shape[1] != stores[0].dim:
        raise ShapeError(
            f"queries: expected {stores[0].dim} columns, as {stores[0]!r}, found {vectors.shape[1]}"
        )
    if selected_ids is not None:
        if isinstance(selected_ids, str):
            raise ParameterError(
                f"selected_ids: expected a collection of ids, found the single str {selected_ids!r}"
            )
        selected_ids = frozenset(selected_ids)

    sequence = _Sequence(stores, selected_ids, adapter, threads)
    passes = 2 if neighbours else 1
    report = None if progress is None else _totalled(progress, 0, passes * len(sequence))
    embedded = sequence.adapt(vectors)
    if neighbours:
        first = sequence.topk(embedded, neighbours, report)
        embedded = _expanded(embedded, sequence, first, alpha, mode)
        report = None if progress is None else _totalled(progress, len(sequence), passes * len(sequence))
    found = sequence.topk(embedded, k, report)
    provenance = {
        "method": "search",
        "k": k,
        "queries": str(queries.path) if isinstance(queries, GlobalStore) else "array",
        "database": [{"path": str(store.path), "checksum": store.checksum} for store in stores],
        "query_expansion": None if not neighbours else {"n": neighbours, "alpha": float(alpha), "mode": mode},
        "adapter": None if adapter is None else getattr(adapter, "fingerprint", type(adapter).__name__),
        "selected_ids": None if selected_ids is None else len(selected_ids),
    }
    return Run.from_topk(ids, found.scores, found.indices, sequence.id_of, provenance)


def _totalled(progress: Progress, start: int, total: int) -> Callable[[int], object]:
    return lambda done: progress(start + done, total)
