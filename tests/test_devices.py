"""Devices by name; and on a GPU, where there is one, the same answers as on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="devices are torch's (extra: torch)")

from ilias_fast._devices import device_of  # noqa: E402
from ilias_fast.adapt import TrainingOptions, train_linear  # noqa: E402
from ilias_fast.errors import ParameterError  # noqa: E402
from ilias_fast.extract import LocalExtractor, NeuralExtractor, extract_to_stores, load_network  # noqa: E402
from ilias_fast.images import FolderSource  # noqa: E402
from ilias_fast.store import GlobalStore  # noqa: E402
from tests import test_rerank_ames as ames  # noqa: E402
from tests.extract_samples import images_of  # noqa: E402
from tests.test_adapt_training import make  # noqa: E402
from tests.test_extract_local import colours  # noqa: E402


def test_devices_by_name() -> None:
    assert device_of("cpu").type == "cpu"
    assert device_of(None).type in ("cpu", "cuda", "mps")
    for wrong in ("nowhere", "cuda:99", ""):
        with pytest.raises(ParameterError, match=f"device: cannot use '{wrong}'"):
            device_of(wrong)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """The GPU lets this process have a fiftieth of its memory."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.02)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "test_convnext"])
@pytest.mark.parametrize("options", [{}, {"multiscale": True}, {"channels_last": True}])
def test_descriptors(textures: Path, name: str, options: dict[str, Any]) -> None:
    pytest.importorskip("timm")
    images = images_of(textures)

    def described(**where: Any) -> Any:
        network = load_network(f"timm:{name}", weights="random", seed=1)
        return NeuralExtractor(network, resolution=96, **where, **options).extract(images)[0]

    expected = described(device="cpu")
    np.testing.assert_allclose(described(device="cuda", precision="float32"), expected, atol=2e-5)
    for precision in ("float16", "bfloat16"):
        found = described(device="cuda", precision=precision)
        assert (found * expected).sum(axis=1).min() > 0.999, precision


@pytest.mark.cuda
@pytest.mark.usefixtures("little_memory")
def test_a_batch_that_does_not_fit_is_halved(textures: Path) -> None:
    pytest.importorskip("timm")
    network = load_network("timm:vit_tiny_patch16_224", weights="random", seed=1)
    extractor = NeuralExtractor(network, resolution=1024, device="cuda", batch_size=512)
    image = images_of(textures)[0]
    vectors, _ = extractor.extract([image] * 480)
    assert 1 <= extractor.batch_size < 480
    assert (vectors @ vectors[0]).min() > 0.999
    torch.cuda.set_per_process_memory_fraction(0.002)
    with pytest.raises(ParameterError, match=r"resolution: one image of .* does not fit the memory of cuda"):
        NeuralExtractor(network, resolution=6_000, device="cuda").extract([image])


@pytest.mark.cuda
def test_stores_are_the_same_whatever_overlaps(textures: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    for number in range(2):
        network = load_network("timm:resnet18", weights="random", seed=1)
        extractor = NeuralExtractor(network, resolution=96, device="cuda", batch_size=3)
        assert extractor.describers == 2
        extract_to_stores(extractor, FolderSource(textures), global_store=tmp_path / str(number))
    one, two = (GlobalStore.open(tmp_path / str(number)) for number in range(2))
    assert list(one.ids) == list(two.ids)
    np.testing.assert_array_equal(one.rows(np.arange(12)), two.rows(np.arange(12)))


@pytest.mark.cuda
def test_compiled(textures: Path) -> None:
    pytest.importorskip("timm")
    network = load_network("timm:resnet18", weights="random", seed=1)
    images = images_of(textures)[:3]
    plain = NeuralExtractor(network, resolution=96, device="cuda").extract(images)[0]
    compiled = NeuralExtractor(network, resolution=96, device="cuda", compile=True).extract(images)[0]
    assert (plain * compiled).sum(axis=1).min() > 0.999


@pytest.mark.cuda
def test_local_descriptors(textures: Path) -> None:
    pytest.importorskip("cv2")
    images = images_of(textures)
    (_, here), (_, there) = (
        LocalExtractor(colours(), most=50, side=64, device=device, precision="float32").extract(images)
        for device in ("cpu", "cuda")
    )
    for one, other in zip(here, there, strict=True):
        assert one.weight is not None
        np.testing.assert_allclose(one.weight, other.weight, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("sampled", [None, 36])
def test_training(tmp_path: Path, sampled: int | None) -> None:
    store, labels = make(tmp_path / "store")
    options = TrainingOptions(dim=16, epochs=2, batch_size=32, seed=5, sampled_classes=sampled)
    here, there = (train_linear(store, labels, options, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(here.losses, there.losses, atol=1e-3)
    np.testing.assert_allclose(here.adapter.weight, there.adapter.weight, atol=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("binary", [False, True])
def test_ames(rng: np.random.Generator, binary: bool) -> None:
    network = ames.published(binary=binary)
    query, *images = ames.descriptors(rng, 12, 5, 0, 7, 5, 5, 7, 9)
    expected = ames.reference(network, query, images)
    for dtype, most in (("float32", 1e-3), ("float16", 0.1), ("bfloat16", 0.5)):
        net = ames.fast(network, dtype=dtype, device="cuda")
        found = net.score(net.encode(query), net.encode_images(images, database=True), batch=3)
        np.testing.assert_allclose(found, expected, atol=most)
