"""`ilias-fast models` and the options of `ilias-fast extract`."""

from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.cli.extract import _neural
from ilias_fast.images import FolderSource, decode
from ilias_fast.store import GlobalStore
from tests.command_line import done, failing

pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")

from tests.oracles import images as image_oracle  # needs Pillow


def test_models_are_listed_and_filtered() -> None:
    text = done("models", "siglip", "--sort")
    assert "10 models" in text
    ranked = [row["name"] for row in json.loads(done("models", "siglip", "--sort", "--json"))]
    assert ranked.index("vit_large_patch16_siglip_512.v2_webli") < ranked.index(
        "vit_base_patch16_siglip_224.webli"
    )
    assert "–" in text  # a number that was not readable
    everything = json.loads(done("models", "--json"))
    assert len(everything) == 72
    moco = next(row for row in everything if row["name"] == "mocov3_vitb16")
    assert moco["published"][0]["map_100m"] is None
    assert moco["published"][0]["quality"] == "unreadable"
    assert len(json.loads(done("models", "--json", "--not-public"))) == 15


def test_a_model_is_explained() -> None:
    text = done("models", "vit_base_patch16_siglip_384.webli")
    assert "extracted at    512 px, longer side; sides padded to a multiple of 16" in text
    assert "hf-hub:timm/ViT-B-16-SigLIP-384" in text
    assert "100M 15.6" in text
    assert "restored" in text
    assert "weights are gated" in done("models", "dinov3_vitb16")
    assert "near: dinov2_vitb14" in failing("models", "dinov2_vitb15")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(2)
    for number in range(4):
        data = image_oracle.encode(image_oracle.texture(rng, 60 + number, 40), "JPEG")
        (root / f"{number}.jpg").write_bytes(data)
    (root / "broken.jpg").write_bytes(b"not an image")
    return root


def test_extract_with_a_network(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="networks need timm (extra: torch)")
    network = ["--model", "test_vit", "--weights", "random", "--resolution", "64"]
    text = done("extract", str(pictures), "-o", str(tmp_path / "g"), *network)
    assert "4 images described, 0 were there, 1 skipped" in text
    assert "broken.jpg: not an image" in " ".join(text.split())
    (tmp_path / "ids.txt").write_text("3.jpg\n1.jpg\n")
    listed = [*network, "--ids", str(tmp_path / "ids.txt"), "--device", "cpu"]
    assert "2 images described" in done("extract", str(pictures), "-o", str(tmp_path / "two"), *listed)
    two, whole = GlobalStore.open(tmp_path / "two"), GlobalStore.open(tmp_path / "g")
    assert list(two.ids) == ["3.jpg", "1.jpg"]
    np.testing.assert_allclose(two.rows([0, 1]), whole.rows(whole.find(["3.jpg", "1.jpg"])), atol=1e-3)
    files = [str(pictures / "0.jpg"), str(pictures / "2.jpg")]
    assert "2 images described" in done("extract", *files, "-o", str(tmp_path / "files"), *network)
    assert [Path(name).name for name in GlobalStore.open(tmp_path / "files").ids] == ["0.jpg", "2.jpg"]
    assert "found a mixture" in failing("extract", *files, str(pictures), "-o", "x", *network)
    assert "which --part" in failing("extract", str(pictures), "-o", "x", "--crop", *network)


def test_extract_selected_samples_of_tars(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="networks need timm (extra: torch)")
    image = (pictures / "0.jpg").read_bytes()
    (tmp_path / "tars").mkdir()
    for name in ("a", "b"):
        image_oracle.write_tar(tmp_path / "tars" / f"{name}.tar", {f"{name}{n}.jpg": image for n in range(3)})
    (tmp_path / "selected.txt").write_text("a1\nb2\n")
    options = [
        "--selected-ids",
        str(tmp_path / "selected.txt"),
        "--model",
        "test_resnet",
        "--weights",
        "random",
    ]
    text = done("extract", str(tmp_path / "tars"), "-o", str(tmp_path / "g"), "--resolution", "64", *options)
    assert "2 images described" in text
    assert list(GlobalStore.open(tmp_path / "g").ids) == ["a.tar/a1", "b.tar/b2"]
    again = failing("extract", str(pictures), "-o", str(tmp_path / "x"), *options)
    assert "expected tars" in again


def test_files_are_their_own_ids(pictures: Path) -> None:
    from ilias_fast.errors import DatasetError, DuplicateIdError, ImageError, StorageError
    from ilias_fast.images import FilesSource

    path = pictures / "0.jpg"
    source = FilesSource([path, pictures / "broken.jpg"])
    assert source.ids() == (path.as_posix(), (pictures / "broken.jpg").as_posix())
    expected = decode(FolderSource(pictures).read("0.jpg"), "0.jpg")
    np.testing.assert_array_equal(decode(source.read(path.as_posix()), "0"), expected)
    with pytest.raises(ImageError, match="no such image among the 2 files"):
        source.read("1.jpg")
    with pytest.raises(DatasetError, match="found none"):
        FilesSource([])
    with pytest.raises(DuplicateIdError, match="given twice"):
        FilesSource([path, path])
    with pytest.raises(StorageError, match="does not exist"):
        FilesSource([pictures / "gone.jpg"])


def test_what_makes_an_extractor_can_be_sent_to_a_process() -> None:
    pytest.importorskip("timm", reason="networks need timm (extra: torch)")
    make = partial(_neural, "test_vit", {"weights": "random"}, {"resolution": 64})
    assert pickle.loads(pickle.dumps(make))("cpu").resolution == 64
