"""Which images are described together: batches of one bucket, filled from a large window of images."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Batch", "Batcher"]

_T = TypeVar("_T")


class Batch(NamedTuple, Generic[_T]):
    """Images to be described together.

    Attributes:
        places: Their positions in the order of the images.
        items: What was prepared of them.
    """

    places: list[int]
    items: list[_T]


class Batcher(Generic[_T]):
    """Collects prepared images by bucket; a pure function of what it is given, so that runs repeat.

    A bucket is let go when it is full. When more is held than the window allows, the bucket with the oldest
    image is let go as it is: the order of the images is then soon whole again.

    Args:
        size: Images of a full batch.
        window: Most images held.
        window_bytes: Most bytes held, about.
        batch_bytes: A batch is full at this many bytes, too.
    """

    def __init__(self, size: int, *, window: int, window_bytes: int, batch_bytes: int) -> None:
        self.size = size
        self._window = window
        self._window_bytes = window_bytes
        self._batch_bytes = batch_bytes
        # A dictionary keeps its order, and a bucket enters it with its first image: the oldest is in front.
        self._buckets: dict[Hashable, tuple[Batch[_T], list[int]]] = {}
        self._images = 0
        self._bytes = 0

    def add(self, place: int, item: _T, bucket: Hashable, nbytes: int) -> list[Batch[_T]]:
        """Take one image, and return the batches that are to be described now.

        Args:
            place: Its position.
            item: What was prepared of it.
            bucket: Its bucket.
            nbytes: What holding it costs.
        """
        batch, total = self._buckets.setdefault(bucket, (Batch([], []), [0]))
        batch.places.append(place)
        batch.items.append(item)
        total[0] += nbytes
        self._images += 1
        self._bytes += nbytes
        ready = []
        if len(batch.items) >= self.size or total[0] >= self._batch_bytes:
            ready.append(self._let_go(bucket))
        while self._images > self._window or (self._bytes > self._window_bytes and self._images):
            ready.append(self._let_go(next(iter(self._buckets))))
        return ready

    def finish(self) -> list[Batch[_T]]:
        """Return what is still held, the bucket with the oldest image first."""
        return [self._let_go(bucket) for bucket in list(self._buckets)]

    def _let_go(self, bucket: Hashable) -> Batch[_T]:
        batch, total = self._buckets.pop(bucket)
        self._images -= len(batch.items)
        self._bytes -= total[0]
        return batch
