"""Raw scores of the entries of a run, kept so that ensembles cost nothing; saved and loaded."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilias_fast import _arrays
from ilias_fast._files import StrPath, read_bytes, written
from ilias_fast.errors import (
    FileFormatError,
    IncompatibleStoreError,
    InputError,
    ParameterError,
    ShapeError,
)
from ilias_fast.rerank.methods import Options, options_from_dict
from ilias_fast.run import Run

__all__ = [
    "LocalScores",
    "describe",
    "fingerprint",
    "read_columns",
    "refuse_others",
    "restored",
    "within",
    "write_columns",
]

_VERSION = 1
_COLUMNS = {"scores": np.float32, "inliers": np.int32, "tentative": np.int32, "models": np.float64}


@dataclass(frozen=True, eq=False, repr=False)
class LocalScores:
    """Raw scores of a run's entries, from which any number of ensembles can be made.

    Every array has one row for each entry of the run, in its order (see `Run.offsets`).

    Attributes:
        run: The run whose entries were scored.
        method: One of the methods of `rerank`.
        options: The options used.
        shortlist: How many images of each query were scored.
        scores: float32 [total], NaN beyond the shortlist.
        inliers: int32 [total], inliers of the model, -1 beyond the shortlist; None but for "spatial".
        tentative: int32 [total], tentative correspondences, -1 beyond the shortlist; None but for "spatial".
        models: float64 [total, 2, 3], or [total, 3, 3] of homographies, the map from query to database
            positions, both in units of their image's longer side; NaN without one; None but for "spatial".

    Examples:
        >>> import numpy as np
        >>> from ilias_fast.run import Run
        >>> run = Run.from_dict({"query.jpg": {"a.jpg": 0.5, "b.jpg": 0.4}})
        >>> local = LocalScores(run, "chamfer", ChamferOptions(), 2, np.array([3.0, 9.0], np.float32))
        >>> local.save("scores.npz")
        >>> LocalScores.load("scores.npz", run).scores.tolist(), local.truncate(1).scores.tolist()
        ([3.0, 9.0], [3.0, nan])
    """

    run: Run
    method: str
    options: Options
    shortlist: int
    scores: NDArray[np.float32]
    inliers: NDArray[np.int32] | None = None
    tentative: NDArray[np.int32] | None = None
    models: NDArray[np.float64] | None = None

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Return which entries lie within the shortlists, bool [total]."""
        return within(self.run, self.shortlist)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that are there, by name."""
        return {name: getattr(self, name) for name in _COLUMNS if getattr(self, name) is not None}

    def __repr__(self) -> str:
        return f"LocalScores({self.method}, {len(self.run)} queries, shortlist {self.shortlist})"

    def truncate(self, shortlist: int) -> LocalScores:
        """Return the scores as if fewer images had been scored.

        Args:
            shortlist: Images of each query that keep their score.

        Raises:
            ParameterError: More than were scored, or less than 0.
        """
        if not 0 <= (shortlist := _arrays.count("shortlist", shortlist)) <= self.shortlist:
            raise ParameterError(
                f"shortlist: expected 0 to {self.shortlist}, the images that were scored, found {shortlist}"
            )
        beyond = ~within(self.run, shortlist)
        columns: dict[str, Any] = {}
        for name, empty in (("scores", np.nan), ("inliers", -1), ("tentative", -1), ("models", np.nan)):
            column = getattr(self, name)
            if column is not None:
                column = column.copy()
                column[beyond] = empty
            columns[name] = column
        return LocalScores(self.run, self.method, self.options, shortlist, **columns)

    def save(self, path: StrPath) -> None:
        """Write the scores to an `.npz`, atomically; the run itself is not in it.

        Args:
            path: Where to.

        Raises:
            StorageError: The file cannot be written.
        """
        about = describe(self.run, self.method, self.options, self.shortlist)
        write_columns(Path(path), about, self.columns())

    @classmethod
    def load(cls, path: StrPath, run: Run) -> LocalScores:
        """Read scores written by `save`.

        Args:
            path: The file.
            run: The run they were made of.

        Raises:
            FileFormatError: The file is damaged or no such file.
            ShapeError: They are the scores of another run.
            StorageError: The file cannot be read.
        """
        return restored(Path(path), run)[0]


def restored(path: Path, run: Run) -> tuple[LocalScores, dict[str, Any]]:
    """Read scores, and what they were made of as far as the file says.

    Raises:
        FileFormatError: The file is damaged or no such file.
        ShapeError: They are the scores of another run.
        StorageError: The file cannot be read.
    """
    about, columns = read_columns(path)
    if about.get("run") != fingerprint(run):
        raise ShapeError(f"{path}: expected the scores of this run ({run!r}), found those of another")
    try:
        options = options_from_dict(about["method"], about["options"])
        shortlist = int(about["shortlist"])
    except (KeyError, TypeError, ValueError, InputError) as cause:
        raise FileFormatError(f"{path}: not a file of local scores: {cause}") from cause
    total = len(run.indices)
    rows = 3 if getattr(options, "model", None) == "homography" else 2
    for name, column in columns.items():
        shape = (total, rows, 3) if name == "models" else (total,)
        if column.shape != shape:
            raise FileFormatError(f"{path}: {name}: expected shape {list(shape)}, found {list(column.shape)}")
    return LocalScores(run, about["method"], options, shortlist, **columns), about


def refuse_others(path: Path, found: Mapping[str, Any], about: Mapping[str, Any], remove: Path) -> None:
    """Refuse scores that were made of something else; what a file does not say is not compared.

    Args:
        path: The file.
        found: What its scores were made of.
        about: What they should be made of.
        remove: What to remove to begin anew.

    Raises:
        IncompatibleStoreError: They differ.
    """
    other = [name for name in about if name in found and found[name] != about[name]]
    if other:
        raise IncompatibleStoreError(
            f"{path}: holds scores that differ in {', '.join(other)}; choose another file, or remove {remove}"
        )


def within(run: Run, shortlist: int) -> NDArray[np.bool_]:
    """Return which entries of a run are among the first `shortlist` of their query, bool [total]."""
    lengths = np.diff(run.offsets)
    rank = np.arange(len(run.indices)) - np.repeat(run.offsets[:-1], lengths)
    return np.asarray(rank < shortlist)


def fingerprint(run: Run) -> str:
    """Return a digest of a run's queries and lists; no local score depends on the scores."""
    digest = hashlib.sha256()
    for names in (run.query_ids, run.database_ids):
        digest.update(json.dumps(list(names)).encode())
    for array in (run.offsets, run.indices):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def describe(run: Run, method: str, options: Options, shortlist: int) -> dict[str, Any]:
    """Return what scores depend on, as plain JSON values."""
    return {
        "version": _VERSION,
        "run": fingerprint(run),
        "method": method,
        "options": options.to_dict(),
        "shortlist": shortlist,
    }


def write_columns(path: Path, about: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of scores and what they are, atomically."""
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with written(path) as file:
        np.savez(file, about=text, **columns)  # type: ignore[arg-type]


def read_columns(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_columns` wrote.

    Raises:
        FileFormatError: The file is damaged or something else.
        StorageError: It cannot be read.
    """
    data = read_bytes(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop("about").tobytes())
    # Damaged archives fail as zip, zlib, header, text and memory errors: there is no shorter list.
    except Exception as cause:
        raise FileFormatError(
            f"{path}: not a file of local scores: {cause or type(cause).__name__}"
        ) from cause
    if not isinstance(about, dict) or about.get("version") != _VERSION:
        raise FileFormatError(f"{path}: expected local scores of version {_VERSION}")
    wrong = [n for n, column in arrays.items() if n not in _COLUMNS or column.dtype != _COLUMNS[n]]
    if wrong or "scores" not in arrays:
        raise FileFormatError(f"{path}: expected the columns {', '.join(_COLUMNS)}, found {sorted(arrays)}")
    return about, arrays
