"""Pictures of the report: read once, the right ones, bounded, and placeholders for what cannot be read."""

from __future__ import annotations

import base64
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest

from ilias_fast import errors
from ilias_fast.report import ReportOptions, write_report
from ilias_fast.report.thumbnails import make_thumbnails
from tests.report_samples import Image, Page, make_data, picture


def test_each_picture_is_read_and_embedded_once(tmp_path: Path, rng: np.random.Generator) -> None:
    read: list[str] = []
    done: list[tuple[int, int]] = []

    def image(id_: str) -> bytes:
        read.append(id_)
        return picture(id_)

    data = dataclasses.replace(make_data(rng), image=image)
    path = write_report(tmp_path / "r.html", data, progress=lambda *state: done.append(state))
    page = Page(path)
    assert len(read) == len(set(read)) == len(page.images) == len(set(page.images))
    assert done == [(i + 1, len(read)) for i in range(len(read))]
    assert page.source.count("data:image/jpeg;base64,") == len(read)
    assert len(page.content["ids"]) == len(page.images)
    paired = {data.matches[0].query_id, data.matches[0].database_id}
    assert set(read) == set(page.content["ids"])
    for id_, uri in zip(page.content["ids"], page.images, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as shown:
            assert max(shown.size) == (320 if id_ in paired else 160)


def test_pictures_are_the_right_ones(tmp_path: Path, rng: np.random.Generator) -> None:
    """Every picture is that of its id: colours stand for ids."""
    colours: dict[str, tuple[int, int, int]] = {}

    def image(id_: str) -> np.ndarray:
        colours[id_] = tuple(rng.integers(0, 256, 3).tolist())
        return np.full((30, 40, 3), colours[id_], dtype=np.uint8)

    page = Page(write_report(tmp_path / "r.html", dataclasses.replace(make_data(rng), image=image)))
    for id_, uri in zip(page.content["ids"], page.images, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as shown:
            assert shown.size == (40, 30)
            mean = np.asarray(shown, dtype=np.float64).mean(axis=(0, 1))
        assert np.abs(mean - colours[id_]).max() < 6
    assert len(page.images) > 100


def test_size_is_bounded(tmp_path: Path, rng: np.random.Generator) -> None:
    """60 queries x 5 methods x 10 results, nearly all pictures different, each as detailed as a photo."""
    shared = [picture(f"{i}", (200, 150)) for i in range(8)]
    data = dataclasses.replace(
        make_data(rng, queries=60, methods=5, depth=60, pool=9000),
        image=lambda id_: shared[sum(id_.encode()) % 8],
    )
    path = write_report(tmp_path / "r.html", data)
    page = Page(path)
    assert len(page.images) > 2000
    assert path.stat().st_size < 10_000_000
    small = write_report(tmp_path / "s.html", data, options=ReportOptions(image_bytes=400_000))
    assert small.stat().st_size < path.stat().st_size
    images = Page(small).images
    assert sum(len(uri) * 3 // 4 for uri in images) < 450_000


def test_thumbnail_bound_is_kept_to_the_last_byte() -> None:
    sides = {f"i{i}": 160 for i in range(10)}
    for bound in (0, 5_000, 20_000, 10**9):
        made = make_thumbnails(picture, sides, quality=70, max_bytes=bound)
        assert list(made) == list(sides)
        assert sum(len(t.jpeg or b"") for t in made.values()) <= bound
    assert all(
        t.problem and t.data_uri == ""
        for t in make_thumbnails(picture, sides, quality=70, max_bytes=0).values()
    )


def damaged(kind: str) -> object:
    if kind == "raises":
        raise errors.ImageError("the disk is on fire")
    if kind == "unknown":
        raise errors.UnknownIdError("no such image")
    png = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(png, "PNG")
    flipped = bytearray(png.getvalue())
    flipped[45:60] = b"\xff" * 15
    return {
        "empty": b"",
        "text": b"<html>not found</html>",
        "truncated": picture("x")[:400],
        "flipped png": bytes(flipped),
        "grey array": np.zeros((4, 4), np.uint8),
        "float array": np.zeros((4, 4, 3)),
        "no pixels": np.zeros((0, 4, 3), np.uint8),
        "not bytes": "a string",
        "none": None,
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("raises", "unknown", "empty", "text", "truncated", "flipped png"),
        *("grey array", "float array", "no pixels", "not bytes", "none"),
    ],
)
def test_unreadable_image_is_a_placeholder(tmp_path: Path, rng: np.random.Generator, kind: str) -> None:
    data = make_data(rng, queries=2)
    broken = data.queries[0].positives[0]
    data = dataclasses.replace(data, image=lambda id_: damaged(kind) if id_ == broken else picture(id_))
    page = Page(write_report(tmp_path / "r.html", data))
    assert page.images.count("") == 1
    assert [a["data-placeholders"] for a in page.all("li") if "data-placeholders" in a] == ["1"]
    assert f"1 of {len(page.images)} images could not be shown" in page.words
    assert broken in page.words


def test_the_same_data_give_the_same_page(tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng)
    broken = data.queries[0].positives[0]
    data = dataclasses.replace(data, image=lambda id_: b"?" if id_ == broken else picture(id_))
    first, second = (write_report(tmp_path / name, data).read_bytes() for name in ("a.html", "b.html"))
    assert first == second
    assert b"not an image file of a known format" in first


def test_image_formats() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (300, 200), (255, 0, 0, 0)).save(buffer, "PNG")
    grey = io.BytesIO()
    Image.new("L", (20, 10), 7).save(grey, "PNG")
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (300, 200), "blue").save(turned, "JPEG", exif=exif)
    given = {"rgba": buffer.getvalue(), "grey": grey.getvalue(), "turned": turned.getvalue()}
    made = make_thumbnails(given.__getitem__, dict.fromkeys(given, 160), quality=70, max_bytes=10**6)
    assert {id_: t.size for id_, t in made.items()} == {
        "rgba": (160, 107),
        "grey": (20, 10),
        "turned": (107, 160),
    }
    with Image.open(io.BytesIO(made["rgba"].jpeg or b"")) as shown:
        assert shown.getpixel((80, 50)) == (255, 255, 255)  # transparent is white, as on paper
