"""`_files`: content read whole, files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest

from ilias_fast._files import (
    is_leftover,
    read_bytes,
    read_lines,
    read_names,
    read_text,
    replacing,
    storage_error,
    written,
)
from ilias_fast.errors import DatasetError, FileFormatError, ImageError, StorageError


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b" a \n\nb\n", [" a ", "", "b"]),
        ("a\u2028b\x85c\x0bd\n".encode(), ["a\u2028b\x85c\x0bd"]),
    ],
)
def test_lines_end_with_line_feeds_only(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    assert read_lines(path) == lines
    assert read_names(path) == [line.strip() for line in lines if line.strip()]


def test_reading_names_the_file(tmp_path: Path) -> None:
    absent = tmp_path / "absent.txt"
    for read in (read_bytes, read_text, read_lines, read_names):
        with pytest.raises(StorageError, match=r"absent\.txt: cannot read: No such file") as caught:
            read(absent)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(absent))
    latin = tmp_path / "latin.txt"
    latin.write_bytes("café".encode("latin-1"))
    with pytest.raises(FileFormatError, match=r"latin\.txt: expected UTF-8"):
        read_text(latin)
    with pytest.raises(DatasetError, match=r"latin\.txt: expected UTF-8"):
        read_lines(latin, DatasetError)


@pytest.mark.parametrize("durable", [True, False])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    with written(path, durable=durable) as file:
        file.write(b"first")
        assert not path.exists()
    with contextlib.suppress(ZeroDivisionError), written(path, durable=durable) as file:
        file.write(b"second")
        raise ZeroDivisionError
    assert path.read_bytes() == b"first"
    with written(path, durable=durable) as file:
        file.write(b"third")
        assert is_leftover(next(entry.name for entry in tmp_path.iterdir() if entry != path))
    assert path.read_bytes() == b"third"
    assert list(tmp_path.iterdir()) == [path]


def test_refusals_of_the_system_are_typed_and_our_own_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write") as caught, written(tmp_path / "no" / "file"):
        pass
    assert caught.value.errno == errno.ENOENT
    path = tmp_path / "file"
    path.write_bytes(b"here")
    with pytest.raises(StorageError, match="already exists"), replacing(path, overwrite=False):
        pass
    # ImageError is an OSError too: it must not turn into a failure to write.
    with pytest.raises(ImageError, match="other trouble"), written(path):
        raise ImageError("other trouble")
    with pytest.raises(StorageError, match="cannot write: No space left"), written(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_bytes() == b"here"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with written(path) as one, written(path) as other:
        one.write(b"one")
        other.write(b"other")
    assert path.read_bytes() == b"one"


def test_an_error_without_words_says_something(tmp_path: Path) -> None:
    assert str(storage_error(OSError("strange"), tmp_path / "x", "list")).endswith("x: cannot list: strange")
