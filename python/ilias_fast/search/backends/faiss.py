"""Screening with faiss on the CPU.

On a GPU, use torch: in what precision faiss multiplies there is not promised, and so nothing can be proven.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._extras import require
from ilias_fast.errors import NonFiniteError
from ilias_fast.kernels import TopK
from ilias_fast.search.backends.bounds import Screen, best_of, blocks
from ilias_fast.search.ranking import empty, merge
from ilias_fast.store import GlobalStore

__all__ = ["Faiss"]

_BYTES = 256 << 20
"""Size of the float32 blocks that are indexed and searched one after the other."""


class Faiss:
    """Searches float32 copies of blocks with `IndexFlatIP`, deep enough to prove that nothing is missing.

    A flat index gives the k' best products by float32 sums, so a row it does not return has a float32
    product of at most
    the last one returned. If that, with the error of float32 sums, is below the canonical score that k
    returned rows reach,
    the answer is certified; otherwise k' is doubled. Quantised and approximate indices allow no such proof
    and are not offered.
    """

    def topk(
        self,
        queries: NDArray[np.float32],
        database: ArrayLike | GlobalStore,
        k: int,
        selected: NDArray[np.bool_] | None = None,
        threads: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> TopK:
        """See `Backend.topk`.

        Args:
            queries: float32 [Q, d].
            database: float16 [n, d], or a store.
            k: How many results per query.
            selected: bool [n].
            threads: Number of threads of the canonical scores; faiss uses its own setting.
            progress: Called with the number of rows done.
        """
        faiss = require("faiss", "search with the faiss backend", extra="faiss")
        queries = _arrays.float32_rows("queries", queries)
        k, best = _arrays.at_least_one("k", k), empty(len(queries))
        screen = Screen(queries)
        rows = max(1, _BYTES // (4 * max(queries.shape[1], 1)))
        for first, block in blocks(database, rows):
            numbers = (
                np.arange(len(block))
                if selected is None
                else np.flatnonzero(selected[first : first + len(block)])
            )
            chosen = np.ascontiguousarray(block[numbers])
            if len(chosen):
                found = self._block(faiss, screen, queries, chosen, first, numbers, k, threads)
                best = merge(best, found, k)
            if progress is not None:
                progress(first + len(block))
        return best

    def _block(
        self,
        faiss: Any,
        screen: Screen,
        queries: NDArray[np.float32],
        block: NDArray[np.float16],
        first: int,
        numbers: NDArray[np.int64],
        k: int,
        threads: int | None,
    ) -> TopK:
        wide = block.astype(np.float32)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide, dtype=np.float64)) * 1.01
        if not np.isfinite(norms).all():
            row = int(np.argmin(np.isfinite(norms)))
            column = int(np.flatnonzero(~np.isfinite(block[row]))[0])
            raise NonFiniteError(
                f"database: row {first + int(numbers[row])}, column {column} is {block[row, column]}; all "
                f"values must be finite (drop or repair the row)"
            )
        k = min(k, len(block))
        best = TopK(np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64))
        if not len(queries) or not queries.shape[1]:
            best.scores[:], best.indices[:] = 0.0, first + numbers[:k]
            return best
        index = faiss.IndexFlatIP(queries.shape[1])
        index.add(wide)
        error = screen.error(float(norms.max(initial=0.0)))
        open_queries, depth = np.arange(len(queries)), min(len(block), k + 64)
        while len(open_queries):
            products, rows = index.search(screen.queries[open_queries], depth)
            owners = np.repeat(np.arange(len(open_queries)), depth)
            order = np.lexsort((rows.reshape(-1), owners))
            found = best_of(
                np.ascontiguousarray(queries[open_queries]),
                block,
                owners,
                rows.reshape(-1)[order],
                k,
                threads,
            )
            least = np.full(len(queries), -np.inf, np.float32)
            least[open_queries] = found.scores[:, -1]
            limits = screen.limits(least)[open_queries]
            reached = products[:, -1].astype(np.float64) + error[open_queries]
            proven = (reached < limits) if depth < len(block) else np.ones(len(open_queries), np.bool_)
            done = open_queries[proven]
            best.scores[done] = found.scores[proven]
            best.indices[done] = first + numbers[found.indices[proven]]
            open_queries, depth = open_queries[~proven], min(len(block), 2 * depth)
        return best
