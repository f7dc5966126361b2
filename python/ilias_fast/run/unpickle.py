"""Reading pickles of arrays and containers without executing anything.

A pickle is a program. Two things make this reader safe. Its opcodes are looked at first: those that can only
serve other purposes are refused, and so are memo numbers and lengths that would make the interpreter allocate
more than the file is worth. And the few names an array pickle refers to are answered by stand-ins: no NumPy
code runs on the file's say-so either (a crafted dtype state makes NumPy read raw bytes as object pointers).
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast.errors import FileFormatError

__all__ = ["rebuilt", "unpickle"]

_REFUSED_OPCODES = frozenset(
    (
        "NEWOBJ",
        "INST",
        "OBJ",
        "NEWOBJ_EX",
        "PERSID",
        "BINPERSID",
        "EXT1",
        "EXT2",
        "EXT4",
        "NEXT_BUFFER",
        "READONLY_BUFFER",
    )
)
_MEMO_OPCODES = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_DTYPE = re.compile(r"([<>=|]?)(?:([fiu][1248])|([US]\d{0,6})|(O8?)|(b1))")


class _RefusedError(Exception):
    """The pickle holds something an array pickle does not need."""


class _Name:
    """What a name in the pickle stands for: something to call, and nothing else.

    Handing out the functions and classes themselves would let a pickle set attributes on them.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)

    def __setstate__(self, _: object) -> None:
        raise _RefusedError("a state for a name")


class _Dtype:
    """Stands in for `numpy.dtype`: plain numbers, text, bytes and objects."""

    def __init__(self, code: object, *_: object) -> None:
        match = _DTYPE.fullmatch(code) if isinstance(code, str) else None
        if match is None or code == "f1":
            raise _RefusedError(f"an array of dtype {code!r}")
        self.value = np.dtype(match.group(0))

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 7 or any(part is not None for part in state[2:5]):
            raise _RefusedError("a structured dtype")
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise _RefusedError(f"a dtype of byte order {order!r}")
        # The state repeats the size of text; a pickle that contradicts itself is not a NumPy pickle.
        if self.value.kind in "US" and state[5] != self.value.itemsize:
            raise _RefusedError("a dtype that contradicts its own size")
        if order in "<>" and self.value.kind != "O":
            self.value = self.value.newbyteorder(order)


class _Array:
    """Stands in for a `numpy.ndarray` while its state is read."""

    def __init__(self, value: NDArray[Any] | None = None) -> None:
        self.value = value

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("an array in an unknown state")
        _, shape, dtype, fortran, content = state
        self.value = _assembled(content, dtype, shape, "F" if fortran else "C")


def _assembled(content: object, dtype: object, shape: object, order: str) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype) or order not in ("C", "F") or dtype.value.itemsize == 0:
        raise _RefusedError("an array without a dtype or an order")
    if not isinstance(shape, tuple) or not all(type(extent) is int and extent >= 0 for extent in shape):
        raise _RefusedError(f"an array of shape {shape!r}")
    count = math.prod(shape)
    if dtype.value.kind == "O":
        if not isinstance(content, list) or len(content) != count:
            raise _RefusedError("an array whose shape contradicts its content")
        array = np.empty(count, dtype=object)
        array[:] = content
    else:
        if not isinstance(content, (bytes, bytearray)) or len(content) != count * dtype.value.itemsize:
            raise _RefusedError("an array whose shape contradicts its content")
        array = np.frombuffer(content, dtype.value, count) if content else np.empty(count, dtype.value)
        # NumPy would hand any number to the interpreter as a character, and fail inside it.
        if dtype.value.kind == "U" and count:
            characters = np.frombuffer(content, np.dtype(np.uint32).newbyteorder(dtype.value.byteorder))
            if characters.max() > sys.maxunicode:
                raise _RefusedError("text that is not Unicode")
    return array.reshape(shape, order="C" if order == "C" else "F")


def _reconstruct(_type: object, _shape: object, _code: object) -> _Array:
    return _Array()


def _frombuffer(buffer: object, dtype: object, shape: object, order: str, *_: object) -> _Array:
    return _Array(_assembled(buffer, dtype, shape, order))


def _scalar(dtype: object, content: object) -> object:
    return _assembled(content, dtype, (), "C").item()


def _encode(text: object, encoding: object) -> bytes:
    """Stand in for `_codecs.encode`, which is how protocols below 3 spell bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError("a call of _codecs.encode")
    return text.encode("latin1")


def _ndarray(*_: object) -> object:
    """Stand in for the type `numpy.ndarray`, which `_reconstruct` is given and nobody needs to call."""
    raise _RefusedError("a call of numpy.ndarray")


_STAND_INS: dict[tuple[str, str], _Name] = {
    ("numpy", "ndarray"): _Name(_ndarray),
    ("numpy", "dtype"): _Name(_Dtype),
    ("_codecs", "encode"): _Name(_encode),
}
# numpy 2 renamed the package its pickles refer to.
for _core in ("numpy._core", "numpy.core"):
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Name(_reconstruct)
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _Name(_scalar)
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _Name(_frombuffer)


def rebuilt(value: NDArray[Any]) -> _Array:
    """Return an array as a stand-in of a caller's gives it back."""
    return _Array(value)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, names: Mapping[tuple[str, str], Callable[..., object]]) -> None:
        super().__init__(io.BytesIO(data))
        self._names = {**_STAND_INS, **{name: _Name(call) for name, call in names.items()}}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise _RefusedError(f"a reference to {module}.{name}") from None


def unpickle(
    data: bytes, path: Path, names: Mapping[tuple[str, str], Callable[..., object]] | None = None
) -> object:
    """Read a pickle of containers, text, numbers and NumPy arrays.

    Args:
        data: The pickle.
        path: Where it came from, for messages.
        names: What else the pickle may refer to, (module, name) to a harmless stand-in for it.

    Raises:
        FileFormatError: It is damaged, or holds anything else. Nothing was executed.

    Examples:
        >>> import pickle
        >>> from pathlib import Path
        >>> unpickle(pickle.dumps({"ids": ["a", "b"]}), Path("a.pkl"))
        {'ids': ['a', 'b']}
    """
    try:
        _inspect(data)
        return _finished(_Unpickler(data, names or {}).load())
    except _RefusedError as cause:
        raise FileFormatError(
            f"{path}: refused: the pickle holds {cause}, which is not needed for arrays and could run code"
        ) from cause
    # Damaged pickles fail in every way the interpreter of the pickle machine can: there is no shorter list.
    except Exception as cause:
        raise FileFormatError(f"{path}: not a readable pickle: {cause or type(cause).__name__}") from cause


def _inspect(data: bytes) -> None:
    end = 0
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name in _REFUSED_OPCODES:
            raise _RefusedError(f"the opcode {opcode.name}")
        if opcode.name in _MEMO_OPCODES and (not isinstance(argument, int) or argument > len(data)):
            raise _RefusedError("a memo number beyond its size")
        end = position or 0
    if end != len(data) - 1:
        raise ValueError(f"{len(data) - 1 - end} bytes follow its end")


def _finished(value: object) -> object:
    """Replace the stand-ins by the arrays they have become."""
    if isinstance(value, _Array):
        if value.value is None:
            raise _RefusedError("an array without content")
        return value.value
    if isinstance(value, dict):
        return {key: _finished(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        finished = [_finished(item) for item in value]
        return finished if isinstance(value, list) else tuple(finished)
    return value
