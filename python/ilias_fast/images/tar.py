"""Images in WebDataset tar files, with random access by an index of the members."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ilias_fast._files import StrPath, is_folder, storage_error
from ilias_fast.errors import (
    DatasetError,
    DuplicateIdError,
    FileFormatError,
    ImageError,
    UnknownIdError,
)
from ilias_fast.images.source import IMAGE_SUFFIXES

__all__ = ["TarSource"]

_BLOCK = 512
# The WebDataset rule: a sample's key is the member's path up to the first dot of its file name.
_MEMBER = re.compile(r"^(?:\./)*((?:.*/|)[^./][^./]*)\.([^/]*)$", re.DOTALL)


class _Member(NamedTuple):
    tar: int
    offset: int
    size: int


class TarSource:
    """The images of WebDataset tars (the layout of the YFCC100M shards).

    An id is `<tar file name>/<key>`, where the key is the member's path up to the first dot of its file name.
    A sample is an image if it has a member `<key>.jpg`, `.jpeg` or `.png` (any case; the first of these that
    exists). The headers of each tar are read once, on construction; images are then read at their offsets, in
    any order and from any thread.

    Args:
        paths: The tars, uncompressed; a folder stands for its `*.tar` files, sorted.
        ids: The ids to offer, in this order, with or without `.tar` in the tar's name; ids are returned in
            the form they were given in. None for all, tar by tar in the order of their members.
        keys: Offer only samples whose bare key is among these (the form of the mini-ILIAS list).

    Raises:
        StorageError: A tar is missing or cannot be read.
        FileFormatError: A tar is compressed, damaged, truncated, or has a member twice.
        DatasetError: There is no tar, or no image in the tars.
        DuplicateIdError: Two tars have the same file name.
        UnknownIdError: One of `ids` is not in the tars.

    Examples:
        >>> import io
        >>> import tarfile
        >>> with tarfile.open("0.tar", "w") as tar:
        ...     member = tarfile.TarInfo("17.jpg")
        ...     member.size = 3
        ...     tar.addfile(member, io.BytesIO(b"..."))
        >>> source = TarSource("0.tar")
        >>> list(source.ids()), source.read("0.tar/17")
        (['0.tar/17'], b'...')
    """

    def __init__(
        self,
        paths: StrPath | Iterable[StrPath],
        ids: Sequence[str] | None = None,
        *,
        keys: Collection[str] | None = None,
    ) -> None:
        self.paths: tuple[Path, ...] = _tars(paths)
        names = [path.name for path in self.paths]
        for name in names:
            if names.count(name) > 1:
                raise DuplicateIdError(f"{name}: two tars have this file name, their images would share ids")
        chosen = None if keys is None else frozenset(keys)
        self._members: dict[str, _Member] = {}
        for number, path in enumerate(self.paths):
            for key, member in _index(path, number).items():
                if chosen is None or key in chosen:
                    self._members[f"{path.name}/{key}"] = member
        if not self._members:
            tars = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise DatasetError(
                f"expected images in {tars}, found no {' or '.join(IMAGE_SUFFIXES)} member that is wanted"
            )
        self._ids: tuple[str, ...] = tuple(self._members) if ids is None else tuple(ids)
        for image_id in self._ids:
            if self._find(image_id) is None:
                raise UnknownIdError(f"{image_id}: no such image in {len(names)} tars")

    def ids(self) -> Sequence[str]:
        """Return the ids, in the order given or in the order of the tars and their members."""
        return self._ids

    def _find(self, image_id: str) -> _Member | None:
        member = self._members.get(image_id)
        if member is None:
            name, _, key = image_id.partition("/")
            member = self._members.get(f"{name}.tar/{key}")
        return member

    def read(self, image_id: str, /) -> bytes:
        """Return the bytes of the image member.

        Args:
            image_id: The id, with or without `.tar` in its first part.

        Raises:
            ImageError: There is no such image, or its tar has changed or cannot be read.
        """
        member = self._find(image_id)
        if member is None:
            raise ImageError(f"{image_id}: no such image in the tars")
        path = self.paths[member.tar]
        # Opened anew each time: no descriptor to share between threads or to inherit by a fork, and a
        # thousand tars stay below the limit of open files.
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(member.offset)
                data = bytearray()
                while len(data) < member.size and (more := file.read(member.size - len(data))):
                    data += more
        except OSError as cause:
            raise ImageError(f"{image_id}: cannot be read from {path} ({cause.strerror or cause})") from cause
        if len(data) != member.size:
            raise ImageError(f"{image_id}: {path} ends inside the image ({len(data)} of {member.size} bytes)")
        return bytes(data)


def _tars(paths: StrPath | Iterable[StrPath]) -> tuple[Path, ...]:
    given = [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    found = [tar for path in given for tar in (sorted(path.glob("*.tar")) if is_folder(path) else [path])]
    if not found:
        raise DatasetError(f"expected tars, found none in {', '.join(map(str, given)) or 'an empty list'}")
    return tuple(found)


def _index(path: Path, number: int) -> dict[str, _Member]:
    """Map the key of each image of one tar to its place, reading headers only."""
    found: dict[str, tuple[int, _Member]] = {}
    try:
        # "r:" refuses compression: a compressed stream has no random access.
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # the index below is all that is kept of a member
                matched = _MEMBER.match(info.name) if info.isreg() else None
                if matched is None or (suffix := matched[2].lower()) not in IMAGE_SUFFIXES:
                    continue
                rank, key = IMAGE_SUFFIXES.index(suffix), matched[1]
                held = found.get(key)
                if held is not None and held[0] == rank:
                    raise FileFormatError(f"{path}: the image {key}.{suffix} is in the tar twice")
                if held is None or rank < held[0]:
                    found[key] = (rank, _Member(number, info.offset_data, info.size))
            _require_end(path, tar.offset)
    except (tarfile.TarError, EOFError, ValueError) as cause:
        if isinstance(cause, FileFormatError):
            raise
        raise FileFormatError(
            f"{path}: expected an uncompressed, complete tar ({cause}); download or unpack it again"
        ) from cause
    except OSError as cause:
        raise storage_error(cause, path, "read") from cause
    return {key: member for key, (_, member) in found.items()}


def _require_end(path: Path, offset: int) -> None:
    """Tell the end of a tar from damage: `tarfile` stops at a broken header as if the archive ended there."""
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(_BLOCK)
    if block != bytes(_BLOCK):
        what = (
            "the file ends without an end-of-archive block"
            if len(block) < _BLOCK
            else "a damaged member header"
        )
        raise FileFormatError(
            f"{path}: {what} at byte {offset}; the tar is truncated or damaged, download it again"
        )
