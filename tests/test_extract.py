"""Extraction: RootSIFT, VLAD, the classical extractor, networks from timm, and stores that survive a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.errors import (
    DatasetError,
    DuplicateIdError,
    FileFormatError,
    ImageError,
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    StorageError,
    StoreLockedError,
)
from ilias_fast.extract import (
    ClassicalExtractor,
    ClassicalOptions,
    LocalFeatures,
    Network,
    NeuralExtractor,
    default_resolution,
    extract_to_stores,
    timm_network,
)
from ilias_fast.extract import sift as sift_module
from ilias_fast.extract.vlad import assign, kmeans, vlad
from ilias_fast.images import FolderSource, TarSource, Transform, decode
from ilias_fast.store import GlobalStore, LocalStore

pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")

from tests.oracles import images as image_oracle  # needs Pillow

SMALL = ClassicalOptions(keypoints=60, global_keypoints=80, words=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve textured JPEGs of different sizes."""
    root = tmp_path_factory.mktemp("folder")
    generator = np.random.default_rng(3)
    for number in range(12):
        width, height = generator.integers(90, 180, 2)
        image = image_oracle.texture(generator, width, height, 60)
        (root / f"{number:02d}.jpg").write_bytes(image_oracle.encode(image, "JPEG", quality=92))
    return root


@pytest.fixture(scope="module")
def classical(folder: Path) -> ClassicalExtractor:
    pytest.importorskip("cv2", reason="classical extraction needs OpenCV (extra: classical)")
    return ClassicalExtractor.fit(FolderSource(folder), options=SMALL, threads=2)


def _images(folder: Path) -> list[NDArray[np.uint8]]:
    source = FolderSource(folder)
    return [decode(source.read(name), name) for name in source.ids()]


def _contents(global_store: Path, local_store: Path) -> tuple[Any, ...]:
    one, other = GlobalStore.open(global_store), LocalStore.open(local_store)
    images = [other.image(row) for row in range(len(other))]
    return (
        list(one.ids),
        one.rows(np.arange(len(one))).tobytes(),
        list(other.ids),
        [
            (
                i.codes.tobytes(),
                i.xy.tobytes(),
                i.scale.tobytes(),
                i.angle.tobytes(),
                i.weight.tobytes(),
                i.size,
            )
            for i in images
            if i.scale is not None and i.angle is not None and i.weight is not None
        ],
    )


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


def test_the_same_image_is_its_own_nearest(classical: ClassicalExtractor, folder: Path) -> None:
    images = _images(folder)
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


def test_nothing_depends_on_batches_or_threads(classical: ClassicalExtractor, folder: Path) -> None:
    images = _images(folder)
    vectors, local = classical.extract(images)
    alone = ClassicalExtractor(classical.options, classical.centres, classical.itq, threads=1)
    for row, image in enumerate(images[:4]):
        one, features = alone.extract([image])
        np.testing.assert_array_equal(one[0], vectors[row])
        np.testing.assert_array_equal(features[0].codes, local[row].codes)
    again = ClassicalExtractor.fit(FolderSource(folder), options=SMALL, threads=1)
    assert again.fingerprint == classical.fingerprint
    other = ClassicalExtractor.fit(FolderSource(folder), options=SMALL, seed=1, threads=2)
    assert other.fingerprint != classical.fingerprint


def test_a_saved_extractor_is_the_same(classical: ClassicalExtractor, folder: Path, tmp_path: Path) -> None:
    classical.save(tmp_path / "model")
    loaded = ClassicalExtractor.load(tmp_path / "model")
    assert loaded.provenance() == classical.provenance()
    image = _images(folder)[:1]
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


# --- into stores ------------------------------------------------------------------------------------------


class _Mean:
    """A fast extractor: mean colour as the global descriptor, one local descriptor an image."""

    global_dim = 3
    code_bits = 8
    local_optional = ("weight",)

    def __init__(self, version: int = 1, fail_at: int | None = None) -> None:
        self.version = version
        self.fail_at = fail_at
        self.seen = 0

    def provenance(self) -> dict[str, object]:
        return {"extractor": "mean", "version": self.version}

    def extract(self, images: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], list[LocalFeatures]]:
        self.seen += len(images)
        if self.fail_at is not None and self.seen > self.fail_at:
            raise KeyboardInterrupt
        means = np.array([image.mean(axis=(0, 1)) for image in images], np.float32).reshape(-1, 3)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return means, [
            LocalFeatures(
                xy=np.full((1, 2), 0.5, np.float32),
                size=(image.shape[1], image.shape[0]),
                codes=np.array([[image[0, 0, 0]]], np.uint8),
                weight=np.ones(1, np.float32),
            )
            for image in images
        ]


def test_everything_is_stored_in_order(classical: ClassicalExtractor, folder: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = extract_to_stores(
        classical,
        FolderSource(folder),
        global_store=tmp_path / "g",
        local_store=tmp_path / "l",
        batch_size=5,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert (report.extracted, report.resumed, report.skipped) == (12, 0, [])
    assert calls == [(0, 12), (5, 12), (10, 12), (12, 12)]
    vectors, local = classical.extract(_images(folder))
    store, locals_ = GlobalStore.open(tmp_path / "g"), LocalStore.open(tmp_path / "l")
    names = [f"{number:02d}.jpg" for number in range(12)]
    assert list(store.ids) == list(locals_.ids) == names
    np.testing.assert_array_equal(store.rows(np.arange(12)), vectors.astype(np.float16))
    for row, features in enumerate(local):
        image = locals_.image(row)
        np.testing.assert_array_equal(image.codes, features.codes)
        np.testing.assert_array_equal(image.xy, features.xy)
        assert image.angle is not None
        np.testing.assert_array_equal(image.angle, features.angle)
        assert tuple(image.size) == features.size
    assert store.provenance["vocabulary"] == classical.fingerprint


def test_resuming_does_nothing_twice(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder)
    names = list(source.ids())
    extractor = _Mean()
    first = extract_to_stores(extractor, source, names[:5], global_store=tmp_path / "g")
    assert first.extracted == 5
    # The local store is new, so all is needed; the global one gets only what it lacks.
    second = extract_to_stores(extractor, source, global_store=tmp_path / "g", local_store=tmp_path / "l")
    assert (second.extracted, second.resumed) == (12, 0)
    third = extract_to_stores(extractor, source, global_store=tmp_path / "g", local_store=tmp_path / "l")
    assert (third.extracted, third.resumed) == (0, 12)
    assert list(GlobalStore.open(tmp_path / "g").ids) == names
    assert list(LocalStore.open(tmp_path / "l").ids) == names


def test_ctrl_c_keeps_what_is_finished(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder)
    with pytest.raises(KeyboardInterrupt):
        extract_to_stores(_Mean(fail_at=8), source, global_store=tmp_path / "g", batch_size=4)
    assert len(GlobalStore.open(tmp_path / "g")) == 8
    report = extract_to_stores(_Mean(), source, global_store=tmp_path / "g")
    assert (report.extracted, report.resumed) == (4, 8)


def test_an_unreadable_image_in_the_middle(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder, [*[f"{n:02d}.jpg" for n in range(6)], "gone.jpg", "07.jpg"])
    report = extract_to_stores(_Mean(), source, global_store=tmp_path / "g", batch_size=3)
    assert report.extracted == 7
    assert [name for name, _ in report.skipped] == ["gone.jpg"]
    assert "No such file" in report.skipped[0][1]
    assert "gone.jpg" not in GlobalStore.open(tmp_path / "g").ids
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        extract_to_stores(_Mean(), source, global_store=tmp_path / "s", batch_size=4, strict=True)
    assert len(GlobalStore.open(tmp_path / "s")) == 6  # what came before is kept, in its own batch too


def test_damaged_images_of_every_kind_are_skipped(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    good = (folder / "00.jpg").read_bytes()
    for name, data in {"a": good, "b": b"", "c": good[:-200], "d": b"text", "e": good}.items():
        (root / f"{name}.jpg").write_bytes(data)
    report = extract_to_stores(_Mean(), FolderSource(root), global_store=tmp_path / "g")
    assert report.extracted == 2
    assert [name for name, _ in report.skipped] == ["b.jpg", "c.jpg", "d.jpg"]
    assert len(GlobalStore.open(tmp_path / "g")) == 2


def test_tars_are_extracted_by_their_official_ids(folder: Path, tmp_path: Path) -> None:
    members = {f"{number}.jpg": (folder / f"{number:02d}.jpg").read_bytes() for number in range(3)}
    image_oracle.write_tar(tmp_path / "yfcc100m_0.tar", {**members, "3.jpg": b"damaged"})
    report = extract_to_stores(_Mean(), TarSource(tmp_path), global_store=tmp_path / "g")
    assert [name for name, _ in report.skipped] == ["yfcc100m_0.tar/3"]
    assert list(GlobalStore.open(tmp_path / "g").ids) == [f"yfcc100m_0.tar/{number}" for number in range(3)]


def test_no_image_readable_leaves_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"text")
    report = extract_to_stores(_Mean(), FolderSource(tmp_path), global_store=tmp_path / "g")
    assert (report.extracted, len(report.skipped)) == (0, 1)
    assert len(GlobalStore.open(tmp_path / "g")) == 0


def test_other_settings_are_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder)
    extract_to_stores(_Mean(), source, global_store=tmp_path / "g")
    with pytest.raises(IncompatibleStoreError, match=r"version: 1 there, 2 now"):
        extract_to_stores(_Mean(version=2), source, global_store=tmp_path / "g")
    with pytest.raises(IncompatibleStoreError, match="local"):
        extract_to_stores(_Mean(), source, local_store=tmp_path / "g")
    wider = _Mean()
    wider.global_dim = 4
    with pytest.raises(IncompatibleStoreError, match="dimension 4, found 3"):
        extract_to_stores(wider, source, global_store=tmp_path / "g")
    # None of these left a lock behind, or a row.
    assert extract_to_stores(_Mean(), source, global_store=tmp_path / "g").resumed == 12


def test_two_writers(folder: Path, tmp_path: Path) -> None:
    extract_to_stores(_Mean(), FolderSource(folder), ["00.jpg"], global_store=tmp_path / "g")
    writer = GlobalStore.append_to(tmp_path / "g")
    with pytest.raises(StoreLockedError):
        extract_to_stores(_Mean(), FolderSource(folder), global_store=tmp_path / "g")
    writer.close()


def test_bad_arguments(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder)
    with pytest.raises(ParameterError, match="neither"):
        extract_to_stores(_Mean(), source)
    with pytest.raises(ParameterError, match="batch_size"):
        extract_to_stores(_Mean(), source, global_store=tmp_path / "g", batch_size=0)
    with pytest.raises(DuplicateIdError, match=r"00\.jpg"):
        extract_to_stores(_Mean(), source, ["00.jpg", "00.jpg"], global_store=tmp_path / "g")
    blind: Any = _Mean()
    blind.code_bits = None
    with pytest.raises(ParameterError, match="no local codes"):
        extract_to_stores(blind, source, local_store=tmp_path / "l")
    assert not (tmp_path / "g").exists()


_KILLED = """
import sys
from pathlib import Path
from ilias_fast.extract import ClassicalExtractor, extract_to_stores
from ilias_fast.images import FolderSource
root, model, out = map(Path, sys.argv[1:])
def progress(done, total):
    print(done, flush=True)
extract_to_stores(ClassicalExtractor.load(model, threads=1), FolderSource(root), global_store=out / "g",
                  local_store=out / "l", batch_size=2, commit_every=4, threads=1, progress=progress)
"""


def test_a_killed_extraction_resumes_to_the_same_stores(
    classical: ClassicalExtractor, folder: Path, tmp_path: Path
) -> None:
    classical.save(tmp_path / "model")
    source = FolderSource(folder)
    (tmp_path / "whole").mkdir()
    extract_to_stores(
        classical, source, global_store=tmp_path / "whole" / "g", local_store=tmp_path / "whole" / "l"
    )
    for done in (4, 6, 10):
        out = tmp_path / f"killed{done}"
        out.mkdir()
        arguments = [sys.executable, "-c", _KILLED, str(folder), str(tmp_path / "model"), str(out)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= done:
                    os.kill(process.pid, signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL
        deadline = time.monotonic() + 5
        while True:
            try:
                report = extract_to_stores(classical, source, global_store=out / "g", local_store=out / "l")
                break
            except StoreLockedError:  # the lock goes with the last thread of the killed process
                assert time.monotonic() < deadline
        assert 4 <= report.resumed < 12
        assert report.resumed + report.extracted == 12
        assert _contents(out / "g", out / "l") == _contents(
            tmp_path / "whole" / "g", tmp_path / "whole" / "l"
        )


# --- networks ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def timm() -> Any:
    pytest.importorskip("torch", reason="neural extraction needs torch (extra: torch)")
    return pytest.importorskip("timm", reason="neural extraction needs timm (extra: torch)")


@pytest.mark.parametrize(
    ("name", "dim", "padded"),
    [
        ("resnet18", 512, (96, 64)),
        ("vit_tiny_patch16_224", 192, (96, 64)),
        ("test_convnext", 64, (96, 64)),
    ],
)
def test_descriptor_equals_timm_itself(
    timm: Any, name: str, dim: int, padded: tuple[int, int], rng: np.random.Generator
) -> None:
    import torch

    network = timm_network(name, weights="random", seed=4)
    extractor = NeuralExtractor(network, resolution=90, device="cpu")
    assert network.dim == dim
    image = image_oracle.texture(rng, 120, 80)
    prepared = extractor.prepare(image)
    assert prepared.shape == ((3, padded[1], padded[0]) if "vit" in name else (3, 60, 90))
    vectors, local = extractor.extract([image, image[:, ::-1], image.transpose(1, 0, 2)])
    assert local is None
    with torch.random.fork_rng():
        torch.manual_seed(4)
        options = {"dynamic_img_size": True} if "vit" in name else {}
        model = timm.create_model(name, num_classes=0, **options).eval()
    with torch.inference_mode():
        direct = torch.nn.functional.normalize(model(torch.from_numpy(prepared)[None])).numpy()
    np.testing.assert_allclose(vectors[0], direct[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.usefixtures("timm")
def test_preparation_follows_the_protocol(rng: np.random.Generator) -> None:
    extractor = NeuralExtractor(timm_network("test_vit", weights="random"), resolution=90)
    image = image_oracle.texture(rng, 500, 333)
    prepared = extractor.prepare(image)
    from PIL import Image

    pixels = np.asarray(Image.fromarray(image).resize((90, 59), Image.Resampling.BICUBIC))
    normal = (pixels / 255.0 - 0.5) / 0.5  # the statistics of this model
    assert prepared.shape == (3, 64, 96)
    np.testing.assert_allclose(prepared[:, 2:61, 3:93], normal.transpose(2, 0, 1), atol=1e-6)
    border = prepared.copy()
    border[:, 2:61, 3:93] = 0
    assert not border.any()


@pytest.mark.usefixtures("timm")
def test_poolings(rng: np.random.Generator) -> None:
    import torch

    image = image_oracle.texture(rng, 64, 64)
    for name in ("test_vit", "test_resnet"):
        module = timm_network(name, weights="random").module
        for pooling in ("cls", "gap", "mac", "gem") if "vit" in name else ("gap", "mac", "gem"):
            extractor = NeuralExtractor(
                timm_network(name, weights="random", pooling=pooling), resolution=64, device="cpu"
            )
            with torch.inference_mode():
                features: Any = module.forward_features(torch.from_numpy(extractor.prepare(image))[None])  # type: ignore[operator]
            tokens = features.numpy()[0]
            if "vit" in name:
                first, tokens = tokens[0], tokens[1:]
            else:
                first, tokens = None, tokens.reshape(len(tokens), -1).T
            lowest = np.minimum(tokens.min(axis=0), 0)
            expected = {
                "cls": first,
                "gap": tokens.mean(axis=0),
                "mac": tokens.max(axis=0),
                "gem": np.cbrt((np.maximum(tokens - lowest, 1e-6).astype(np.float64) ** 3).mean(axis=0))
                + lowest,
            }[pooling]
            assert expected is not None
            expected = expected / np.linalg.norm(expected)
            np.testing.assert_allclose(extractor.extract([image])[0][0], expected, atol=1e-5)


def test_published_gem_example(examples: Path) -> None:
    import json

    torch = pytest.importorskip("torch", reason="pooling needs torch (extra: torch)")
    from ilias_fast.extract.pooling import gap, gem, mac

    for case in json.loads((examples / "e9_pooling.json").read_text())["cases"].values():
        features = torch.tensor(case["input"], dtype=torch.float64).flatten(2).transpose(1, 2)
        np.testing.assert_allclose(gap(features), case["ilias"]["gap"], rtol=1e-5)
        np.testing.assert_allclose(mac(features), case["ilias"]["mac"], rtol=1e-5)
        np.testing.assert_allclose(gem(features), case["ilias"]["gem"], rtol=1e-5)


@pytest.mark.usefixtures("timm")
def test_random_weights_depend_on_the_seed_only() -> None:
    import torch

    state = torch.random.get_rng_state()
    one, same, other = (timm_network("test_vit", weights="random", seed=seed) for seed in (1, 1, 2))
    assert one.provenance == same.provenance
    assert one.provenance["weights"] != other.provenance["weights"]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_checkpoints(timm: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    model = timm.create_model("test_vit")
    random = timm_network("test_vit", weights="random", seed=9)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pth")
    networks = [timm_network("test_vit", weights=tmp_path / name) for name in ("w.safetensors", "w.pth")]
    assert networks[0].provenance["weights"] == networks[1].provenance["weights"]
    assert networks[0].provenance["weights"] != random.provenance["weights"]

    state = model.state_dict()
    first = "patch_embed.proj.weight"
    broken: dict[str, tuple[Any, str]] = {
        "missing.pth": ({k: v for k, v in state.items() if k != first}, f"missing, the first is {first}"),
        "shape.pth": ({**state, first: torch.ones(2, 3)}, rf"{first} should be \[.*\] .* found \[2, 3\]"),
        "extra.pth": ({**state, "other.weight": torch.ones(1)}, r"do not belong .* other\.weight"),
        "code.pth": (Path("an object that would run code"), "plain tensors"),
    }
    for name, (content, message) in broken.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(FileFormatError, match=message):
            timm_network("test_vit", weights=tmp_path / name)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:1000])
    with pytest.raises(FileFormatError, match="cut"):
        timm_network("test_vit", weights=tmp_path / "cut.safetensors")
    with pytest.raises(StorageError, match="gone"):
        timm_network("test_vit", weights=tmp_path / "gone.pth")


def test_weights_that_cannot_be_downloaded(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, pretrained: bool = False, **_: object) -> None:
        assert pretrained
        raise OSError(f"cannot reach the hub for {name}")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ParameterError, match=r"resnet18 cannot be had .*weights=PATH.*weights='random'"):
        timm_network("resnet18")


@pytest.mark.usefixtures("timm")
def test_bad_network_arguments() -> None:
    with pytest.raises(ParameterError, match="no model 'resnet19'"):
        timm_network("resnet19", weights="random")
    with pytest.raises(ParameterError, match="expected one of head, cls, gap"):
        timm_network("test_vit", weights="random", pooling="best")
    with pytest.raises(ParameterError, match="no class token"):
        timm_network("resnet18", weights="random", pooling="cls")
    network = timm_network("test_vit", weights="random")
    with pytest.raises(ParameterError, match="batch_size"):
        NeuralExtractor(network, batch_size=0)
    with pytest.raises(ParameterError, match="device"):
        NeuralExtractor(network, device="nowhere")
    with pytest.raises(ParameterError, match="RESIZE_LARGE"):
        NeuralExtractor(network, transform="RESIZE")


def _network(describe: Any) -> Network:
    import torch

    return Network(torch.nn.Identity(), describe, 3, (0, 0, 0), (1, 1, 1), train_size=224)


@pytest.mark.usefixtures("timm")
def test_a_network_that_fails() -> None:
    image = np.full((10, 20, 3), 7, np.uint8)
    broken = NeuralExtractor(_network(lambda batch: batch.mean(dim=(2, 3)) / 0), resolution=8)
    with pytest.raises(NonFiniteError, match="half=False"):
        broken.extract([image])
    fixed = NeuralExtractor(_network(lambda batch: batch.reshape(len(batch), 3, 8, 8)), resolution=8)
    with pytest.raises(ParameterError, match=r"1 images of 8 x 4 .*RESIZE_SQUARE.*224"):
        fixed.extract([image])


@pytest.mark.usefixtures("timm")
def test_images_of_mixed_sizes_keep_their_places(rng: np.random.Generator) -> None:
    seen: list[tuple[int, ...]] = []

    def describe(batch: Any) -> Any:
        seen.append(tuple(batch.shape))
        return batch.mean(dim=(2, 3))

    extractor = NeuralExtractor(_network(describe), resolution=16, batch_size=2, device="cpu")
    images = [np.full(shape, rng.integers(1, 255, 3), np.uint8) for shape in [(8, 16, 3), (16, 8, 3)] * 3]
    vectors, _ = extractor.extract(images)
    expected = np.array([image[0, 0] / np.linalg.norm(image[0, 0].astype(float)) for image in images])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert seen == [(2, 3, 8, 16), (1, 3, 8, 16), (2, 3, 16, 8), (1, 3, 16, 8)]
    assert extractor.extract([])[0].shape == (0, 3)


@pytest.mark.usefixtures("timm")
def test_a_batch_too_large_for_the_memory_is_halved() -> None:
    import torch

    def describe(batch: Any, most: int) -> Any:
        if len(batch) > most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return batch.mean(dim=(2, 3))

    images = [
        np.full((8, 8, 3), colour, np.uint8)
        for colour in ([1, 2, 3], [9, 1, 1], [0, 0, 5], [4, 4, 4], [8, 0, 1])
    ]
    whole, _ = NeuralExtractor(_network(lambda batch: describe(batch, 8)), resolution=8).extract(images)
    halved, _ = NeuralExtractor(_network(lambda batch: describe(batch, 2)), resolution=8).extract(images)
    np.testing.assert_array_equal(halved, whole)
    with pytest.raises(ParameterError, match="8 x 8 does not fit the memory"):
        NeuralExtractor(_network(lambda batch: describe(batch, 0)), resolution=8).extract(images)


@pytest.mark.usefixtures("timm")
def test_padding_to_a_square() -> None:
    extractor = NeuralExtractor(_network(lambda batch: batch), resolution=16, transform=Transform.RESIZE_PAD)
    assert extractor.prepare(np.ones((8, 16, 3), np.uint8)).shape == (3, 16, 16)


def test_resolution_rule() -> None:
    sizes = {
        224: 384,
        256: 384,
        288: 384,
        299: 512,
        320: 512,
        331: 512,
        336: 512,
        380: 512,
        384: 512,
        512: 724,
        518: 724,
    }
    assert {size: default_resolution(size) for size in sizes} == sizes


@pytest.mark.usefixtures("timm")
def test_a_network_writes_a_store(folder: Path, tmp_path: Path) -> None:
    extractor = NeuralExtractor(timm_network("test_vit", weights="random"), resolution=64, device="cpu")
    report = extract_to_stores(extractor, FolderSource(folder), global_store=tmp_path / "g")
    assert report.extracted == 12
    store = GlobalStore.open(tmp_path / "g")
    assert store.provenance["model"] == "test_vit"
    np.testing.assert_array_equal(
        store.rows(np.arange(12)), extractor.extract(_images(folder))[0].astype(np.float16)
    )
    with pytest.raises(ParameterError, match="no local codes"):
        extract_to_stores(extractor, FolderSource(folder), local_store=tmp_path / "l")


def test_importing_does_not_import_torch_or_opencv() -> None:
    code = (
        "import sys, ilias_fast.extract, ilias_fast.adapt; "
        "print({'torch', 'cv2', 'PIL', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
