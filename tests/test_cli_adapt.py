"""`ilias-fast adapt` and `ilias-fast extract-local`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.adapt import Itq, LinearAdapter, PcaWhitening, SupervisedWhitening, load_adapter
from ilias_fast.datasets import load_dataset
from ilias_fast.store import BinaryStore, GlobalStore, LocalStore
from tests.command_line import World, done, failing

CLASSES = 12


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A store of 12 classes in 16 dimensions, and its labels."""
    classes = rng.permutation(np.repeat(np.arange(CLASSES), 10))
    rows = rng.standard_normal((CLASSES, 16))[classes] + 0.5 * rng.standard_normal((120, 16))
    with GlobalStore.create(tmp_path / "s", dim=16) as writer:
        writer.append([f"i{row}" for row in range(120)], rows / np.linalg.norm(rows, axis=1, keepdims=True))
    (tmp_path / "labels").write_text("".join(f"i{row},{label},0\n" for row, label in enumerate(classes)))
    return tmp_path


def test_train_apply_export(folder: Path) -> None:
    pytest.importorskip("torch", reason="training needs torch (extra: torch)")
    store, labels, layer = folder / "s", folder / "labels", folder / "layer"
    train = ["adapt", "train", store, labels, "-o", layer, "--dim", 8, "--batch-size", 16, "-t", 1]
    printed = done(*train)
    assert "120 images of 12 classes" in printed
    assert f"linear, 16 -> 8: {layer}" in printed
    assert sorted(path.name for path in folder.iterdir()) == ["labels", "layer", "s"]  # no state is left
    assert "exists" in failing(*train)
    done(*train, "--overwrite")
    adapter = load_adapter(layer)
    assert isinstance(adapter, LinearAdapter)
    assert adapter.training["classes"] == CLASSES
    done("adapt", "apply", store, "-o", folder / "d", "--adapter", layer, "-t", 1)
    derived, rows = GlobalStore.open(folder / "d"), np.arange(120)
    expected = adapter.apply_half(GlobalStore.open(store).rows(rows))
    np.testing.assert_array_equal(derived.rows(rows), expected)
    done("adapt", "export", layer, "-o", folder / "layer.pth")
    assert load_adapter(folder / "layer.pth").fingerprint == adapter.fingerprint
    few = ["adapt", "train", store, labels, "-o", folder / "few", "--batch-size", 4, "--sampled-classes", 8]
    assert "linear, 16 -> 6" in done(*few, "--dim", 6, "-t", 1)
    labels.write_text("x1,3,0\ny1,4,0\n")
    assert "2 of 2 labels have no row, the first 'x1'" in failing(*few, "--overwrite")
    assert "no folder" in failing(*train[:4], "-o", folder / "no" / "layer", code=2)


def test_fit_each_method(folder: Path) -> None:
    fit = ["adapt", "fit", folder / "s", "-o", folder / "a", "--method"]
    assert "pca-whitening, 16 -> 5" in done(*fit, "pcaw", "--dim", 5)
    found = load_adapter(folder / "a")
    assert isinstance(found, PcaWhitening)
    assert found.shrinkage == 0
    assert found.mean.any()
    assert "20 dimensions asked for, the features span 16" in done(*fit, "pcaw", "--dim", 20)
    assert "supervised-whitening, 16 -> 16" in done(*fit, "lw", "--labels", folder / "labels")
    found = load_adapter(folder / "a")
    assert isinstance(found, SupervisedWhitening)
    assert found.pairs == 120 - CLASSES
    (folder / "pairs").write_text("i0\ti1\ni2\ti3\n")
    done(*fit, "lw", "--pairs", folder / "pairs", "--dim", 4)
    assert "itq, 16 -> 8 bits" in done(*fit, "itq", "--bits", 8)
    assert isinstance(load_adapter(folder / "a"), Itq)
    done("adapt", "apply", folder / "s", "-o", folder / "codes", "--adapter", folder / "a")
    assert BinaryStore.open(folder / "codes").bits == 8
    assert "--labels or --pairs" in failing(*fit, "lw")
    (folder / "pairs").write_text("i0\ti1\ni2 i3\n")
    assert "pair 2: expected query<tab>positive" in failing(*fit, "lw", "--pairs", folder / "pairs")
    (folder / "pairs").write_text("i0\tnobody\n")
    assert "nobody" in failing(*fit, "lw", "--pairs", folder / "pairs")
    assert "float16 vectors" in failing(
        "adapt", "fit", folder / "codes", "-o", folder / "b", "--method", "pcaw"
    )
    assert "expected a linear layer, found a itq" in failing(
        "adapt", "export", folder / "a", "-o", folder / "x.pth"
    )
    assert "expected one of --adapter" in failing("adapt", "apply", folder / "s", "-o", folder / "y")


def test_compare_prints_a_row_an_adaptation(world: World, folder: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("torch", reason="training needs torch (extra: torch)")
    dataset = load_dataset(world.photos)
    database = [*dataset.positives, *dataset.distractors]
    for name, ids in (("q", list(dataset.image_queries)), ("db", database)):
        with GlobalStore.create(folder / name, dim=16) as writer:
            writer.append(ids, rng.standard_normal((len(ids), 16)))
    LinearAdapter(rng.standard_normal((4, 16)), np.zeros(4)).save(folder / "mine")
    command = ["adapt", "compare", folder / "q", folder / "db", "-d", world.photos, "-k", 8, "-t", 1]
    printed = done(*command, "--adapter", folder / "mine")
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines() if line.strip()]
    assert rows[0] == ["adaptation", "labels", "dim", "mAP@8", "difference", "oracle"]
    assert [row[:3] for row in rows[2:]] == [["none", "–", "16"], ["mine", "yes", "4"]]
    difference = float(rows[3][3]) - float(rows[2][3])
    assert float(rows[3][4]) == pytest.approx(difference, abs=0.011)
    training = ["--train-on", folder / "s", "--labels", folder / "labels", "--dim", 6, "--batch-size", 16]
    printed = done(*command, *training, "--epochs", 1)
    shown = [line.split()[:3] for line in printed.splitlines() if line.strip()][2:]
    assert shown == [["none", "–", "16"], ["PCAw", "no", "6"], ["Lw", "yes", "6"], ["linear", "yes", "6"]]
    itq = Itq.fit(GlobalStore.open(folder / "s"), 8)
    itq.save(folder / "itq")
    assert "expected a linear layer or a whitening" in failing(*command, "--adapter", folder / "itq")


def test_extract_local(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="networks need torch (extra: torch)")
    from ilias_fast.extract import attention_detector
    from tests.test_extract_local import DIM, colours

    monkeypatch.setattr("ilias_fast.extract.local_network", lambda *_, **__: colours())
    torch.save({"state": attention_detector(DIM).state_dict()}, tmp_path / "detector.pt")
    np.savez(tmp_path / "itq.npz", proj=np.eye(DIM, dtype=np.float32))
    command = [
        "extract-local",
        world.photos,
        "--part",
        "queries",
        "--side",
        64,
        "--detector",
        tmp_path / "detector.pt",
    ]
    printed = done(*command, "-o", tmp_path / "l", "--global", tmp_path / "g", "--descriptors", 9)
    assert "2 images described" in printed
    assert "2 were there" in done(
        *command, "-o", tmp_path / "l", "--global", tmp_path / "g", "--descriptors", 9
    )
    floats = LocalStore.open(tmp_path / "l")
    assert (floats.dim, [len(image.xy) for image in floats]) == (DIM, [9, 9])
    assert list(floats.ids) == list(load_dataset(world.photos).image_queries)
    assert GlobalStore.open(tmp_path / "g").dim == DIM
    done(*command, "-o", tmp_path / "codes", "--itq", tmp_path / "itq.npz")
    assert LocalStore.open(tmp_path / "codes").bits == DIM
    assert "boxes of a dataset" in failing("extract-local", world.photos, "-o", tmp_path / "x", "--crop")
    (tmp_path / "detector.pt").write_bytes(b"garbage")
    assert "detector.pt" in failing(*command, "-o", tmp_path / "x")
