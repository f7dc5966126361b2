"""Binary stores: one packed binary code an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.store._base import BaseStore
from ilias_fast.store._ids import id_list
from ilias_fast.store._matrix import MatrixStore
from ilias_fast.store._writer import BaseWriter

__all__ = ["BinaryStore", "BinaryWriter"]


class BinaryWriter(BaseWriter):
    """Appends packed codes; see `BinaryStore.create` and `BinaryStore.append_to`.

    Examples:
        >>> import numpy as np
        >>> writer = BinaryStore.create("codes", bits=8)
        >>> writer.append(["a.jpg"], np.array([[7]], np.uint8))
        >>> writer.commit(), writer.contains(["a.jpg", "b.jpg"]).tolist()
        (1, [True, False])
        >>> writer.close()
    """

    @property
    def bits(self) -> int:
        """Bits a code."""
        return self._core.spec()[2]

    def append(self, ids: Sequence[str], codes: ArrayLike) -> None:
        """Append one row an id; visible after the next `commit`.

        Args:
            ids: m unique ids: UTF-8 of 1 to 4096 bytes, without NUL or line breaks.
            codes: uint8 [m, ceil(bits / 8)], the first bit in the highest bit of the first byte, set where
                the value is at least 0; bits after the last one are zero.

        Raises:
            ShapeError, DtypeError, DuplicateIdError, ParameterError, StorageError: As `GlobalWriter.append`.
        """
        self._core.append_codes(id_list(ids), _arrays.codes("codes", codes))


class BinaryStore(MatrixStore[np.uint8]):
    """One packed binary code an image.

    Examples:
        >>> import numpy as np
        >>> with BinaryStore.create("codes", bits=16) as writer:
        ...     writer.append(["a.jpg", "b.jpg"], np.array([[0, 255], [255, 0]], np.uint8))
        >>> store = BinaryStore.open("codes")
        >>> len(store), store.bits, store.rows(store.find(["b.jpg"])).tolist()
        (2, 16, [[255, 0]])
    """

    kind = "binary"

    @classmethod
    def create(
        cls,
        path: StrPath,
        *,
        bits: int,
        provenance: Mapping[str, object] | None = None,
        parent: BaseStore | None = None,
        parameters: Mapping[str, object] | None = None,
        overwrite: bool = False,
        shard_bytes: int | None = None,
    ) -> BinaryWriter:
        """Start a store of codes of `bits` bits; the rest is as in `GlobalStore.create`.

        Args:
            path: As in `GlobalStore.create`, and so are the others.
            bits: Bits a code.
            provenance: See there.
            parent: See there.
            parameters: See there.
            overwrite: See there.
            shard_bytes: See there.
        """
        return BinaryWriter._create(
            path, cls.kind, False, bits, (), provenance, parent, parameters, overwrite, shard_bytes
        )

    @classmethod
    def append_to(cls, path: StrPath, *, shard_bytes: int | None = None) -> BinaryWriter:
        """Open a store to append to it; errors as `GlobalStore.append_to`.

        Args:
            path: The folder.
            shard_bytes: New rows are cut into files of about this size; None for 128 MiB.
        """
        return BinaryWriter._append_to(path, cls.kind, shard_bytes)

    @property
    def bits(self) -> int:
        """Bits a code."""
        return self._core_store.bits

    @property
    def code_bytes(self) -> int:
        """Bytes a packed code."""
        return self._core_store.code_bytes

    def _row(self, row: int) -> NDArray[np.uint8]:
        return self._core_store.code(row)

    def _runs(self) -> Sequence[NDArray[np.uint8]]:
        return self._core_store.codes()

    def _gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._core_store.gather_codes(rows)

    def _size(self) -> str:
        return f"{self.bits} bits"
