"""One image source for a whole dataset."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ilias_fast.datasets.base import Dataset

if TYPE_CHECKING:
    from ilias_fast.images import ImageSource

__all__ = ["DatasetImages"]


class DatasetImages:
    """The images of queries, positives and distractors, by id; an `ImageSource`."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @cached_property
    def _core(self) -> ImageSource:
        from ilias_fast.images import FolderSource

        dataset = self._dataset
        ids = [*dataset.image_queries, *dataset.positives]
        return FolderSource(dataset.core, ids=ids if dataset.tars else [*ids, *dataset.distractors])

    @cached_property
    def _tars(self) -> ImageSource:
        return self._dataset.images("distractors")[0]

    @cached_property
    def _core_ids(self) -> frozenset[str]:
        return frozenset(self._core.ids())

    def ids(self) -> Sequence[str]:
        """Return the ids of image queries, positives and distractors, in this order."""
        return [*self._core.ids(), *(self._tars.ids() if self._dataset.tars else ())]

    def read(self, image_id: str, /) -> bytes:
        """Return the bytes of an image.

        Raises:
            ImageError: There is no such image, or it cannot be read.
        """
        in_core = image_id in self._core_ids or not self._dataset.tars
        return (self._core if in_core else self._tars).read(image_id)
