"""How array arguments are read: one rule for every function.

Anything NumPy can see without copying (arrays, memmaps, torch CPU tensors, `__array__`, the array interface,
DLPack) is used in place when it is C-contiguous and of the right dtype. Anything else is converted, at the
cost of one copy a call (memory of the argument's size, and the time to read and write it), but only if the
conversion keeps the values: integers and narrower floats widen, float64 rounds to float32 where a float32
*query* is asked for, and nothing else is rounded silently. Packed codes must already be uint8: bytes that
were not meant as codes cannot be told from those that were. What is on another device is refused, and an
`out` array is never converted.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast.errors import DtypeError, ParameterError, ShapeError

__all__ = [
    "any_array",
    "at_least",
    "at_least_one",
    "choice",
    "codes",
    "count",
    "flag",
    "float16_rows",
    "float32_rows",
    "is_float",
    "offsets",
    "output",
    "real",
    "threads",
    "vector",
]


_UINT8, _FLOAT16, _FLOAT32 = np.dtype(np.uint8), np.dtype(np.float16), np.dtype(np.float32)
_PLAIN = 0x101  # the flags C_CONTIGUOUS and ALIGNED of NumPy's C interface
_MOST_THREADS = 1024
_LONGEST = 80
"""Characters of a value that a message shows."""


def any_array(name: str, value: ArrayLike, dimensions: str) -> NDArray[Any]:
    """Return what NumPy sees of an argument, of any dtype, with as many dimensions as `dimensions` names."""
    if np.ma.is_masked(value):
        raise DtypeError(f"{name}: expected values everywhere, found a masked array (fill it first)")
    try:
        array = _seen(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as cause:
        raise DtypeError(f"{name}: expected an array, found {type(value).__name__} ({cause})") from cause
    if array.ndim != dimensions.count(",") + 1:
        raise ShapeError(f"{name}: expected shape [{dimensions}], found {list(array.shape)}")
    return array


def _seen(value: Any) -> NDArray[Any]:
    """Return what NumPy sees without copying; DLPack only where nothing older is offered."""
    if hasattr(value, "__dlpack__") and not (
        hasattr(value, "__array__") or hasattr(value, "__array_interface__")
    ):
        return np.from_dlpack(value)
    return np.asarray(value)


def float32_rows(name: str, value: ArrayLike, dimensions: str = "Q, d") -> NDArray[np.float32]:
    """Return real numbers as a C-contiguous float32 matrix; float64 is rounded."""
    if type(value) is np.ndarray and value.dtype is _FLOAT32 and value.ndim == 2 and _is_plain(value):
        return value  # the common case, at a fraction of the time of what follows
    array = any_array(name, value, dimensions)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise DtypeError(f"{name}: expected float32 (or a real type it can hold), found {array.dtype}")
    return _contiguous(array, np.float32)


def _is_plain(array: NDArray[Any]) -> bool:
    """Return whether an array is C-contiguous and its values lie where their type wants them."""
    return array.flags.num & _PLAIN == _PLAIN


def _contiguous(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Return a C-contiguous array of `dtype`; too large a number is infinite, and refused later."""
    if array.dtype == dtype:
        return np.ascontiguousarray(array) if array.flags.aligned else np.array(array, order="C")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=dtype)


def float16_rows(name: str, value: ArrayLike, dimensions: str = "n, d") -> NDArray[np.float16]:
    """Return a C-contiguous float16 matrix; wider types only if every value is a float16 already."""
    if type(value) is np.ndarray and value.dtype is _FLOAT16 and value.ndim == 2 and _is_plain(value):
        return value  # the common case, at a fraction of the time of what follows
    array = any_array(name, value, dimensions)
    if array.dtype == np.float16:
        return _contiguous(array, np.float16)
    if array.dtype.kind not in "fiu":
        raise DtypeError(f"{name}: expected float16, found {array.dtype}")
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.array_equal(half, array, equal_nan=array.dtype.kind == "f"):
        raise DtypeError(
            f"{name}: expected float16, found {array.dtype} with values float16 cannot hold exactly; "
            f"round it yourself with .astype(numpy.float16) if that is what you want"
        )
    return np.ascontiguousarray(half)


def codes(name: str, value: ArrayLike, dimensions: str = "n, bytes") -> NDArray[np.uint8]:
    """Return packed binary codes as a C-contiguous uint8 matrix; no other dtype is accepted."""
    if type(value) is np.ndarray and value.dtype is _UINT8 and value.ndim == 2 and _is_plain(value):
        return value  # the common case, at a fraction of the time of what follows
    array = any_array(name, value, dimensions)
    if array.dtype != np.uint8:
        raise DtypeError(f"{name}: expected packed codes of dtype uint8, found {array.dtype}")
    return np.ascontiguousarray(array)


def is_float(name: str, value: ArrayLike) -> bool:
    """Return whether a matrix holds floats."""
    return any_array(name, value, "m, d").dtype.kind == "f"


def offsets(name: str, value: ArrayLike) -> NDArray[np.int64]:
    """Return row offsets as a contiguous int64 vector."""
    array = any_array(name, value, "N + 1")
    if array.dtype.kind not in "iu":
        raise DtypeError(f"{name}: expected int64, found {array.dtype}")
    return _contiguous(array, np.int64)


def count(name: str, value: SupportsIndex) -> int:
    """Return a whole number that fits int64; its range is checked where its meaning is known.

    True and False are no numbers here.
    """
    if type(value) is int and -(2**63) <= value < 2**63:
        return value  # the common case
    if isinstance(value, bool):
        raise ParameterError(f"{name}: expected a whole number, found {value!r}")
    try:
        number = operator.index(value)
    except TypeError as cause:
        raise ParameterError(f"{name}: expected a whole number, found {_short(value)}") from cause
    if not -(2**63) <= number < 2**63:
        raise ParameterError(f"{name}: expected a whole number that fits 64 bits, found {_short(number)}")
    return number


def at_least(name: str, value: SupportsIndex, least: int) -> int:
    """Return a whole number that is at least `least`."""
    number = count(name, value)
    if number < least:
        raise ParameterError(f"{name}: expected at least {least}, found {number}")
    return number


def at_least_one(name: str, value: SupportsIndex) -> int:
    """Return a whole number that is at least 1."""
    return at_least(name, value, 1)


def choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is none of `choices`, with the one that was probably meant."""
    if isinstance(value, str) and value in choices:
        return
    *others, last = map(repr, choices)
    meant = difflib.get_close_matches(value.lower(), choices, 1) if isinstance(value, str) else []
    hint = f"; did you mean {meant[0]!r}?" if meant else ""
    raise ParameterError(f"{name}: expected {', '.join(others)} or {last}, found {_short(value)}{hint}")


def flag(name: str, value: object) -> bool:
    """Return True or False; nothing else is taken for it, as the string "no" would be True."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise ParameterError(f"{name}: expected True or False, found {_short(value)}")


def _short(value: object) -> str:
    """Return what a value looks like, on one line of a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 4 :]}"


def output(
    name: str, value: Any, shape: tuple[int, ...], dtype: type[np.generic], inputs: Sequence[NDArray[Any]]
) -> NDArray[Any]:
    """Return the array a result is written into, never converted, as that would be lost; None makes one."""
    if value is None:
        return np.empty(shape, dtype)
    array = any_array(name, value, ", ".join(map(str, shape)))
    if array.dtype != dtype:
        raise DtypeError(f"{name}: expected {np.dtype(dtype)}, found {array.dtype}")
    if array.shape != shape:
        raise ShapeError(f"{name}: expected shape {list(shape)}, found {list(array.shape)}")
    if not (_is_plain(array) and array.flags.writeable):
        raise ParameterError(f"{name}: expected a C-contiguous, aligned array that can be written to")
    if any(np.may_share_memory(array, other) for other in inputs):
        raise ParameterError(f"{name}: expected memory of its own, found that of another argument")
    return array


def real(name: str, value: SupportsFloat) -> float:
    """Return a real number as a float; its range is checked where its meaning is known."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ParameterError(f"{name}: expected a number, found {_short(value)}")
    try:
        return float(value)
    except OverflowError as cause:
        raise ParameterError(f"{name}: expected a number float64 can hold, found {_short(value)}") from cause


def threads(value: SupportsIndex | None) -> int | None:
    """Return a number of threads, 1 to 1024 as the core takes it, or None, which leaves it to the core."""
    if value is not None and at_least_one("threads", value) > _MOST_THREADS:
        raise ParameterError(f"threads: expected a whole number from 1 to {_MOST_THREADS}, found {value}")
    return None if value is None else operator.index(value)


def vector(
    name: str, value: ArrayLike, kinds: str, dtype: type[np.generic], dimensions: str = "n"
) -> NDArray[Any]:
    """Return a contiguous vector of `dtype` from an array whose dtype kind is one of `kinds`."""
    if type(value) is np.ndarray and value.dtype == dtype and value.ndim == 1 and _is_plain(value):
        return value  # the common case, at a fraction of the time of what follows
    array = any_array(name, value, dimensions)
    if array.dtype.kind not in kinds:
        raise DtypeError(f"{name}: expected {np.dtype(dtype)}, found {array.dtype}")
    return _contiguous(array, dtype)
