"""Training vectors, block by block: of an array, a global store, or a local store of float16 descriptors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast.errors import IncompatibleStoreError, NonFiniteError, ShapeError
from ilias_fast.store import BinaryStore, GlobalStore, LocalStore

__all__ = ["Blocks", "Moments", "Vectors", "moments"]

Vectors: TypeAlias = "ArrayLike | GlobalStore | LocalStore"
"""What an adapter is fitted on: float [n, D], or a store of float16 vectors, which is streamed."""

_BLOCK_BYTES = 16 << 20
_IMAGES = 64


class Blocks:
    """Training vectors in blocks of about 16 MiB of float32.

    Args:
        name: The argument, for errors.
        source: Where the vectors are.
        at_least: How many there must be.

    Attributes:
        count: Vectors.
        dim: Numbers a vector.

    Raises:
        ShapeError: Not a matrix, or fewer than `at_least` rows, or no columns.
        NonFiniteError: A value is NaN or infinite.
        IncompatibleStoreError: A store of binary codes.
    """

    def __init__(self, name: str, source: Vectors, at_least: int) -> None:
        if isinstance(source, BinaryStore) or (isinstance(source, LocalStore) and not source.dim):
            raise IncompatibleStoreError(f"{name}: expected a store of float16 vectors, found {source!r}")
        self._source: GlobalStore | LocalStore | NDArray[np.float32]
        self.count: int
        self.dim: int
        if isinstance(source, (GlobalStore, LocalStore)):
            self._source = source
            self.dim = source.dim
            self.count = len(source) if isinstance(source, GlobalStore) else source.info().descriptors or 0
        else:
            self._source = rows = _arrays.float32_rows(name, source, "n, d")
            self.count, self.dim = rows.shape
            finite = np.isfinite(rows).all(axis=1)
            if not finite.all():
                raise NonFiniteError(f"{name}: row {int(np.argmin(finite))} holds NaN or an infinity")
        if self.count < at_least or self.dim < 1:
            raise ShapeError(
                f"{name}: expected at least {at_least} vectors to learn from, found {[self.count, self.dim]}"
            )

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield float32 [m, dim], in order."""
        source = self._source
        if isinstance(source, LocalStore):
            for start in range(0, len(source), _IMAGES):
                images = [source.image(row) for row in range(start, min(start + _IMAGES, len(source)))]
                parts = [image.descriptors for image in images if image.descriptors is not None]
                yield np.concatenate([*parts, np.empty((0, self.dim), np.float16)]).astype(np.float32)
            return
        size = max(1, _BLOCK_BYTES // (4 * self.dim))
        for start in range(0, self.count, size):
            rows = np.arange(start, min(start + size, self.count))
            yield source.rows(rows).astype(np.float32) if isinstance(source, GlobalStore) else source[rows]

    def rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some vectors, float32 [m, dim].

        Args:
            rows: int64 [m], ascending.
        """
        source = self._source
        if isinstance(source, GlobalStore):
            return source.rows(rows).astype(np.float32)
        if isinstance(source, np.ndarray):
            return source[rows]
        found, start = [np.empty((0, self.dim), np.float32)], 0
        for block in self:
            low, high = np.searchsorted(rows, [start, start + len(block)])
            found.append(block[rows[low:high] - start])
            start += len(block)
        return np.concatenate(found)

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        """Return a random sample, in order; all vectors if there are no more.

        Args:
            count: How many.
            seed: Of the draw.
        """
        if self.count <= count:
            return np.concatenate(list(self))
        chosen = np.random.default_rng(seed).permutation(self.count)[:count]
        return self.rows(np.sort(chosen).astype(np.int64))


class Moments:
    """Mean and second moments of vectors seen once; float64.

    They are kept relative to the mean of the first block, so that a common direction costs no digits.

    Attributes:
        count: Vectors seen.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._shift: NDArray[np.float64] | None = None
        self._sum = np.zeros(dim)
        self._products = np.zeros((dim, dim))

    def add(self, rows: NDArray[np.floating]) -> None:
        """Take in vectors.

        Args:
            rows: float [m, dim].
        """
        if not len(rows):
            return
        if self._shift is None:
            self._shift = rows.mean(axis=0, dtype=np.float64)
        shifted = rows - self._shift
        self.count += len(rows)
        self._sum += shifted.sum(axis=0)
        self._products += shifted.T @ shifted

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean [dim]."""
        assert self._shift is not None
        mean: NDArray[np.float64] = self._shift + self._sum / self.count
        return mean

    def about(self, centre: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of (x - centre)(x - centre)^T, [dim, dim], symmetric.

        Args:
            centre: float64 [dim].
        """
        assert self._shift is not None
        moved, total = self._shift - centre, self._sum / self.count
        second: NDArray[np.float64] = (
            self._products / self.count
            + np.outer(total, moved)
            + np.outer(moved, total)
            + np.outer(moved, moved)
        )
        return (second + second.T) / 2


def moments(
    blocks: Blocks,
    *,
    prepare: Callable[[NDArray[np.float32]], NDArray[np.floating]] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Moments:
    """Take the moments of all vectors in one pass.

    Args:
        blocks: The vectors.
        prepare: What is done to a block first.
        progress: Called with (vectors done, vectors in all).
    """
    found, done = Moments(blocks.dim), 0
    for rows in blocks:
        found.add(rows if prepare is None else prepare(rows))
        done += len(rows)
        if progress is not None:
            progress(done, blocks.count)
    return found
