"""Datasets: the official layout, photo folders, and everything that can be wrong with them."""

from __future__ import annotations

import dataclasses
import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.datasets import Dataset, load_dataset, load_ilias
from ilias_fast.datasets.ilias import DistractorIds
from ilias_fast.errors import DatasetError, ParameterError, StorageError, UnknownIdError

QUERIES = "b_b_001/query/Q001_00.jpg,0.5\na_a_000/query/Q000_01.jpg,0.6\na_a_000/query/Q000_00.jpg,0.7\n"
TEXTS = "b_b_001/query/T001.txt\na_a_000/query/T000.txt\n"
POSITIVES = (
    "a_a_000/pos/P000_00.jpg,0.25,3\nb_b_001/pos/P001_00.jpg,0.75,40\na_a_000/pos/P000_01.jpg,0.05,0\n"
)
DISTRACTORS = ["yfcc100m_0.tar/10", "yfcc100m_0.tar/11", "yfcc100m_1.tar/20"]
TAXONOMY = {"art": {"craft": {"other": ["a_a_000"]}, "textile": {"bag": ["b_b_001", "c_c_002"]}}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small dataset in the official layout."""
    root = tmp_path / "ilias"
    lists = root / "image_ids"
    lists.mkdir(parents=True)
    (lists / "image_query_ids.txt").write_text(QUERIES)
    (lists / "text_query_ids.txt").write_text(TEXTS)
    (lists / "positive_ids.txt").write_text(POSITIVES)
    with gzip.open(lists / "distractor_ids.txt.gz", "wt") as file:
        file.write("".join(f"{name}\n" for name in DISTRACTORS))
    (root / "taxonomy.json").write_text(json.dumps(TAXONOMY))
    core = root / "ilias_core"
    for instance in ("a_a_000", "b_b_001"):
        (core / instance / "query").mkdir(parents=True)
        (core / instance / "pos").mkdir()
    (core / "a_a_000/pos/P000_00_bbox.txt").write_text("1 2 30 40\n\n 5 6 7 8 \n")
    (core / "a_a_000/query/T000.txt").write_text("a small thing\n")
    return root


def test_official_layout(root: Path) -> None:
    dataset = load_dataset(root)
    assert dataset.name == "ilias"
    assert dataset.image_queries == tuple(sorted(line.split(",")[0] for line in QUERIES.split()))
    assert dataset.text_queries == ("a_a_000/query/T000.txt", "b_b_001/query/T001.txt")
    assert dataset.positives == tuple(sorted(line.split(",")[0] for line in POSITIVES.split()))
    assert dataset.instances == ("a_a_000", "b_b_001")
    assert dataset.scale["a_a_000/pos/P000_01.jpg"] == 0.05
    assert dataset.clutter["b_b_001/pos/P001_00.jpg"] == 40
    assert list(dataset.distractors) == DISTRACTORS
    assert dataset.category_of["b_b_001"] == ("art", "textile", "bag")
    a = frozenset({"a_a_000/pos/P000_00.jpg", "a_a_000/pos/P000_01.jpg"})
    for query in ("a_a_000/query/Q000_01.jpg", "a_a_000/query/T000.txt"):
        assert dataset.positives_of(query) == a
    assert Dataset.instance_of("a_a_000/query/T000.txt") == "a_a_000"
    assert "3 image queries, 2 text queries, 3 positives" in repr(dataset)


def test_lists_of_one_line_comments_and_blank_lines(root: Path) -> None:
    lists = root / "image_ids"
    (lists / "image_query_ids.txt").write_text("a_a_000/query/Q000_00.jpg,0.5")
    (lists / "text_query_ids.txt").unlink()
    (lists / "positive_ids.txt").write_text("# id, scale, clutter\n\n a_a_000/pos/P#1.jpg , 0.5 , 7 \r\n")
    (lists / "distractor_ids.txt.gz").unlink()
    (root / "taxonomy.json").unlink()
    dataset = load_dataset(root)
    assert dataset.positives == ("a_a_000/pos/P#1.jpg",)
    assert dataset.scale == {"a_a_000/pos/P#1.jpg": 0.5}
    assert dataset.text_queries == ()
    assert len(dataset.distractors) == 0
    assert dataset.taxonomy is None
    assert dataset.category_of == {}


WRONG: list[tuple[str, str | bytes | None, str]] = [
    ("image_query_ids.txt", None, "image_query_ids.txt: missing"),
    ("positive_ids.txt", None, "positive_ids.txt: missing"),
    ("positive_ids.txt", "", "positive_ids.txt: expected at least one id"),
    ("positive_ids.txt", b"\xff\xfe", "positive_ids.txt: expected UTF-8"),
    (
        "positive_ids.txt",
        POSITIVES + "a_a_000/pos/P000_00.jpg,1,1",
        "txt:4: 'a_a_000/pos/P000_00.jpg' is listed twice, first on line 1",
    ),
    (
        "positive_ids.txt",
        POSITIVES + "z_z_9/pos/P.jpg,1,1",
        "txt:4: instance 'z_z_9' of 'z_z_9/pos/P.jpg' has no query",
    ),
    ("positive_ids.txt", POSITIVES.replace("0.75", "big"), "positive_ids.txt:2: expected 'id,scale,clutter'"),
    ("positive_ids.txt", POSITIVES.replace("0.75", "nan"), "positive_ids.txt:2"),
    ("positive_ids.txt", POSITIVES.replace("0.75", "-1"), "positive_ids.txt:2"),
    ("positive_ids.txt", POSITIVES.replace(",40", ",4.5"), "positive_ids.txt:2"),
    ("positive_ids.txt", POSITIVES.replace(",40", ""), "positive_ids.txt:2"),
    ("positive_ids.txt", POSITIVES.replace(",40", ",40,1"), "positive_ids.txt:2"),
    ("positive_ids.txt", POSITIVES.replace("a_a_000/pos/", ""), "positive_ids.txt:1: expected an id"),
    (
        "positive_ids.txt",
        POSITIVES.replace("a_a_000/pos", "a_a_000/../.."),
        "positive_ids.txt:1: expected an id",
    ),
    ("positive_ids.txt", "a_a_000/pos/P000_00.jpg,0.5,1", "image_query_ids.txt:1: instance 'b_b_001'"),
    ("image_query_ids.txt", QUERIES + QUERIES, "image_query_ids.txt:4"),
    ("text_query_ids.txt", TEXTS + "c_c_002/query/T002.txt", "text_query_ids.txt:3: instance 'c_c_002'"),
    ("taxonomy.json", "[]", "taxonomy.json: expected an object of coarse categories, found list"),
    ("taxonomy.json", "{", "taxonomy.json: not a JSON file"),
    ("taxonomy.json", '{"art": []}', "'art': expected an object of mid categories, found list"),
    ("taxonomy.json", '{"art": {"craft": 1}}', "'art', 'craft': expected an object of fine categories"),
    (
        "taxonomy.json",
        '{"art": {"craft": {"x": ["a", 1]}}}',
        "'art', 'craft', 'x': expected a list of instances",
    ),
    ("taxonomy.json", '{"art": {"craft": {"x": ["a_a_000"]}}}', "1 instances are missing, first 'b_b_001'"),
    (
        "taxonomy.json",
        '{"art": {"craft": {"x": ["a_a_000", "b_b_001"], "y": ["a_a_000"]}}}',
        "'a_a_000' appears twice",
    ),
]


@pytest.mark.parametrize(("file", "content", "message"), WRONG)
def test_contradictions_name_file_and_line(
    root: Path, file: str, content: str | bytes | None, message: str
) -> None:
    path = root / file if file == "taxonomy.json" else root / "image_ids" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError) as raised:
        load_dataset(root)
    assert message in str(raised.value)
    assert str(root) in str(raised.value)


def test_a_taxonomy_from_elsewhere(root: Path, tmp_path: Path) -> None:
    (root / "taxonomy.json").rename(tmp_path / "other.json")
    assert load_ilias(root).taxonomy is None
    assert load_ilias(root, taxonomy=tmp_path / "other.json").taxonomy == TAXONOMY
    with pytest.raises(StorageError, match=r"nowhere\.json"):
        load_ilias(root, taxonomy=tmp_path / "nowhere.json")


def test_boxes(root: Path) -> None:
    dataset = load_dataset(root)
    boxes = dataset.boxes("a_a_000/pos/P000_00.jpg")
    assert boxes.dtype == np.int64
    assert boxes.tolist() == [[1, 2, 30, 40], [5, 6, 7, 8]]
    assert dataset.boxes("a_a_000/pos/P000_01.jpg").shape == (0, 4)
    path = root / "ilias_core/a_a_000/pos/P000_00_bbox.txt"
    for line in ("1 2 3", "1 2 3 4 5", "1 2 3 x", "1 2 3 -4", "1 2 3 99999999999999999999"):
        path.write_text(f"1 2 3 4\n{line}\n")
        with pytest.raises(DatasetError, match=r"P000_00_bbox\.txt:2: expected four integers"):
            dataset.boxes("a_a_000/pos/P000_00.jpg")
    for outside in ("../secret.jpg", "/etc/passwd", ""):
        with pytest.raises(UnknownIdError):
            dataset.boxes(outside)


def test_text(root: Path) -> None:
    dataset = load_dataset(root)
    assert dataset.text("a_a_000/query/T000.txt") == "a small thing"
    with pytest.raises(StorageError, match=r"T001\.txt"):
        dataset.text("b_b_001/query/T001.txt")
    (root / "ilias_core/b_b_001/query/T001.txt").write_text(" \n")
    with pytest.raises(DatasetError, match="empty file"):
        dataset.text("b_b_001/query/T001.txt")
    (root / "ilias_core/b_b_001/query/T001.txt").write_bytes(b"\xff")
    with pytest.raises(DatasetError, match="UTF-8"):
        dataset.text("b_b_001/query/T001.txt")
    for unknown in ("a_a_000/query/Q000_00.jpg", "a_a_000/query/T009.txt"):
        with pytest.raises(UnknownIdError):
            dataset.text(unknown)


def test_positives_of_an_unknown_query(root: Path) -> None:
    with pytest.raises(UnknownIdError, match="no query 'a_a_000/query/Q9"):
        load_dataset(root).positives_of("a_a_000/query/Q9.jpg")


def test_datasets_can_be_sent_to_other_processes(root: Path) -> None:
    dataset = load_dataset(root)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.positives == dataset.positives
    assert again.scale == dataset.scale
    assert list(again.distractors) == DISTRACTORS
    assert again.category_of == dataset.category_of


def test_datasets_are_immutable(root: Path) -> None:
    dataset = load_dataset(root)
    with pytest.raises(AttributeError):
        dataset.name = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        dataset.scale["x"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_queries": (), "text_queries": ()}, "no query asks for its instance"),
        ({"positives": ()}, "has no positives"),
        ({"positives": (), "image_queries": (), "text_queries": ()}, "has no queries"),
        ({"image_queries": ("Q.jpg",)}, "expected an id '<instance>/...'"),
        ({"image_queries": ("a_a_000/query/Q.jpg",) * 2}, "listed twice"),
        ({"scale": {"a_a_000/pos/P000_00.jpg": 1.0}}, "expected a scale of 0 or more, found None"),
    ],
)
def test_a_dataset_checks_itself(root: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        dataclasses.replace(load_dataset(root), **change)


# --- distractor ids ---


def write_ids(path: Path, ids: list[str]) -> DistractorIds:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        file.write("\n".join(ids))
    return DistractorIds(path)


@pytest.mark.parametrize("name", ["ids.txt", "ids.txt.gz"])
@pytest.mark.parametrize("held", [0, 100])
def test_distractor_ids_are_a_sequence(
    name: str, held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilias_fast.datasets.ilias._HELD", held)
    names = [f"t.tar/{number}" for number in range(10)]
    ids = write_ids(tmp_path / name, names)
    assert list(ids) == names
    assert len(ids) == 10
    assert [ids[0], ids[9], ids[-1], ids[-10]] == [names[0], names[9], names[9], names[0]]
    for rows in (slice(2, 5), slice(None), slice(8, 2, -2), slice(5, 5), slice(-3, None)):
        assert list(ids[rows]) == names[rows]
    assert "t.tar/3" in ids
    assert "t.tar/x" not in ids
    for outside in (10, -11):
        with pytest.raises(IndexError):
            ids[outside]


def test_distractor_ids_are_streamed(tmp_path: Path) -> None:
    ids = write_ids(tmp_path / "ids.txt.gz", [f"t.tar/{number}" for number in range(100_000)])
    first = iter(ids)
    assert next(first) == "t.tar/0"
    assert "_held" not in vars(ids)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:20] + b"\0" + data[21:], lambda _: b"x"]
)
def test_damaged_distractor_ids(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    ids = write_ids(tmp_path / "ids.txt.gz", [f"t.tar/{number}" for number in range(1000)])
    ids.path.write_bytes(damage(ids.path.read_bytes()))
    with pytest.raises(DatasetError, match=r"ids\.txt\.gz: damaged"):
        list(ids)
    ids.path.unlink()
    with pytest.raises(StorageError, match=r"ids\.txt\.gz"):
        list(ids)


def test_unknown_ids(root: Path) -> None:
    dataset = load_dataset(root)
    assert dataset.unknown_ids([*DISTRACTORS, *dataset.positives]) == []
    assert dataset.unknown_ids(["yfcc100m_0/10", "yfcc100m_1/20"]) == []
    wrong = ["yfcc100m_0.tar/20", "yfcc100m_9/1", "a_a_000/pos/P9.jpg"]
    assert dataset.unknown_ids([*DISTRACTORS, *wrong]) == sorted(wrong)
    (root / "image_ids/distractor_ids.txt.gz").unlink()
    dataset = load_dataset(root)
    assert dataset.unknown_ids(dataset.positives) == []
    with pytest.raises(DatasetError, match="lists no distractors"):
        dataset.unknown_ids(DISTRACTORS)


# --- images ---


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    import io
    import tarfile

    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def test_images_of_the_official_layout(root: Path) -> None:
    dataset = load_dataset(root)
    for name in (*dataset.image_queries, *dataset.positives):
        (root / "ilias_core" / name).write_bytes(name.encode())
    (root / "yfcc100m").mkdir()
    tar_of(root / "yfcc100m/yfcc100m_0.tar", {"10.jpg": b"ten", "11.jpg": b"eleven"})
    tar_of(root / "yfcc100m/yfcc100m_1.tar", {"20.jpg": b"twenty"})
    dataset = load_dataset(root)
    for part, ids in (("queries", dataset.image_queries), ("positives", dataset.positives)):
        source, found = dataset.images(part)  # type: ignore[arg-type]
        assert list(found) == list(source.ids()) == list(ids)
        assert source.read(ids[0]) == ids[0].encode()
    source, found = dataset.images("distractors")
    assert list(found) == DISTRACTORS
    assert source.read(DISTRACTORS[1]) == b"eleven"
    everything = dataset.image_source()
    assert list(everything.ids()) == [*dataset.image_queries, *dataset.positives, *DISTRACTORS]
    assert everything.read("yfcc100m_1.tar/20") == b"twenty"
    assert everything.read(dataset.positives[1]) == dataset.positives[1].encode()
    with pytest.raises(ParameterError, match=r"^part: expected 'queries', 'positives' or 'distractors'"):
        dataset.images("everything")  # type: ignore[arg-type]
