"""Labels of training images: which images show the same, by id."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilias_fast._files import StrPath, read_lines
from ilias_fast.errors import DuplicateIdError, FileFormatError, ParameterError, UnknownIdError
from ilias_fast.store import GlobalStore

__all__ = ["Labelled", "matching_pairs", "read_labels"]

_NAMED = 3


def read_labels(path: StrPath) -> dict[str, str]:
    r"""Read a list of labelled images: one `id,label` or `id,label,domain` a line, as the UnED list has it.

    Fields are separated by commas, or by tabs if the first line has one. With commas the id may hold commas
    itself: a list has domains if the last two of three or more fields of its first line are whole numbers.
    Labels of different domains are different, whatever their names.

    Args:
        path: A UTF-8 text file; blank lines are left out.

    Returns:
        The label (or "label,domain") of each id, in the order of the list.

    Raises:
        StorageError: The file cannot be read.
        FileFormatError: A line has too few fields, or the list is empty.
        DuplicateIdError: An id is given twice.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("labels.csv").write_text("a.jpg,mug\nb.jpg,lamp\n")
        >>> read_labels("labels.csv")
        {'a.jpg': 'mug', 'b.jpg': 'lamp'}
    """
    file = Path(path)
    lines = [(number, line) for number, line in enumerate(read_lines(file), 1) if line.strip()]
    if not lines:
        raise FileFormatError(f"{file}: expected lines `id,label` or `id,label,domain`, found none")
    separator = "\t" if "\t" in lines[0][1] else ","
    first = lines[0][1].split(separator)
    wholes = len(first) > 2 and all(field.strip().lstrip("-").isdecimal() for field in first[-2:])
    fields = 2 if wholes or (separator == "\t" and len(first) > 2) else 1
    labels: dict[str, str] = {}
    for number, line in lines:
        parts = line.rsplit(separator, fields)
        if len(parts) != fields + 1 or not all(part.strip() for part in parts):
            wanted = separator.join(["id", "label", "domain"][: fields + 1])
            raise FileFormatError(f"{file}: line {number}: expected {wanted}, found {line!r}")
        if parts[0] in labels:
            raise DuplicateIdError(f"{file}: line {number}: id {parts[0]!r} is given twice")
        labels[parts[0]] = ",".join(part.strip() for part in parts[1:])
    return labels


@dataclass(frozen=True)
class Labelled:
    """Rows of a store with their classes, matched by id.

    Attributes:
        rows: int64 [n], ascending.
        classes: int64 [n], from 0; classes are numbered by their first appearance in the list of labels.
        count: Number of classes.
        ignored: Labels without a row, and rows without a label.

    Examples:
        >>> from ilias_fast.store import GlobalStore
        >>> with GlobalStore.create("vectors", dim=2) as writer:
        ...     writer.append(["a.jpg", "b.jpg", "c.jpg"], [[1.0, 0], [0, 1], [1, 1]])
        >>> labels = {"c.jpg": "mug", "a.jpg": "mug", "b.jpg": "lamp"}
        >>> labelled = Labelled.match(GlobalStore.open("vectors"), labels)
        >>> labelled.rows.tolist(), labelled.classes.tolist(), labelled.count
        ([0, 1, 2], [0, 1, 0], 2)
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    count: int
    ignored: tuple[int, int]

    @classmethod
    def match(cls, store: GlobalStore, labels: Mapping[str, Hashable], *, partial: bool = False) -> Labelled:
        """Find the labelled rows of a store.

        Args:
            store: The features.
            labels: The label of each id; equal labels are one class.
            partial: Leave out labels without a row and rows without a label, instead of refusing them.

        Raises:
            UnknownIdError: An id is on one side only, and `partial` is not set; the message names the first
                ones and says how many of each side match.
            ParameterError: Fewer than two classes are left.
        """
        ids = list(labels)
        there = store.contains(ids)
        unlabelled = len(store) - int(there.sum())
        if not partial and (unlabelled or not there.all()):
            raise UnknownIdError(_mismatch(store, ids, there))
        known = [id_ for id_, found in zip(ids, there.tolist(), strict=True) if found]
        numbers: dict[Hashable, int] = {}
        classes = np.array([numbers.setdefault(labels[id_], len(numbers)) for id_ in known], np.int64)
        if len(numbers) < 2:
            raise ParameterError(
                f"labels: expected at least two classes to tell apart, found {len(numbers)} "
                f"among {len(known)} images of {store.path}"
            )
        rows = store.find(known)
        order = np.argsort(rows)
        return cls(rows[order], classes[order], len(numbers), (len(ids) - len(known), unlabelled))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over rows and classes."""
        digest = hashlib.sha256(self.rows.astype("<i8").tobytes())
        digest.update(self.classes.astype("<i8").tobytes())
        return digest.hexdigest()


def matching_pairs(labelled: Labelled) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs for `SupervisedWhitening`: the rows of each image and of the next of its class.

    Args:
        labelled: Rows and classes.

    Returns:
        Rows of queries and of positives, int64 [m] each; a class of k images gives k - 1 pairs.

    Raises:
        ParameterError: No class has two images.

    Examples:
        >>> import numpy as np
        >>> labelled = Labelled(np.arange(4), np.array([0, 1, 0, 0]), 2, (0, 0))
        >>> [rows.tolist() for rows in matching_pairs(labelled)]
        [[0, 2], [2, 3]]
    """
    order = np.argsort(labelled.classes, kind="stable")
    classes, rows = labelled.classes[order], labelled.rows[order]
    same = classes[1:] == classes[:-1]
    if not same.any():
        raise ParameterError(
            f"labels: expected a class with at least two images, found {labelled.count} classes of one"
        )
    return rows[:-1][same], rows[1:][same]


def _mismatch(store: GlobalStore, ids: list[str], there: NDArray[np.bool_]) -> str:
    missing = np.flatnonzero(~there)
    if missing.size:
        named = [ids[place] for place in missing[:_NAMED]]
        found = f"{missing.size} of {len(ids)} labels have no row"
    else:
        labelled = np.zeros(len(store), np.bool_)
        labelled[store.find(ids)] = True
        without = np.flatnonzero(~labelled)
        named = store.id_of(without[:_NAMED])
        found = f"{without.size} of {len(store)} rows have no label"
    return (
        f"labels: expected one for every row of {store.path}, by id; {found}, the first "
        f"{', '.join(map(repr, named))} (check that ids are written alike, or ask for partial labels)"
    )
