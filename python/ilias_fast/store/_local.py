"""Local stores: packed binary descriptors with keypoint positions, any number an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.errors import IncompatibleStoreError, ParameterError, ShapeError
from ilias_fast.store._base import BaseStore, BaseWriter, id_list

__all__ = ["LocalImage", "LocalStore", "LocalWriter"]


class LocalImage(NamedTuple):
    """The local descriptors of one image.

    Attributes:
        codes: uint8 [m, code_bytes], packed descriptors.
        xy: float32 [m, 2], keypoint positions divided by width and height, in [0, 1].
        scale: float32 [m], positive, or None.
        angle: float32 [m], radians, or None.
        weight: float32 [m], or None.
        size: Width and height of the image in pixels.
    """

    codes: NDArray[np.uint8]
    xy: NDArray[np.float32]
    scale: NDArray[np.float32] | None
    angle: NDArray[np.float32] | None
    weight: NDArray[np.float32] | None
    size: tuple[int, int]


class _ImageLike(Protocol):
    """Whatever has the attributes of `LocalImage`."""

    @property
    def codes(self) -> Any: ...
    @property
    def xy(self) -> Any: ...
    @property
    def scale(self) -> Any: ...
    @property
    def angle(self) -> Any: ...
    @property
    def weight(self) -> Any: ...
    @property
    def size(self) -> tuple[int, int]: ...


class LocalWriter(BaseWriter):
    """Appends images with their local descriptors; see `LocalStore.create` and `LocalStore.append_to`."""

    @property
    def bits(self) -> int:
        """Bits a descriptor."""
        return self._core.spec()[2]

    @property
    def code_bytes(self) -> int:
        """Bytes a packed descriptor."""
        return (self.bits + 7) // 8

    @property
    def optional(self) -> tuple[str, ...]:
        """Which of "scale", "angle" and "weight" every image must have."""
        return tuple(self._core.spec()[3])

    def append(self, ids: Sequence[str], images: Sequence[_ImageLike]) -> None:
        """Append images, given one by one; visible after the next `commit`.

        Args:
            ids: One unique id an image.
            images: Objects with the attributes of `LocalImage`. Optional ones the store does not keep are
                ignored; those it keeps must be there.

        Raises:
            ShapeError, DtypeError, NonFiniteError, DuplicateIdError, ParameterError, StorageError
        """
        images = list(images)
        code_lists = [_arrays.codes("codes", image.codes) for image in images]
        for codes in code_lists:
            if codes.shape[1] != self.code_bytes:
                raise ShapeError(
                    f"codes: expected {self.code_bytes} bytes a descriptor, found {codes.shape[1]}"
                )
        offsets = np.concatenate([[0], np.cumsum([len(codes) for codes in code_lists])]).astype(np.int64)
        positions = [_arrays.float32_rows("xy", image.xy, "m, 2") for image in images]
        columns: dict[str, NDArray[np.float32] | None] = dict.fromkeys(("scale", "angle", "weight"))
        for name in self.optional:
            values = [getattr(image, name) for image in images]
            if any(value is None for value in values):
                raise ParameterError(f"{name}: expected an array (the store was created with it), found None")
            parts = [_arrays.vector(name, value, "fiu", np.float32, "m") for value in values]
            columns[name] = np.concatenate([*parts, np.empty(0, np.float32)])
        for name, parts in (
            ("xy", positions),
            *((n, [getattr(i, n) for i in images]) for n in self.optional),
        ):
            for image, part in enumerate(parts):
                if len(part) != len(code_lists[image]):
                    raise ShapeError(
                        f"{name}: expected {len(code_lists[image])} rows in image {image}, found {len(part)}"
                    )
        self.append_arrays(
            ids,
            offsets,
            np.concatenate([*code_lists, np.empty((0, self.code_bytes), np.uint8)]),
            np.concatenate([*positions, np.empty((0, 2), np.float32)]),
            size=np.array([tuple(image.size) for image in images], dtype=np.int64).reshape(-1, 2),
            **columns,
        )

    def append_arrays(
        self,
        ids: Sequence[str],
        offsets: ArrayLike,
        codes: ArrayLike,
        xy: ArrayLike,
        *,
        size: ArrayLike,
        scale: ArrayLike | None = None,
        angle: ArrayLike | None = None,
        weight: ArrayLike | None = None,
    ) -> None:
        """Append n images given as arrays; image i owns descriptors `offsets[i]:offsets[i + 1]`.

        Args:
            ids: n unique ids.
            offsets: int64 [n + 1], from 0, never decreasing.
            codes: uint8 [m, code_bytes].
            xy: float32 [m, 2] in [0, 1].
            size: int [n, 2], width and height in pixels, positive.
            scale: float32 [m], positive; given exactly if the store keeps it. So are the next two.
            angle: float32 [m], radians.
            weight: float32 [m].

        Raises:
            ShapeError, DtypeError, NonFiniteError, DuplicateIdError, ParameterError, StorageError
        """

        def numbers(name: str, values: ArrayLike | None) -> NDArray[np.float32] | None:
            return None if values is None else _arrays.vector(name, values, "fiu", np.float32, "m")

        sizes = np.asarray(size)
        if sizes.ndim != 2 or sizes.dtype.kind not in "iu":
            raise ShapeError(
                f"size: expected integers of shape [n, 2], found {sizes.dtype} {list(sizes.shape)}"
            )
        if sizes.size and sizes.max() > np.iinfo(np.int32).max:
            raise ParameterError(f"size: expected pixels below 2^31, found {sizes.max()}")
        self._core.append_local(
            id_list(ids),
            _arrays.offsets("offsets", offsets),
            _arrays.codes("codes", codes, "m, bytes"),
            _arrays.float32_rows("xy", xy, "m, 2"),
            numbers("scale", scale),
            numbers("angle", angle),
            numbers("weight", weight),
            np.ascontiguousarray(sizes, dtype=np.int32),
        )


class LocalStore(BaseStore):
    """Packed binary descriptors with keypoint positions, any number an image."""

    kind = "local"

    @classmethod
    def create(
        cls,
        path: StrPath,
        *,
        bits: int,
        optional: Sequence[str] = (),
        provenance: Mapping[str, object] | None = None,
        parent: BaseStore | None = None,
        parameters: Mapping[str, object] | None = None,
        overwrite: bool = False,
        shard_bytes: int | None = None,
    ) -> LocalWriter:
        """Start a store of descriptors of `bits` bits; the rest is as in `GlobalStore.create`.

        Args:
            path: As in `GlobalStore.create`, and so are the others.
            bits: Bits a descriptor.
            optional: Which of "scale", "angle" and "weight" every image has.
            provenance: See there.
            parent: See there.
            parameters: See there.
            overwrite: See there.
            shard_bytes: See there.
        """
        if isinstance(optional, str):
            raise ParameterError(f"optional: expected a sequence of names, found the single str {optional!r}")
        return LocalWriter._create(
            path, cls.kind, bits, optional, provenance, parent, parameters, overwrite, shard_bytes
        )

    @classmethod
    def append_to(cls, path: StrPath, *, shard_bytes: int | None = None) -> LocalWriter:
        """Open a store to append to it; errors as `GlobalStore.append_to`.

        Args:
            path: The folder.
            shard_bytes: New rows are cut into files of about this size; None for 128 MiB.
        """
        return LocalWriter._append_to(path, cls.kind, shard_bytes)

    @property
    def bits(self) -> int:
        """Bits a descriptor."""
        return self._core_store.bits

    @property
    def code_bytes(self) -> int:
        """Bytes a packed descriptor."""
        return self._core_store.code_bytes

    @property
    def optional(self) -> tuple[str, ...]:
        """Which of "scale", "angle" and "weight" there are."""
        return tuple(self._core_store.optional)

    def image(self, row: int) -> LocalImage:
        """Return the descriptors of one image as read-only views of the memory map.

        Args:
            row: The row; negative ones count from the end.

        Raises:
            IndexError: The row is out of range.
            CorruptStoreError: The shard's offsets are damaged there.
        """
        position = row + len(self) if row < 0 else row
        if not 0 <= position < len(self):
            raise IndexError(f"row {row} of a store of {len(self)} rows")
        return LocalImage(*self._core_store.local(int(position)))

    def __getitem__(self, row: int) -> LocalImage:
        return self.image(row)

    def __iter__(self) -> Iterator[LocalImage]:
        for row in range(len(self)):
            yield self.image(row)

    def require(self, *names: str) -> None:
        """Check that the store has optional tensors.

        Args:
            names: Some of "scale", "angle" and "weight".

        Raises:
            IncompatibleStoreError: It lacks one.
        """
        missing = [name for name in names if name not in self.optional]
        if missing:
            raise IncompatibleStoreError(
                f"{self.path}: expected a local store with {', '.join(missing)}, found {self!r}"
            )

    def _size(self) -> str:
        extra = "".join(f" + {name}" for name in ("xy", *self.optional))
        return f"m x ({self.bits} bits{extra}), {self._core_store.descriptors} descriptors"
