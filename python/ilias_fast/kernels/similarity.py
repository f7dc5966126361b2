"""Similarities of images by their local descriptors."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast.kernels.progress import Progress

__all__ = ["chamfer"]


def chamfer(
    query_codes: ArrayLike,
    codes: ArrayLike,
    offsets: ArrayLike,
    *,
    direction: Literal["query", "database", "symmetric"] = "query",
    precision: Literal["float32", "bfloat16"] = "float32",
    threads: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Score N images against a query by Chamfer similarity of binary or of float descriptors.

    The score of image i is the sum over query descriptors of the maximum over the image's descriptors of
    their similarity; 0 for an image without descriptors. The similarity of packed codes (uint8) is
    `1 - 2 * hamming / bits`; that sum is over integers, so it is exact before its one rounding to float32.
    The similarity of float descriptors is their inner product (MaxSim); each is one chain of float32
    multiply-adds, with an error of at most `d * 2**-24 * sum of |q x|`, and the sum over descriptors is
    float64 (see `docs/numerics.md`).

    Args:
        query_codes: uint8 [m, b], packed binary descriptors of the query, b from 1 to 64; or float32 [m, d].
        codes: uint8 [sum of n_i, b], descriptors of all images, one image after the other, or
            float16 [sum of n_i, d].
        offsets: int64 [N + 1], image i owns rows `offsets[i]:offsets[i + 1]`.
        direction: "query" for the sum over query descriptors; "database" for the sum over the image's
            descriptors of the maximum over the query's; "symmetric" for the mean of both, each divided by
            its number of descriptors first.
        precision: Of float descriptors: "bfloat16" rounds both sides to bfloat16 first, which is about twice
            as fast where the CPU multiplies bfloat16, with a relative error of about 2**-8 in each product.
            Only then may the last bits depend on the CPU level.
        threads: Number of threads; None for all cores.
        progress: Called now and then with the number of images finished so far.

    Returns:
        float32 [N].

    Raises:
        ShapeError: The lengths of descriptors differ, codes are not of 1 to 64 bytes, or the last offset is
            not the number of rows.
        ParameterError: Offsets do not start at 0 or decrease; an unknown direction or precision.
        DtypeError: Codes are not uint8, float descriptors of images not float16, or offsets not integers.
        NonFiniteError: A float descriptor holds NaN or an infinity.

    Examples:
        >>> import numpy as np
        >>> codes = np.array([[0b1111_0000], [0b1111_1111]], np.uint8)
        >>> chamfer(codes, codes, [0, 1, 1, 2]).tolist()
        [1.0, 0.0, 1.0]
        >>> chamfer(np.eye(2), np.eye(2, dtype=np.float16), [0, 2]).tolist()
        [2.0]
    """
    _arrays.choice("direction", direction, ("query", "database", "symmetric"))
    _arrays.choice("precision", precision, ("float32", "bfloat16"))
    threads = _arrays.threads(threads)
    starts = _arrays.offsets("offsets", offsets)
    if _arrays.is_float("query_codes", query_codes):
        queries = _arrays.float32_rows("query_codes", query_codes, "m, d")
        rows = _arrays.float16_rows("codes", codes)
        return _core.chamfer_float(queries, rows, starts, direction, precision, threads, progress)
    query = _arrays.codes("query_codes", query_codes, "m, bytes")
    return _core.chamfer(query, _arrays.codes("codes", codes), starts, direction, threads, progress)
