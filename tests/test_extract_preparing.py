"""From a decoded image to a network's input: boxes, masks, padding, variants, white balance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ilias_fast.errors import ParameterError, ShapeError
from ilias_fast.extract import Network, NeuralExtractor, Preparation
from ilias_fast.images import (
    Transform,
    box_mask,
    crop_to_boxes,
    resize_mask,
    resized_size,
    white_balance,
)

Image = pytest.importorskip("PIL.Image", reason="resizing images needs Pillow (extra: classical)")
torch = pytest.importorskip("torch", reason="a network's input needs torch (extra: torch)")

from tests.oracles import images as oracle  # noqa: E402  # needs Pillow

CPU = torch.device("cpu")


def network(describe: Any = None, **options: Any) -> Network:
    """Return a network whose descriptor is the mean colour of its input."""
    mean = describe or (lambda batch: batch.mean(dim=(2, 3)))
    return Network(torch.nn.Identity(), mean, 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 224, **options)


def normal(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalise as torchvision does, [3, H, W]."""
    from torchvision.transforms import functional

    x = functional.normalize(functional.to_tensor(np.array(pixels)), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    found: NDArray[np.float32] = x.numpy()
    return found


@pytest.mark.parametrize("mode", list(Transform))
@pytest.mark.parametrize("size", [(90, 55), (55, 90), (70, 70), (1, 60)])
@pytest.mark.parametrize("multiple", [1, 14, 16])
def test_every_mode_is_the_protocols(
    mode: Transform, size: tuple[int, int], multiple: int, rng: np.random.Generator
) -> None:
    from torchvision.transforms import functional

    width, height = size
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture, side = Image.fromarray(image), 61
    bilinear = functional.InterpolationMode.BILINEAR
    if mode in (Transform.RESIZE_LARGE, Transform.RESIZE_PAD):
        picture = picture.resize(oracle.large_size(width, height, side), Image.Resampling.BICUBIC)
    elif mode is Transform.RESIZE_SQUARE:
        picture = functional.resize(picture, [side, side], bilinear)
    else:
        picture = functional.resize(picture, side, bilinear)
        if mode is Transform.RESIZE_CENTER:
            picture = functional.center_crop(picture, [side, side])
    expected = normal(np.asarray(picture))
    targets = [(side, side)] if mode is Transform.RESIZE_PAD else []
    for low in targets:
        expected = padded(expected, *low)
    to = tuple(-(-n // multiple) * multiple for n in expected.shape[1:])
    expected = padded(expected, *to)
    extractor = NeuralExtractor(network(pad_multiple=multiple), resolution=side, transform=mode, device="cpu")
    (found,) = extractor.inputs([extractor.prepare(image)])
    np.testing.assert_array_equal(found.numpy()[0], expected)


def padded(x: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Pad with zeros, the smaller half left and above."""
    down, across = height - x.shape[1], width - x.shape[2]
    return np.pad(x, [(0, 0), (down // 2, down - down // 2), (across // 2, across - across // 2)])


def test_two_odd_paddings_are_two(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (10, 20, 3), dtype=np.uint8)
    prepare = Preparation(20, min_size=13, pad_multiple=14, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    found = prepare.batch([prepare(image)], CPU).numpy()[0]
    np.testing.assert_array_equal(found, padded(padded(normal(image), 13, 20), 14, 28))


def test_images_of_one_padded_size_share_a_batch(rng: np.random.Generator) -> None:
    extractor = NeuralExtractor(network(pad_multiple=16), resolution=64, device="cpu")
    images = [rng.integers(0, 256, (height, 100, 3), dtype=np.uint8) for height in (60, 66, 74)]
    prepared = [extractor.prepare(image) for image in images]
    assert [item.pixels.shape[0] for item in prepared] == [38, 42, 47]
    assert {extractor.bucket(item) for item in prepared} == {(48, 64)}
    (together,) = extractor.inputs(prepared)
    for row, item in enumerate(prepared):
        (alone,) = extractor.inputs([item])
        assert torch.equal(together[row], alone[0])


@pytest.mark.parametrize("mode", list(Transform))
def test_masks_follow_their_image(mode: Transform, rng: np.random.Generator) -> None:
    image = rng.integers(100, 256, (40, 60, 3), dtype=np.uint8)
    boxes = np.array([[5, 6, 20, 10], [50, 30, 30, 30]])
    extractor = NeuralExtractor(network(), resolution=32, transform=mode, mask=True, device="cpu")
    free = NeuralExtractor(network(), resolution=32, transform=mode, device="cpu")
    mask = np.zeros((40, 60), bool)
    mask[6:16, 5:25] = mask[30:40, 50:60] = True
    width, height = resized_size(60, 40, 32, mode)
    nearest = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), size=(height, width), mode="nearest"
    )[0, 0].numpy()
    if mode is Transform.RESIZE_CENTER:
        nearest = nearest[round((height - 32) / 2) :][:32, round((width - 32) / 2) :][:, :32]
    if mode is Transform.RESIZE_PAD:
        nearest = padded(nearest[None], 32, 32)[0]
    (whole,) = free.inputs([free.prepare(image)])
    (found,) = extractor.inputs([extractor.prepare(image, boxes)])
    np.testing.assert_array_equal(found.numpy()[0], whole.numpy()[0] * nearest)
    (unboxed,) = extractor.inputs([extractor.prepare(image, np.zeros((0, 4), np.int64))])
    assert torch.equal(unboxed, whole)


@given(st.integers(1, 400), st.integers(1, 400))
def test_nearest_is_torchs(of: int, to: int) -> None:
    mask = np.random.default_rng(of).random((1, of)) > 0.5
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), size=(1, to), mode="nearest"
    )
    found = resize_mask(np.repeat(mask, of, axis=0), to, "RESIZE_SQUARE")[0]
    np.testing.assert_array_equal(found, expected[0, 0, 0].bool().numpy())


def test_cropping_to_the_union_of_boxes(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    crop, moved = crop_to_boxes(image, [[10, 5, 8, 30], [4, 20, 10, 10]])
    np.testing.assert_array_equal(crop, image[5:35, 4:18])
    np.testing.assert_array_equal(moved, [[6, 0, 8, 30], [0, 15, 10, 10]])
    np.testing.assert_array_equal(crop_to_boxes(image, [[50, 30, 99, 99]])[0], image[30:, 50:])
    np.testing.assert_array_equal(crop_to_boxes(image, [])[0], image)
    with pytest.raises(ParameterError, match="inside the image of 60 x 40, found"):
        crop_to_boxes(image, [[70, 0, 5, 5]])
    with pytest.raises(ParameterError, match="inside the image"):
        crop_to_boxes(image, [[7, 7, 0, 5]])
    with pytest.raises(ShapeError, match=r"boxes: expected shape \[n, 4\], found \[3\]"):
        box_mask(5, 5, [1, 2, 3])
    extractor = NeuralExtractor(network(), resolution=24, crop=True, mask=True, device="cpu")
    prepared = extractor.prepare(image, np.array([[10, 5, 8, 30], [4, 20, 10, 10]]))
    assert prepared.pixels.shape == (24, 11, 3)
    assert prepared.mask is not None
    assert not prepared.mask[0, 0]
    assert prepared.mask[0, 6]


def test_white_balance() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0], image[..., 1] = 100, 50
    assert white_balance(image)[0, 0].tolist() == [50, 50, 0]
    grey = np.full((3, 3, 3), 77, np.uint8)
    np.testing.assert_array_equal(white_balance(grey), grey)
    image[0, 0] = [255, 0, 255]
    assert white_balance(image).max() == 255


def test_variants_are_averaged_as_published(rng: np.random.Generator) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    weights = torch.from_numpy(rng.standard_normal((3, 3)).astype(np.float32))
    seen = []

    def describe(batch: Any) -> Any:
        seen.append(tuple(batch.shape[2:]))
        return torch.tanh(batch).mean(dim=(2, 3)) @ weights + batch[:, :, :7, :5].mean(dim=(2, 3))

    image = rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)
    extractor = NeuralExtractor(
        network(describe, pad_multiple=16), resolution=80, multiscale=True, multirotate=True, device="cpu"
    )
    (found,), _ = extractor.extract([image])
    assert set(seen) == {(32, 64), (48, 80), (64, 128)}
    assert len(seen) == 12
    x = torch.from_numpy(
        normal(np.asarray(Image.fromarray(image).resize((80, 44), Image.Resampling.BICUBIC)))
    )
    total = torch.zeros(3)
    for scale in (0.707, 1, 1.414):
        scaled = x[None]
        if scale != 1:
            scaled = torch.nn.functional.interpolate(
                scaled, scale_factor=scale, mode="bicubic", align_corners=False, antialias=False
            )
        for angle in (0, 90, 180, 270):
            turned = transforms.rotate(scaled, angle, InterpolationMode.BILINEAR)[0].numpy()
            sides = tuple(-(-side // 16) * 16 for side in turned.shape[1:])
            total += torch.nn.functional.normalize(describe(torch.from_numpy(padded(turned, *sides))[None]))[
                0
            ]
    np.testing.assert_allclose(found, torch.nn.functional.normalize(total, dim=0).numpy(), atol=1e-5)
    assert extractor.provenance()["scales"] == [0.707, 1.0, 1.414]
    assert "scales" not in NeuralExtractor(network(), device="cpu").provenance()


def test_bad_settings() -> None:
    for name, value in (("resolution", 0), ("resolution", 1 << 15), ("min_size", -1), ("pad_multiple", 0)):
        settings: dict[str, Any] = {"resolution": 10, name: value}
        with pytest.raises(ParameterError, match=f"^{name}: expected"):
            Preparation(**settings)
    with pytest.raises(ParameterError, match="precision: expected 'auto'"):
        NeuralExtractor(network(), precision="int8")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="float16 is for GPUs"):
        NeuralExtractor(network(), precision="float16", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ParameterError, match=r"device: cannot use 'cuda:0' .*'cpu' always works"):
            NeuralExtractor(network(), device="cuda:0")


def test_bfloat16_is_near_and_says_so(rng: np.random.Generator) -> None:
    weight = torch.from_numpy(rng.standard_normal((3, 3)).astype(np.float32))
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    model = network(lambda batch: batch.mean(dim=(2, 3)) @ weight)
    exact = NeuralExtractor(model, resolution=16, device="cpu")
    rough = NeuralExtractor(model, resolution=16, device="cpu", precision="bfloat16")
    np.testing.assert_allclose(rough.extract([image])[0], exact.extract([image])[0], atol=0.02)
    assert (exact.provenance()["precision"], rough.provenance()["precision"]) == ("float32", "bfloat16")


def test_packed_layers_and_layouts_change_nothing_but_rounding(rng: np.random.Generator) -> None:
    from ilias_fast.extract.devices import pack_for_cpu

    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.Flatten(2), torch.nn.Linear(14 * 14, 5)
    ).eval()
    x = torch.from_numpy(rng.standard_normal((4, 3, 16, 16)).astype(np.float32))
    with torch.inference_mode():
        before = module(x)
        packed = pack_for_cpu(module)
        np.testing.assert_allclose(module(x).numpy(), before.numpy(), atol=1e-5)
        np.testing.assert_allclose(module.double()(x.double()).numpy(), before.numpy(), atol=1e-5)
    assert packed in (True, False)  # what this build of torch can do
    model = Network(
        module.float(), lambda batch: module(batch).mean(dim=1), 5, (0, 0, 0), (1, 1, 1), train_size=16
    )
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    results = [
        NeuralExtractor(model, resolution=16, device="cpu", channels_last=last, pack=pack).extract([image])[0]
        for last in (True, False)
        for pack in (True, False)
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-5)
