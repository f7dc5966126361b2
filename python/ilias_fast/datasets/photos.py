"""A plain folder of photographs as a dataset."""

from __future__ import annotations

from pathlib import Path

from ilias_fast._files import StrPath, storage_error
from ilias_fast.datasets.base import Dataset
from ilias_fast.errors import DatasetError, IliasFastError

__all__ = ["load_photos"]

_IMAGES = (".jpg", ".jpeg", ".png")
_LAYOUT = (
    "expected '<instance>/query/' and '<instance>/pos/' with images (jpg, jpeg, png), and 'distractors/'"
)


def load_photos(root: StrPath) -> Dataset:
    """Read a folder of photographs.

    Layout: `<instance>/query/*` holds the images to search with, `<instance>/pos/*` the images to be found,
    `distractors/**` everything else (optional). Any image name will do. A `.txt` file in `query/` is a text
    query, except `*_bbox.txt` and `*_url.txt`. Hidden files, and files beside the instance folders, are not
    looked at.

    Args:
        root: The folder.

    Returns:
        The dataset; ids are paths relative to `root`, sorted.

    Raises:
        DatasetError: There is no instance, or a folder beside `distractors` lacks queries or positives.
        StorageError: A folder cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> for name in ("mug/query/0.jpg", "mug/pos/1.jpg", "mug/pos/2.jpg", "distractors/3.jpg"):
        ...     Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        ...     Path("photos", name).touch()
        >>> dataset = load_photos("photos")
        >>> dataset.image_queries, sorted(dataset.positives_of("mug/query/0.jpg"))
        (('mug/query/0.jpg',), ['mug/pos/1.jpg', 'mug/pos/2.jpg'])
    """
    path = Path(root)
    queries: list[str] = []
    texts: list[str] = []
    positives: list[str] = []
    distractors: tuple[str, ...] = ()
    try:
        for folder in sorted(
            entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")
        ):
            if folder.name == "distractors":
                distractors = tuple(_images(path, folder, recursive=True))
                continue
            found = (
                _images(path, folder / "query"),
                _texts(path, folder / "query"),
                _images(path, folder / "pos"),
            )
            if not found[0] and not found[1]:
                raise DatasetError(f"{folder}: no query images in {folder / 'query'}; {_LAYOUT}")
            if not found[2]:
                raise DatasetError(f"{folder}: no positive images in {folder / 'pos'}; {_LAYOUT}")
            queries += found[0]
            texts += found[1]
            positives += found[2]
    except IliasFastError:
        raise
    except (OSError, ValueError) as cause:
        raise storage_error(cause, path, "list") from cause
    if not positives:
        raise DatasetError(f"{path}: no instance folder found; {_LAYOUT}")
    return Dataset(
        name=path.resolve().name,
        root=path,
        core=path,
        image_queries=tuple(sorted(queries)),
        text_queries=tuple(sorted(texts)),
        positives=tuple(sorted(positives)),
        distractors=distractors,
    )


def _files(folder: Path, recursive: bool) -> list[Path]:
    if not folder.is_dir():
        return []
    found = folder.rglob("*") if recursive else folder.iterdir()
    return [file for file in found if file.is_file() and not file.name.startswith(".")]


def _images(root: Path, folder: Path, recursive: bool = False) -> list[str]:
    files = (file for file in _files(folder, recursive) if file.suffix.lower() in _IMAGES)
    return sorted(file.relative_to(root).as_posix() for file in files)


def _texts(root: Path, folder: Path) -> list[str]:
    files = (file for file in _files(folder, False) if file.suffix == ".txt")
    return [
        file.relative_to(root).as_posix()
        for file in files
        if not file.name.endswith(("_bbox.txt", "_url.txt"))
    ]
