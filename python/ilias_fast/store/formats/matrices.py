"""The features of one file as a matrix in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import StrPath
from ilias_fast.errors import FileFormatError
from ilias_fast.store.formats.base import ReadOptions
from ilias_fast.store.formats.registry import format_of

__all__ = ["read_matrix"]


def read_matrix(
    path: StrPath,
    *,
    format: str | None = None,  # noqa: A002
    number_rows: bool = False,
    unescape: bool = True,
) -> tuple[list[str], NDArray[np.float32]]:
    """Read the features of a file as they are, without rounding: for queries, which fit in memory.

    Args:
        path: A file of any format that can be imported.
        format: As in `import_store`.
        number_rows: As there.
        unescape: As there.

    Returns:
        The ids, and float32 [n, d].

    Raises:
        FileFormatError: The file is damaged, or holds codes.
        ShapeError, ParameterError, StorageError, MissingExtraError: As `import_store`.

    Examples:
        >>> import numpy as np
        >>> np.save("queries.npy", np.eye(2, dtype=np.float32))
        >>> ids, vectors = read_matrix("queries.npy", number_rows=True)
        >>> ids, vectors.tolist()
        (['0', '1'], [[1.0, 0.0], [0.0, 1.0]])
    """
    file = Path(path)
    with format_of(file, format).open(
        file, ReadOptions(number_rows=number_rows, unescape=unescape)
    ) as reader:
        if reader.kind != "global":
            raise FileFormatError(f"{file}: expected floats, found {reader.dtype}")
        names: list[str] = []
        matrix = np.empty((reader.rows, reader.width), np.float32)
        for block in reader.blocks():
            names += block.ids
            with np.errstate(over="ignore"):
                matrix[block.start : block.stop] = block.values
        return names, matrix
