"""Screening with torch, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

__all__ = ["Torch"]

_PAIRS = 1 << 24
"""Scores in a block: 64 MiB of float32."""


class Torch:
    """Streams float16 blocks to a device and multiplies them there in float32.

    Args:
        device: A torch device: "cpu", "cuda", "cuda:1" ...
    """

    def __init__(self, device: str = "cpu"):
        self.device = device

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
            threads: Number of threads of the canonical scores; torch uses its own setting.
            progress: Called with the number of rows done.
        """
        torch = require("torch", "search with the torch backend", extra="gpu")
        queries = _arrays.float32_rows("queries", queries)
        k, best = _arrays.at_least_one("k", k), empty(len(queries))
        screen = Screen(queries)
        rows = max(256, min(1 << 16, _PAIRS // max(len(queries), 1)))
        with torch.inference_mode(), _full_precision(torch):
            scaled = torch.from_numpy(screen.queries).to(self.device)
            for first, block in blocks(database, rows):
                part = None if selected is None else selected[first : first + len(block)]
                least = best.scores[:, -1] if best.scores.shape[1] >= k else np.full(len(queries), -np.inf)
                owners, kept = self._candidates(
                    torch, screen, scaled, block, first, part, least.astype(np.float32), k
                )
                found = best_of(queries, block, owners, kept, k, threads)
                best = merge(
                    best, found._replace(indices=np.where(found.indices < 0, -1, found.indices + first)), k
                )
                if progress is not None:
                    progress(first + len(block))
        return best

    def _candidates(
        self,
        torch: Any,
        screen: Screen,
        scaled: Any,
        block: NDArray[np.float16],
        first: int,
        selected: NDArray[np.bool_] | None,
        least: NDArray[np.float32],
        k: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (query, row of the block) of all pairs that could be among the best k, in that order."""
        with np.errstate(invalid="ignore"):
            values = torch.from_numpy(np.array(block)).to(self.device).float()
        # The factor covers the rounding of the sum of squares and of the root, for rows this short.
        norms = torch.linalg.vector_norm(values, dim=1) * 1.01
        wanted = None if selected is None else torch.from_numpy(np.array(selected)).to(self.device)
        finite = torch.isfinite(norms) if wanted is None else torch.isfinite(norms) | ~wanted
        if not bool(finite.all()):
            row = int(torch.nonzero(~finite)[0])
            column = int(np.flatnonzero(~np.isfinite(block[row]))[0])
            raise NonFiniteError(
                f"database: row {first + row}, column {column} is {block[row, column]}; all values must be "
                f"finite (drop or repair the row)"
            )
        if wanted is not None:
            norms, values = torch.where(wanted, norms, 0.0), torch.where(wanted[:, None], values, 0.0)
        scores = scaled @ values.T
        errors = (
            torch.from_numpy(screen.slopes).to(self.device)[:, None] * norms.double()[None] + screen.floor
        )
        upper = scores.double() + errors
        limits = torch.from_numpy(screen.limits(least)).to(self.device)
        searched = len(block) if wanted is None else int(wanted.sum())
        if searched >= k:
            lower = scores.double() - errors
            if wanted is not None:
                lower[:, ~wanted] = -torch.inf
            # k rows have an exact product of at least this, and so a canonical score of at least its
            # rounding.
            known = torch.topk(lower, k, dim=1, sorted=False).values.amin(dim=1).cpu().numpy()
            with np.errstate(over="ignore"):
                rounded = np.ldexp(known, screen.exponents).astype(np.float32)
            limits = torch.maximum(limits, torch.from_numpy(screen.limits(rounded)).to(self.device))
        kept = upper >= limits[:, None]
        if wanted is not None:
            kept &= wanted[None]
        pairs = torch.nonzero(kept).cpu().numpy()
        return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


@contextmanager
def _full_precision(torch: Any) -> Iterator[None]:
    """Products in true float32: the bound does not hold for TF32 or bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
