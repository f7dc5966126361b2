"""Files of features into stores: one way for every format, bounded in memory, and able to go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath
from ilias_fast.errors import (
    FileFormatError,
    IliasFastError,
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
)
from ilias_fast.store._binary import BinaryStore
from ilias_fast.store._global import GlobalStore
from ilias_fast.store._local import LocalStore
from ilias_fast.store._selection import is_selected
from ilias_fast.store.formats.base import Block, Format, LocalRows, ReadOptions
from ilias_fast.store.formats.buffers import Buffers
from ilias_fast.store.formats.npy import raw_dtype
from ilias_fast.store.formats.prefetch import prefetched
from ilias_fast.store.formats.record import is_complete, record_there, recorded, selection
from ilias_fast.store.formats.registry import format_of
from ilias_fast.store.formats.target import AdapterLike, SourceFile, Target
from ilias_fast.store.formats.templates import expand

__all__ = ["import_store"]

_COMMIT_BYTES = 512 << 20
_COMMIT_SECONDS = 60.0

Progress = Callable[[int, int], object]


def import_store(
    source: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    format: str | None = None,  # noqa: A002
    ids: StrPath | None = None,
    number_rows: bool = False,
    array: str | None = None,
    total: int | None = None,
    selected_ids: StrPath | Iterable[str] | None = None,
    unescape: bool = True,
    dtype: DTypeLike | None = None,
    dim: int | None = None,
    adapter: AdapterLike | None = None,
    descriptors: int | None = None,
    provenance: Mapping[str, object] | None = None,
    overwrite: bool = False,
    shard_bytes: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> GlobalStore | BinaryStore | LocalStore:
    r"""Import files of features into one store, in order, file after file.

    Floats make a global store (rounded to float16, which the provenance tells), uint8 codes a binary one,
    AMES files a local one, of float16 descriptors or of the codes that an `Itq` makes of them.

    The files are read ahead by a thread while the rows before them are written. Every 512 MiB or minute is
    committed together with how far the files were read: an interrupted or killed import is continued by
    the same call, and one that is complete is only opened. An error commits the rows before it first.

    Args:
        source: A file, a template with `{idx}` (00000, 00001, ...), or a sequence of files.
        out: The store to make or continue.
        format: "ilias-hdf5", "npy", "npz", "safetensors", "torch", "arrow", "raw" or "ames"; None to go
            by the suffix.
        ids: Text file of ids, one a line (`.gz` too); None for those in the file, or in the text file of the
            same name beside it. With several files, each has its own beside it.
        number_rows: Number the rows of a file for which there are no ids.
        array: Name of the array, tensor, dataset or column, where a file holds several.
        total: With a template, how many files there are; None for all there are, without gaps.
        selected_ids: Keep only positives and these distractors (mini-ILIAS; see `is_selected`): a text file
            with one name a line, or the names.
        unescape: HDF5: undo the official writer's id escaping.
        dtype: Of the numbers of a raw file.
        dim: Numbers a row of a raw file.
        adapter: Applied on the way, to vectors or to local descriptors: a linear layer or whitening makes
            float16 of them, an `Itq` or `Signs` codes.
        descriptors: AMES: take the n local descriptors of an image that weigh most.
        provenance: Added to what is recorded about the source.
        overwrite: Start anew and replace a store that is there, once the first rows are committed.
        shard_bytes: As in `GlobalStore.create`.
        threads: Number of threads that decode; None for all.
        progress: Called with (rows done, rows in all), counting rows that are not selected too.

    Returns:
        The store, opened.

    Raises:
        FileFormatError: A file is truncated, damaged or not of its format; the message names it.
        ShapeError: A file has more or fewer ids than rows.
        NonFiniteError: A row holds NaN, infinities or what float16 cannot hold; the message names it.
        DuplicateIdError: An id occurs twice; the message names it.
        ParameterError: A template has a gap or fits nothing; there are no ids; an option is out of range.
        StoreExistsError: At `out` is something other than an unfinished import.
        IncompatibleStoreError: The import at `out` is of other files or options; widths differ between files,
            or are not the adapter's.
        StorageError: A file is missing or cannot be read, or the store cannot be written.
        MissingExtraError: A library is not installed.

    Complexity: one pass; memory for a few blocks of 32 MiB (or of whole chunks) and one shard.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> np.save("vectors.npy", np.eye(2, dtype=np.float32))
        >>> _ = Path("vectors.txt").write_text("a.jpg\nb.jpg\n")
        >>> store = import_store("vectors.npy", "vectors")
        >>> type(store).__name__, list(store.ids), store.dim
        ('GlobalStore', ['a.jpg', 'b.jpg'], 2)
    """
    overwrite = _arrays.flag("overwrite", overwrite)
    dtype = None if dtype is None else raw_dtype(dtype)
    files = expand(source, total)
    chosen = format_of(files[0], format)
    reading = ReadOptions(
        ids=None if ids is None else Path(ids),
        number_rows=number_rows,
        array=array,
        unescape=unescape,
        dtype=dtype,
        dim=dim,
        descriptors=descriptors,
        threads=threads,
    )
    if ids is not None and len(files) > 1:
        raise ParameterError("ids: expected none with several files (put one beside each), found a file")
    wanted = None if selected_ids is None else selection(selected_ids)
    if wanted is not None and chosen.name == "ames":
        raise ParameterError("selected_ids: expected none for local descriptors, found a selection")
    described = [_described(chosen, file, reading) for file in files]
    _check_alike(described, adapter)
    options = recorded(chosen, reading, wanted, adapter)
    if number_rows and len(files) > 1:
        raise ParameterError("number_rows: expected one file, found several, whose numbers would be the same")
    job = _Import(chosen, reading, described, options, wanted, adapter, progress)
    target = Target.of(described[0], adapter)
    place = Path(out)
    record = None if overwrite else record_there(place, described, options, target)
    if record is not None and is_complete(record, described):
        rows = sum(file.rows for file in described)
        (progress or _silent)(rows, rows)
        return target.open(place)
    if record is None:
        record = {**options, "files": []}
        base: dict[str, Any] = {**(provenance or {})}
        if adapter is not None:
            base["adaptation"] = [adapter.provenance()]
        writer = target.create(place, {**base, "import": record}, overwrite, shard_bytes)
    else:
        writer = target.append_to(place, shard_bytes)
    with writer:
        job.run(writer, record)
    return target.open(place)


class _Import:
    """The work of one call."""

    def __init__(
        self,
        format_: Format,
        reading: ReadOptions,
        files: list[SourceFile],
        options: Mapping[str, object],
        wanted: frozenset[str] | None,
        adapter: AdapterLike | None,
        progress: Progress | None,
    ) -> None:
        self._format, self._reading, self._files = format_, reading, files
        self._options, self._wanted, self._adapter = options, wanted, adapter
        self._progress = progress or _silent
        self._buffers: Buffers | None = None

    def run(self, writer: Any, record: dict[str, Any]) -> None:
        """Append what lacks, and commit it with the record of how far the files were read."""
        self._record, self._writer = record, writer
        self._uncommitted, self._last = 0, time.monotonic()
        self._all = sum(file.rows for file in self._files)
        before = 0
        self._progress(sum(entry["read"] for entry in record["files"]), self._all)
        try:
            for number, file in enumerate(self._files):
                if number == len(record["files"]):
                    record["files"].append(
                        {**file.identity(), "rows": file.rows, "dtype": file.dtype, "read": 0, "selected": 0}
                    )
                entry = record["files"][number]
                if entry["read"] < file.rows:
                    self._copy(file, entry, before)
                before += file.rows
        except BaseException:
            # What came before the damage, or before Ctrl-C, need not be read again.
            with suppress(IliasFastError):
                if self._uncommitted:
                    self._commit()
            writer.close()
            raise
        self._commit()

    def _copy(self, file: SourceFile, entry: dict[str, Any], before: int) -> None:
        with (
            self._format.open(file.path, self._reading) as reader,
            prefetched(self._prepared(file.path, reader.blocks(entry["read"]))) as blocks,
        ):
            if (reader.rows, reader.width, reader.kind) != (file.rows, file.width, file.kind):
                raise FileFormatError(f"{file.path}: changed while it was imported")
            for block, kept in blocks:
                self._append(file.path, block, kept)
                entry["read"] = block.stop
                entry["selected"] += len(kept.ids)
                parts = kept.values if isinstance(kept.values, LocalRows) else [kept.values]
                self._uncommitted += sum(part.nbytes for part in parts)
                due = time.monotonic() - self._last > _COMMIT_SECONDS
                if self._uncommitted >= _COMMIT_BYTES or (due and self._uncommitted):
                    self._commit()
                self._progress(before + block.stop, self._all)

    def _prepared(
        self, path: Path, blocks: Generator[Block, None, None]
    ) -> Generator[tuple[Block, Block], None, None]:
        """Yield each block, and what of it goes into the store. Runs in the reading thread."""
        with closing(blocks):
            for block in blocks:
                yield block, self._kept(path, block)

    def _kept(self, path: Path, block: Block) -> Block:
        """Return the selected rows of a block, adapted or rounded."""
        kept = block
        values = block.values
        if isinstance(values, LocalRows):
            rows = values.descriptors
            return block._replace(
                values=values._replace(
                    descriptors=_rounded(rows) if self._adapter is None else self._adapter.apply(rows)
                )
            )
        if self._wanted is not None:
            keep = np.array([is_selected(name, self._wanted) for name in block.ids], dtype=np.bool_)
            names = [name for name, chosen in zip(block.ids, keep.tolist(), strict=True) if chosen]
            values = values[keep]
            kept = Block(block.start, names, values)
        if self._adapter is not None:
            _check_finite(path, block, kept, values)
            kept = kept._replace(values=self._adapter.apply(values))
        elif values.dtype.kind == "f" and values.dtype != np.float16:
            kept = kept._replace(values=self._half(values))
        return kept

    def _half(self, values: NDArray[Any]) -> NDArray[np.float16]:
        """Round to float16, in memory that is used again."""
        if self._buffers is None:
            self._buffers = Buffers(3, len(values), values.shape[1], np.float16)
        half = self._buffers.next(len(values))
        with np.errstate(over="ignore"):
            np.copyto(half, values, casting="same_kind")
        return half

    def _append(self, path: Path, block: Block, kept: Block) -> None:
        try:
            if isinstance(kept.values, LocalRows):
                offsets, rows, xy, weight, size = kept.values
                packed = rows.dtype == np.uint8
                self._writer.append_arrays(
                    kept.ids,
                    offsets,
                    rows if packed else None,
                    xy,
                    descriptors=None if packed else rows,
                    size=size,
                    weight=weight,
                )
            else:
                self._writer.append(kept.ids, kept.values)
        except NonFiniteError:
            if isinstance(kept.values, LocalRows):
                _check_finite_images(path, block, kept.values)
            else:
                _check_finite(path, block, kept, kept.values)
            raise
        except IliasFastError as error:
            if error.args:
                error.args = (f"{path}: rows from {block.start}: {error.args[0]}", *error.args[1:])
            raise

    def _commit(self) -> None:
        # A file of which nothing was read yet may still be replaced by a whole one.
        files = [entry for entry in self._record["files"] if entry["read"] or not entry["rows"]]
        record = {**self._record, "files": files}
        self._writer.provenance = {**self._writer.provenance, "import": record}
        self._writer.commit()
        self._uncommitted, self._last = 0, time.monotonic()


def _check_finite(path: Path, block: Block, kept: Block, values: NDArray[Any]) -> None:
    """Name the first row that float16 cannot hold, by its place in the file."""
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        bad = int(np.argmin(finite))
        row = block.start + (bad if len(kept.ids) == len(block.ids) else block.ids.index(kept.ids[bad]))
        raise NonFiniteError(
            f"{path}: row {row} ({kept.ids[bad]!r}) holds NaN, an infinity or a number beyond float16 "
            f"(drop or repair the row)"
        )


def _check_finite_images(path: Path, block: Block, values: LocalRows) -> None:
    """Name the first image with a descriptor, or what an adapter makes of it, that float16 cannot hold."""
    finite = np.isfinite(_rounded(values.descriptors)).all(axis=1)
    if not finite.all():
        image = int(np.searchsorted(values.offsets, int(np.argmin(finite)), side="right")) - 1
        raise NonFiniteError(
            f"{path}: a descriptor of image {block.start + image} ({block.ids[image]!r}) is beyond float16 "
            f"(drop or repair the image)"
        )


def _rounded(values: NDArray[Any]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def _silent(done: int, total: int) -> None:
    del done, total


def _described(format_: Format, file: Path, reading: ReadOptions) -> SourceFile:
    with format_.open(file, reading) as reader:
        return SourceFile(file, reader.kind, reader.rows, reader.width, reader.dtype)


def _check_alike(files: list[SourceFile], adapter: AdapterLike | None) -> None:
    first = files[0]
    for file in files:
        if (file.kind, file.width) != (first.kind, first.width):
            what = "dimension" if first.kind == file.kind == "global" else f"{first.kind} rows of"
            raise IncompatibleStoreError(
                f"{file.path}: expected features of {what} {first.width} as in {first.path.name}, "
                f"found {file.kind} rows of {file.width}"
            )
    if adapter is not None and (first.kind == "binary" or first.width != adapter.input_dim):
        raise IncompatibleStoreError(
            f"{first.path}: expected vectors of dimension {adapter.input_dim} for this adapter, "
            f"found {first.kind} rows of {first.width}"
        )
