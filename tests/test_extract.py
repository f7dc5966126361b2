"""Classical extraction: RootSIFT, k-means, VLAD, and the extractor made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.errors import (
    DatasetError,
    FileFormatError,
    ParameterError,
    ShapeError,
    StorageError,
)
from ilias_fast.extract import (
    ClassicalExtractor,
    ClassicalOptions,
)
from ilias_fast.extract import sift as sift_module
from ilias_fast.extract.vlad import assign, kmeans, vlad
from ilias_fast.images import FolderSource
from tests.extract_samples import SMALL, images_of

pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")

from tests.oracles import images as image_oracle  # needs Pillow

# --- SIFT -------------------------------------------------------------------------------------------------


def test_rootsift_is_the_root_of_normalised_sift(rng: np.random.Generator) -> None:
    cv2 = pytest.importorskip("cv2", reason="classical extraction needs OpenCV (extra: classical)")
    image = image_oracle.texture(rng, 160, 120)
    found = sift_module.detect(image, longer_side=500, keypoints=50)
    assert len(found) == 50
    assert (np.diff(found.response) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    points, raw = cv2.SIFT_create(50).detectAndCompute(grey, None)
    expected = {tuple(np.round(np.sqrt(row / row.sum()), 5)) for row in raw}
    assert {tuple(np.round(row, 5)) for row in found.descriptors} == expected
    place = {(round(point.pt[0], 2), round(point.pt[1], 2)) for point in points}
    pixels = found.xy * [160, 120] - 0.5
    assert {(round(float(x), 2), round(float(y), 2)) for x, y in pixels} <= place
    assert found.xy.min() >= 0
    assert found.xy.max() <= 1


def test_positions_scale_and_angle_follow_the_image(rng: np.random.Generator) -> None:
    pytest.importorskip("cv2", reason="classical extraction needs OpenCV (extra: classical)")
    image = image_oracle.texture(rng, 200, 150, 60)
    turned = np.ascontiguousarray(np.rot90(image))  # counter-clockwise: (x, y) -> (y, W - 1 - x)
    one = sift_module.detect(image, longer_side=500, keypoints=300)
    other = sift_module.detect(turned, longer_side=500, keypoints=300)
    nearest = np.argmax(one.descriptors @ other.descriptors.T, axis=1)
    moved = np.stack([one.xy[:, 1], 1 - one.xy[:, 0]], axis=1)
    same = np.linalg.norm((other.xy[nearest] - moved) * [150, 200], axis=1) < 1.5
    assert same.sum() > 40
    turn = (other.angle[nearest] - one.angle + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(np.median(turn[same]), -np.pi / 2, atol=0.05)
    np.testing.assert_allclose(np.median((other.scale[nearest] / one.scale)[same]), 1, atol=0.05)
    assert one.angle.min() >= 0
    assert one.angle.max() < 2 * np.pi


def test_scale_is_in_pixels_of_the_given_image(rng: np.random.Generator) -> None:
    cv2 = pytest.importorskip("cv2", reason="classical extraction needs OpenCV (extra: classical)")
    image = image_oracle.texture(rng, 400, 300, 60)
    small = cv2.resize(image, (200, 150), interpolation=cv2.INTER_AREA)
    shrunk = sift_module.detect(image, longer_side=200, keypoints=100)
    given = sift_module.detect(small, longer_side=200, keypoints=100)
    assert shrunk.size == (400, 300)
    assert given.size == (200, 150)
    assert abs(np.median(shrunk.scale) / np.median(given.scale) - 2) < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (40, 40)])
def test_images_that_show_nothing(shape: tuple[int, int], classical: ClassicalExtractor) -> None:
    vectors, local = classical.extract([np.full((*shape, 3), 90, np.uint8)])
    assert vectors.shape == (1, 8 * 128)
    assert not vectors.any()
    assert len(local[0]) == 0
    assert local[0].codes is not None
    assert local[0].codes.shape == (0, 16)
    assert local[0].size == shape[::-1]


# --- VLAD -------------------------------------------------------------------------------------------------


def test_kmeans_finds_separated_clusters(rng: np.random.Generator) -> None:
    truth = np.eye(5, 16, dtype=np.float32) * 10
    points = (truth[rng.integers(0, 5, 400)] + 0.1 * rng.standard_normal((400, 16))).astype(np.float32)
    centres = kmeans(points, 5, seed=1)
    distance = np.linalg.norm(centres[:, None] - truth[None], axis=2)
    assert sorted(distance.argmin(axis=1)) == [0, 1, 2, 3, 4]
    assert distance.min(axis=1).max() < 0.1
    np.testing.assert_array_equal(centres, kmeans(points, 5, seed=1))


def test_kmeans_centres_are_the_means_of_their_points(rng: np.random.Generator) -> None:
    points = rng.standard_normal((500, 6)).astype(np.float32)
    centres = kmeans(points, 7, iterations=200)
    nearest = np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, assign(points, centres))
    means = np.stack([points[nearest == word].mean(axis=0) for word in range(7)])
    np.testing.assert_allclose(centres, means, atol=1e-5)


def test_kmeans_with_few_distinct_points() -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    assert np.isfinite(kmeans(points, 5)).all()
    with pytest.raises(ShapeError, match=r"at least 13 local descriptors .* found 12"):
        kmeans(points, 13)
    with pytest.raises(ParameterError, match="clusters"):
        kmeans(points, 0)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_vlad_equals_its_definition(power: float, rng: np.random.Generator) -> None:
    centres = rng.random((6, 10)).astype(np.float32)
    descriptors = rng.random((40, 10)).astype(np.float32)
    expected = np.zeros((6, 10))
    for row in descriptors.astype(np.float64):
        word = np.argmin(np.linalg.norm(centres - row, axis=1))
        expected[word] += (row - centres[word]) / np.linalg.norm(row - centres[word])
    expected = np.sign(expected) * np.abs(expected) ** power
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    expected = expected.ravel() / np.linalg.norm(expected)
    np.testing.assert_allclose(vlad(descriptors, centres, power=power), expected, atol=1e-5)
    assert not vlad(descriptors[:0], centres, power=power).any()


# --- the classical extractor ------------------------------------------------------------------------------


def test_the_same_image_is_its_own_nearest(classical: ClassicalExtractor, textures: Path) -> None:
    images = images_of(textures)
    vectors, local = classical.extract(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    darker, _ = classical.extract([(image * 0.8).astype(np.uint8) for image in images])
    assert ((darker @ vectors.T).argmax(axis=1) == np.arange(len(images))).all()
    for features in local:
        assert features.codes is not None
        assert features.codes.shape == (len(features), 16)
        assert 0 < len(features) <= SMALL.keypoints
        for values in (features.scale, features.angle, features.weight):
            assert values is not None
            assert values.shape == (len(features),)


def test_nothing_depends_on_batches_or_threads(classical: ClassicalExtractor, textures: Path) -> None:
    images = images_of(textures)
    vectors, local = classical.extract(images)
    alone = ClassicalExtractor(classical.options, classical.centres, classical.itq, threads=1)
    for row, image in enumerate(images[:4]):
        one, features = alone.extract([image])
        np.testing.assert_array_equal(one[0], vectors[row])
        np.testing.assert_array_equal(features[0].codes, local[row].codes)
    again = ClassicalExtractor.fit(FolderSource(textures), options=SMALL, threads=1)
    assert again.fingerprint == classical.fingerprint
    other = ClassicalExtractor.fit(FolderSource(textures), options=SMALL, seed=1, threads=2)
    assert other.fingerprint != classical.fingerprint


def test_a_saved_extractor_is_the_same(classical: ClassicalExtractor, textures: Path, tmp_path: Path) -> None:
    classical.save(tmp_path / "model")
    loaded = ClassicalExtractor.load(tmp_path / "model")
    assert loaded.provenance() == classical.provenance()
    image = images_of(textures)[:1]
    np.testing.assert_array_equal(loaded.extract(image)[0], classical.extract(image)[0])


def test_damaged_extractor_files(classical: ClassicalExtractor, tmp_path: Path) -> None:
    path = tmp_path / "model"
    classical.save(path)
    whole = path.read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        whole.replace(b'\\"words\\": 8', b'\\"words\\": 9'),
        whole.replace(b'\\"words\\"', b'\\"wordy\\"'),
        whole.replace(b"classical-1", b"classical-7"),
    ):
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match="model"):
            ClassicalExtractor.load(path)
    with pytest.raises(StorageError, match="cannot read"):
        ClassicalExtractor.load(tmp_path / "gone")


@pytest.mark.parametrize(
    "options",
    [{"words": 0}, {"bits": 12}, {"bits": 256}, {"power": 0}, {"longer_side": -1}, {"keypoints": 2.5}],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(options))):
        ClassicalOptions(**options)


def test_fitting_without_enough_to_see(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="classical extraction needs OpenCV (extra: classical)")
    (tmp_path / "a.jpg").write_bytes(b"damaged")
    with pytest.raises(DatasetError, match="none of 1 can be read"):
        ClassicalExtractor.fit(FolderSource(tmp_path))
    (tmp_path / "b.png").write_bytes(image_oracle.encode(np.full((50, 50, 3), 9, np.uint8)))
    with pytest.raises(ShapeError, match="128 words"):
        ClassicalExtractor.fit(FolderSource(tmp_path))
