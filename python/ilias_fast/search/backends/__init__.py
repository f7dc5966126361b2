"""Who screens a search. Every backend gives the certified answer of `ilias_fast.kernels.topk`, bit for bit.

| backend | screens |
|---|---|
| `Cpu` | in the core: int8 or float32, whatever is faster |
| `Torch` | in float32 on any torch device, block by block; the database is streamed to it |
| `Faiss` | in a faiss index of float32 vectors, as deep as it takes to prove the answer |

A backend keeps every row that could be among the best k by a proven bound of the screen's error; the core
gives these rows their canonical scores. The bounds are in docs/numerics.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast.errors import ParameterError
from ilias_fast.kernels import TopK, topk
from ilias_fast.store import GlobalStore

__all__ = ["Backend", "BackendName", "Cpu", "Faiss", "Torch", "backend_of"]

BackendName = Literal["cpu", "torch", "faiss"]


@runtime_checkable
class Backend(Protocol):
    """Finds the best rows of a part of a database."""

    def topk(
        self,
        queries: NDArray[np.float32],
        database: ArrayLike | GlobalStore,
        k: int,
        selected: NDArray[np.bool_] | None = None,
        threads: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> TopK:
        """Return what `ilias_fast.kernels.topk` returns.

        Args:
            queries: float32 [Q, d].
            database: float16 [n, d], or a store.
            k: How many results per query.
            selected: bool [n].
            threads: Number of threads; None for all cores.
            progress: Called with the number of rows done.
        """
        ...


class Cpu:
    """The core."""

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
            threads: Number of threads; None for all cores.
            progress: Called with the number of rows done.
        """
        return topk(queries, database, k, selected=selected, threads=threads, progress=progress)


from ilias_fast.search.backends.faiss import Faiss  # noqa: E402
from ilias_fast.search.backends.torch import Torch  # noqa: E402


def backend_of(backend: Backend | BackendName) -> Backend:
    """Return the backend of that name, with its defaults, or the backend given.

    Args:
        backend: A name or a backend.

    Raises:
        ParameterError: There is no such backend.
    """
    if isinstance(backend, str):
        named: dict[str, Callable[[], Backend]] = {"cpu": Cpu, "torch": Torch, "faiss": Faiss}
        _arrays.choice("backend", backend, tuple(named))
        return named[backend]()
    if not isinstance(backend, Backend):
        raise ParameterError(f"backend: expected a name or a backend, found {backend!r}")
    return backend
