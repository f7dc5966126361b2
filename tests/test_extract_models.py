"""The registry, and each family of networks against its library or its authors' computation."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.errors import FileFormatError, ParameterError
from ilias_fast.extract import Network, NeuralExtractor, find_model, load_network, models
from ilias_fast.extract.network import STATISTICS

pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")

from tests.oracles import images as image_oracle  # needs Pillow

SMALL_VIT: dict[str, Any] = {"depth": 2, "embed_dim": 64, "num_heads": 2}
IMAGE = image_oracle.texture(np.random.default_rng(8), 90, 55)


@pytest.fixture(scope="module")
def torch() -> Any:
    found = pytest.importorskip("torch", reason="networks need torch (extra: torch)")
    pytest.importorskip("timm", reason="networks need timm (extra: torch)")
    pytest.importorskip("torchvision", reason="networks need torchvision (extra: torch)")
    return found


@pytest.fixture
def small(torch: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make timm's models shallow and narrow; returns what creates them so."""
    import timm

    assert torch is not None
    whole = timm.create_model

    def create(name: str, pretrained: bool = False, **options: Any) -> Any:
        if "convnext" in name:
            options |= {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 48)}
        elif any(family in name for family in ("vit", "eva", "deit")):
            options |= SMALL_VIT
        return whole(name, pretrained, **options)

    monkeypatch.setattr(timm, "create_model", create)
    return create


def reference_input(image: NDArray[np.uint8], resolution: int, statistics: Any, multiple: int) -> Any:
    """Prepare an image as the protocol says, with Pillow and torchvision."""
    from PIL import Image
    from torch.nn import functional
    from torchvision.transforms import functional as transforms

    size = image_oracle.large_size(image.shape[1], image.shape[0], resolution)
    x = transforms.to_tensor(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    x = transforms.normalize(x, *statistics)
    down, across = (-side % multiple for side in x.shape[1:])
    x = functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
    return x[None]


def assert_same(network: Network, direct: Any, resolution: int = 80, multiple: int | None = None) -> None:
    """Compare our descriptor with a library's own, called with the protocol's settings."""
    import torch

    x = reference_input(IMAGE, resolution, (network.mean, network.std), multiple or network.pad_multiple)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(direct(x)).numpy()[0]
    extractor = NeuralExtractor(network, resolution=resolution, device="cpu")
    (found,), _ = extractor.extract([IMAGE])
    assert found.shape == (network.dim,)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_the_registry_is_the_benchmarks(examples: Path) -> None:
    with (examples.parent / "models.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row.name for row in models()]
    for given, row in zip(rows, models(), strict=True):
        assert (row.train_size is None) == (given["train_res"] == "")
        assert (row.dims_paper is None) == (given["dims_paper"] == "")
        assert (str(row.test_size), str(row.dims)) == (given["test_res"], given["dims_actual"])
        assert (row.note, row.text_model) == (given["note"], given["text_model"])


def test_the_registry_filters_and_explains() -> None:
    assert len(models()) == 72
    assert len(models(framework="timm")) == 48
    assert len(models(text=True)) == 23
    assert all(row.text_model for row in models(text=True))
    assert {row.name for row in models(word="SIGLIP", framework="timm")} == {
        row.name for row in models() if "siglip" in row.name
    }
    assert not [row for row in models() if 0 in (row.train_size, row.dims_paper)]
    assert find_model("dinov3_vitb16").train_size is None
    assert {row.framework for row in models(public=False)} == {"timm", "cvn", "hier", "unc", "unicom", "fb"}
    assert "gated" in str(find_model("dinov3_vitl16").needs_checkpoint)
    assert find_model("swav").needs_checkpoint is None
    with pytest.raises(ParameterError, match="near: dinov2_vitb14"):
        find_model("dinov2_vitb15")
    with pytest.raises(ParameterError, match="framework: expected 'timm', 'och'"):
        models(framework="keras")


@pytest.mark.parametrize("name", [row.name for row in models()])
@pytest.mark.usefixtures("torch")
def test_every_row_can_be_built(name: str) -> None:
    row = find_model(name)
    network = load_network(name, weights="none")
    assert network.dim == row.dims
    assert network.resolution == row.test_size
    assert network.train_size == (row.train_size or row.test_size)
    assert network.pad_multiple == (16 if row.framework == "hier" else row.pad_multiple)
    if row.norm_stats in STATISTICS:
        assert (network.mean, network.std) == STATISTICS[row.norm_stats]


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_224.augreg_in21k",
        "deit3_base_patch16_224.fb_in1k",
        "vit_base_patch16_clip_224.openai",
        "vit_base_patch16_siglip_224.webli",
        "eva02_base_patch14_224.mim_in22k",
        "eva02_base_patch16_clip_224.merged2b",
        "vit_pe_core_base_patch16_224.fb",
        "convnext_base.fb_in1k",
        "convnext_base.clip_laion2b_augreg",
    ],
)
def test_timm(small: Callable[..., Any], torch: Any, name: str) -> None:
    options: dict[str, Any] = {} if "clip" in name or "pe_core" in name else {"num_classes": 0}
    if "convnext" not in name:
        options["dynamic_img_size"] = True
    with torch.random.fork_rng():
        torch.manual_seed(4)
        direct = small(name, **options).eval()
    assert_same(load_network(name, weights="random", seed=4), direct)


def test_gem_and_class_tokens_of_the_registry(small: Callable[..., Any], torch: Any) -> None:
    uscrr = load_network("uscrr_64-vit_base_patch16_clip_224.openai", weights="random", seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        direct = small("vit_base_patch16_clip_224.openai", num_classes=0, dynamic_img_size=True).eval()
    assert_same(uscrr, lambda x: direct.forward_features(x)[:, 0])


@pytest.mark.parametrize("pooling", ["gem", "head"])
def test_torchvision(torch: Any, pooling: str) -> None:
    import torchvision

    network = load_network("alexnet", weights="random", seed=2, pooling=pooling)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        module = torchvision.models.alexnet(weights=None).eval()

    def direct(x: Any) -> Any:
        maps = module.features(x)
        if pooling == "gem":
            return maps.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)
        return module.classifier[:-1](module.avgpool(maps).flatten(1))

    assert_same(network, direct, resolution=200)


@pytest.mark.parametrize(
    ("name", "prefix", "extra"),
    [
        ("dino_resnet50", "", {}),
        ("swav", "module.", {"module.prototypes.weight": (3, 4), "module.projection_head.0.bias": (7,)}),
        ("mocov3_resnet50", "module.base_encoder.", {"module.base_encoder.fc.0.weight": (3, 4)}),
    ],
)
def test_hub_residual_networks(
    torch: Any, tmp_path: Path, name: str, prefix: str, extra: dict[str, tuple[int, ...]]
) -> None:
    import torchvision

    module = torchvision.models.resnet50(weights=None)
    module.fc = torch.nn.Identity()
    state = {prefix + key: value for key, value in module.state_dict().items()}
    state |= {key: torch.zeros(shape) for key, shape in extra.items()}
    torch.save({"state_dict": state} if prefix else state, tmp_path / "published.pth")
    assert_same(load_network(name, weights=tmp_path / "published.pth"), module.eval(), resolution=64)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dino_vitb16", {"patch": 16, "grid": 14, "v2": False}),
        ("dino_vit16_patch16_224_sop", {"patch": 16, "grid": 14, "v2": False}),
        ("dinov2_vitb14", {"patch": 14, "grid": 37, "v2": True}),
        ("dinov2_vitl14_reg", {"patch": 14, "grid": 37, "v2": True, "registers": 4}),
        ("unic_l", {"patch": 14, "grid": 16, "v2": False}),
        ("unic_l", {"patch": 14, "grid": 37, "v2": True}),
    ],
)
@pytest.mark.parametrize("resolution", [80, 224])
def test_hub_transformers(
    torch: Any, tmp_path: Path, name: str, options: dict[str, Any], resolution: int
) -> None:
    from tests.oracles.networks import Dino

    oracle = Dino(dim=64, depth=2, heads=2, **options).eval()
    state = oracle.state_dict()
    if name == "unic_l":
        state = {f"module.encoder.{key}": value for key, value in state.items()}
    torch.save(state, tmp_path / "published.pth")
    assert_same(load_network(name, weights=tmp_path / "published.pth"), oracle, resolution)


def test_dinov3(small: Callable[..., Any], torch: Any, tmp_path: Path) -> None:
    from tests.oracles.networks import Dinov3

    del small
    oracle = Dinov3(patch=16, dim=64, depth=2, heads=2).eval()
    torch.save(oracle.state_dict(), tmp_path / "published.pth")
    assert_same(load_network("dinov3_vitb16", weights=tmp_path / "published.pth"), oracle)


def test_moco_transformer_is_timms(small: Callable[..., Any], torch: Any, tmp_path: Path) -> None:
    module = small("vit_base_patch16_224", num_classes=0, dynamic_img_size=True).eval()
    state = {f"module.base_encoder.{key}": value for key, value in module.state_dict().items()}
    state |= {
        "module.base_encoder.head.0.weight": torch.zeros(2),
        "module.momentum_encoder.norm.weight": torch.zeros(1),
    }
    torch.save({"state_dict": state}, tmp_path / "published.pth")
    assert_same(load_network("mocov3_vitb16", weights=tmp_path / "published.pth"), module)


@pytest.mark.parametrize(("superglobal", "official"), [(False, False), (False, True), (True, False)])
def test_cvnet(
    torch: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, superglobal: bool, official: bool
) -> None:
    from ilias_fast.extract import cvnet_models
    from tests.oracles import networks

    whole = cvnet_models.cvnet
    monkeypatch.setitem(cvnet_models._DEPTHS, "50", (1, 2, 1, 1))
    monkeypatch.setattr(cvnet_models, "cvnet", partial(whole, width=8))
    fresh = whole((1, 2, 1, 1), superglobal=superglobal, relup=False, width=8)
    networks.randomise(fresh)
    torch.save(
        {"model_state": {f"encoder_q.{k}": v for k, v in fresh.state_dict().items()}}, tmp_path / "c.pt"
    )
    name = "superglobal_resnet50" if superglobal else "cvnet_resnet50"
    network = load_network(name, weights=tmp_path / "c.pt", official=official)
    state = fresh.state_dict()
    relup = superglobal or official
    for resolution in (64, 190):
        assert_same(
            network,
            lambda x: networks.cvnet(x, state, superglobal=superglobal, relup=relup),
            resolution,
        )


def test_unicom(torch: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ilias_fast.extract import unicom_models
    from tests.oracles import networks

    name = "unicom_vit_base_patch16_sop"
    size = unicom_models._MODELS[name]
    monkeypatch.setitem(unicom_models._MODELS, name, size._replace(trained=64, dim=48, depth=2, heads=3))
    oracle = networks.Unicom(patch=16, trained=64, dim=48, depth=2, heads=3).eval()
    networks.randomise(oracle)
    torch.save({f"_orig_mod.{k}": v.half() for k, v in oracle.state_dict().items()}, tmp_path / "u.pt")
    oracle.load_state_dict({k: v.half().float() for k, v in oracle.state_dict().items()})
    network = load_network(name, weights=tmp_path / "u.pt")
    for resolution in (64, 80, 150):
        assert_same(network, oracle, resolution)


@pytest.fixture
def small_clip(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make open_clip's RN50 small: stem, four stages, attention pool, a text tower of one layer."""
    open_clip = pytest.importorskip("open_clip", reason="CLIP's towers need open_clip (extra: torch)")
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "RN50", config)
    return open_clip


def test_open_clip_images(torch: Any, small_clip: Any, tmp_path: Path) -> None:
    model = small_clip.create_model("RN50", load_weights=False).eval()
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    network = load_network("RN50.openai", weights=tmp_path / "clip.pt")
    assert (network.mean, network.resolution) == (STATISTICS["clip"][0], 384)
    square = np.ascontiguousarray(IMAGE[:50, :50])
    extractor = NeuralExtractor(network, resolution=64, device="cpu")
    with torch.inference_mode():
        x = reference_input(square, 64, STATISTICS["clip"], 1)
        expected = model.encode_image(x, normalize=True).numpy()
    np.testing.assert_allclose(extractor.extract([square])[0], expected, atol=1e-5)

    # At another size: the upstream module, its table of positions replaced by the resized one.
    table = model.visual.attnpool.positional_embedding.detach()
    grid = table[1:].T.reshape(1, -1, 2, 2)
    grid = torch.nn.functional.interpolate(grid, size=(3, 6), mode="bicubic", align_corners=False)
    longer = torch.cat([table[:1], grid.flatten(2)[0].T])
    model.visual.attnpool.positional_embedding = torch.nn.Parameter(longer)
    assert_same(network, model.encode_image, resolution=199)


def test_open_clip_by_its_own_configuration(
    torch: Any, small_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
    monkeypatch.setitem(small_clip.factory._MODEL_CONFIGS, "ViT-Tiny", config)
    network = load_network("ViT-Tiny", weights="random", seed=3)
    assert (network.dim, network.resolution, network.transform.value) == (24, 32, "RESIZE_CENTER")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = small_clip.create_model("ViT-Tiny", load_weights=False).eval()
    extractor = NeuralExtractor(network, device="cpu")
    (x,) = extractor.inputs([extractor.prepare(IMAGE)])
    with torch.inference_mode():
        expected = model.encode_image(x.contiguous(), normalize=True).numpy()
    np.testing.assert_allclose(extractor.extract([IMAGE])[0], expected, atol=1e-5)
    with pytest.raises(ParameterError, match="expected a weights tag"):
        load_network("open_clip:ViT-Tiny")
    with pytest.raises(ParameterError, match="open_clip has no model"):
        load_network("open_clip:ViT-Nothing", weights="random")


@pytest.mark.usefixtures("torch")
def test_a_prefix_says_whose_model() -> None:
    network = load_network("torchvision:resnet18", weights="random")
    assert (network.dim, network.provenance["framework"]) == (512, "torchvision")
    assert load_network("timm:resnet18", weights="none").provenance["framework"] == "timm"
    with pytest.raises(ParameterError, match="neither timm nor open_clip has it; near: resnet"):
        load_network("resnet19", weights="random")
    with pytest.raises(ParameterError, match="torchvision has no classifier 'nope'"):
        load_network("torchvision:nope")
    with pytest.raises(ParameterError, match="timm has no model 'nope'"):
        load_network("timm:nope")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("udon_64-vit_base_patch16_clip_224.openai", "are not public"),
        ("unicom_vit_base_patch16_gldv2", "are not public"),
        ("uscrr_64-vit_base_patch16_clip_224.openai", "another form"),
        ("dinov3_vitb16", "gated"),
        ("cvnet_resnet101", "no plain download"),
    ],
)
@pytest.mark.usefixtures("torch")
def test_weights_that_are_not_public_say_so(name: str, said: str) -> None:
    with pytest.raises(ParameterError, match=rf"{re.escape(name)}: its weights .*{said}.*weights=PATH"):
        load_network(name)


def test_a_checkpoint_that_is_not_public_is_accepted(
    small: Callable[..., Any], torch: Any, tmp_path: Path
) -> None:
    module = small("vit_base_patch16_224.augreg_in21k", num_classes=512, dynamic_img_size=True).eval()
    torch.save(module.state_dict(), tmp_path / "recall.pth")
    network = load_network("recall_512-vit_base_patch16_224_in21k", weights=tmp_path / "recall.pth")
    assert_same(network, module)


@pytest.mark.usefixtures("small")
def test_checkpoints_of_the_wrong_shape_name_both(torch: Any, tmp_path: Path) -> None:
    from tests.oracles.networks import Dino

    state = Dino(dim=64, depth=2, heads=2, patch=16, grid=14, v2=False).state_dict()
    for change, message in (
        ({"pos_embed": torch.zeros(1, 50, 64)}, r"pos_embed should be \[1, 197, 64\] .*found \[1, 50, 64\]"),
        ({"head.weight": torch.zeros(3)}, "do not belong to dino_vitb16, the first is head.weight"),
    ):
        torch.save({**state, **change}, tmp_path / "wrong.pth")
        with pytest.raises(FileFormatError, match=message):
            load_network("dino_vitb16", weights=tmp_path / "wrong.pth")
    del state["norm.bias"]
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(FileFormatError, match=r"1 of \d+ tensors of dino_vitb16 are missing.*norm\.bias"):
        load_network("dino_vitb16", weights=tmp_path / "wrong.pth")


def test_downloads_are_kept_and_checked(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ilias_fast.extract.weights import download

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "weights.pth").write_bytes(b"weights")
    url = (tmp_path / "weights.pth").as_uri()
    digest = hashlib.sha256(b"weights").hexdigest()
    path = download(url, digest, "a model")
    assert path.read_bytes() == b"weights"
    (tmp_path / "weights.pth").unlink()
    assert download(url, digest, "a model") == path  # from the cache
    with pytest.raises(ParameterError, match=r"a model: .* should have the SHA-256 0+, found"):
        download(url, "0" * 64, "a model")
    with pytest.raises(ParameterError, match=r"a model cannot be had .*weights=PATH"):
        download((tmp_path / "gone.pth").as_uri(), None, "a model")
