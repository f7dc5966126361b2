"""Spatial verification of tentative correspondences."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilias_fast import _arrays, _core
from ilias_fast.errors import ParameterError
from ilias_fast.kernels.progress import Progress

__all__ = ["Instance", "Verification", "verify_instances", "verify_spatial"]

_named = tuple.__new__  # what NamedTuple._make does, in a third of the time


class Verification(NamedTuple):
    """The outcome of a spatial verification.

    Attributes:
        inliers: Number of tentative correspondences the model explains.
        model: float64 [2, 3], the affine map from query to database coordinates, or None without a model.
        mask: bool [t], which correspondences are inliers.

    Examples:
        >>> import numpy as np
        >>> found = verify_spatial(np.zeros((0, 2)), np.zeros((0, 2)), threshold=1.0)
        >>> found.inliers, found.model, found.mask.shape
        (0, None, (0,))
    """

    inliers: int
    model: NDArray[np.float64] | None
    mask: NDArray[np.bool_]


class Instance(NamedTuple):
    """One instance of the query's object in an image.

    Attributes:
        inliers: Number of tentative correspondences the model explains.
        model: float64 [2, 3], the map from query to database coordinates, or None without a model; [3, 3],
            applied to (x, y, 1) and divided by the third coordinate, where homographies were asked for.
        mask: bool [t], which correspondences are inliers.
        score: -ln of the number of equally good models expected by chance; 0 where chance explains it.
        hypotheses: Hypotheses tried.

    Examples:
        >>> import numpy as np
        >>> xy = np.random.default_rng(0).uniform(0, 100, (30, 2))
        >>> (found,) = verify_instances(xy, xy + 5, threshold=1.0)
        >>> found.inliers, found.score > 10
        (30, True)
    """

    inliers: int
    model: NDArray[np.float64] | None
    mask: NDArray[np.bool_]
    score: float
    hypotheses: int


def verify_spatial(
    query_xy: ArrayLike,
    database_xy: ArrayLike,
    *,
    threshold: float,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Find the affine map that explains most of a set of tentative correspondences, and count them.

    Hypotheses are similarities from pairs of correspondences and affine maps from triples: all of them up to
    a budget, a seeded sample beyond it, fewer where enough good ones are expected among those tried; the
    answer is deterministic. The best are refined by weighted least squares while the radius shrinks to the
    threshold (see `docs/rerank.md`). Maps that mirror, magnify beyond 0.1 to 10, or foreshorten below a
    quarter are not considered. `mask` is exactly `|A q_j + t - d_j| <= threshold` in float64 and `inliers`
    the number of its true entries. What random correspondences would reach is not believed: where more than
    a hundred maps as good are expected by chance, the most plausible one is returned (upright before turned
    before foreshortened, weighed against inliers), the best translation of more than 64 correspondences.

    One correspondence gives a translation, two a similarity or a translation, none gives no model.

    Args:
        query_xy: float32 [t, 2], positions (x, y) in the query.
        database_xy: float32 [t, 2], positions in the database image; row j of both is one correspondence.
        threshold: Largest distance of an inlier, in the units of `database_xy`; positive.
        threads: Number of threads; None for all cores. Only millions of correspondences take more than one.
        progress: Called with the number of models found: now and then with 0, and with 1 at the end.

    Returns:
        `Verification(inliers, model float64 [2, 3] or None, mask bool [t])`; the model maps query to
        database coordinates.

    Raises:
        ShapeError: The arrays are not both [t, 2].
        NonFiniteError: A position is NaN or infinite.
        ParameterError: The threshold is not positive and finite, or threads is below 1.

    Complexity: O(min(t, 128)) for each of at most 2,048 pairs and 50,000 * 16 / min(t, 128) triples.

    Examples:
        >>> import numpy as np
        >>> xy = np.random.default_rng(0).uniform(0, 100, (30, 2))
        >>> found = verify_spatial(xy, 2 * xy + 5, threshold=1.0)
        >>> found.inliers, np.abs(found.model.round(2)).tolist()
        (30, [[2.0, 0.0, 5.0], [0.0, 2.0, 5.0]])
    """
    if threads is not None:
        threads = _arrays.threads(threads)
    found = _core.verify_spatial(query_xy, database_xy, threshold, threads, progress)
    if found is None:  # something is to be converted; asking first would cost as much as an easy pair
        query = _arrays.float32_rows("query_xy", query_xy, "t, 2")
        database = _arrays.float32_rows("database_xy", database_xy, "t, 2")
        limit = _arrays.real("threshold", threshold)
        found = _core.verify_spatial(query, database, limit, threads, progress)
        assert found is not None, "nothing is left to be converted"
    return _named(Verification, found)


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
    threads: int | None = None,
    progress: Progress | None = None,
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
        threads: Number of threads; None for all cores. Fewer than thousands of correspondences take one.
        progress: Called now and then with the number of instances found so far.

    Returns:
        Instances, in the order found; none without correspondences.

    Raises:
        ShapeError: The arrays are not all [t, 2].
        NonFiniteError: A position is NaN or infinite.
        ParameterError: An option is out of range, or only one geometry is given.

    Examples:
        >>> import numpy as np
        >>> xy = np.random.default_rng(0).uniform(0, 100, (30, 2))
        >>> both = np.concatenate([xy + 5, 0.5 * xy + 300])
        >>> [one.inliers for one in verify_instances(np.tile(xy, (2, 1)), both, threshold=0.5, most=2)]
        [30, 30]
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
    _arrays.choice("hypotheses", hypotheses, ("similarity", "translation"))
    _arrays.choice("model", model, ("translation", "similarity", "affine", "homography"))
    fields = (_arrays.real("threshold", threshold), hypotheses, model)
    most = _arrays.at_least_one("most", most)
    threads = _arrays.threads(threads)
    found = _core.verify_instances(query, database, geometry, fields, most, threads, progress)
    return [Instance(*instance) for instance in found]
