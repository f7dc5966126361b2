"""Plain folders of photographs as datasets."""

from __future__ import annotations

from pathlib import Path

import pytest

from ilias_fast.datasets import load_dataset, load_photos
from ilias_fast.errors import DatasetError, StorageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two instances and some distractors."""
    root = tmp_path / "mine"
    for name in (
        "mug/query/front view.JPG",
        "mug/pos/1.jpeg",
        "mug/pos/2.png",
        "bag/query/x.png",
        "bag/pos/y.jpg",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    for name in (
        "distractors/z.jpg",
        "distractors/deep/er.png",
        "distractors/notes.md",
        ".git/x",
        "README.md",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "mug/query/T.txt").write_text("a mug")
    (root / "mug/pos/1_bbox.txt").write_text("1 2 3 4")
    (root / "mug/query/front view_bbox.txt").write_text("1 2 3 4")
    return root


def test_photo_folder(folder: Path) -> None:
    dataset = load_dataset(folder)
    assert dataset.name == "mine"
    assert dataset.image_queries == ("bag/query/x.png", "mug/query/front view.JPG")
    assert dataset.text_queries == ("mug/query/T.txt",)
    assert dataset.text("mug/query/T.txt") == "a mug"
    assert dataset.positives == ("bag/pos/y.jpg", "mug/pos/1.jpeg", "mug/pos/2.png")
    assert dataset.distractors == ("distractors/deep/er.png", "distractors/z.jpg")
    assert dataset.positives_of("mug/query/front view.JPG") == {"mug/pos/1.jpeg", "mug/pos/2.png"}
    assert dataset.boxes("mug/pos/1.jpeg").tolist() == [[1, 2, 3, 4]]
    assert dataset.scale == {}
    assert dataset.taxonomy is None


def test_images_of_a_photo_folder(folder: Path) -> None:
    dataset = load_dataset(folder)
    source = dataset.image_source()
    assert list(source.ids()) == [*dataset.image_queries, *dataset.positives, *dataset.distractors]
    for name in source.ids():
        assert source.read(name) == name.encode()
    source, ids = dataset.images("distractors")
    assert source.read(ids[0]) == ids[0].encode()


def test_distractors_are_optional(folder: Path) -> None:
    for file in sorted((folder / "distractors").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    assert load_dataset(folder).distractors == ()
    (folder / "distractors").rmdir()
    assert load_dataset(folder).distractors == ()


def test_incomplete_photo_folders_say_what_was_expected(folder: Path, tmp_path: Path) -> None:
    (folder / "bag/pos/y.jpg").unlink()
    with pytest.raises(DatasetError, match=r"bag: no positive images in .*pos; expected '<instance>/query/'"):
        load_dataset(folder)
    (folder / "bag/query/x.png").unlink()
    with pytest.raises(DatasetError, match="bag: no query images in"):
        load_dataset(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no instance folder found; expected"):
        load_dataset(tmp_path / "empty")
    with pytest.raises(DatasetError, match="found nothing"):
        load_dataset(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="found a file"):
        load_dataset(tmp_path / "file")
    with pytest.raises(StorageError, match="nowhere: cannot list"):
        load_photos(tmp_path / "nowhere")


def test_real_photographs(photos: Path) -> None:
    dataset = load_dataset(photos)
    assert (len(dataset.image_queries), len(dataset.positives), len(dataset.distractors)) == (8, 47, 27)
    source = dataset.image_source()
    assert len(source.ids()) == 82
    assert source.read("buddha/query/Q000.jpg")[:2] == b"\xff\xd8"
