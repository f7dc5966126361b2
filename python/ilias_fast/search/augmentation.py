"""Database-side augmentation: every row is mixed with its nearest neighbours, once for all searches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.errors import NonFiniteError, ParameterError
from ilias_fast.kernels import topk
from ilias_fast.store import GlobalStore

__all__ = ["augment"]

_TINY = 1e-12
_BLOCK = 4096
"""Rows that are augmented at a time,"""
_RESULTS = 1 << 24
"""or fewer, where they have so many neighbours together."""


def augment(
    source: GlobalStore,
    path: StrPath,
    *,
    neighbours: int = 10,
    alpha: float = 1.0,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> GlobalStore:
    """Derive a store of augmented rows: `x' = (x + sum_i max(s_i, 0)^alpha x_i) / norm`.

    The x_i are the `neighbours` rows most similar to x, itself left out, and s_i = x . x_i. The sum is
    taken in float64, divided by its norm (but not by less than 1e-12) and rounded to float16.

    Args:
        source: The database.
        path: Where the derived store goes.
        neighbours: How many, at least 1.
        alpha: Exponent of the weights, at least 0 and finite.
        overwrite: Replace a store that is there.
        threads: Number of threads; None for all cores.
        progress: Called with (rows done, rows in all).

    Returns:
        The derived store, opened; its parent is `source`.

    Raises:
        ParameterError: A parameter is out of range.
        StoreExistsError, StoreLockedError, StorageError: The store cannot be written.
        NonFiniteError: A row holds NaN or an infinity, or exceeds float64 when it is augmented.

    Complexity: O(n^2 d), a search with every row; memory for a block of 4,096 rows, fewer of very many
        neighbours, and at most 2^24 results.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], [[1.0, 0.0], [0.6, 0.8]])
        >>> augmented = augment(GlobalStore.open("vectors"), "augmented", neighbours=1)
        >>> augmented.rows([0]).round(2).tolist()
        [[0.93994140625, 0.330078125]]
    """
    count, alpha = _arrays.at_least_one("neighbours", neighbours), _arrays.real("alpha", alpha)
    if not 0 <= alpha < np.inf:
        raise ParameterError(f"alpha: expected a finite number, at least 0, found {alpha}")
    parameters = {"augmentation": {"neighbours": count, "alpha": alpha}}
    before = source.provenance.get("adaptation", [])
    steps = [*(before if isinstance(before, list) else [before]), parameters]
    with GlobalStore.create(
        path,
        dim=source.dim,
        provenance={**source.provenance, "adaptation": steps},
        parent=source,
        parameters=parameters,
        overwrite=overwrite,
    ) as writer:
        block = max(1, min(_BLOCK, _RESULTS // min(count + 1, max(len(source), 1))))
        for start in range(0, len(source), block):
            rows = np.arange(start, min(start + block, len(source)), dtype=np.int64)
            vectors = source.rows(rows).astype(np.float32)
            found = topk(vectors, source, count + 1, threads=threads)
            # A row need not be its own nearest neighbour; without it, the last of count + 1 is one too many.
            others = found.indices != rows[:, None]
            others &= np.cumsum(others, axis=1) <= count
            mixed = vectors.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # the lengths below tell
                weights = np.where(others, np.maximum(found.scores.astype(np.float64), 0.0) ** alpha, 0.0)
                for rank in range(found.indices.shape[1]):
                    mixed += weights[:, rank, None] * source.rows(found.indices[:, rank])
                lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
            if not np.isfinite(lengths).all():
                raise NonFiniteError(
                    f"source: row {start + int(np.argmin(np.isfinite(lengths)))} exceeds float64 when it is "
                    f"augmented with alpha {alpha} (use a smaller alpha, or descriptors of unit length)"
                )
            mixed /= np.maximum(lengths, _TINY)
            writer.append(source.id_of(rows), mixed.astype(np.float16))
            if progress is not None:
                progress(int(rows[-1]) + 1, len(source))
        writer.commit()
    return GlobalStore.open(path)
