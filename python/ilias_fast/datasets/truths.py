"""Which loader a file of ground truth is for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from ilias_fast import _arrays
from ilias_fast._files import StrPath, is_file, is_folder
from ilias_fast.datasets.benchmarks import (
    GroundTruth,
    load_gldv2,
    load_gnd,
    load_holidays,
    load_names,
    load_oxford_text,
    load_sop,
    load_ukbench,
)
from ilias_fast.errors import FileFormatError, StorageError

__all__ = ["TruthKind", "load_truth"]

TruthKind = Literal["gnd", "gldv2", "oxford", "sop", "ukbench", "holidays"]


def _ukbench(path: Path) -> GroundTruth:
    return load_ukbench(load_names(path))


def _holidays(path: Path) -> GroundTruth:
    return load_holidays(load_names(path))


_LOADERS: Mapping[str, Callable[[Path], GroundTruth]] = {
    "gnd": load_gnd,
    "gldv2": load_gldv2,
    "oxford": load_oxford_text,
    "sop": load_sop,
    "ukbench": _ukbench,
    "holidays": _holidays,
}


def load_truth(path: StrPath, kind: TruthKind | None = None) -> GroundTruth:
    r"""Read a benchmark's ground truth by the loader it is for.

    | kind | known by |
    |---|---|
    | "gnd" | `.pkl`, `.mat`, `.json`: ROxford5k, RParis6k, INSTRE, ... |
    | "gldv2" | `.csv`, or "gldv2" in the name |
    | "oxford" | a folder of `*_query.txt` |
    | "sop" | a list that starts with "image_id" |
    | "ukbench", "holidays" | a list of image names, "ukbench00000.jpg" or "100000.jpg" first |

    Args:
        path: The file or folder.
        kind: Which it is; None to find out.

    Raises:
        FileFormatError: It is none that is known, or damaged.
        DatasetError: A name in a list is none of that benchmark.
        StorageError: It cannot be read.
        ParameterError: There is no such kind.

    Examples:
        >>> from pathlib import Path
        >>> lines = ["image_id class_id super_class_id path", "1 7 1 a/1.jpg", "2 7 1 a/2.jpg"]
        >>> _ = Path("Ebay_test.txt").write_text("\n".join(lines))
        >>> [query.query for query in load_truth("Ebay_test.txt").queries]
        ['a/1.jpg', 'a/2.jpg']
    """
    path = Path(path)
    if kind is not None:
        _arrays.choice("kind", kind, tuple(_LOADERS))
    return _LOADERS[kind or _kind_of(path)](path)


def _kind_of(path: Path) -> str:
    if is_folder(path):
        return "oxford"
    if not is_file(path):
        raise StorageError(f"{path}: expected a ground truth, found nothing")
    if path.suffix == ".csv" or "gldv2" in path.name:
        return "gldv2"
    if path.suffix in (".pkl", ".pickle", ".mat", ".json"):
        return "gnd"
    first = next(iter(load_names(path)), "")
    name = first.rpartition("/")[2]
    if first.split()[:1] == ["image_id"]:
        return "sop"
    if name.startswith("ukbench"):
        return "ukbench"
    if re.fullmatch(r"\d{6}(\.\w+)?", name):
        return "holidays"
    raise FileFormatError(
        f"{path}: not a ground truth that is known by its looks (it starts with {first[:40]!r}); "
        f"say its kind: {', '.join(_LOADERS)}"
    )
