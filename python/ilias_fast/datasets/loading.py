"""Which layout a folder has."""

from __future__ import annotations

from pathlib import Path

from ilias_fast._files import StrPath, is_file, is_folder
from ilias_fast.datasets.base import Dataset
from ilias_fast.datasets.ilias import load_ilias
from ilias_fast.datasets.photos import load_photos
from ilias_fast.errors import DatasetError

__all__ = ["load_dataset"]


def load_dataset(root: StrPath) -> Dataset:
    """Read a dataset, whichever layout it has.

    Args:
        root: A folder with `image_ids/` and `ilias_core/` (see `load_ilias`), or one with
            `<instance>/query/`, `<instance>/pos/` and `distractors/` (see `load_photos`).

    Raises:
        DatasetError: The folder has neither layout, or its files are missing or contradict each other.
        StorageError: A file cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> for name in ("mug/query/0.jpg", "mug/pos/1.jpg", "distractors/2.jpg"):
        ...     Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        ...     Path("photos", name).touch()
        >>> load_dataset("photos")
        Dataset('photos': 1 image queries, 0 text queries, 1 positives)
    """
    path = Path(root)
    if not is_folder(path):
        found = "a file" if is_file(path) else "nothing"
        raise DatasetError(f"{path}: expected a folder that holds a dataset, found {found}")
    return load_ilias(path) if is_folder(path / "image_ids") else load_photos(path)
