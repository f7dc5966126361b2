"""What `ilias-fast extract` reads from, and how it shows its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ilias_fast.cli._console import err, out, plain, print_json

if TYPE_CHECKING:
    from ilias_fast.extract import ExtractReport
    from ilias_fast.images import ImageSource

__all__ = ["Images", "Shown", "extraction_progress", "selected", "source_of", "tell_report", "texts_of"]


class Images(NamedTuple):
    """Where images come from, which are wanted (None for all), and their boxes if they have any."""

    source: ImageSource
    ids: Sequence[str] | None
    boxes: Callable[[str], Any] | None


class Shown(NamedTuple):
    """The functions that an extraction reports to."""

    progress: Callable[[int, int], None]
    skip: Callable[[str, str], None]


def source_of(images: list[Path], part: str | None, *, keys: list[str] | None = None) -> Images:
    """Return the images that paths stand for.

    Args:
        images: One dataset if `part` is given; else a folder, tars, or image files.
        part: "queries", "positives", "distractors", "database", or None.
        keys: Of tars, only the samples of these bare keys.

    Raises:
        ParameterError: The paths do not go together.
    """
    from ilias_fast.datasets import load_dataset
    from ilias_fast.errors import ParameterError
    from ilias_fast.images import IMAGE_SUFFIXES, FilesSource, FolderSource, TarSource

    if part is not None:
        if len(images) > 1:
            raise ParameterError(f"IMAGES: expected one dataset with --part, found {len(images)} paths")
        dataset = load_dataset(images[0])
        if keys is not None and dataset.tars and part in ("distractors", "database"):
            tars = TarSource(dataset.tars, keys=keys)
            if part == "distractors":
                return Images(tars, None, None)
            return Images(_Several(dataset.image_source(), tars), [*dataset.positives, *tars.ids()], None)
        wanted: list[str] = []
        if part == "queries":
            wanted += dataset.image_queries
        if part in ("positives", "database"):
            wanted += dataset.positives
        if part in ("distractors", "database"):
            wanted += dataset.images("distractors")[1]
        return Images(dataset.image_source(), wanted, dataset.boxes if part in _BOXED else None)
    files = [path for path in images if path.suffix == ".tar"]
    folders = [path for path in images if path.is_dir()]
    if files and len(files) == len(images):
        return Images(TarSource(images, keys=keys), None, None)
    if keys is not None:
        if folders and all(any(path.glob("*.tar")) for path in folders) and len(folders) == len(images):
            return Images(TarSource([tar for path in images for tar in _tars(path)], keys=keys), None, None)
        raise ParameterError("--selected-ids: expected tars, or folders of tars")
    if len(images) == 1 and folders:
        return Images(FolderSource(images[0]), None, None)
    if folders or files:
        raise ParameterError("IMAGES: expected one folder, or tars, or image files; found a mixture")
    for path in images:
        if path.suffix.lower().removeprefix(".") not in IMAGE_SUFFIXES:
            known = ", ".join(IMAGE_SUFFIXES)
            raise ParameterError(f"IMAGES: expected a folder, tars, or image files ({known}), found {path}")
    return Images(FilesSource(images), None, None)


_BOXED = ("queries", "positives")


class _Several:
    """Two sources as one; the second has what the first has not."""

    def __init__(self, core: ImageSource, tars: ImageSource) -> None:
        self._core, self._tars = core, tars
        self._in_tars = frozenset(tars.ids())

    def ids(self) -> Sequence[str]:
        return [*self._core.ids(), *self._tars.ids()]

    def read(self, image_id: str, /) -> bytes:
        return (self._tars if image_id in self._in_tars else self._core).read(image_id)


def _tars(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


def selected(path: Path | None) -> list[str] | None:
    """Return the lines of a file of ids; None for no file."""
    from ilias_fast._files import read_names
    from ilias_fast.errors import DatasetError

    if path is None:
        return None
    names = read_names(path)
    if not names:
        raise DatasetError(f"{path}: expected ids, one a line, found none")
    return names


def texts_of(images: list[Path]) -> list[tuple[str, str]]:
    """Return (id, text) of a dataset's text queries, or of the files given; each whole, as it is.

    Raises:
        DatasetError: The dataset has no text queries, or a file is not UTF-8.
    """
    from ilias_fast._files import read_text
    from ilias_fast.datasets import load_dataset
    from ilias_fast.errors import DatasetError

    if len(images) == 1 and images[0].is_dir():
        dataset = load_dataset(images[0])
        if not dataset.text_queries:
            raise DatasetError(f"{images[0]}: the dataset has no text queries")
        return [(name, read_text(dataset.core / name, DatasetError)) for name in dataset.text_queries]
    return [(path.as_posix(), read_text(path, DatasetError)) for path in images]


class _Rate(ProgressColumn):
    """Images a second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s")


@contextmanager
def extraction_progress() -> Iterator[Shown]:
    """Show images done, their rate, the time left and how many were skipped: live on a terminal."""
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("extract"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[skipped]}"),
    )
    skipped = 0
    with Progress(*columns, console=err, disable=not err.is_terminal) as live:
        task = live.add_task("extract", total=None, skipped="")
        first: list[int] = []

        def progress(done: int, total: int) -> None:
            if not first:
                first.append(done)
                live.reset(task, total=total, completed=done)  # what was there already is no speed
            live.update(task, completed=done, total=total)
            if not err.is_terminal and done == total:
                err.print(f"extract: {total}", soft_wrap=True)

        def skip(name: str, reason: str) -> None:
            nonlocal skipped
            del name, reason
            skipped += 1
            live.update(task, skipped=f"[yellow]{skipped} skipped")

        yield Shown(progress, skip)


def tell_report(done: ExtractReport, as_json: bool) -> None:
    """Print what an extraction did."""
    if as_json:
        print_json(asdict(done))
        return
    out.print(f"{done.extracted} images described, {done.resumed} were there, {len(done.skipped)} skipped")
    for name, reason in done.skipped:
        out.print(f"[yellow]skipped[/] {plain(name)}: {plain(reason)}", soft_wrap=True)
