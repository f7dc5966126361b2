"""Checking the bytes of a store, and removing what killed writers left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ilias_fast import _arrays, _core
from ilias_fast._files import StrPath

__all__ = ["Damage", "VerifyReport", "gc", "verify"]


@dataclass(frozen=True)
class Damage:
    """One damaged stretch of a shard or of a file derived from it.

    Attributes:
        file: File name inside `shards/`.
        tensors: The tensors in the stretch ("header" for the header), as far as can still be told.
        start: First byte.
        end: One past the last byte.
        detail: What was expected and found.

    Examples:
        >>> from pathlib import Path
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> shard = next(Path("vectors/shards").iterdir())
        >>> _ = shard.write_bytes(shard.read_bytes()[:-1] + b"?")
        >>> [damage.file == shard.name for damage in verify("vectors").damages]
        [True]
    """

    file: str
    tensors: tuple[str, ...]
    start: int
    end: int
    detail: str

    def __str__(self) -> str:
        where = f" ({', '.join(self.tensors)})" if self.tensors else ""
        return f"shards/{self.file}: bytes {self.start} to {self.end}{where}: {self.detail}"


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        damages: Damaged stretches in row order; empty for a healthy store.
        leftovers: Files no manifest lists, relative to the store: remains of killed (or running) writers,
            harmless, removed by `gc`.
        shards: Number of shards checked.
        bytes: Number of bytes whose checksum was computed.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> report = verify("vectors")
        >>> report.damages, report.leftovers, report.shards
        ((), (), 1)
    """

    damages: tuple[Damage, ...]
    leftovers: tuple[str, ...]
    shards: int
    bytes: int

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages


def verify(
    path: StrPath,
    *,
    quick: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> VerifyReport:
    """Check every byte of a store, also of one too damaged to open.

    Args:
        path: The folder.
        quick: Check only the manifest and the shards' sizes and headers, without reading their rows.
        threads: Number of threads; None for all cores.
        progress: Called now and then with (bytes checked, bytes in all).

    Raises:
        CorruptStoreError: The manifest itself is damaged.
        NotAStoreError: There is no store.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> verify("vectors").damages, verify("vectors", quick=True).shards
        ((), 1)
    """
    total = 0 if quick or progress is None else _core.committed_bytes(Path(path))
    # A store overwritten meanwhile is checked again from the start, so more bytes than it had may be read.
    report = None if progress is None else lambda done: progress(min(done, total), total)
    damages, leftovers, shards, size = _core.verify_store(Path(path), quick, _arrays.threads(threads), report)
    return VerifyReport(
        damages=tuple(
            Damage(file, tuple(tensors), start, end, detail) for file, tensors, start, end, detail in damages
        ),
        leftovers=tuple(leftovers),
        shards=shards,
        bytes=size,
    )


def gc(path: StrPath) -> tuple[str, ...]:
    """Remove the leftovers `verify` lists; return their names, relative to the store.

    Args:
        path: The folder.

    Raises:
        NotAStoreError: There is no store.
        StoreLockedError: A writer has the store open; its uncommitted shards are not leftovers.
        CorruptStoreError, StorageError: The manifest is damaged; the operating system refused.

    Examples:
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg"], [[1.0, 0.0]])
        >>> gc("vectors")
        ()
    """
    return tuple(_core.gc_store(Path(path)))
