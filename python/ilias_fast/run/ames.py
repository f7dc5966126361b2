"""The nearest neighbours of AMES (`nn_<name>.pkl`): a tensor [2, Q, K] of similarities and positions.

Positions are stored as float32, which holds whole numbers up to 2^24 only: a file with larger ones cannot be
right. Ids are not in it; they are the lines of the data set's lists.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast._extras import require
from ilias_fast._files import StrPath, read_bytes, read_names
from ilias_fast.errors import FileFormatError, ShapeError
from ilias_fast.run.base import Run
from ilias_fast.run.unpickle import rebuilt, unpickle

__all__ = ["read_ames_list", "read_ames_neighbours"]

_PURPOSE = "read pickles of torch tensors"
_EXACT = 1 << 24
_SAVED_BY_TORCH = b"PK", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of `torch.save` begin: zip archives, and the magic number of those before version 1.6."""


def read_ames_list(path: StrPath) -> list[str]:
    r"""Return the ids of an AMES list (`test_gallery.txt`): the text before the first comma of every line.

    Args:
        path: The list.

    Raises:
        FileFormatError: It is not UTF-8 text.
        StorageError: It cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("test_gallery.txt").write_text("a/1.jpg,0,640,480\nb/2.jpg,1,640,480\n")
        >>> read_ames_list("test_gallery.txt")
        ['a/1.jpg', 'b/2.jpg']
    """
    return [line.partition(",")[0].strip() for line in read_names(Path(path))]


def read_ames_neighbours(path: StrPath, query_ids: Sequence[str], database_ids: Sequence[str]) -> Run:
    """Read nearest neighbours published with AMES. Nothing in the file is executed.

    Args:
        path: The pickle, written by `pickle` or by `torch.save`.
        query_ids: Q ids, in the order of the data set's query list.
        database_ids: Ids in the order of its gallery list.

    Returns:
        The run, best first.

    Raises:
        FileFormatError: The file is damaged, refers to code, or is no tensor [2, Q, K] of finite numbers
            whose second half are whole positions in the database.
        ShapeError: It has another number of queries than `query_ids`.
        StorageError: It cannot be read.
        MissingExtraError: torch is not installed, and the file needs it.

    Examples:
        >>> import pickle
        >>> from pathlib import Path
        >>> import numpy as np
        >>> scores, positions = [[0.9, 0.5], [0.8, 0.7]], [[1, 0], [0, 1]]
        >>> _ = Path("nn.pkl").write_bytes(pickle.dumps(np.array([scores, positions])))
        >>> read_ames_neighbours("nn.pkl", ["q", "r"], ["a", "b"])["q"].ids
        ['b', 'a']
    """
    path = Path(path)
    table = _table(read_bytes(path), path)
    if table.ndim != 3 or table.shape[0] != 2 or table.dtype.kind not in "fiu":
        raise FileFormatError(
            f"{path}: expected numbers of shape [2, Q, K], found {table.dtype} {list(table.shape)}"
        )
    if table.shape[1] != len(query_ids):
        raise ShapeError(f"{path}: expected {len(query_ids)} queries, as query_ids, found {table.shape[1]}")
    scores, positions = table.astype(np.float64)
    wrong = ~(
        (positions >= 0) & (positions < min(len(database_ids), _EXACT)) & (positions == np.floor(positions))
    )
    if wrong.any():
        query, rank = np.argwhere(wrong)[0]
        raise FileFormatError(
            f"{path}: query {query}, rank {rank}: expected a position from 0 to below {len(database_ids)} "
            f"(float32 holds them up to {_EXACT}), found {positions[query, rank]}"
        )
    if not np.isfinite(scores).all():
        query, rank = np.argwhere(~np.isfinite(scores))[0]
        raise FileFormatError(
            f"{path}: query {query}, rank {rank}: expected a number, found {scores[query, rank]}"
        )
    names = list(database_ids)
    return Run.from_topk(
        list(query_ids),
        scores,
        positions.astype(np.int64),
        lambda rows: [names[row] for row in rows.tolist()],
        {"format": "ames nearest neighbours"},
    )


def _table(data: bytes, path: Path) -> NDArray[Any]:
    if data.startswith(_SAVED_BY_TORCH):
        torch = require("torch", _PURPOSE)
        try:
            found = _loaded(data)
        except ValueError as cause:
            raise FileFormatError(f"{path}: not a file of one tensor: {cause}") from cause
        found = found.numpy() if torch.is_tensor(found) else found
    else:
        names: dict[tuple[str, str], Callable[..., object]] = {
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
            ("torch.storage", "_load_from_bytes"): _storage,
            ("collections", "OrderedDict"): dict,
        }
        found = unpickle(data, path, names)
    if not isinstance(found, np.ndarray):
        raise FileFormatError(f"{path}: expected one tensor, found {type(found).__name__}")
    return found


def _loaded(data: bytes) -> Any:
    """Return what `torch.save` wrote, without executing anything."""
    torch = require("torch", _PURPOSE)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # Damage makes torch raise nearly anything, and its words advise to load again with execution allowed.
    except Exception as cause:
        raise ValueError("damaged, or of objects that run code") from cause


def _storage(content: object) -> NDArray[Any]:
    """Stand in for torch's storage: what `torch.load` makes of it without executing anything, as a vector."""
    torch = require("torch", _PURPOSE)
    if not isinstance(content, bytes):
        raise ValueError("a storage without content")
    storage = _loaded(content)
    vector: NDArray[Any] = torch.empty(0, dtype=storage.dtype).set_(storage).numpy()
    return vector


def _rebuilt(storage: object, offset: object, size: object, stride: object, *_: object) -> object:
    """Stand in for torch's rebuilding of a tensor, within the bounds of its storage."""
    if not isinstance(storage, np.ndarray) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without a storage")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("a tensor of an impossible shape")
    last = int(numbers[0]) + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    if 0 not in size and last >= len(storage):
        raise ValueError("a tensor that is larger than its storage")
    if 0 in size:
        return rebuilt(np.empty(size, storage.dtype))
    steps = tuple(step * storage.itemsize for step in stride)
    part = storage[int(numbers[0]) :]
    return rebuilt(np.lib.stride_tricks.as_strided(part, size, steps, writeable=False).copy())
