"""Tentative correspondences between binary descriptors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast.kernels.progress import Progress

__all__ = ["ImageMatches", "Matches", "match", "match_images"]

_named = tuple.__new__  # what NamedTuple._make does, in a third of the time


class Matches(NamedTuple):
    """Tentative correspondences, in the order of the query descriptors.

    Attributes:
        query: int32 [t], query descriptor.
        database: int32 [t], its nearest database descriptor.
        distance: int32 [t], Hamming distance in bits.

    Examples:
        >>> import numpy as np
        >>> query, database, distance = match(np.zeros((1, 4), np.uint8), np.zeros((2, 4), np.uint8))
        >>> query.tolist(), database.tolist(), distance.tolist()
        ([0], [0], [0])
    """

    query: NDArray[np.int32]
    database: NDArray[np.int32]
    distance: NDArray[np.int32]


class ImageMatches(NamedTuple):
    """Tentative correspondences of one query in many images.

    Attributes:
        offsets: int64 [N + 1], image i owns correspondences `offsets[i]:offsets[i + 1]`.
        query: int32 [t], query descriptor.
        database: int32 [t], its nearest descriptor of the image, counted from the image's first.
        distance: int32 [t], Hamming distance in bits.

    Examples:
        >>> import numpy as np
        >>> codes = np.zeros((3, 4), np.uint8)
        >>> found = match_images(codes[:1], codes, [0, 1, 3])
        >>> found.query[found.offsets[1] : found.offsets[2]].tolist()
        [0]
    """

    offsets: NDArray[np.int64]
    query: NDArray[np.int32]
    database: NDArray[np.int32]
    distance: NDArray[np.int32]


def match(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    *,
    max_distance: int = 32,
    ratio: float = 1.0,
    mutual: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Matches:
    """Find tentative correspondences: each query descriptor's nearest database descriptor, if near enough.

    Args:
        query_codes: uint8 [m, b], packed binary descriptors of 8 b bits, b from 1 to 64.
        database_codes: uint8 [n, b].
        max_distance: Largest Hamming distance, in bits, that is kept (32 of 128 in the ILIAS paper).
        ratio: Keep a pair only if its distance is at most this share of the distance to the second nearest
            database descriptor; 1 or more keeps all.
        mutual: Keep a pair only if the query descriptor is also the database descriptor's nearest.
        threads: Number of threads, of which a pair of ordinary images takes one; None for all cores.
        progress: Called now and then with the number of query descriptors searched for so far.

    Returns:
        `Matches(query int32 [t], database int32 [t], distance int32 [t])`, in the order of the query
        descriptors; among equally near database descriptors the lowest index wins. Empty if either side is.

    Raises:
        ShapeError: The code lengths differ or are none of 1 to 64 bytes, or an array is not a matrix.
        DtypeError: Codes are not uint8.
        ParameterError: max_distance is negative, ratio is not above 0, or threads is below 1.

    Examples:
        >>> import numpy as np
        >>> query = np.array([[0b1111_0000], [0b0000_0000]], np.uint8)
        >>> database = np.array([[0b0000_0001], [0b1111_0001]], np.uint8)
        >>> match(query, database, max_distance=1).database.tolist()
        [1, 0]
    """
    if threads is not None:
        threads = _arrays.threads(threads)
    found = _core.match_codes(query_codes, database_codes, max_distance, ratio, mutual, threads, progress)
    if found is None:  # something is to be converted; asking first would cost a tenth of a call
        query = _arrays.codes("query_codes", query_codes, "m, bytes")
        database = _arrays.codes("database_codes", database_codes)
        limit, share = _arrays.count("max_distance", max_distance), _arrays.real("ratio", ratio)
        crossed = _arrays.flag("mutual", mutual)
        found = _core.match_codes(query, database, limit, share, crossed, threads, progress)
        assert found is not None, "nothing is left to be converted"
    return _named(Matches, found)


def match_images(
    query_codes: ArrayLike,
    codes: ArrayLike,
    offsets: ArrayLike,
    *,
    max_distance: int = 32,
    ratio: float = 1.0,
    mutual: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ImageMatches:
    """Find the tentative correspondences of a query in N images: `match` for each, in one call.

    Args:
        query_codes: uint8 [m, b], packed binary descriptors of the query, b from 1 to 64.
        codes: uint8 [sum of n_i, b], descriptors of all images, one image after the other.
        offsets: int64 [N + 1], image i owns rows `offsets[i]:offsets[i + 1]`.
        max_distance: See `match`.
        ratio: See `match`.
        mutual: See `match`.
        threads: Number of threads; None for all cores.
        progress: Called now and then with the number of images finished so far.

    Returns:
        `ImageMatches(offsets int64 [N + 1], query int32 [t], database int32 [t], distance int32 [t])`: image
        i owns correspondences `offsets[i]:offsets[i + 1]`, whose `database` counts from its first descriptor.

    Raises:
        ShapeError: The code lengths differ or are none of 1 to 64 bytes, or the last offset is not the number
            of rows.
        ParameterError: Offsets do not start at 0 or decrease, or an option is out of range.
        DtypeError: Codes are not uint8 or offsets not integers.

    Examples:
        >>> import numpy as np
        >>> codes = np.array([[1], [2], [1]], np.uint8)
        >>> found = match_images(codes[:1], codes, [0, 2, 3], max_distance=0)
        >>> found.offsets.tolist(), found.database.tolist()
        ([0, 1, 2], [0, 0])
    """
    query = _arrays.codes("query_codes", query_codes, "m, bytes")
    rows = _arrays.codes("codes", codes)
    starts = _arrays.offsets("offsets", offsets)
    max_distance, ratio = _arrays.count("max_distance", max_distance), _arrays.real("ratio", ratio)
    threads = _arrays.threads(threads)
    ends, columns = _core.match_images(
        query, rows, starts, max_distance, ratio, _arrays.flag("mutual", mutual), threads, progress
    )
    return ImageMatches(ends, *columns)
