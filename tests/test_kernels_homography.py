"""Homographies in spatial verification: equal to the oracle at every level, never worse than affine maps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast import cpu
from ilias_fast.errors import ParameterError
from ilias_fast.kernels import Instance, verify_instances
from ilias_fast.rerank import SpatialOptions, match_pair
from ilias_fast.rerank.correspondences import outline
from ilias_fast.store import LocalImage
from tests.oracles import rerank as oracle

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def perspective(seed: int, count: int, share: float, noise: float = 0.7) -> tuple[Pair, NDArray[np.float64]]:
    """Correspondences in 500 pixels, the first of them explained by a homography that is far from affine."""
    rng = np.random.default_rng(seed)
    angle, tilt = rng.uniform(-np.pi, np.pi, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    model = np.eye(3)
    model[:2, :2] = 0.8 * turn
    model[2, :2] = 1.2e-3 * np.array([np.cos(tilt), np.sin(tilt)])
    centre = np.array([[1, 0, -250], [0, 1, -250], [0, 0, 1]])
    model = np.linalg.inv(centre) @ model @ centre
    query = rng.uniform(0, 500, (count, 2)).astype(np.float32)
    database = rng.uniform(0, 500, (count, 2))
    true = round(count * share)
    database[:true] = oracle.apply_homography(model, query[:true].astype(float))
    database[:true] += rng.normal(0, noise, (true, 2))
    return (query, database.astype(np.float32)), model


def verified(pair: Pair, model: str, threshold: float = 4) -> Instance:
    (found,) = verify_instances(*pair, threshold=threshold, model=model)  # type: ignore[arg-type]
    return found


@pytest.mark.usefixtures("cpu_level")
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_the_oracle_at_every_level(seed: int) -> None:
    pair, _ = perspective(seed, 90, 0.7)
    affine, found = verified(pair, "affine"), verified(pair, "homography")
    assert affine.model is not None
    assert found.model is not None
    assert found.model.shape == (3, 3)
    model, mask = oracle.refine_homography(affine.model, *pair, 4)
    np.testing.assert_allclose(found.model, model, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(found.mask, mask)
    assert found.inliers == mask.sum() > affine.inliers
    assert found.score > affine.score
    with cpu.pinned("scalar"):
        np.testing.assert_array_equal(verified(pair, "homography").model, found.model)


@pytest.mark.parametrize("seed", range(6))
def test_strong_perspective_is_found(seed: int) -> None:
    pair, truth = perspective(seed, 80, 0.75)
    found = verified(pair, "homography")
    assert found.mask[:60].mean() > 0.95
    corners = np.array([(100, 100), (400, 100), (400, 400), (100, 400)], float)
    assert found.model is not None
    error = oracle.apply_homography(found.model, corners) - oracle.apply_homography(truth, corners)
    assert np.abs(error).max() < 4


def test_an_affine_map_stays_one_and_no_score_is_lost() -> None:
    rng = np.random.default_rng(5)
    for count, true in ((40, 20), (100, 12), (60, 0), (6, 6), (5, 5), (4, 4), (3, 3), (1, 1)):
        query = rng.uniform(0, 500, (count, 2)).astype(np.float32)
        database = rng.uniform(0, 500, (count, 2))
        database[:true] = query[:true] @ [[0.5, 0.1], [-0.1, 0.6]] + 100
        pair = query, database.astype(np.float32)
        affine, found = verified(pair, "affine"), verified(pair, "homography")
        assert affine.model is not None
        assert found.model is not None
        assert found.inliers >= affine.inliers
        # A gain by chance is not worth two parameters more: the same map, written as a homography.
        if found.inliers == affine.inliers:
            np.testing.assert_array_equal(found.model, [*affine.model.tolist(), [0, 0, 1]])
            np.testing.assert_array_equal(found.mask, affine.mask)
        residuals = oracle.apply_homography(found.model, query.astype(float)) - pair[1]
        inside = np.linalg.norm(residuals, axis=1)
        sure = np.abs(inside - 4) > 1e-9
        np.testing.assert_array_equal((inside <= 4)[sure], found.mask[sure])


@pytest.mark.parametrize(
    ("query", "database"),
    [
        (np.ones((20, 2)), np.ones((20, 2))),
        (
            np.column_stack([np.arange(20), np.arange(20)]),
            np.column_stack([np.arange(20), 2 * np.arange(20)]),
        ),
        (np.column_stack([np.arange(20) ** 2, np.arange(20)]), np.ones((20, 2))),
        (np.zeros((0, 2)), np.zeros((0, 2))),
    ],
    ids=["one point", "a line", "onto a point", "none"],
)
def test_degenerate_points(query: NDArray[np.float64], database: NDArray[np.float64]) -> None:
    found = verify_instances(query, database, threshold=1, model="homography")
    affine = verify_instances(query, database, threshold=1)
    assert [one.inliers for one in found] == [one.inliers for one in affine]
    for one in found:
        assert one.model is not None
        np.testing.assert_array_equal(one.model[2], [0, 0, 1])


def test_images_and_outlines() -> None:
    rng = np.random.default_rng(2)
    (query, database), _ = perspective(3, 60, 0.8)
    codes = rng.integers(0, 256, (60, 16), dtype=np.uint8)
    images = [
        LocalImage(codes, (xy / 1000).astype(np.float32), None, None, None, size=(1000, 1000))
        for xy in (query, database)
    ]
    found = match_pair(*images, SpatialOptions(model="homography", threshold=0.004))
    flat = match_pair(*images, SpatialOptions(threshold=0.004))
    assert found.model is not None
    assert found.model.shape == (3, 3)
    assert found.inliers.sum() >= 46 > flat.inliers.sum()
    assert found.score > flat.score
    residuals = oracle.apply_homography(found.model, found.query_xy.astype(float)) - found.database_xy
    assert np.linalg.norm(residuals[found.inliers], axis=1).max() < 4.001
    np.testing.assert_allclose(outline(found.model, 500, 500)[0], outline(found.model, 500, 500)[-1])
    # Cut off where the frame would lie behind the camera.
    steep = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 250, 0, 1]])
    assert np.isfinite(outline(steep, 500, 500)).all()


def test_what_is_no_image_is_refused() -> None:
    codes = np.zeros((3, 16), np.uint8)
    with pytest.raises(
        ParameterError, match=r"query: expected an image with codes, .* found ndarray without codes"
    ):
        match_pair(codes, codes)  # type: ignore[arg-type]


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"model: expected .* or 'homography', found 'projective'"):
        SpatialOptions(model="projective")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"model: expected .* or 'homography'"):
        verify_instances([[0, 0]], [[0, 0]], threshold=1, model="projective")  # type: ignore[arg-type]
