"""The correspondences of one pair of images, to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _core
from ilias_fast.errors import IncompatibleStoreError
from ilias_fast.rerank.options import SpatialOptions

if TYPE_CHECKING:
    from ilias_fast.store import LocalImage, LocalStore

__all__ = ["Correspondences", "correspondences"]


@dataclass(frozen=True, eq=False)
class Correspondences:
    """The tentative correspondences of a pair of images and which of them a model explains.

    Attributes:
        query_xy: float32 [t, 2], keypoints in the query, in pixels.
        database_xy: float32 [t, 2], keypoints in the database image, in pixels.
        query: int32 [t], query descriptors.
        database: int32 [t], database descriptors.
        distance: int32 [t], Hamming distances in bits.
        inliers: bool [t], which correspondences the model explains.
        model: float64 [2, 3], the affine map from query to database pixels, or None without a model.
        score: The score of the pair, as in re-ranking.
    """

    query_xy: NDArray[np.float32]
    database_xy: NDArray[np.float32]
    query: NDArray[np.int32]
    database: NDArray[np.int32]
    distance: NDArray[np.int32]
    inliers: NDArray[np.bool_]
    model: NDArray[np.float64] | None
    score: float


def correspondences(
    queries: LocalStore,
    database: LocalStore,
    query_id: str,
    database_id: str,
    options: SpatialOptions | None = None,
) -> Correspondences:
    """Match and verify one pair of images.

    Args:
        queries: Local descriptors of the query.
        database: Local descriptors of the database image.
        query_id: The query.
        database_id: The database image.
        options: As in `rerank`; None for the defaults.

    Raises:
        UnknownIdError: An id is not in its store.
        IncompatibleStoreError: The code lengths of the stores differ.
        NonFiniteError: A keypoint position is NaN or infinite.
    """
    chosen = SpatialOptions() if options is None else options
    first = queries.image(int(queries.find([query_id])[0]))
    second = database.image(int(database.find([database_id])[0]))
    if first.codes.shape[1] != second.codes.shape[1]:
        raise IncompatibleStoreError(
            f"database: expected codes of {8 * first.codes.shape[1]} bits, as the query's, "
            f"found {8 * second.codes.shape[1]} bits"
        )
    matches, inliers, model, score = _core.verify_pair(
        _arrays_of(first, chosen.query_descriptors),
        _arrays_of(second, chosen.database_descriptors),
        chosen.core_fields(),
    )
    query, found, distance = matches
    from_pixels, to_pixels = float(max(first.size)), float(max(second.size))
    if model is not None:
        # The model maps units of the longer side to units of the longer side.
        model[:, :2] *= to_pixels / from_pixels
        model[:, 2] *= to_pixels
    return Correspondences(
        query_xy=first.xy[query] * np.asarray(first.size, np.float32),
        database_xy=second.xy[found] * np.asarray(second.size, np.float32),
        query=query,
        database=found,
        distance=distance,
        inliers=inliers,
        model=model,
        score=score,
    )


def _arrays_of(
    image: LocalImage, most: int | None
) -> tuple[
    NDArray[np.uint8],
    NDArray[np.float32],
    NDArray[np.float32] | None,
    NDArray[np.float32] | None,
    tuple[int, int],
]:
    width, height = image.size
    scale = None if image.scale is None else image.scale[:most]
    angle = None if image.angle is None else image.angle[:most]
    return image.codes[:most], image.xy[:most], scale, angle, (int(width), int(height))
