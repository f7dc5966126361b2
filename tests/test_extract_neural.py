"""Networks from timm: preparation, poolings, checkpoints, and descriptors equal to the model's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.errors import (
    FileFormatError,
    NonFiniteError,
    ParameterError,
    StorageError,
)
from ilias_fast.extract import (
    Network,
    NeuralExtractor,
    default_resolution,
    extract_to_stores,
    load_network,
)
from ilias_fast.images import FolderSource, Transform
from ilias_fast.store import GlobalStore
from tests.extract_samples import images_of

pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")

from tests.oracles import images as image_oracle  # needs Pillow


def given(extractor: NeuralExtractor, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the network is given for one image, [3, H, W]."""
    (batch,) = extractor.inputs([extractor.prepare(image)])
    found: NDArray[np.float32] = batch.cpu().numpy()[0]
    return found


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

    network = load_network(name, weights="random", seed=4)
    extractor = NeuralExtractor(network, resolution=90, device="cpu")
    assert network.dim == dim
    image = image_oracle.texture(rng, 120, 80)
    prepared = given(extractor, image)
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
    extractor = NeuralExtractor(load_network("test_vit", weights="random"), resolution=90)
    image = image_oracle.texture(rng, 500, 333)
    prepared = given(extractor, image)
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
        module = load_network(name, weights="random").module
        for pooling in ("cls", "gap", "mac", "gem") if "vit" in name else ("gap", "mac", "gem"):
            extractor = NeuralExtractor(
                load_network(name, weights="random", pooling=pooling), resolution=64, device="cpu"
            )
            with torch.inference_mode():
                features: Any = module.forward_features(torch.from_numpy(given(extractor, image))[None])  # type: ignore[operator]
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
    one, same, other = (load_network("test_vit", weights="random", seed=seed) for seed in (1, 1, 2))
    assert one.provenance == same.provenance
    assert one.provenance["weights"] != other.provenance["weights"]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_checkpoints(timm: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    model = timm.create_model("test_vit")
    random = load_network("test_vit", weights="random", seed=9)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pth")
    networks = [load_network("test_vit", weights=tmp_path / name) for name in ("w.safetensors", "w.pth")]
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
            load_network("test_vit", weights=tmp_path / name)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:1000])
    with pytest.raises(FileFormatError, match="cut"):
        load_network("test_vit", weights=tmp_path / "cut.safetensors")
    with pytest.raises(StorageError, match="gone"):
        load_network("test_vit", weights=tmp_path / "gone.pth")


def test_weights_that_cannot_be_downloaded(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, pretrained: bool = False, **_: object) -> None:
        assert pretrained
        raise OSError(f"cannot reach the hub for {name}")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ParameterError, match=r"resnet18 cannot be had .*weights=PATH.*weights='random'"):
        load_network("resnet18")


@pytest.mark.usefixtures("timm")
def test_bad_network_arguments() -> None:
    with pytest.raises(ParameterError, match="no model 'resnet19'"):
        load_network("resnet19", weights="random")
    with pytest.raises(ParameterError, match="expected 'head', 'cls', 'gap'"):
        load_network("test_vit", weights="random", pooling="best")
    with pytest.raises(ParameterError, match="no class token"):
        load_network("resnet18", weights="random", pooling="cls")
    network = load_network("test_vit", weights="random")
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
    with pytest.raises(NonFiniteError, match="precision='float32'"):
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
    assert given(extractor, np.ones((8, 16, 3), np.uint8)).shape == (3, 16, 16)


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
def test_a_network_writes_a_store(textures: Path, tmp_path: Path) -> None:
    extractor = NeuralExtractor(load_network("test_vit", weights="random"), resolution=64, device="cpu")
    report = extract_to_stores(extractor, FolderSource(textures), global_store=tmp_path / "g")
    assert report.extracted == 12
    store = GlobalStore.open(tmp_path / "g")
    assert store.provenance["model"] == "test_vit"
    np.testing.assert_array_equal(
        store.rows(np.arange(12)), extractor.extract(images_of(textures))[0].astype(np.float16)
    )
    with pytest.raises(ParameterError, match="no local codes"):
        extract_to_stores(extractor, FolderSource(textures), local_store=tmp_path / "l")
