"""Screening with torch, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._devices import device_of
from ilias_fast._extras import require
from ilias_fast.errors import NonFiniteError, ParameterError
from ilias_fast.kernels import TopK
from ilias_fast.search.backends.bounds import Screen, best_of, blocks
from ilias_fast.search.backends.staging import Staged, staged
from ilias_fast.search.ranking import empty, merge
from ilias_fast.store import GlobalStore
from ilias_fast.store.formats.prefetch import prefetched

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Torch"]

_PAIRS = {"cuda": 1 << 27}
"""Scores of a block at a time: 512 MiB of float32 on a GPU,"""
_OTHER_PAIRS = 1 << 24
"""and 64 MiB elsewhere."""
_VALUES = 1 << 27
"""Values of the database in a block."""
_WAITING = 1 << 25
"""Candidates, of 12 bytes each, that may wait for their canonical scores."""
_ROOM = 20
"""Extra roundings in units of 2^-24 ||p|| ||x||: a bound is added to a score and taken away again."""


class Torch:
    """Streams float16 blocks to a device, multiplies them there in float32, keeps what could be the best.

    While a block is searched the next one is read and sent. A block that does not fit the device's memory is
    halved until it does.

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

        Raises:
            ParameterError: The device does not exist, or one row does not fit its memory.
        """
        torch = require("torch", "search with the torch backend", extra="gpu")
        queries = _arrays.float32_rows("queries", queries)
        k = _arrays.at_least_one("k", k)
        device = device_of(self.device, "search with the torch backend")
        with torch.inference_mode(), _full_precision(torch):
            search = _Search(torch, queries, k, device, threads)
            for first, array in blocks(database, 1 << 62):
                part = None if selected is None else selected[first : first + len(array)]
                with prefetched(staged(torch, array, search.rows, device)) as arriving:
                    for block in arriving:
                        search.screen(_arrived(torch, block), first, array, part)
                        if progress is not None:
                            progress(first + block[0] + len(block[1]))
                search.settle(first, array)
        return search.best


class _Search:
    """What is known of the best rows so far: canonical scores, and on the device bounds and candidates."""

    def __init__(
        self, torch: Any, queries: NDArray[np.float32], k: int, device: torch.device, threads: int | None
    ) -> None:
        self._torch, self._queries, self._k, self._threads = torch, queries, k, threads
        self._screen = Screen(queries, _ROOM)
        self._scaled = torch.from_numpy(self._screen.queries).to(device)
        slopes = self._screen.slopes.astype(np.float32)
        self._slopes = torch.from_numpy(np.nextafter(slopes, np.float32(np.inf))).to(device)
        self._known = torch.empty((len(queries), 0), dtype=torch.float32, device=device)
        """The largest k lower bounds on exact products of each query so far, in screen units."""
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._count = 0
        self.best = empty(len(queries))
        pairs = _PAIRS.get(device.type, _OTHER_PAIRS)
        columns = max(1, queries.shape[1])
        self.rows = max(256, min(pairs // max(1, len(queries)), _VALUES // columns))
        """Rows of a block."""

    def screen(
        self, block: tuple[int, Tensor], first: int, array: NDArray[np.float16], selected: Any
    ) -> None:
        """Find the candidates of a block: (its first row in the array, float16 [m, d]).

        Args:
            block: On the device.
            first: Of the array in the database.
            array: Where the block comes from.
            selected: bool [n] for the array, or None.
        """
        at, values = block
        wanted = None
        if selected is not None:
            wanted = self._torch.from_numpy(selected[at : at + len(values)].copy()).to(values.device)
        try:
            self._block(at, values, wanted, first, array)
        except self._torch.OutOfMemoryError as cause:
            if len(values) == 1:
                raise ParameterError(
                    f"device: {len(self._queries)} queries with one row of the database do not fit the "
                    f"memory of {values.device}; search fewer queries at a time, or on the CPU"
                ) from cause
            halves = True
        else:
            halves = False
        if halves:  # outside the handler, which keeps the failed tensors alive
            if values.device.type == "cuda":
                self._torch.cuda.empty_cache()
            middle = len(values) // 2
            self.rows = max(256, min(self.rows, middle))
            for start, part in ((at, values[:middle]), (at + middle, values[middle:])):
                self.screen((start, part), first, array, selected)
        if self._count > _WAITING:
            self._prune()
            if self._count > _WAITING // 2:
                self.settle(first, array)

    def _block(
        self, at: int, values: Tensor, wanted: Tensor | None, first: int, array: NDArray[np.float16]
    ) -> None:
        torch = self._torch
        wide = values.float()
        # The factor covers the rounding of the sum of squares and of the root, for rows this short.
        norms = torch.linalg.vector_norm(wide, dim=1) * 1.01
        finite = torch.isfinite(norms) if wanted is None else torch.isfinite(norms) | ~wanted
        if not bool(finite.all()):
            row = at + int(torch.nonzero(~finite)[0])
            column = int(np.flatnonzero(~np.isfinite(array[row]))[0])
            raise NonFiniteError(
                f"database: row {first + row}, column {column} is {array[row, column]}; all values must be "
                f"finite (drop or repair the row)"
            )
        # One matrix serves for both bounds: first it is score - e, then score + e.
        bounds = (self._scaled @ wide.T).addr_(self._slopes, norms, alpha=-1)
        del wide
        if wanted is not None:
            bounds.masked_fill_(~wanted[None], -torch.inf)
        known = self._known
        if known.shape[1] < self._k:
            best = torch.topk(bounds, min(self._k, len(values)), dim=1, sorted=False).values
            known = torch.topk(
                torch.cat([known, best], 1), min(self._k, known.shape[1] + best.shape[1]), sorted=False
            ).values
            limits = self._limits(known)
        else:
            limits = self._limits(known)
        bounds.addr_(self._slopes, norms, alpha=2)
        owners, rows = torch.nonzero(bounds >= limits[:, None], as_tuple=True)
        upper = bounds[owners, rows]
        if known is self._known and len(owners):
            lower = upper - 2 * self._slopes[owners] * norms[rows]
            known = torch.topk(
                torch.cat([known, self._by_query(owners, lower)], 1), self._k, dim=1, sorted=False
            ).values
        self._known = known
        self._waiting.append(((owners << 40) | (rows + at), upper))
        self._count += len(owners)

    def _by_query(self, owners: Tensor, values: Tensor) -> Tensor:
        """Put values of ascending owners side by side, [Q, most of one query], -inf behind them."""
        torch, queries = self._torch, len(self._queries)
        counts = torch.bincount(owners, minlength=queries)
        starts = counts.cumsum(0) - counts
        table = values.new_full((queries, int(counts.max())), -torch.inf)
        table[owners, torch.arange(len(owners), device=owners.device) - starts[owners]] = values
        return table

    def _limits(self, known: Tensor) -> Tensor:
        """Return what the screen's upper bound must reach for a row to be kept, float32 [Q]."""
        screen = self._screen
        least = np.full(len(self._queries), -np.inf, np.float32)
        if known.shape[1] >= self._k:
            # k rows have an exact product of at least this, so a canonical score of at least its rounding.
            reached = known.amin(dim=1).cpu().numpy().astype(np.float64) - screen.floor
            with np.errstate(over="ignore"):
                least = np.ldexp(reached, screen.exponents).astype(np.float32)
        if self.best.scores.shape[1] >= self._k:
            least = np.maximum(least, self.best.scores[:, self._k - 1])
        exact = screen.limits(least) - screen.floor
        # The smallest float32, if there is no limit: -inf marks rows that are not selected.
        with np.errstate(over="ignore"):
            limits = np.nextafter(exact.astype(np.float32), np.float32(-np.inf))
        found: Tensor = self._torch.from_numpy(np.maximum(limits, np.finfo(np.float32).min)).to(known.device)
        return found

    def _prune(self) -> None:
        """Drop candidates that what came after them has ruled out."""
        if self._waiting:
            limits = self._limits(self._known)
            keys, upper = (self._torch.cat(parts) for parts in zip(*self._waiting, strict=True))
            kept = upper >= limits[keys >> 40]
            self._waiting = [(keys[kept], upper[kept])]
            self._count = len(self._waiting[0][0])

    def settle(self, first: int, array: NDArray[np.float16]) -> None:
        """Give the candidates, rows of this array, their canonical scores.

        Args:
            first: Of the array in the database.
            array: float16 [n, d].
        """
        self._prune()
        if self._count:
            keys = self._waiting[0][0].sort().values.cpu().numpy()
            found = best_of(self._queries, array, keys >> 40, keys & ((1 << 40) - 1), self._k, self._threads)
            indices = np.where(found.indices < 0, -1, found.indices + first)
            self.best = merge(self.best, found._replace(indices=indices), self._k)
        self._waiting, self._count = [], 0


def _arrived(torch: Any, block: Staged) -> tuple[int, Tensor]:
    """Return the block when the device has it."""
    at, values, event = block
    if event is not None:
        stream = torch.cuda.current_stream(values.device)
        stream.wait_event(event)
        values.record_stream(stream)
    return at, values


@contextmanager
def _full_precision(torch: Any) -> Iterator[None]:
    """Products in true float32: the bound does not hold for TF32 or bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
