"""Local descriptors by networks: positions, selection, the detector, cropping, stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.adapt import Itq
from ilias_fast.errors import FileFormatError, IncompatibleStoreError, NonFiniteError, ParameterError
from ilias_fast.store import GlobalStore, LocalStore

torch = pytest.importorskip("torch", reason="networks need torch (extra: torch)")
pytest.importorskip("timm", reason="DINOv2 is built by timm (extra: torch)")
pytest.importorskip("cv2", reason="images are resized by OpenCV (extra: classical)")

from ilias_fast.extract import (  # noqa: E402
    LocalExtractor,
    LocalNetwork,
    Network,
    attention_detector,
    extract_to_stores,
    local_network,
    local_networks,
)
from ilias_fast.images import FolderSource  # noqa: E402

DIM = 8


def colours(scales: tuple[float, ...] = (1.0,), patch: int = 4) -> LocalNetwork:
    """Features are mean colours of patches, in DIM channels; the class token is their mean."""

    class Colours(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

    def maps(batch: Any) -> tuple[Any, Any]:
        pooled = torch.nn.functional.avg_pool2d(batch, patch)
        features = torch.cat([pooled, -pooled, pooled[:, :2]], dim=1)
        return features, features.mean(dim=(2, 3))

    return LocalNetwork(
        module=Colours(),
        maps=maps,
        dim=DIM,
        stride=patch,
        first=patch / 2,
        diameter=patch,
        multiple=patch,
        scales=scales,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        provenance={"model": "colours"},
    )


def spot(x: int, y: int, width: int = 64, height: int = 32) -> np.ndarray:
    """A black image with one bright patch of 4 pixels at a multiple of 4."""
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + 4, x : x + 4] = (250, 120, 60)
    return image


def test_positions_are_x_and_y_of_the_strongest() -> None:
    extractor = LocalExtractor(colours(), most=3, device="cpu")
    _, (one, two) = extractor.extract([spot(40, 8), spot(8, 28)])
    np.testing.assert_allclose(one.xy[0], [42 / 64, 10 / 32])
    np.testing.assert_allclose(two.xy[0], [10 / 64, 30 / 32])
    assert one.size == (64, 32)
    assert one.weight is not None
    assert list(one.weight) == sorted(one.weight, reverse=True)
    # Ties keep the order of rows: the first black patches of the map.
    np.testing.assert_allclose(one.xy[1:], [[2 / 64, 2 / 32], [6 / 64, 2 / 32]])
    assert one.scale is not None
    np.testing.assert_allclose(one.scale, 4)
    assert one.descriptors is not None
    bright = np.array([250, 120, 60]) / 255
    np.testing.assert_allclose(one.descriptors[0], [*bright, *-bright, *bright[:2]], rtol=1e-5)


def test_a_cropped_query_keeps_its_place_in_the_whole_image() -> None:
    extractor = LocalExtractor(colours(), most=1, crop=True, device="cpu")
    image = spot(40, 8)
    boxes = np.array([[36, 4, 20, 24]])
    prepared = extractor.prepare(image, boxes)
    assert prepared.pixels[0].shape == (24, 20, 3)
    _, (found,) = extractor.describe([prepared])
    np.testing.assert_allclose(found.xy[0], [42 / 64, 10 / 32])
    assert found.size == (64, 32)
    # The side is that of the whole image: everything is half as large, the place is the same.
    half = LocalExtractor(colours(), most=1, crop=True, side=32, device="cpu")
    prepared = half.prepare(image, np.array([[32, 0, 16, 32]]))
    assert prepared.pixels[0].shape == (16, 8, 3)
    _, (found,) = half.describe([prepared])
    assert abs(found.xy[0] - [42 / 64, 10 / 32]).max() < 4 / 32
    assert found.scale is not None
    np.testing.assert_allclose(found.scale, 8)
    with pytest.raises(ParameterError, match="inside the image"):
        extractor.prepare(image, np.array([[100, 100, 5, 5]]))


def test_sides_become_the_nearest_multiple() -> None:
    extractor = LocalExtractor(colours(patch=14), device="cpu")
    for (height, width), expected in {
        (20, 22): (14, 28),
        (3, 500): (14, 504),
        (28, 42): (28, 42),
        (35, 36): (28, 42),  # 2.5 patches round to even
    }.items():
        pixels = extractor.prepare(np.zeros((height, width, 3), np.uint8)).pixels[0]
        assert pixels.shape[:2] == expected


def test_scales_share_the_descriptors() -> None:
    extractor = LocalExtractor(colours(scales=(0.5, 1.0)), most=1000, device="cpu", global_by="attention")
    vectors, (found,) = extractor.extract([spot(40, 8)])
    assert len(found) == 16 * 8 + 8 * 4
    assert found.scale is not None
    assert sorted(set(found.scale.tolist())) == [4, 8]
    assert vectors is not None
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    inside = found.xy[np.argmax(found.weight)]
    np.testing.assert_allclose(inside, [42 / 64, 10 / 32])


def test_the_detector_is_the_published_formula(tmp_path: Path) -> None:
    detector = attention_detector(DIM, seed=3)
    with torch.no_grad():
        detector.bn.running_mean.uniform_(-1, 1)
        detector.bn.running_var.uniform_(0.5, 2)
    maps = torch.randn(2, DIM, 3, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        descriptors, weights = detector(maps)
    state = {name: value.numpy() for name, value in detector.state_dict().items()}
    x = maps.numpy().transpose(0, 2, 3, 1) @ state["conv1.weight"][:, :, 0, 0].T + state["conv1.bias"]
    y = (x - state["bn.running_mean"]) / np.sqrt(state["bn.running_var"] + 1e-5)
    unit = y / np.linalg.norm(y, axis=-1, keepdims=True)
    weight = np.log1p(np.exp(np.maximum(y, 0) @ state["conv2.weight"][0, :, 0, 0] + state["conv2.bias"]))
    np.testing.assert_allclose(descriptors, unit.transpose(0, 3, 1, 2), atol=1e-5)
    np.testing.assert_allclose(weights, weight, atol=1e-5)

    torch.save({"state": detector.state_dict()}, tmp_path / "detector.pt")
    loaded = attention_detector(DIM, tmp_path / "detector.pt")
    with torch.no_grad():
        again, _ = loaded(maps)
    np.testing.assert_array_equal(again, descriptors)
    with pytest.raises(FileFormatError, match=r"should be \[9, 9, 1, 1\] .* found \[8, 8, 1, 1\]"):
        attention_detector(9, tmp_path / "detector.pt")
    for change in ({"more": torch.ones(1)}, {"bn.weight": None}):
        state = {**detector.state_dict(), **change}
        torch.save({"state": {name: t for name, t in state.items() if t is not None}}, tmp_path / "bad.pt")
        with pytest.raises(FileFormatError, match=next(iter(change))):
            attention_detector(DIM, tmp_path / "bad.pt")


def test_weights_and_globals_with_a_detector() -> None:
    detector = attention_detector(DIM, seed=1)
    extractor = LocalExtractor(colours(), detector, most=5, global_by="attention", device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    vectors, (found,) = extractor.extract([image])
    maps, _ = colours().maps(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    with torch.no_grad():
        descriptors, weights = detector(maps)
    flat = weights.flatten().numpy()
    order = np.argsort(-flat, kind="stable")[:5]
    np.testing.assert_allclose(found.weight, flat[order], rtol=1e-5)
    np.testing.assert_allclose(found.descriptors, descriptors.flatten(2)[0].T.numpy()[order], atol=1e-6)
    mean = (descriptors * weights[:, None]).mean(dim=(2, 3))[0].numpy()
    assert vectors is not None
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_stores_of_floats_and_of_codes(textures: Path, tmp_path: Path) -> None:
    source = FolderSource(textures)
    extractor = LocalExtractor(colours(), most=20, side=64, global_by="cls", device="cpu")
    done = extract_to_stores(
        extractor, source, local_store=tmp_path / "floats", global_store=tmp_path / "globals"
    )
    assert done.extracted == 12
    floats = LocalStore.open(tmp_path / "floats")
    assert (floats.dim, floats.optional) == (DIM, ("scale", "weight"))
    assert GlobalStore.open(tmp_path / "globals").dim == DIM
    itq = Itq.fit(floats, 8)  # fitted on the descriptors as they lie in the store
    binary = LocalExtractor(colours(), itq=itq, most=20, side=64, device="cpu")
    extract_to_stores(binary, source, local_store=tmp_path / "codes")
    codes = LocalStore.open(tmp_path / "codes")
    assert codes.bits == 8
    differing = 0
    for one, other in zip(floats, codes, strict=True):
        np.testing.assert_array_equal(one.xy, other.xy)
        assert one.descriptors is not None
        differing += int((itq.apply(one.descriptors) != other.codes).sum())
    assert differing <= 2  # float16 rounding may turn a sign
    with pytest.raises(IncompatibleStoreError, match="other settings"):
        extract_to_stores(binary, source, local_store=tmp_path / "floats")


def test_bad_settings() -> None:
    network = colours()
    with pytest.raises(ParameterError, match="dimension 8, found 16"):
        LocalExtractor(network, itq=Itq(np.zeros(16, np.float32), np.eye(16, 8, dtype=np.float32), 0.0))
    for wrong in ({"most": 0}, {"side": 0}, {"global_by": "best"}, {"device": "no such"}, {"batch_size": 0}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            LocalExtractor(network, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="no class token"):
        LocalExtractor(colours(scales=(0.5, 1.0)), global_by="cls")
    with pytest.raises(ParameterError, match="dinov2_vitb14_reg"):
        local_network("resnet50")
    detector = attention_detector(DIM)
    with torch.no_grad():
        detector.conv2.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="image 0"):
        LocalExtractor(network, detector, device="cpu").extract([spot(0, 0)])


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = LocalExtractor(colours(), most=2, batch_size=4, device="cpu")
    images = [spot(4 * place, 0) for place in range(4)]
    _, expected = extractor.extract(images)
    whole = extractor._describe

    def small(prepared: Any) -> Any:
        if len(prepared) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return whole(prepared)

    monkeypatch.setattr(extractor, "_describe", small)
    _, found = extractor.extract(images)
    assert extractor.batch_size == 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.xy, other.xy)
    monkeypatch.setattr(extractor, "_describe", lambda prepared: small([*prepared] * 2))
    with pytest.raises(ParameterError, match="64 x 32 does not fit the memory"):
        extractor.extract(images[:1])


def wrapped(module: Any, patch: int) -> Network:
    """A small module as `load_network` would return it."""
    return Network(
        module=module.eval(),
        describe=module,
        dim=32,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.2),
        train_size=56,
        pad_multiple=patch,
    )


def test_patch_tokens_lie_where_their_patches_are(rng: np.random.Generator) -> None:
    from timm.models.vision_transformer import VisionTransformer

    module = VisionTransformer(
        img_size=56,
        patch_size=14,
        embed_dim=32,
        depth=1,
        num_heads=2,
        num_classes=0,
        reg_tokens=4,
        no_embed_class=True,
        global_pool="token",
        dynamic_img_size=True,
    )
    network = local_networks._patches(wrapped(module, 14))
    extractor = LocalExtractor(network, attention_detector(32, seed=1), device="cpu")
    image = rng.integers(0, 256, (42, 56, 3), dtype=np.uint8)
    _, (found,) = extractor.extract([image])
    assert len(found) == 12
    assert sorted({round(float(x) * 8) for x in found.xy[:, 0]}) == [1, 3, 5, 7]
    assert sorted({round(float(y) * 6) for y in found.xy[:, 1]}) == [1, 3, 5]
    batch = extractor._batch([image])
    expected = (image.transpose(2, 0, 1) / 255 - np.reshape([0.4, 0.5, 0.6], (3, 1, 1))) / np.reshape(
        [0.2, 0.3, 0.2], (3, 1, 1)
    )
    np.testing.assert_allclose(batch[0], expected, atol=1e-5)
    with torch.inference_mode():
        maps, token = network.maps(batch)
        features = module.forward_features(batch)
        np.testing.assert_allclose(token, module(batch), atol=1e-5)
    np.testing.assert_array_equal(maps[0, :, 1, 2], features[0, 5 + 4 + 2])


def test_cvnet_describes_by_its_third_stage(rng: np.random.Generator) -> None:
    from ilias_fast.extract.cvnet_models import cvnet

    module = cvnet((1, 1, 1, 1), superglobal=False, relup=False, width=4, dim=16)
    network = local_networks._cvnet(wrapped(module, 1))
    assert (network.dim, network.scales) == (64, (2**-0.5, 1.0, 2**0.5))
    extractor = LocalExtractor(network, attention_detector(64, seed=1), device="cpu")
    image = rng.integers(0, 256, (42, 56, 3), dtype=np.uint8)
    _, (found,) = extractor.extract([image])
    # Grids of 2 x 3, 3 x 4 and 4 x 5; the first position is half a pixel from the corner of each.
    assert len(found) == 6 + 12 + 20
    assert found.scale is not None
    np.testing.assert_allclose(sorted(set(found.scale.round())), [206, 291, 411], atol=6)
    corners = found.xy[found.xy.max(axis=1) < 0.02]
    np.testing.assert_allclose(sorted(corners[:, 0]), [0.5 / 79, 0.5 / 56, 0.5 / 40], rtol=1e-5)
    with torch.inference_mode():
        batch = extractor._batch([image])
        expected = module.s3(module.s2(module.s1(module.stem(batch.flip(1)))))
        np.testing.assert_array_equal(network.maps(batch)[0], expected)


@pytest.mark.parametrize(("name", "dim"), [("dinov2_vitb14_reg", 768), ("cvnet_resnet101", 1024)])
def test_the_published_networks_are_built(name: str, dim: int) -> None:
    assert local_network(name, weights="none").dim == dim
