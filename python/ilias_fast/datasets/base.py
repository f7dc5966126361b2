"""`Dataset`: ids, ground truth and annotations of an instance retrieval benchmark."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._core import Ids, IdSearch
from ilias_fast._files import is_file, read_lines, read_text
from ilias_fast.errors import DatasetError, UnknownIdError

if TYPE_CHECKING:
    from ilias_fast.images import ImageSource

__all__ = ["Dataset", "Part", "Taxonomy"]

Part = Literal["queries", "positives", "distractors"]
Taxonomy = Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """An instance retrieval benchmark: what is asked, what is right, and where the images are.

    The instance of a query or positive is the text of its id before the first "/", and the positives of a
    query are those of its instance. The database is the positives and the distractors.

    Attributes:
        name: A short name, for reports.
        root: The folder it was read from.
        core: The folder that query and positive ids are relative to.
        image_queries: Sorted ids.
        text_queries: Sorted ids.
        positives: Sorted ids.
        distractors: Ids; a lazy sequence where there are many, empty where none are listed.
        scale: For every positive, box area / image area; empty if unknown.
        clutter: For every positive, the number of segments outside its boxes; empty if unknown.
        taxonomy: `{coarse: {mid: {fine: [instance, ...]}}}`, or None.
        tars: WebDataset tars that hold the distractors; empty if the distractors lie below `core`.

    Raises:
        DatasetError: An id is listed twice, an instance has queries but no positives or the reverse, an
            annotation is missing, or the taxonomy misses or repeats an instance.

    Examples:
        >>> from pathlib import Path
        >>> ids = ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",), ("1.jpg", "2.jpg")
        >>> dataset = Dataset("mine", Path(), Path(), *ids)
        >>> dataset
        Dataset('mine': 1 image queries, 0 text queries, 1 positives)
        >>> sorted(dataset.positives_of("mug/query/0.jpg")), dataset.unknown_ids(["2.jpg", "3.jpg"])
        (['mug/pos/0.jpg'], ['3.jpg'])
    """

    name: str
    root: Path
    core: Path
    image_queries: tuple[str, ...]
    text_queries: tuple[str, ...]
    positives: tuple[str, ...]
    distractors: Sequence[str] = ()
    scale: Mapping[str, float] = field(default_factory=dict)
    clutter: Mapping[str, int] = field(default_factory=dict)
    taxonomy: Taxonomy | None = None
    tars: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name in ("scale", "clutter"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        self._check_ids()
        self._check_annotations()
        if self.taxonomy is not None:
            self._check_taxonomy(self.taxonomy)

    def __reduce__(self) -> tuple[object, ...]:
        values = [getattr(self, field.name) for field in fields(self)]
        return Dataset, tuple(
            dict(value) if isinstance(value, MappingProxyType) else value for value in values
        )

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}: {len(self.image_queries)} image queries, {len(self.text_queries)} text "
            f"queries, {len(self.positives)} positives)"
        )

    @staticmethod
    def instance_of(id: str) -> str:  # noqa: A002 - the field's word
        """Return the instance of a query or positive id: the text before the first "/".

        Args:
            id: The id.
        """
        return id.partition("/")[0]

    @cached_property
    def instances(self) -> tuple[str, ...]:
        """Every instance, sorted."""
        return tuple(sorted(self._positives))

    @cached_property
    def _positives(self) -> dict[str, frozenset[str]]:
        of: dict[str, list[str]] = defaultdict(list)
        for positive in self.positives:
            of[self.instance_of(positive)].append(positive)
        return {instance: frozenset(ids) for instance, ids in of.items()}

    @cached_property
    def _queries(self) -> frozenset[str]:
        return frozenset(self.image_queries) | frozenset(self.text_queries)

    def positives_of(self, query_id: str) -> frozenset[str]:
        """Return the positives of a query.

        Args:
            query_id: An image or text query.

        Raises:
            UnknownIdError: The dataset has no such query.
        """
        if query_id not in self._queries:
            raise UnknownIdError(f"{self.root}: the dataset has no query {query_id!r}")
        return self._positives[self.instance_of(query_id)]

    @cached_property
    def category_of(self) -> Mapping[str, tuple[str, str, str]]:
        """(coarse, mid, fine) category of every instance in the taxonomy; empty without one."""
        return MappingProxyType(
            {
                instance: (coarse, mid, fine)
                for coarse, mids in (self.taxonomy or {}).items()
                for mid, fines in mids.items()
                for fine, instances in fines.items()
                for instance in instances
            }
        )

    def boxes(self, id: str) -> NDArray[np.int64]:  # noqa: A002
        """Return the boxes of a query or positive image.

        Args:
            id: The image's id.

        Returns:
            int64 [n, 4], (x, y, width, height) in pixels of the stored image after EXIF transposition,
            origin top-left; [0, 4] for an image without a box file.

        Raises:
            DatasetError: The box file is malformed; names the file and line.
            StorageError: The box file cannot be read.
        """
        image = self._core_path(id)
        path = image.with_name(f"{image.stem}_bbox.txt")
        boxes: list[list[int]] = []
        for number, line in enumerate(read_lines(path, DatasetError) if is_file(path) else (), 1):
            if not line.strip():
                continue
            try:
                box = [int(part) for part in line.split()]
            except ValueError:
                box = []
            if len(box) != 4 or min(box) < 0 or max(box) >= 2**31:
                raise DatasetError(
                    f"{path}:{number}: expected four integers 'x y width height', found {line!r}"
                )
            boxes.append(box)
        return np.array(boxes, dtype=np.int64).reshape(-1, 4)

    def text(self, query_id: str) -> str:
        """Return the description of a text query.

        Args:
            query_id: The text query.

        Raises:
            UnknownIdError: The dataset has no such text query.
            DatasetError: The file is empty or not UTF-8.
            StorageError: The file cannot be read.
        """
        if query_id not in self._queries or not query_id.endswith(".txt"):
            raise UnknownIdError(f"{self.root}: the dataset has no text query {query_id!r}")
        path = self._core_path(query_id)
        text = read_text(path, DatasetError).strip()
        if not text:
            raise DatasetError(f"{path}: expected a description, found an empty file")
        return text

    def images(self, part: Part) -> tuple[ImageSource, Sequence[str]]:
        """Return where the images of a part come from, and their ids in the dataset's order.

        Args:
            part: "queries" (image queries), "positives" or "distractors".
        """
        ids: dict[str, Sequence[str]] = {
            "queries": self.image_queries,
            "positives": self.positives,
            "distractors": self.distractors,
        }
        _arrays.choice("part", part, tuple(ids))
        from ilias_fast.images import FolderSource, TarSource

        if part == "distractors" and self.tars:
            tars = TarSource(self.tars, ids=ids[part] or None)
            return tars, ids[part] or tars.ids()
        return FolderSource(self.core, ids=ids[part]), ids[part]

    def image_source(self) -> ImageSource:
        """Return one source for every image of the dataset; tars are indexed at the first read from one."""
        from ilias_fast.datasets.sources import DatasetImages

        return DatasetImages(self)

    def unknown_ids(self, ids: Iterable[str]) -> list[str]:
        """Return, sorted, those ids that are not in the database (positives and distractors).

        Distractor ids may be given with or without the ".tar" of their first part. The distractors are
        streamed once as text, in memory for the ids that are looked for: a hundred million lines take about
        as long as their gzip file takes to decompress.

        Args:
            ids: The ids to look for.

        Raises:
            DatasetError: The dataset lists no distractors and an id is not a positive: nothing can be said.
        """
        wanted = Ids(sorted(set(ids) - set(self.positives)))
        if not len(wanted):
            return []
        # Not their number: that would be a pass of its own over a long list.
        if next(iter(self.distractors), None) is None:
            raise DatasetError(
                f"{self.root}: cannot check {len(wanted)} ids (for example {wanted[0]!r}): "
                f"the dataset lists no distractors"
            )
        search = IdSearch(wanted)
        pieces = getattr(self.distractors, "pieces", None)
        for piece in pieces() if pieces is not None else _lines(self.distractors):
            search.feed(piece)
        return [name for name, found in zip(wanted, search.found(wanted).tolist(), strict=True) if not found]

    def _core_path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
            raise UnknownIdError(f"{self.root}: {name!r} is not an id of this dataset")
        return self.core.joinpath(*parts)

    def _check_ids(self) -> None:
        for kind, ids in (
            ("image query", self.image_queries),
            ("text query", self.text_queries),
            ("positive", self.positives),
        ):
            seen: set[str] = set()
            for name in ids:
                if name in seen:
                    raise DatasetError(f"{self.root}: {kind} {name!r} is listed twice")
                if "/" not in name:
                    raise DatasetError(f"{self.root}: {kind} {name!r}: expected an id '<instance>/...'")
                seen.add(name)
        asked = {self.instance_of(query): query for query in (*self.text_queries, *self.image_queries)}
        for instance, query in asked.items():
            if instance not in self._positives:
                raise DatasetError(
                    f"{self.root}: query {query!r}: its instance {instance!r} has no positives; list some or "
                    f"remove the query"
                )
        for positive in self.positives:
            if self.instance_of(positive) not in asked:
                raise DatasetError(f"{self.root}: positive {positive!r}: no query asks for its instance")
        if not asked:
            raise DatasetError(f"{self.root}: the dataset has no queries")

    def _check_annotations(self) -> None:
        for name, values in (("scale", self.scale), ("clutter", self.clutter)):
            if not values:
                continue
            for positive in self.positives:
                value = values.get(positive)
                if value is None or not math.isfinite(value) or value < 0:
                    raise DatasetError(
                        f"{self.root}: positive {positive!r}: expected a {name} of 0 or more, found {value}"
                    )

    def _check_taxonomy(self, taxonomy: Taxonomy) -> None:
        seen: set[str] = set()
        for coarse, mids in taxonomy.items():
            for mid, fines in mids.items():
                for fine, instances in fines.items():
                    for instance in instances:
                        if instance in seen:
                            raise DatasetError(
                                f"{self.root}: taxonomy: instance {instance!r} appears twice, again in "
                                f"{coarse}/{mid}/{fine}"
                            )
                        seen.add(instance)
        missing = sorted(set(self._positives) - seen)
        if missing:
            raise DatasetError(
                f"{self.root}: taxonomy: {len(missing)} instances are missing, first {missing[0]!r}"
            )


def _lines(names: Sequence[str]) -> Iterator[bytes]:
    for start in range(0, len(names), 65_536):
        yield ("\n".join(names[start : start + 65_536]) + "\n").encode("utf-8", errors="surrogatepass")
