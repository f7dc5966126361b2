"""Images: sources, decoding of every odd kind of file, and the protocol's sizes."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.errors import (
    DatasetError,
    DtypeError,
    DuplicateIdError,
    FileFormatError,
    ImageError,
    ParameterError,
    ShapeError,
    StorageError,
    UnknownIdError,
)
from ilias_fast.images import (
    FolderSource,
    TarSource,
    Transform,
    centre_pad,
    decode,
    fit_longer_side,
    pad_to_multiple,
    padding,
    resize,
    resized_size,
)

Image = pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")

from tests.oracles import images as oracle  # noqa: E402  # needs Pillow

# --- decoding ---------------------------------------------------------------------------------------------


def test_rgb_png_is_returned_as_it_is(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (7, 5, 3), dtype=np.uint8)
    decoded = decode(oracle.encode(pixels), "a.png")
    np.testing.assert_array_equal(decoded, pixels)
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_one_pixel_wide_images(size: tuple[int, int]) -> None:
    assert decode(oracle.encode(np.zeros((*size, 3), np.uint8)), "thin").shape == (*size, 3)


def test_grey_becomes_three_equal_channels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(decode(oracle.encode(grey), "grey"), np.repeat(grey[..., None], 3, axis=2))


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = np.array([[0, 257, 32768, 65535]], np.uint16)
    decoded = decode(oracle.encode(grey), "deep.png")
    np.testing.assert_array_equal(decoded[0, :, 0], [0, 1, 128, 255])


def test_cmyk_jpeg_becomes_rgb() -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(buffer, "JPEG", quality=95)
    decoded = decode(buffer.getvalue(), "cmyk.jpg")
    assert decoded.shape == (8, 8, 3)
    assert decoded[4, 4, 0] > 240
    assert decoded[4, 4, 1:].max() < 15


def test_palette_with_transparency_warns_nothing() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=bytes([0, 128]))
    assert decode(buffer.getvalue(), "p.png")[0, 0].tolist() == [10, 200, 30]


def test_alpha_is_dropped(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (6, 6, 4), dtype=np.uint8)
    np.testing.assert_array_equal(decode(oracle.encode(pixels), "rgba"), pixels[..., :3])


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert decode(buffer.getvalue(), "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(orientation: int, rng: np.random.Generator) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = oracle.encode(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode(data, "turned.png"), expected)


def test_damaged_exif_is_ignored(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    decoded = decode(oracle.encode(pixels, "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff\xff"), "exif.png")
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_what_is_not_an_image_is_named(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^holiday/7\.jpg: "):
        decode(data, "holiday/7.jpg")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_every_truncation_is_an_error(image_format: str, rng: np.random.Generator) -> None:
    data = oracle.encode(oracle.texture(rng, 40, 30, 10), image_format)
    # The last bytes of a PNG are its end mark, which holds no pixels.
    for length in range(0, len(data) - 20, 37):
        with pytest.raises(ImageError, match="cut"):
            decode(data[:length], "cut")


def test_flipped_bytes_decode_or_raise_an_image_error(rng: np.random.Generator) -> None:
    data = oracle.encode(oracle.texture(rng, 24, 24, 10))
    for _ in range(150):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with contextlib.suppress(ImageError):
            assert decode(bytes(damaged), "bits").ndim == 3


def test_a_decompression_bomb_is_refused() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(ImageError, match=r"bomb\.png: .*decompression bomb"):
        decode(bomb, "bomb.png")


# --- folders ----------------------------------------------------------------------------------------------


def test_folder_ids_are_sorted_relative_paths(tmp_path: Path) -> None:
    for name in (
        "b/2.JPG",
        "b/10.jpeg",
        "a.png",
        "b/c/x.Png",
        "notes.txt",
        ".hidden.jpg",
        ".cache/x.jpg",
        "é.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    source = FolderSource(tmp_path)
    assert list(source.ids()) == ["a.png", "b/10.jpeg", "b/2.JPG", "b/c/x.Png", "é.jpg"]
    assert source.read("b/2.JPG") == b"b/2.JPG"


def test_folder_follows_links_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "1.jpg").write_bytes(b"1")
    (tmp_path / "real" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert list(FolderSource(tmp_path).ids()) == ["real/1.jpg"]


def test_given_ids_keep_their_order(tmp_path: Path) -> None:
    assert list(FolderSource(tmp_path, ["z.jpg", "a.jpg"]).ids()) == ["z.jpg", "a.jpg"]


def test_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found no file ending in jpg"):
        FolderSource(tmp_path)
    with pytest.raises(StorageError, match="does not exist"):
        FolderSource(tmp_path / "nowhere")
    file = tmp_path / "x.jpg"
    file.write_bytes(b"x")
    with pytest.raises(StorageError, match="not a folder"):
        FolderSource(file)
    source = FolderSource(tmp_path, ["gone.jpg"])
    with pytest.raises(ImageError, match=r"^gone\.jpg: .*No such file"):
        source.read("gone.jpg")


@pytest.mark.parametrize("escape", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "a\0.jpg"])
def test_an_id_cannot_leave_the_folder(tmp_path: Path, escape: str) -> None:
    with pytest.raises(ImageError, match="must not lead out"):
        FolderSource(tmp_path, [escape]).read(escape)


def test_file_names_that_are_not_unicode(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system accepts Unicode names only")
    with pytest.raises(DatasetError, match="not valid Unicode"):
        FolderSource(tmp_path)


# --- tars -------------------------------------------------------------------------------------------------


def test_tar_keys_follow_the_webdataset_rule(tmp_path: Path) -> None:
    members = {
        "001.jpg": b"one",
        "001.json": b"{}",
        "sub.dir/002.JPG": b"two",
        "./003.png": b"three",
        "004.seg.png": b"a mask, not an image",
        "005.png": b"second choice",
        "005.jpg": b"first choice",
        "sub.dir/.hidden.jpg": b"",
        "none": b"",
    }
    source = TarSource(oracle.write_tar(tmp_path / "x.tar", members))
    assert list(source.ids()) == ["x.tar/001", "x.tar/sub.dir/002", "x.tar/003", "x.tar/005"]
    assert [source.read(image_id) for image_id in source.ids()] == [b"one", b"two", b"three", b"first choice"]


def test_tar_ids_with_and_without_the_extension(tmp_path: Path) -> None:
    path = oracle.write_tar(tmp_path / "x.tar", {"1.jpg": b"1", "2.jpg": b"2"})
    source = TarSource(path, ids=["x/2", "x.tar/1"])
    assert list(source.ids()) == ["x/2", "x.tar/1"]
    assert [source.read(image_id) for image_id in source.ids()] == [b"2", b"1"]
    with pytest.raises(UnknownIdError, match="x/3"):
        TarSource(path, ids=["x/3"])
    with pytest.raises(ImageError, match="y/1"):
        source.read("y/1")


def test_tar_selection_by_bare_keys_and_long_names(tmp_path: Path) -> None:
    long = "deep/" * 40 + "image"  # beyond the 100 bytes of a plain tar header
    oracle.write_tar(tmp_path / "b.tar", {f"{long}.jpg": b"long", "3.jpg": b"3"})
    oracle.write_tar(tmp_path / "a.tar", {"1.jpg": b"1", "2.jpg": b"2"})
    assert list(TarSource(tmp_path).ids()) == ["a.tar/1", "a.tar/2", f"b.tar/{long}", "b.tar/3"]
    assert TarSource(tmp_path).read(f"b.tar/{long}") == b"long"
    assert list(TarSource(tmp_path, keys=["3", "1", "unknown"]).ids()) == ["a.tar/1", "b.tar/3"]


def test_tar_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected tars"):
        TarSource(tmp_path)
    with pytest.raises(StorageError, match=r"gone\.tar"):
        TarSource(tmp_path / "gone.tar")
    with pytest.raises(DatasetError, match="expected images"):
        TarSource(oracle.write_tar(tmp_path / "text.tar", {"a.txt": b""}))
    tar = oracle.write_tar(tmp_path / "x.tar", {"1.jpg": b"1"})
    (tmp_path / "other").mkdir()
    twin = oracle.write_tar(tmp_path / "other" / "x.tar", {"1.jpg": b"1"})
    with pytest.raises(DuplicateIdError, match=r"x\.tar"):
        TarSource([tar, twin])


def test_damaged_tars_never_lose_members_silently(tmp_path: Path) -> None:
    whole = oracle.write_tar(tmp_path / "x.tar", {f"{i}.jpg": bytes(700) for i in range(4)}).read_bytes()
    broken = tmp_path / "broken.tar"
    # Each member takes 512 + 1024 bytes: cut inside a header, inside data, and exactly between two members.
    for length in (100, 512, 1000, 1536, 1536 + 200, 3 * 1536 + 600, 4 * 1536):
        broken.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"broken\.tar"):
            TarSource(broken)
    damaged = bytearray(whole)
    damaged[2 * 1536 + 5] ^= 0xFF  # the name in the third header, so its checksum is wrong
    broken.write_bytes(damaged)
    with pytest.raises(FileFormatError, match="damaged member header at byte 3072"):
        TarSource(broken)
    broken.write_bytes(b"this is no tar" * 100)
    with pytest.raises(FileFormatError, match=r"broken\.tar"):
        TarSource(broken)
    import gzip

    broken.write_bytes(gzip.compress(whole))
    with pytest.raises(FileFormatError, match="uncompressed"):
        TarSource(broken)


def test_a_tar_with_a_member_twice(tmp_path: Path) -> None:
    import tarfile

    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("1.jpg"))
    with pytest.raises(FileFormatError, match="twice"):
        TarSource(path)


def test_a_tar_that_shrinks_after_indexing(tmp_path: Path) -> None:
    path = oracle.write_tar(tmp_path / "x.tar", {"1.jpg": bytes(5000)})
    source = TarSource(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match="1488 of 5000 bytes"):
        source.read("x.tar/1")


# --- sizes ------------------------------------------------------------------------------------------------

_TABLE = """
500×333 | 384×255 | 512×340 | 724×482 | 768×511
333×500 | 255×384 | 340×512 | 482×724 | 511×768
500×375 | 384×288 | 512×384 | 724×543 | 768×576
135×500 | 103×384 | 138×512 | 195×724 | 207×768
500×281 | 384×215 | 512×287 | 724×406 | 768×431
500×499 | 384×383 | 512×510 | 724×722 | 768×766
500×1 | 384×1 | 512×1 | 724×1 | 768×1
"""


def _cell(text: str) -> tuple[int, int]:
    width, height = text.split("×")
    return int(width), int(height)


@pytest.mark.parametrize("row", _TABLE.strip().splitlines())
def test_published_size_table(row: str) -> None:
    source, *targets = map(_cell, row.split("|"))
    for resolution, target in zip((384, 512, 724, 768), targets, strict=True):
        assert resized_size(*source, resolution) == target


def test_large_size_is_double_precision_not_exact_division() -> None:
    assert resized_size(59, 96, 384) == (235, 384)  # exact floor division would say 236
    differing = 0
    for width in range(1, 501, 3):
        for height in range(1, 501):
            size = resized_size(width, height, 384)
            assert size == oracle.large_size(width, height, 384)
            exact = (
                (384, max(1, 384 * height // width))
                if height <= width
                else (max(1, 384 * width // height), 384)
            )
            differing += size != exact
    assert differing > 0


def test_other_modes() -> None:
    assert resized_size(500, 333, 224, "RESIZE_SMALL") == (336, 224)
    assert resized_size(333, 500, 224, Transform.RESIZE_CENTER) == (224, 336)
    assert resized_size(500, 333, 224, Transform.RESIZE_SQUARE) == (224, 224)
    assert resized_size(500, 333, 224, Transform.RESIZE_PAD) == (224, 149)


def test_resize_equals_pillow(rng: np.random.Generator) -> None:
    image = oracle.texture(rng, 50, 33)
    expected = {
        "RESIZE_LARGE": np.asarray(Image.fromarray(image).resize((64, 42))),
        "RESIZE_SMALL": np.asarray(Image.fromarray(image).resize((96, 64), Image.Resampling.BILINEAR)),
        "RESIZE_SQUARE": np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)),
    }
    expected["RESIZE_CENTER"] = expected["RESIZE_SMALL"][:, 16:80]
    expected["RESIZE_PAD"] = expected["RESIZE_LARGE"]
    for mode, pixels in expected.items():
        np.testing.assert_array_equal(resize(image, 64, mode), pixels, err_msg=mode)


@pytest.mark.parametrize("mode", ["RESIZE_SMALL", "RESIZE_CENTER"])
def test_resize_equals_torchvision(mode: str, rng: np.random.Generator) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="the comparison needs torchvision")
    image = oracle.texture(rng, 47, 83)
    steps = [transforms.Resize(32)] + ([transforms.CenterCrop(32)] if mode == "RESIZE_CENTER" else [])
    expected = np.asarray(transforms.Compose(steps)(Image.fromarray(image)))
    np.testing.assert_array_equal(resize(image, 32, mode), expected)


def test_fit_longer_side_never_enlarges(rng: np.random.Generator) -> None:
    image = oracle.texture(rng, 60, 40)
    assert fit_longer_side(image, 60) is image
    assert fit_longer_side(image, 30).shape == (20, 30, 3)


def test_padding_is_centred_with_the_smaller_half_first() -> None:
    assert padding(5, 4, 8, 4) == (1, 0, 2, 0)
    padded = pad_to_multiple(np.ones((3, 5, 2), np.float32), 4)
    assert padded.shape == (4, 8, 2)
    assert padded[:3, 1:6].min() == 1
    assert padded.sum() == 30
    assert pad_to_multiple(np.ones((724, 1, 1)), 14).shape == (728, 14, 1)
    assert pad_to_multiple(np.ones((724, 1, 1)), 16).shape[0] == 736
    image = np.ones((8, 8))
    assert pad_to_multiple(image, 4) is image
    assert centre_pad(image, 10, 9).shape == (9, 10)


def test_bad_sizes() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ParameterError, match="at least 1"):
        resize(image, 0)
    with pytest.raises(ParameterError, match="RESIZE_LARGE"):
        resize(image, 4, "RESIZE_HUGE")
    with pytest.raises(ShapeError, match=r"\[height, width, 3\]"):
        resize(np.zeros((4, 4), np.uint8), 4)
    with pytest.raises(DtypeError, match="uint8"):
        resize(np.zeros((4, 4, 3)), 4)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="smaller"):
        centre_pad(image, 3, 4)
    with pytest.raises(ParameterError, match="multiple"):
        pad_to_multiple(image, 0)
    with pytest.raises(ShapeError, match="image"):
        centre_pad(np.zeros(3), 4, 4)
