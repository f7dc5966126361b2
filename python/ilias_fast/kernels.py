"""The drop-in functions: arrays in, arrays out.

Arguments are anything NumPy can read as an array (see `ilias_fast._arrays` for the conversion rule). Every
function releases the GIL, may be called from several threads and after a fork, and can be stopped by Ctrl-C.
No answer depends on `threads` or on the CPU level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast._core import Planes
from ilias_fast._counting import MapCounter, StreamedMap
from ilias_fast.errors import ParameterError, ShapeError

if TYPE_CHECKING:
    from ilias_fast.store import BinaryStore, GlobalStore

__all__ = [
    "HammingTopK",
    "ImageMatches",
    "Instance",
    "MapCounter",
    "Matches",
    "Planes",
    "StreamedMap",
    "TopK",
    "Verification",
    "average_precision",
    "build_planes",
    "chamfer",
    "hamming_topk",
    "match",
    "match_images",
    "streaming_map",
    "topk",
    "verify_instances",
    "verify_spatial",
]

Progress = Callable[[int], object]


@runtime_checkable
class _StoreBacked(Protocol):
    """What `GlobalStore` and `BinaryStore` are to a kernel: the owner of an opened core store."""

    @property
    def _core_store(self) -> _core.Store: ...


class TopK(NamedTuple):
    """The k best database rows of each query, best first.

    Attributes:
        scores: float32 [Q, k'], inner products.
        indices: int64 [Q, k'], database rows.
    """

    scores: NDArray[np.float32]
    indices: NDArray[np.int64]


class HammingTopK(NamedTuple):
    """The k nearest codes of each query, nearest first.

    Attributes:
        distances: int32 [Q, k'], in bits.
        indices: int64 [Q, k'], database rows.
    """

    distances: NDArray[np.int32]
    indices: NDArray[np.int64]


class Matches(NamedTuple):
    """Tentative correspondences, in the order of the query descriptors.

    Attributes:
        query: int32 [t], query descriptor.
        database: int32 [t], its nearest database descriptor.
        distance: int32 [t], Hamming distance in bits.
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
    """

    offsets: NDArray[np.int64]
    query: NDArray[np.int32]
    database: NDArray[np.int32]
    distance: NDArray[np.int32]


class Instance(NamedTuple):
    """One instance of the query's object in an image.

    Attributes:
        inliers: Number of tentative correspondences the model explains.
        model: float64 [2, 3], the map from query to database coordinates, or None without a model; [3, 3],
            applied to (x, y, 1) and divided by the third coordinate, where homographies were asked for.
        mask: bool [t], which correspondences are inliers.
        score: -ln of the number of equally good models expected by chance; 0 where chance explains it.
        hypotheses: Hypotheses tried.
    """

    inliers: int
    model: NDArray[np.float64] | None
    mask: NDArray[np.bool_]
    score: float
    hypotheses: int


class Verification(NamedTuple):
    """The outcome of a spatial verification.

    Attributes:
        inliers: Number of tentative correspondences the model explains.
        model: float64 [2, 3], the affine map from query to database coordinates, or None without a model.
        mask: bool [t], which correspondences are inliers.
    """

    inliers: int
    model: NDArray[np.float64] | None
    mask: NDArray[np.bool_]


def topk(
    queries: ArrayLike,
    database: ArrayLike | GlobalStore,
    k: int,
    *,
    planes: Planes | None = None,
    selected: ArrayLike | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> TopK:
    """Find the k database vectors with the largest inner product, exactly.

    The score of a pair is `numpy.float32(math.fsum(q_i * x_i))`: the exact inner product of the float32 query
    and the float16 row, rounded to float64 and then to float32 (-0.0 becomes 0.0; a score beyond float32 is
    infinite). Results are ordered by (score descending,
    index ascending). The answer is the same, bit for bit, for any CPU level, number of threads, batch and
    shard size.

    Args:
        queries: float32 [Q, d], finite.
        database: float16 [n, d], finite, or a `GlobalStore`, which is streamed.
        k: How many results per query, at least 1; fewer are returned if the database has fewer rows.
        planes: What `build_planes` made of this very array: searches with few queries read half the bytes. A
            store brings its own (`ilias_fast.store.build_planes`).
        selected: bool [n]; only rows where it is true are searched. None searches all.
        threads: Number of threads; None for all cores (or `ILIAS_FAST_THREADS`).
        progress: Called now and then with the number of database rows finished so far.

    Returns:
        `TopK(scores float32 [Q, k'], indices int64 [Q, k'])` with k' = min(k, rows searched).

    Raises:
        ShapeError: The dimensions of queries and database differ, or an array is not a matrix.
        DtypeError: The database is not float16 and would have to be rounded.
        NonFiniteError: A query or a searched database row holds NaN or an infinity.
        ParameterError: k or threads is below 1.

    Complexity: O(Q n d) multiply-adds; memory O(Q (d + k)), with few queries times the number of threads,
    independent of n.
    """
    rows = _arrays.float32_rows("queries", queries)
    mask = None if selected is None else _arrays.vector("selected", selected, "b", np.bool_)
    k = _arrays.at_least_one("k", k)
    threads = _arrays.threads(threads)
    if isinstance(database, _StoreBacked):
        if planes is not None:
            raise ParameterError("planes: expected None, as a store brings its own, found planes of an array")
        return TopK(*_core.topk_store(rows, database._core_store, k, mask, threads, progress))
    array = _arrays.float16_rows("database", database)
    return TopK(*_core.topk(rows, array, k, mask, threads, progress, planes=planes))


def build_planes(
    database: ArrayLike, *, threads: int | None = None, progress: Progress | None = None
) -> Planes:
    """Rotate and quantise the rows of a database once, for many calls of `topk` with it.

    They tell which rows are looked at closer; the answer of `topk` has the same bits with and without them.

    Args:
        database: float16 [n, d], finite, d at least 1.
        threads: Number of threads; None for all cores.
        progress: Called now and then with the number of database rows finished so far.

    Returns:
        Planes to hand to `topk` with the same array; d + 16 bytes a row, d rounded up to a multiple of 64.

    Raises:
        ShapeError, DtypeError: The database is not a float16 matrix.
        NonFiniteError: A row holds NaN or an infinity.
        ParameterError: Rows are empty, or longer than 65,536 values.
    """
    return Planes.build(_arrays.float16_rows("database", database), _arrays.threads(threads), progress)


def hamming_topk(
    queries: ArrayLike,
    database: ArrayLike | BinaryStore,
    k: int,
    *,
    selected: ArrayLike | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> HammingTopK:
    """Find the k database codes with the smallest Hamming distance, exactly; ties by index.

    Args:
        queries: uint8 [Q, b], packed codes.
        database: uint8 [n, b], or a `BinaryStore`, which is streamed.
        k: How many results per query, at least 1; fewer are returned if the database has fewer rows.
        selected: bool [n]; only rows where it is true are searched. None searches all.
        threads: Number of threads; None for all cores.
        progress: Called now and then with the number of database rows finished so far.

    Returns:
        `HammingTopK(distances int32 [Q, k'], indices int64 [Q, k'])` with k' = min(k, rows searched).

    Raises:
        ShapeError: The code lengths of queries and database differ, or an array is not a matrix.
        DtypeError: Codes are not uint8.
        ParameterError: k or threads is below 1.

    Complexity: O(Q n b) bits counted; memory O(Q k), independent of n.
    """
    rows = _arrays.codes("queries", queries, "Q, bytes")
    mask = None if selected is None else _arrays.vector("selected", selected, "b", np.bool_)
    k = _arrays.at_least_one("k", k)
    threads = _arrays.threads(threads)
    if isinstance(database, _StoreBacked):
        return HammingTopK(*_core.hamming_topk_store(rows, database._core_store, k, mask, threads, progress))
    codes = _arrays.codes("database", database)
    return HammingTopK(*_core.hamming_topk(rows, codes, k, mask, threads, progress))


def match(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    *,
    max_distance: int = 32,
    ratio: float = 1.0,
    mutual: bool = False,
) -> Matches:
    """Find tentative correspondences: each query descriptor's nearest database descriptor, if near enough.

    Args:
        query_codes: uint8 [m, b], packed binary descriptors.
        database_codes: uint8 [n, b].
        max_distance: Largest Hamming distance, in bits, that is kept (32 of 128 in the ILIAS paper).
        ratio: Keep a pair only if its distance is at most this share of the distance to the second nearest
            database descriptor; 1 or more keeps all.
        mutual: Keep a pair only if the query descriptor is also the database descriptor's nearest.

    Returns:
        `Matches(query int32 [t], database int32 [t], distance int32 [t])`, in the order of the query
        descriptors; among equally near database descriptors the lowest index wins. Empty if either side is.

    Raises:
        ShapeError: The code lengths differ, or an array is not a matrix.
        DtypeError: Codes are not uint8.
        ParameterError: max_distance is negative, or ratio is not above 0.
    """
    query = _arrays.codes("query_codes", query_codes, "m, bytes")
    database = _arrays.codes("database_codes", database_codes)
    max_distance, ratio = _arrays.count("max_distance", max_distance), _arrays.real("ratio", ratio)
    return Matches(*_core.match_codes(query, database, max_distance, ratio, bool(mutual)))


def match_images(
    query_codes: ArrayLike,
    codes: ArrayLike,
    offsets: ArrayLike,
    *,
    max_distance: int = 32,
    ratio: float = 1.0,
    mutual: bool = False,
    threads: int | None = None,
) -> ImageMatches:
    """Find the tentative correspondences of a query in N images: `match` for each, in one call.

    Args:
        query_codes: uint8 [m, b], packed binary descriptors of the query.
        codes: uint8 [sum of n_i, b], descriptors of all images, one image after the other.
        offsets: int64 [N + 1], image i owns rows `offsets[i]:offsets[i + 1]`.
        max_distance: See `match`.
        ratio: See `match`.
        mutual: See `match`.
        threads: Number of threads; None for all cores.

    Returns:
        `ImageMatches(offsets int64 [N + 1], query int32 [t], database int32 [t], distance int32 [t])`: image
        i owns correspondences `offsets[i]:offsets[i + 1]`, whose `database` counts from its first descriptor.

    Raises:
        ShapeError: The code lengths differ, or the last offset is not the number of rows.
        ParameterError: Offsets do not start at 0 or decrease, or an option is out of range.
        DtypeError: Codes are not uint8 or offsets not integers.
    """
    query = _arrays.codes("query_codes", query_codes, "m, bytes")
    rows = _arrays.codes("codes", codes)
    starts = _arrays.offsets("offsets", offsets)
    max_distance, ratio = _arrays.count("max_distance", max_distance), _arrays.real("ratio", ratio)
    threads = _arrays.threads(threads)
    ends, columns = _core.match_images(query, rows, starts, max_distance, ratio, bool(mutual), threads)
    return ImageMatches(ends, *columns)


def chamfer(
    query_codes: ArrayLike,
    codes: ArrayLike,
    offsets: ArrayLike,
    *,
    direction: Literal["query", "database", "symmetric"] = "query",
    precision: Literal["float32", "bfloat16"] = "float32",
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Score N images against a query by Chamfer similarity of binary or of float descriptors.

    The score of image i is the sum over query descriptors of the maximum over the image's descriptors of
    their similarity; 0 for an image without descriptors. The similarity of packed codes (uint8) is
    `1 - 2 * hamming / bits`; that sum is over integers, so it is exact before its one rounding to float32.
    The similarity of float descriptors is their inner product (MaxSim); each is one chain of float32
    multiply-adds, with an error of at most `d * 2**-24 * sum of |q x|`, and the sum over descriptors is
    float64 (see `docs/numerics.md`).

    Args:
        query_codes: uint8 [m, b], packed binary descriptors of the query, or float32 [m, d].
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

    Returns:
        float32 [N].

    Raises:
        ShapeError: The lengths of descriptors differ, or the last offset is not the number of rows.
        ParameterError: Offsets do not start at 0 or decrease; an unknown direction or precision.
        DtypeError: Codes are not uint8, float descriptors of images not float16, or offsets not integers.
        NonFiniteError: A float descriptor holds NaN or an infinity.
    """
    threads = _arrays.threads(threads)
    starts = _arrays.offsets("offsets", offsets)
    if np.asarray(query_codes).dtype.kind == "f":
        queries = _arrays.float32_rows("query_codes", query_codes, "m, d")
        rows = _arrays.float16_rows("codes", codes)
        return _core.chamfer_float(queries, rows, starts, direction, precision, threads)
    query = _arrays.codes("query_codes", query_codes, "m, bytes")
    return _core.chamfer(query, _arrays.codes("codes", codes), starts, direction, threads)


def verify_spatial(query_xy: ArrayLike, database_xy: ArrayLike, *, threshold: float) -> Verification:
    """Find the affine map that explains most of a set of tentative correspondences, and count them.

    Hypotheses are similarities from pairs of correspondences and affine maps from triples: all of them up to
    a budget, a seeded sample beyond it, fewer where enough good ones are expected among those tried; the
    answer is deterministic. The best are refined by weighted least squares while the radius shrinks to the
    threshold (see `docs/rerank.md`). Maps that mirror, magnify beyond 0.1 to 10, or foreshorten below a
    quarter are not considered. `mask` is exactly `|A q_j + t - d_j| <= threshold` in float64 and `inliers`
    the number of its true entries. What random correspondences would reach is not believed: where more than
    a hundred maps as good are expected by chance, the best translation is returned.

    One correspondence gives a translation, two a similarity or a translation, none gives no model.

    Args:
        query_xy: float32 [t, 2], positions (x, y) in the query.
        database_xy: float32 [t, 2], positions in the database image; row j of both is one correspondence.
        threshold: Largest distance of an inlier, in the units of `database_xy`; positive.

    Returns:
        `Verification(inliers, model float64 [2, 3] or None, mask bool [t])`; the model maps query to
        database coordinates.

    Raises:
        ShapeError: The arrays are not both [t, 2].
        NonFiniteError: A position is NaN or infinite.
        ParameterError: The threshold is not positive and finite.

    Complexity: O(min(t, 128)) for each of at most 2,048 pairs and 50,000 * 16 / min(t, 128) triples.
    """
    query = _arrays.float32_rows("query_xy", query_xy, "t, 2")
    database = _arrays.float32_rows("database_xy", database_xy, "t, 2")
    return Verification(*_core.verify_spatial(query, database, _arrays.real("threshold", threshold)))


def verify_instances(
    query_xy: ArrayLike,
    database_xy: ArrayLike,
    *,
    threshold: float,
    query_geometry: ArrayLike | None = None,
    database_geometry: ArrayLike | None = None,
    hypotheses: Literal["similarity", "translation"] = "similarity",
    model: Literal["translation", "similarity", "affine", "homography"] = "affine",
    most: int = 1,
) -> list[Instance]:
    """Find instances of an object in an image, with options and with scores; see `verify_spatial`.

    After each instance its inliers are taken away and the rest is verified again, until `most` are found or
    chance explains the next one. The first is returned whatever its score.

    Args:
        query_xy: float32 [t, 2], positions (x, y) in the query.
        database_xy: float32 [t, 2], positions in the database image; row j of both is one correspondence.
        threshold: Largest distance of an inlier, in the units of `database_xy`; positive.
        query_geometry: float32 [t, 2], scale (in the units of `query_xy`) and angle (in radians) of each
            correspondence's keypoint in the query. With both geometries each correspondence gives a
            similarity, which is faster and finds more.
        database_geometry: float32 [t, 2], the same in the database image.
        hypotheses: "similarity", or "translation" of each correspondence as in the ILIAS paper.
        model: The richest family of maps that is fitted. "homography" goes on from the affine map by
            normalised direct linear transforms (Hartley 1997), and keeps a homography only if chance explains
            its inliers less well; it must not mirror, fold or collapse the area of its inliers.
        most: How many instances to find at most.

    Returns:
        Instances, in the order found; none without correspondences.

    Raises:
        ShapeError: The arrays are not all [t, 2].
        NonFiniteError: A position is NaN or infinite.
        ParameterError: An option is out of range, or only one geometry is given.
    """
    query = _arrays.float32_rows("query_xy", query_xy, "t, 2")
    database = _arrays.float32_rows("database_xy", database_xy, "t, 2")
    geometry = None
    if query_geometry is not None and database_geometry is not None:
        geometry = (
            _arrays.float32_rows("query_geometry", query_geometry, "t, 2"),
            _arrays.float32_rows("database_geometry", database_geometry, "t, 2"),
        )
    elif query_geometry is not None or database_geometry is not None:
        raise ParameterError("query_geometry, database_geometry: expected both or neither, found one")
    fields = (_arrays.real("threshold", threshold), hypotheses, model)
    most = _arrays.at_least_one("most", most)
    return [Instance(*found) for found in _core.verify_instances(query, database, geometry, fields, most)]


def average_precision(scores: ArrayLike, relevant: ArrayLike, *, positives: int, k: int) -> float:
    """Compute AP@k with the official ILIAS semantics.

    Results are sorted by score, descending; among equal scores the earlier one comes first, which matters
    only at the cut at k. Equal scores inside the cut form one block whose precision is taken at its end:
    AP = sum over blocks of d * tp / n, divided by min(k, positives).

    Args:
        scores: float32 or float64 [n], finite.
        relevant: bool [n].
        positives: Number of positives in the database (found or not), at least the number in the list.
        k: Cut, at least 1.

    Returns:
        AP in [0, 1]; 0.0 without positives.

    Raises:
        ShapeError: The arrays differ in length.
        NonFiniteError: A score is NaN or infinite.
        ParameterError: k is below 1, or positives is below the number of relevant results.

    Complexity: O(n log n), O(n) if the scores are sorted already.
    """
    values = _arrays.vector("scores", scores, "fiu", np.float64)
    flags = _arrays.vector("relevant", relevant, "b", np.bool_)
    return _core.average_precision(
        values, flags, _arrays.count("positives", positives), _arrays.count("k", k)
    )


def streaming_map(
    positive_scores: Sequence[ArrayLike],
    blocks: Iterable[ArrayLike],
    *,
    prefixes: Sequence[int] = (),
    subsets: Sequence[ArrayLike] = (),
    k: int = 1000,
    threads: int | None = None,
) -> StreamedMap:
    """Compute mAP@k for prefixes and subsets of a database from blocks of scores, without a ranking.

    Equal to `average_precision` of the whole list, ties included, with the positives in front of the
    distractors. Memory is O(positives x (prefixes + subsets)) beside one block. `MapCounter` is the same in
    steps: it can be saved, resumed and merged.

    Args:
        positive_scores: For each of Q queries, float32 [p], the scores of its positives.
        blocks: float32 [Q, n] each, scores of consecutive distractors.
        prefixes: Numbers of distractors to evaluate at.
        subsets: For each random subset, bool [N], whether each of the N distractors belongs to it.
        k: The cut, at least 1.
        threads: Number of threads; None for all cores.

    Returns:
        `StreamedMap(prefixes int64 [m], prefix_aps float64 [m, Q], subset_aps float64 [s, Q])`, in [0, 1].

    Raises:
        ShapeError: A block has not Q rows, or a subset not N entries.
        NonFiniteError: A score is NaN or infinite.
        ParameterError: k is below 1, or a prefix is larger than N.

    Complexity: O(scores x positives of a query) at worst, at memory speed where most scores lie below them.
    """
    counter = MapCounter(positive_scores, prefixes=prefixes, subsets=len(subsets))
    chosen = [_arrays.vector(f"subsets[{s}]", subset, "b", np.bool_, "N") for s, subset in enumerate(subsets)]
    first = 0
    for block in blocks:
        scores = _arrays.float32_rows("blocks", block, "Q, n")
        stop = first + scores.shape[1]
        members = np.array([subset[first:stop] for subset in chosen]) if chosen else None
        counter.add(scores, first, members=members, threads=threads)
        first = stop
    for number, subset in enumerate(chosen):
        if len(subset) != first:
            raise ShapeError(
                f"subsets[{number}]: expected {first} entries, one a distractor, found {len(subset)}"
            )
    return counter.result(k)
