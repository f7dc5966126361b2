"""Official feature HDF5 files (`index`, `features`) to and from global stores. Needs the extra `[hdf5]`.

The official writer keeps ids in ASCII by an escaping of its own; ids are unescaped on import (a store holds
plain UTF-8) and escaped on export. ILIAS ids are ASCII without backslashes, for which both do nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._extras import require
from ilias_fast._files import StrPath, read_names, replacing, storage_error
from ilias_fast.errors import (
    FileFormatError,
    IliasFastError,
    IncompatibleStoreError,
    ParameterError,
    StoreExistsError,
)
from ilias_fast.store._global import GlobalStore, GlobalWriter
from ilias_fast.store._open import exists
from ilias_fast.store._selection import is_selected
from ilias_fast.store._sink import Sink

__all__ = ["escape_id", "export_hdf5", "import_hdf5", "read_hdf5", "unescape_id"]

Progress = Callable[[int, int], object]

_BLOCK_BYTES = 64 << 20
_MOST_BYTES = 512 << 20
_CHUNK_CACHE = 32 << 20
_ESCAPES = re.compile(r"#U([0-9a-f]{4})|\\\\U([0-9a-f]{8})|\\\\([tnr])|(\\\\\\\\)|\\(')")


def escape_id(name: str) -> str:
    """Return an id as the official writer stores it (ASCII).

    `str()` of the bytes of the unicode-escape, in which a doubled backslash before `u` becomes `#U` and
    before `x` becomes `#U00`: "café/1.jpg" is stored as "caf#U00e9/1.jpg".

    Args:
        name: The id.
    """
    text = str(name.encode("unicode-escape"))[2:-1]
    return text.replace("\\\\u", "#U").replace("\\\\x", "#U00")


def unescape_id(stored: str) -> str:
    """Return the id the official writer escaped.

    The escaping is not one-to-one: an id that itself contains `#U` and four hex digits, or a backslash before
    `u` or `x`, comes back as something else.

    Args:
        stored: The id as the file has it.
    """

    def original(match: re.Match[str]) -> str:
        short, long, control, backslash, quote = match.groups()
        if control:
            return {"t": "\t", "n": "\n", "r": "\r"}[control]
        if backslash or quote:
            return "\\" if backslash else "'"
        code = int(short or long, 16)
        return chr(code) if code < 0xD800 or 0xDFFF < code < 0x110000 else match[0]

    return _ESCAPES.sub(original, stored)


def import_hdf5(
    source: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    total: int | None = None,
    selected_ids: StrPath | Iterable[str] | None = None,
    unescape: bool = True,
    provenance: dict[str, object] | None = None,
    shard_bytes: int | None = None,
    progress: Progress | None = None,
) -> GlobalStore:
    """Import official feature files into a global store, in order, file after file.

    Every file is one commit. An interrupted import is continued by the same call: files that are in the store
    are skipped, and an import that is complete is only opened. float32 features are rounded to float16 and
    the provenance says so. Memory: blocks of about 64 MiB, of whole chunks if they fit 512 MiB.

    Args:
        source: A file, a template with `{idx}` (00000, 00001, ...), or a sequence of files.
        out: The store to make or continue.
        total: With a template, how many files there are; None for all there are, without gaps.
        selected_ids: Keep only positives and these distractors (mini-ILIAS; see `is_selected`): a text file
            with one name a line, or the names.
        unescape: Undo the official writer's id escaping.
        provenance: Added to what is recorded about the source.
        shard_bytes: As in `GlobalStore.create`.
        progress: Called with (rows done, rows in all), counting rows that are not selected too.

    Raises:
        FileFormatError: A file is truncated, damaged or not of this format; the message names it. Files
            before it are in the store.
        StorageError: A file is missing or cannot be read, or the store cannot be written.
        ParameterError: A template has a gap, or matches nothing.
        StoreExistsError: At `out` is something other than an unfinished import.
        IncompatibleStoreError: The import at `out` is of other files or options; dimensions differ.
        DuplicateIdError: An id occurs twice; the message names it.
        MissingExtraError: h5py is not installed.
    """
    require("h5py", "read HDF5 files")
    files = _expand(source, total)
    wanted = None if selected_ids is None else _selection(selected_ids)
    options: dict[str, object] = {"format": "ilias-hdf5", "unescape": unescape, "selected_ids": None}
    if wanted is not None:
        digest = hashlib.sha256("\n".join(sorted(wanted)).encode()).hexdigest()
        options["selected_ids"] = {"count": len(wanted), "sha256": digest}
    shapes = [_shape(file) for file in files]
    _check_dims(files, shapes)
    dim = shapes[0][1]
    done = _finished(Path(out), files, options, dim)
    if done == len(files):
        return GlobalStore.open(out)
    writer = (
        GlobalStore.append_to(out, shard_bytes=shard_bytes)
        if exists(out)
        else GlobalStore.create(
            out,
            dim=dim,
            provenance={**(provenance or {}), "import": {**options, "files": []}},
            shard_bytes=shard_bytes,
        )
    )
    rows_of_all = sum(rows for rows, *_ in shapes)
    rows_done = sum(rows for rows, *_ in shapes[:done])
    with writer:
        for file, (rows, _, dtype) in zip(files[done:], shapes[done:], strict=True):
            before = len(writer)
            for finished in _copy(file, writer, wanted, unescape):
                if progress is not None:
                    progress(rows_done + finished, rows_of_all)
            record = writer.provenance
            record["import"]["files"].append(
                {**_identity(file), "rows": rows, "dtype": dtype, "selected": len(writer) - before}
            )
            writer.provenance = record
            writer.commit()
            rows_done += rows
            if progress is not None:
                progress(rows_done, rows_of_all)
    return GlobalStore.open(out)


def read_hdf5(path: StrPath, *, unescape: bool = True) -> tuple[list[str], NDArray[np.float32]]:
    """Read one official feature file as it is, without rounding: for queries, which fit in memory.

    Args:
        path: The file.
        unescape: Undo the official writer's id escaping.

    Returns:
        The ids, and float32 [n, d].

    Raises:
        FileFormatError: The file is truncated, damaged or not of this format.
        StorageError: It cannot be read.
        MissingExtraError: h5py is not installed.
    """
    with _reading(Path(path)) as opened:
        index, features = _datasets(Path(path), opened)
        names = index.asstr()[:].tolist()
        return [unescape_id(name) for name in names] if unescape else names, features[:].astype(np.float32)


def export_hdf5(
    store: GlobalStore,
    path: StrPath,
    *,
    escape: bool = True,
    compression: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a global store as one official feature file; it appears under its name when complete.

    Args:
        store: What to write.
        path: The file.
        escape: Escape ids as the official writer does; otherwise they are stored as UTF-8.
        compression: gzip level, 0 to 9.
        overwrite: Replace a file that is there.
        progress: Called with (rows done, rows in all).

    Raises:
        StorageError: The disk refused, or the file exists.
        ParameterError: The level is out of range.
        MissingExtraError: h5py is not installed.
    """
    h5py = require("h5py", "write HDF5 files")
    if not isinstance(store, GlobalStore):
        raise ParameterError(f"store: expected a global store, found {store!r}")
    if compression not in range(10):
        raise ParameterError(f"compression: expected a gzip level from 0 to 9, found {compression!r}")
    with (
        replacing(Path(path), overwrite=overwrite) as partial,
        Sink(partial) as sink,
        h5py.File(sink, "w") as file,
    ):
        text = h5py.string_dtype("ascii" if escape else "utf-8")
        index = file.create_dataset("index", (len(store),), dtype=text)
        compress: dict[str, Any] = (
            {"compression": "gzip", "compression_opts": compression} if len(store) else {}
        )
        features = file.create_dataset("features", (len(store), store.dim), dtype=np.float16, **compress)
        step = max(1, _BLOCK_BYTES // (2 * store.dim))
        if features.chunks:
            step = max(1, step // features.chunks[0]) * features.chunks[0]
        for start in range(0, len(store), step):
            rows = np.arange(start, min(start + step, len(store)))
            names = store.id_of(rows)
            index[start : start + len(rows)] = [escape_id(name) for name in names] if escape else names
            features[start : start + len(rows)] = store.rows(rows)
            sink.check()
            if progress is not None:
                progress(start + len(rows), len(store))


def _expand(source: StrPath | Sequence[StrPath], total: int | None) -> list[Path]:
    if not isinstance(source, (str, os.PathLike)):
        files = [Path(file) for file in source]
        if not files:
            raise ParameterError("source: expected at least one file, found none")
        return files
    template = os.fspath(source)
    if "{idx}" not in template:
        return [Path(template)]
    if total is not None:
        total = _arrays.at_least_one("total", total)
        files = []
        for index in range(total):
            # Asked for one by one: the first that lacks ends the list, however large a number was typed.
            files.append(Path(template.replace("{idx}", f"{index:05d}")))
            if not files[-1].exists():
                break
        return files
    folder, name = Path(template).parent, Path(template).name
    if "{idx}" not in name:
        raise ParameterError(
            f"source: expected {{idx}} in the file name, found it in the folder of {template}"
        )
    pattern = re.compile(r"(\d{5,})".join(re.escape(part) for part in name.split("{idx}", 1)))
    try:
        there = sorted(int(match[1]) for match in map(pattern.fullmatch, os.listdir(folder)) if match)  # noqa: PTH208
    except OSError as cause:
        raise storage_error(cause, folder, "list") from cause
    if not there:
        raise ParameterError(f"source: expected files {template}, found none")
    missing = sorted(set(range(there[-1] + 1)) - set(there))
    if missing:
        gap = template.replace("{idx}", f"{missing[0]:05d}")
        raise ParameterError(
            f"source: expected {there[-1] + 1} files {template}, found {len(there)}; "
            f"the first one missing is {gap} (fetch it, or name the files there are in a list)"
        )
    return [Path(template.replace("{idx}", f"{index:05d}")) for index in there]


def _selection(selected: StrPath | Iterable[str]) -> frozenset[str]:
    if isinstance(selected, (str, os.PathLike)):
        return frozenset(read_names(Path(selected)))
    return frozenset(selected)


@contextmanager
def _reading(file: Path) -> Iterator[Any]:
    """Open a feature file; whatever goes wrong inside the HDF5 library becomes one error that names it."""
    h5py = require("h5py", "read HDF5 files")
    try:
        file.open("rb").close()
    except OSError as cause:
        raise storage_error(cause, file, "open") from cause
    try:
        with h5py.File(file, "r", rdcc_nbytes=_CHUNK_CACHE) as opened:
            yield opened
    except IliasFastError:
        raise
    except Exception as cause:
        # A damaged file makes h5py raise OSError, RuntimeError, KeyError, ValueError, UnicodeError...
        raise FileFormatError(
            f"{file}: expected a feature file (HDF5), found damage: {cause} (fetch or write the file again)"
        ) from cause


def _datasets(file: Path, opened: Any) -> tuple[Any, Any]:
    h5py = require("h5py", "read HDF5 files")
    found = {name: opened.get(name) for name in ("index", "features")}
    for name, dataset in found.items():
        if not isinstance(dataset, h5py.Dataset):
            raise FileFormatError(
                f"{file}: expected datasets index and features, found {sorted(opened)} ({name} lacks)"
            )
    index, features = found["index"], found["features"]
    if features.ndim != 2 or index.shape != features.shape[:1] or features.shape[1] < 1:
        shapes = f"{list(index.shape)} and {list(features.shape)}"
        raise FileFormatError(f"{file}: expected index [n] and features [n, d], found {shapes}")
    if features.dtype not in (np.float16, np.float32) or h5py.check_string_dtype(index.dtype) is None:
        dtypes = f"{index.dtype} and {features.dtype}"
        raise FileFormatError(f"{file}: expected strings and float16 or float32 features, found {dtypes}")
    return index, features


def _shape(file: Path) -> tuple[int, int, str]:
    with _reading(file) as opened:
        _, features = _datasets(file, opened)
        return int(features.shape[0]), int(features.shape[1]), str(features.dtype)


def _check_dims(files: list[Path], shapes: list[tuple[int, int, str]]) -> None:
    for file, (_, dim, _) in zip(files, shapes, strict=True):
        if dim != shapes[0][1]:
            raise IncompatibleStoreError(
                f"{file}: expected features of dimension {shapes[0][1]}, found {dim}"
            )


def _identity(file: Path) -> dict[str, object]:
    return {"name": file.name, "bytes": file.stat().st_size}


def _finished(out: Path, files: list[Path], options: dict[str, object], dim: int) -> int:
    """Return how many of the files are in the store already."""
    if not exists(out):
        return 0
    store = GlobalStore.open(out)
    record = store.provenance.get("import")
    if not isinstance(record, dict) or record.get("format") != options["format"]:
        raise StoreExistsError(
            f"{out}: already exists and is no import of feature files (choose another path)"
        )
    finished = record["files"]
    same = [(entry["name"], entry["bytes"]) for entry in finished] == [
        (entry["name"], entry["bytes"]) for entry in map(_identity, files[: len(finished)])
    ]
    if not same or store.dim != dim or any(record[key] != value for key, value in options.items()):
        raise IncompatibleStoreError(
            f"{out}: expected an unfinished import of the same files with the same options, found one of "
            f"{', '.join(entry['name'] for entry in finished)} (choose another path)"
        )
    return len(finished)


def _copy(file: Path, writer: GlobalWriter, wanted: frozenset[str] | None, unescape: bool) -> Iterator[int]:
    """Append the rows of one file block by block; yield how many were read so far."""
    with _reading(file) as opened:
        index, features = _datasets(file, opened)
        rows, dim = features.shape
        chunk = features.chunks[0] if features.chunks else 1
        row_bytes = features.dtype.itemsize * dim
        # Whole chunks, so that none is decompressed twice; unless chunks are so tall that memory forbids it.
        step = max(1, _BLOCK_BYTES // row_bytes // chunk) * chunk
        step = min(step, max(1, _MOST_BYTES // row_bytes))
        text = index.asstr()
        for start in range(0, rows, step):
            names = text[start : start + step].tolist()
            vectors = features[start : start + step]
            if unescape:
                names = [unescape_id(name) if "#U" in name or "\\" in name else name for name in names]
            if wanted is not None:
                keep = [is_selected(name, wanted) for name in names]
                names = [name for name, kept in zip(names, keep, strict=True) if kept]
                vectors = vectors[np.array(keep, dtype=np.bool_)]
            try:
                writer.append(names, vectors)
            except IliasFastError as error:
                if error.args:
                    error.args = (f"{file}: rows from {start}: {error.args[0]}", *error.args[1:])
                raise
            yield min(start + step, rows)
