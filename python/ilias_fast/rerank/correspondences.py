"""The correspondences of one pair of images, to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _core
from ilias_fast.errors import IncompatibleStoreError, ParameterError
from ilias_fast.rerank.options import SpatialOptions

if TYPE_CHECKING:
    from ilias_fast.store import LocalStore

__all__ = ["Correspondences", "LocalDescriptors", "correspondences", "match_pair", "outline"]

_PARTS = ("codes", "xy", "scale", "angle", "size")


class LocalDescriptors(Protocol):
    """What matching needs of an image; `LocalImage` has it."""

    @property
    def codes(self) -> Any:
        """Packed codes, uint8 [m, bytes]."""

    @property
    def xy(self) -> Any:
        """Positions divided by width and height, float32 [m, 2]."""

    @property
    def scale(self) -> Any:
        """Keypoint diameters, float32 [m], or None."""

    @property
    def angle(self) -> Any:
        """Orientations in radians, float32 [m], or None."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""


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
        model: float64 [2, 3], the affine map from query to database pixels, or None without a model; [3, 3]
            if homographies were asked for.
        score: The score of the pair, as in re-ranking.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.store import LocalImage
        >>> rng = np.random.default_rng(0)
        >>> codes, xy = rng.integers(0, 256, (20, 16), np.uint8), rng.random((20, 2), np.float32)
        >>> query = LocalImage(codes, xy, None, None, None, (400, 300))
        >>> found = match_pair(query, LocalImage(codes, xy / 2, None, None, None, (400, 300)))
        >>> len(found.distance), int(found.inliers.sum()), found.model.round(2).tolist()
        (20, 20, [[0.5, -0.0, 0.0], [0.0, 0.5, 0.0]])
    """

    query_xy: NDArray[np.float32]
    database_xy: NDArray[np.float32]
    query: NDArray[np.int32]
    database: NDArray[np.int32]
    distance: NDArray[np.int32]
    inliers: NDArray[np.bool_]
    model: NDArray[np.float64] | None
    score: float


def outline(model: NDArray[np.float64], width: float, height: float) -> NDArray[np.float64]:
    """Where a model puts the frame of the query, a closed polygon.

    Args:
        model: [2, 3] or [3, 3].
        width: Of the query, in the model's units.
        height: The same.

    Returns:
        float64 [n, 2]; the corners of an affine map's image, more points of a homography's, which is cut off
        where the frame would lie behind the camera.
    """
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)], np.float64)
    if len(model) == 3:
        share = np.linspace(0, 1, 65)[:-1, None]
        sides = [(1 - share) * a + share * b for a, b in pairwise(corners)]
        corners = np.concatenate([*sides, corners[-1:]])
    mapped = np.column_stack([corners, np.ones(len(corners))]) @ model.T
    if len(model) == 3:
        mapped = mapped[mapped[:, 2] > 1e-3 * np.abs(mapped[:, 2]).max()]
        mapped = mapped[:, :2] / mapped[:, 2:]
    return np.asarray(mapped)


def correspondences(
    queries: LocalStore,
    database: LocalStore,
    query_id: str,
    database_id: str,
    options: SpatialOptions | None = None,
) -> Correspondences:
    """Match and verify one pair of images of two stores.

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

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.store import LocalStore
        >>> rng = np.random.default_rng(0)
        >>> codes, xy = rng.integers(0, 256, (20, 16), np.uint8), rng.random((20, 2), np.float32)
        >>> for name, offset in (("query.jpg", 0), ("database.jpg", 0.1)):
        ...     with LocalStore.create(name + ".store", bits=128) as writer:
        ...         writer.append_arrays([name], [0, 20], codes, xy * 0.8 + offset, size=[[400, 300]])
        >>> stores = [LocalStore.open(name) for name in ("query.jpg.store", "database.jpg.store")]
        >>> found = correspondences(*stores, "query.jpg", "database.jpg")
        >>> int(found.inliers.sum()), found.model[:, 2].round(1).tolist()
        (20, [40.0, 30.0])
    """
    first = queries.image(int(queries.find([query_id])[0]))
    second = database.image(int(database.find([database_id])[0]))
    return match_pair(first, second, options)


def match_pair(
    query: LocalDescriptors, database: LocalDescriptors, options: SpatialOptions | None = None
) -> Correspondences:
    """Match and verify two images given by their local descriptors.

    Args:
        query: What has `codes`, `xy`, `scale`, `angle` and `size` of an image, as `LocalImage` does.
        database: The same of the other image.
        options: As in `rerank`; None for the defaults.

    Raises:
        ParameterError: An argument is no image (of arrays alone, `ilias_fast.kernels.match` finds
            correspondences).
        IncompatibleStoreError: The code lengths differ.
        NonFiniteError: A keypoint position is NaN or infinite.

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.store import LocalImage
        >>> rng = np.random.default_rng(0)
        >>> codes, xy = rng.integers(0, 256, (20, 16), np.uint8), rng.random((20, 2), np.float32)
        >>> image = LocalImage(codes, xy, None, None, None, (400, 300))
        >>> other = LocalImage(codes ^ 255, xy, None, None, None, (400, 300))
        >>> match_pair(image, image).score > match_pair(image, other).score
        True
    """
    chosen = SpatialOptions() if options is None else options
    for name, image in (("query", query), ("database", database)):
        if missing := [part for part in _PARTS if not hasattr(image, part)]:
            raise ParameterError(
                f"{name}: expected an image with {', '.join(_PARTS)}, as LocalImage has, "
                f"found {type(image).__name__} without {missing[0]}"
            )
    if query.codes.shape[1] != database.codes.shape[1]:
        raise IncompatibleStoreError(
            f"database: expected codes of {8 * query.codes.shape[1]} bits, as the query's, "
            f"found {8 * database.codes.shape[1]} bits"
        )
    matches, inliers, model, score = _core.verify_pair(
        _arrays_of(query, chosen.query_descriptors),
        _arrays_of(database, chosen.database_descriptors),
        chosen.core_fields(),
    )
    first, second, distance = matches
    from_pixels, to_pixels = float(max(query.size)), float(max(database.size))
    if model is not None:
        # The model maps units of the longer side to units of the longer side.
        model[:, :2] /= from_pixels
        model[:2] *= to_pixels
    return Correspondences(
        query_xy=query.xy[first] * np.asarray(query.size, np.float32),
        database_xy=database.xy[second] * np.asarray(database.size, np.float32),
        query=first,
        database=second,
        distance=distance,
        inliers=inliers,
        model=model,
        score=score,
    )


def _arrays_of(
    image: LocalDescriptors, most: int | None
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
