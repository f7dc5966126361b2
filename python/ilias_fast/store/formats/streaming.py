"""Files of vectors as one sequence of rows that is read front to back, without a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import StrPath
from ilias_fast.errors import FileFormatError, IncompatibleStoreError, NonFiniteError
from ilias_fast.store.formats.base import ReadOptions
from ilias_fast.store.formats.prefetch import prefetched
from ilias_fast.store.formats.registry import format_of
from ilias_fast.store.formats.target import SourceFile
from ilias_fast.store.formats.templates import expand

__all__ = ["FeatureFiles", "Features"]

_BLOCK_BYTES = 128 << 20


class Features(NamedTuple):
    """Consecutive rows of feature files.

    Attributes:
        start: The first of them, counted from the first file's first row.
        ids: One a row.
        vectors: float16 [m, d], overwritten by the next.
    """

    start: int
    ids: list[str]
    vectors: NDArray[np.float16]


class FeatureFiles:
    """Files of vectors, in order, as a database that can be searched once without a store.

    float32 features are rounded to float16, as an import does. Ids are not checked against each other.

    Attributes:
        path: The source as it was given.
        dim: Numbers a vector.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.search import search
        >>> np.save("vectors.npy", np.eye(3, dtype=np.float32))
        >>> files = FeatureFiles("vectors.npy", number_rows=True)
        >>> search((["q.jpg"], [[0.0, 1.0, 0.5]]), files, k=2)["q.jpg"].ids
        ['1', '2']
    """

    def __init__(self, source: StrPath, *, number_rows: bool = False, threads: int | None = None) -> None:
        """Look at the files.

        Args:
            source: A file of a format that `import_store` knows, or a template of such with `{idx}`.
            number_rows: Take the row numbers for ids where there are none.
            threads: Number of threads that decode; None for all.

        Raises:
            ParameterError: A template has a gap or fits nothing, or the format is not known.
            FileFormatError: A file is damaged, or does not hold vectors.
            IncompatibleStoreError: The files differ in their dimension.
            StorageError, MissingExtraError: A file cannot be read.
        """
        paths = expand(source)
        self.path: Path = Path(source)
        self._format = format_of(paths[0], None)
        self._reading = ReadOptions(number_rows=number_rows and len(paths) == 1, threads=threads)
        self._files = []
        for path in paths:
            with self._format.open(path, self._reading) as reader:
                file = SourceFile(path, reader.kind, reader.rows, reader.width, reader.dtype)
            if file.kind != "global":
                raise FileFormatError(f"{path}: expected vectors of floats, found {file.kind} rows")
            self._files.append(file)
            if file.width != self._files[0].width:
                raise IncompatibleStoreError(
                    f"{path}: expected features of dimension {self._files[0].width} as in {paths[0].name}, "
                    f"found {file.width}"
                )
        self.dim: int = self._files[0].width

    def __len__(self) -> int:
        return sum(file.rows for file in self._files)

    def __repr__(self) -> str:
        return f"FeatureFiles({str(self.path)!r}: {len(self)} rows, {self.dim} numbers each)"

    def provenance(self) -> dict[str, object]:
        """Return what tells the files from others."""
        return {"path": str(self.path), "files": [file.identity() for file in self._files]}

    def blocks(self) -> Iterator[Features]:
        """Yield all rows, in blocks of up to 128 MiB, read ahead by a thread.

        Raises:
            FileFormatError: A file is damaged, or has changed.
            NonFiniteError: A number is beyond float16; the message names file and row.
            StorageError: A file cannot be read.
        """
        rows = max(1, _BLOCK_BYTES // (2 * self.dim))
        buffer = np.empty((min(rows, max(1, len(self))), self.dim), np.float16)
        names: list[str] = []
        start = 0
        for file, first, ids, values in self._read():
            at = 0
            while at < len(ids):
                count = min(len(ids) - at, len(buffer) - len(names))
                part = buffer[len(names) : len(names) + count]
                with np.errstate(over="ignore"):
                    np.copyto(part, values[at : at + count], casting="same_kind")
                if values.dtype != np.float16:
                    _check_rounded(file, first + at, part)
                names += ids[at : at + count]
                at += count
                if len(names) == len(buffer):
                    yield Features(start, names, buffer)
                    start, names = start + len(buffer), []
        if names:
            yield Features(start, names, buffer[: len(names)])

    def _read(self) -> Iterator[tuple[Path, int, list[str], NDArray[np.floating]]]:
        for file in self._files:
            with (
                self._format.open(file.path, self._reading) as reader,
                prefetched(reader.blocks()) as blocks,
            ):
                if (reader.rows, reader.width, reader.kind) != (file.rows, file.width, file.kind):
                    raise FileFormatError(f"{file.path}: changed while it was read")
                for block in blocks:
                    assert isinstance(block.values, np.ndarray)
                    yield file.path, block.start, block.ids, block.values


def _check_rounded(file: Path, first: int, part: NDArray[np.float16]) -> None:
    finite = np.isfinite(part).all(axis=1)
    if not finite.all():
        raise NonFiniteError(
            f"{file}: row {first + int(np.argmin(finite))} holds NaN, an infinity or a number beyond float16 "
            f"(drop or repair the row)"
        )
