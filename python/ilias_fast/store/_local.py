"""Local stores: descriptors (packed codes, or float16) with keypoint positions, any number an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.errors import DtypeError, IncompatibleStoreError, ParameterError, ShapeError
from ilias_fast.store._base import BaseStore
from ilias_fast.store._ids import id_list
from ilias_fast.store._writer import BaseWriter

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
        descriptors: float16 [m, dim] of a store of float16 descriptors, which has codes [m, 0]; else None.

    Examples:
        >>> import numpy as np
        >>> codes, xy = np.zeros((3, 16), np.uint8), np.full((3, 2), 0.5, np.float32)
        >>> image = LocalImage(codes, xy, None, None, None, (640, 480))
        >>> image.codes.shape, image.size
        ((3, 16), (640, 480))
    """

    codes: NDArray[np.uint8]
    xy: NDArray[np.float32]
    scale: NDArray[np.float32] | None
    angle: NDArray[np.float32] | None
    weight: NDArray[np.float32] | None
    size: tuple[int, int]
    descriptors: NDArray[np.float16] | None = None


class _ImageLike(Protocol):
    """Whatever has the attributes of `LocalImage`; `descriptors` only for a store that keeps them."""

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
    """Appends images with their local descriptors; see `LocalStore.create` and `LocalStore.append_to`.

    Examples:
        >>> import numpy as np
        >>> codes, xy = np.zeros((5, 16), np.uint8), np.full((5, 2), 0.5, np.float32)
        >>> with LocalStore.create("local", bits=128) as writer:
        ...     size = [[640, 480], [480, 640]]
        ...     writer.append_arrays(["a.jpg", "b.jpg"], [0, 3, 5], codes, xy, size=size)
        >>> [len(LocalStore.open("local").image(row).codes) for row in range(2)]
        [3, 2]
    """

    @property
    def dim(self) -> int:
        """Numbers a float16 descriptor; 0 if descriptors are packed codes."""
        return self._core.spec()[1]

    @property
    def bits(self) -> int:
        """Bits a packed descriptor; 0 if descriptors are float16."""
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
        main, columns_of_main = ("descriptors", self.dim) if self.dim else ("codes", self.code_bytes)
        parts_of_main: list[NDArray[Any]] = []
        for image in images:
            given = getattr(image, main, None)
            if given is None:
                raise ParameterError(f"{main}: expected an array (the store keeps them), found None")
            part = _halves(given) if self.dim else _arrays.codes(main, given)
            if part.shape[1] != columns_of_main:
                raise ShapeError(
                    f"{main}: expected {columns_of_main} columns ({self._unit()}), found {part.shape[1]}"
                )
            parts_of_main.append(part)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts_of_main])]).astype(np.int64)
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
            for number, part in enumerate(parts):
                if len(part) != len(parts_of_main[number]):
                    raise ShapeError(
                        f"{name}: expected {len(parts_of_main[number])} rows in image {number}, "
                        f"found {len(part)}"
                    )
        empty = np.empty((0, columns_of_main), np.float16 if self.dim else np.uint8)
        rows = np.concatenate([*parts_of_main, empty])
        self.append_arrays(
            ids,
            offsets,
            None if self.dim else rows,
            np.concatenate([*positions, np.empty((0, 2), np.float32)]),
            descriptors=rows if self.dim else None,
            size=np.array([_pixels(image.size) for image in images], dtype=np.int64).reshape(-1, 2),
            **columns,
        )

    def append_arrays(
        self,
        ids: Sequence[str],
        offsets: ArrayLike,
        codes: ArrayLike | None,
        xy: ArrayLike,
        *,
        size: ArrayLike,
        descriptors: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        angle: ArrayLike | None = None,
        weight: ArrayLike | None = None,
    ) -> None:
        """Append n images given as arrays; image i owns descriptors `offsets[i]:offsets[i + 1]`.

        Args:
            ids: n unique ids.
            offsets: int64 [n + 1], from 0, never decreasing.
            codes: uint8 [m, code_bytes]; None if the store keeps float16 descriptors.
            xy: float32 [m, 2] in [0, 1].
            size: int [n, 2], width and height in pixels, positive.
            descriptors: float16 [m, dim], finite (other floats are rounded); None if the store keeps codes.
            scale: float32 [m], positive; given exactly if the store keeps it. So are the next two.
            angle: float32 [m], radians.
            weight: float32 [m].

        Raises:
            ShapeError, DtypeError, NonFiniteError, DuplicateIdError, ParameterError, StorageError
        """

        def numbers(name: str, values: ArrayLike | None) -> NDArray[np.float32] | None:
            return None if values is None else _arrays.vector(name, values, "fiu", np.float32, "m")

        sizes = _arrays.any_array("size", size, "n, 2")
        if sizes.dtype.kind not in "iu":
            raise ShapeError(
                f"size: expected integers of shape [n, 2], found {sizes.dtype} {list(sizes.shape)}"
            )
        if sizes.size and sizes.max() > np.iinfo(np.int32).max:
            raise ParameterError(f"size: expected pixels below 2^31, found {sizes.max()}")
        if (codes is None, descriptors is None) != (self.dim > 0, self.dim == 0):
            expected = "descriptors and no codes" if self.dim else "codes and no descriptors"
            raise ParameterError(f"codes, descriptors: expected {expected} ({self._unit()})")
        bounds = _arrays.offsets("offsets", offsets)
        # What the store does not keep has no columns.
        count = len(_arrays.any_array("xy", xy, "m, 2"))
        self._core.append_local(
            id_list(ids),
            bounds,
            np.empty((count, 0), np.uint8) if codes is None else _arrays.codes("codes", codes, "m, bytes"),
            np.empty((count, 0), np.float16) if descriptors is None else _halves(descriptors),
            _arrays.float32_rows("xy", xy, "m, 2"),
            numbers("scale", scale),
            numbers("angle", angle),
            numbers("weight", weight),
            np.ascontiguousarray(sizes, dtype=np.int32),
        )

    def _unit(self) -> str:
        return f"a store of {self.dim} float16 numbers" if self.dim else f"a store of {self.bits} bits"


def _pixels(size: object) -> tuple[int, int]:
    if not isinstance(size, Sequence | np.ndarray) or isinstance(size, str) or len(size) != 2:
        raise ShapeError(f"size: expected (width, height) in pixels, found {size!r}")
    return _arrays.at_least_one("size", size[0]), _arrays.at_least_one("size", size[1])


def _halves(values: ArrayLike) -> NDArray[np.float16]:
    array = _arrays.any_array("descriptors", values, "m, dim")
    if array.dtype.kind != "f":
        raise DtypeError(f"descriptors: expected float16 (or floats to round to it), found {array.dtype}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float16)


class LocalStore(BaseStore):
    """Descriptors (packed codes, or float16) with keypoint positions, any number an image.

    Examples:
        >>> import numpy as np
        >>> codes, xy = np.zeros((3, 16), np.uint8), np.full((3, 2), 0.5, np.float32)
        >>> with LocalStore.create("local", bits=128) as writer:
        ...     writer.append(["a.jpg"], [LocalImage(codes, xy, None, None, None, (640, 480))])
        >>> store = LocalStore.open("local")
        >>> len(store), store.bits, store.image(0).codes.shape, store.image(0).size
        (1, 128, (3, 16), (640, 480))
    """

    kind = "local"

    @classmethod
    def create(
        cls,
        path: StrPath,
        *,
        bits: int | None = None,
        dim: int | None = None,
        optional: Sequence[str] = (),
        provenance: Mapping[str, object] | None = None,
        parent: BaseStore | None = None,
        parameters: Mapping[str, object] | None = None,
        overwrite: bool = False,
        shard_bytes: int | None = None,
    ) -> LocalWriter:
        """Start a store of descriptors of `bits` bits, or of `dim` float16 numbers.

        The rest is as in `GlobalStore.create`.

        Args:
            path: As in `GlobalStore.create`, and so are the others.
            bits: Bits a packed descriptor; give either this or `dim`.
            dim: Numbers a float16 descriptor.
            optional: Which of "scale", "angle" and "weight" every image has.
            provenance: See there.
            parent: See there.
            parameters: See there.
            overwrite: See there.
            shard_bytes: See there.
        """
        if isinstance(optional, str):
            raise ParameterError(f"optional: expected a sequence of names, found the single str {optional!r}")
        if (bits is None) == (dim is None):
            raise ParameterError("bits, dim: expected one of them (packed codes or float16 descriptors)")
        length = bits if dim is None else dim
        assert length is not None
        return LocalWriter._create(
            path,
            cls.kind,
            dim is not None,
            length,
            optional,
            provenance,
            parent,
            parameters,
            overwrite,
            shard_bytes,
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
    def dim(self) -> int:
        """Numbers a float16 descriptor; 0 if descriptors are packed codes."""
        return self._core_store.dim

    @property
    def bits(self) -> int:
        """Bits a packed descriptor; 0 if descriptors are float16."""
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
        position = self._position(row)
        codes, descriptors, xy, scale, angle, weight, size = self._core_store.local(position)
        return LocalImage(codes, xy, scale, angle, weight, size, descriptors if self.dim else None)

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
        unit = f"{self.dim} float16" if self.dim else f"{self.bits} bits"
        return f"m x ({unit}{extra}), {self._core_store.descriptors} descriptors"
