"""The official ILIAS layout."""

from __future__ import annotations

import errno
import gzip
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, overload

from ilias_fast._files import StrPath, read_lines, read_text, storage_error
from ilias_fast.datasets.base import Dataset, Taxonomy
from ilias_fast.errors import DatasetError, StorageError

__all__ = ["DistractorIds", "load_ilias"]

# Up to here a tuple of ids is held; beyond, ids are streamed (the full list would be 9 GB of str objects).
_HELD = 1_000_000
_PIECE = 1 << 22


def load_ilias(root: StrPath, *, taxonomy: StrPath | None = None) -> Dataset:
    """Read a dataset in the official ILIAS layout.

    ```
    <root>/image_ids/image_query_ids.txt     id[,further columns]
    <root>/image_ids/text_query_ids.txt      id                       (optional)
    <root>/image_ids/positive_ids.txt        id,scale,clutter
    <root>/image_ids/distractor_ids.txt.gz   id                       (optional; or distractor_ids.txt)
    <root>/ilias_core/<instance>/query/...   images, boxes, texts
    <root>/ilias_core/<instance>/pos/...
    <root>/yfcc100m/*.tar                    distractors              (optional)
    <root>/taxonomy.json                     {coarse: {mid: {fine: [instance, ...]}}}   (optional)
    ```

    Ids are sorted. A line that begins with "#" is a comment; a "#" later in a line belongs to the id.

    Args:
        root: The folder that holds `image_ids/`.
        taxonomy: Another place of the taxonomy file.

    Raises:
        DatasetError: A file is missing, malformed or contradicts another; names the file and line.
        StorageError: A file cannot be read.

    Examples:
        >>> from ilias_fast.datasets.generate import generate
        >>> _ = generate("toy", objects=1, images=10)
        >>> dataset = load_ilias("toy")
        >>> dataset.image_queries[0].split("/")[1:], dataset.text(dataset.text_queries[0]) != ""
        (['query', 'Q000_00.jpg'], True)
    """
    path = Path(root)
    lists = path / "image_ids"
    queries = _unique(lists / "image_query_ids.txt")
    texts = _unique(lists / "text_query_ids.txt") if (lists / "text_query_ids.txt").exists() else {}
    positives = _unique(lists / "positive_ids.txt")
    _check_instances(lists, queries, texts, positives)
    scale: dict[str, float] = {}
    clutter: dict[str, int] = {}
    for name, (number, columns) in positives.items():
        scale[name], clutter[name] = _annotations(lists / "positive_ids.txt", number, name, columns)
    taxonomy_path = path / "taxonomy.json" if taxonomy is None else Path(taxonomy)
    return Dataset(
        name=path.resolve().name,
        root=path,
        core=path / "ilias_core",
        image_queries=tuple(sorted(queries)),
        text_queries=tuple(sorted(texts)),
        positives=tuple(sorted(positives)),
        distractors=_distractors(lists),
        scale=scale,
        clutter=clutter,
        taxonomy=_taxonomy(taxonomy_path) if taxonomy is not None or taxonomy_path.exists() else None,
        tars=tuple(sorted((path / "yfcc100m").glob("*.tar"))),
    )


class DistractorIds(Sequence[str]):
    """The lines of a text file, gzipped or not, without holding them.

    Iterating streams the file; the length is counted once. Short lists are held after the first indexing,
    long ones are streamed up to the item asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def pieces(self) -> Iterator[bytes]:
        """Yield the text of the list in pieces of some megabytes, which may end anywhere."""
        try:
            with (gzip.open if self.path.suffix == ".gz" else open)(self.path, "rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except (EOFError, zlib.error, gzip.BadGzipFile) as cause:
            raise DatasetError(f"{self.path}: damaged list of distractor ids: {cause}") from cause
        except OSError as cause:
            raise storage_error(cause, self.path, "read") from cause

    def __iter__(self) -> Iterator[str]:
        rest = b""
        try:
            for piece in self.pieces():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if name := line.decode().strip():
                        yield name
            if name := rest.decode().strip():
                yield name
        except UnicodeDecodeError as cause:
            raise DatasetError(f"{self.path}: damaged list of distractor ids: {cause}") from cause

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _length(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def _held(self) -> tuple[str, ...]:
        return tuple(self)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if len(self) <= _HELD:
            return self._held[index]
        if isinstance(index, slice):
            rows = range(len(self))[index]
            low, high = (min(rows[0], rows[-1]), max(rows[0], rows[-1])) if rows else (0, -1)
            found = list(islice(iter(self), low, high + 1))
            return tuple(found[row - low] for row in rows)
        row = range(len(self))[index]
        return next(islice(iter(self), row, None))


Rows = dict[str, tuple[int, list[str]]]


def _unique(path: Path) -> Rows:
    """Return `{id: (line number, further columns)}` of a comma-separated list."""
    try:
        lines = read_lines(path, DatasetError)
    except StorageError as cause:
        if cause.errno != errno.ENOENT:
            raise
        raise DatasetError(f"{path}: missing; the official layout has it") from cause
    rows: Rows = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, *columns = (part.strip() for part in line.split(","))
        if "/" not in name.strip("/") or any(part in ("", ".", "..") for part in name.split("/")):
            raise DatasetError(
                f"{path}:{number}: expected an id '<instance>/<folder>/<file>', found {name!r}"
            )
        if name in rows:
            raise DatasetError(f"{path}:{number}: {name!r} is listed twice, first on line {rows[name][0]}")
        rows[name] = number, columns
    if not rows:
        raise DatasetError(f"{path}: expected at least one id, found none")
    return rows


def _check_instances(lists: Path, queries: Rows, texts: Rows, positives: Rows) -> None:
    known = {Dataset.instance_of(name) for name in positives}
    asked = {Dataset.instance_of(name) for name in (*queries, *texts)}
    for file, rows in (("image_query_ids.txt", queries), ("text_query_ids.txt", texts)):
        for name, (number, _) in rows.items():
            if Dataset.instance_of(name) not in known:
                raise DatasetError(
                    f"{lists / file}:{number}: instance {Dataset.instance_of(name)!r} of {name!r} has no "
                    f"positives in positive_ids.txt"
                )
    for name, (number, _) in positives.items():
        if Dataset.instance_of(name) not in asked:
            raise DatasetError(
                f"{lists / 'positive_ids.txt'}:{number}: instance {Dataset.instance_of(name)!r} of {name!r} "
                f"has no query in image_query_ids.txt or text_query_ids.txt"
            )


def _annotations(path: Path, number: int, name: str, columns: list[str]) -> tuple[float, int]:
    try:
        scale, clutter = float(columns[0]), int(columns[1])
        if len(columns) == 2 and math.isfinite(scale) and scale >= 0 and clutter >= 0:
            return scale, clutter
    except (ValueError, IndexError):
        pass
    found = ",".join([name, *columns])
    raise DatasetError(
        f"{path}:{number}: expected 'id,scale,clutter' with a scale of 0 or more and a whole clutter, "
        f"found {found!r}"
    )


def _distractors(lists: Path) -> Sequence[str]:
    for name in ("distractor_ids.txt.gz", "distractor_ids.txt"):
        if (lists / name).exists():
            return DistractorIds(lists / name)
    return ()


def _taxonomy(path: Path) -> Taxonomy:
    text = read_text(path, DatasetError)
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise DatasetError(f"{path}: not a JSON file: {cause}") from cause
    if not isinstance(value, dict):
        raise DatasetError(f"{path}: expected an object of coarse categories, found {type(value).__name__}")
    for coarse, mids in value.items():
        if not isinstance(mids, dict):
            raise DatasetError(
                f"{path}: {coarse!r}: expected an object of mid categories, found {type(mids).__name__}"
            )
        for mid, fines in mids.items():
            if not isinstance(fines, dict):
                raise DatasetError(
                    f"{path}: {coarse!r}, {mid!r}: expected an object of fine categories, "
                    f"found {type(fines).__name__}"
                )
            for fine, instances in fines.items():
                if not isinstance(instances, list) or not all(isinstance(name, str) for name in instances):
                    raise DatasetError(f"{path}: {coarse!r}, {mid!r}, {fine!r}: expected a list of instances")
    return value
