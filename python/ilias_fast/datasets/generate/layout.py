"""Files of a benchmark in the official ILIAS layout, written so that an interruption loses little.

Every file is written under a temporary name and renamed. `ilias_demo.json` holds the parameters from the
start and says at the end that all is there: a benchmark without it, or with other parameters, is never
taken for this one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ilias_fast._files import is_leftover, written
from ilias_fast.datasets.generate.drawing import cv
from ilias_fast.datasets.generate.photographs import Photograph
from ilias_fast.datasets.generate.plan import Plan
from ilias_fast.errors import ParameterError

__all__ = ["Layout"]

_VERSION = 1  # of the pictures: raise it whenever the same parameters draw anything differently
_MARKER = "ilias_demo.json"
_OURS = ("image_ids", "ilias_core", "yfcc100m", "taxonomy.json", "checksums.txt", _MARKER)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is either absent or whole; not synced, as there are tens of thousands."""
    with written(path, durable=False) as file:
        file.write(data)


def _lines(rows: Iterable[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


class Layout:
    """The folder of one benchmark."""

    def __init__(self, root: Path, plan: Plan):
        self.root = root
        self.plan = plan
        self.core = root / "ilias_core"
        self.tars = root / "yfcc100m"
        self.ids = root / "image_ids"

    # -- the marker ----------------------------------------------------------------------------------------

    def _description(self, complete: bool) -> dict[str, Any]:
        return {
            "generator": _VERSION,
            "parameters": asdict(self.plan.parameters),
            "libraries": {"numpy": np.__version__, "opencv": cv().__version__},
            "complete": complete,
        }

    def _mark(self, complete: bool) -> None:
        text = json.dumps(self._description(complete), indent=2) + "\n"
        write_whole(self.root / _MARKER, text.encode())

    def prepare(self, overwrite: bool) -> None:
        """Make the folder ready to be filled, keeping what an earlier run of these parameters finished.

        Raises:
            ParameterError: The path is a file, or holds something else or a benchmark of other parameters.
        """
        root = self.root
        if root.exists() and not root.is_dir():
            raise ParameterError(f"root: expected a folder to generate into, found a file: {root}")
        root.mkdir(parents=True, exist_ok=True)
        marker = root / _MARKER
        if not marker.exists():
            found = next((entry for entry in root.iterdir() if not is_leftover(entry.name)), None)
            if found is not None:
                raise ParameterError(
                    f"root: expected an empty folder or a benchmark generated before, found {found.name} "
                    f"in {root}; choose another folder (nothing in it was touched)"
                )
            self._mark(complete=False)
            return
        there = self._read_marker(marker)
        wanted = self._description(complete=False)
        same = there.get("generator") == _VERSION and there.get("parameters") == wanted["parameters"]
        if not same and not overwrite:
            raise ParameterError(
                f"root: {root} holds a benchmark of other parameters ({self._difference(there)}); choose "
                f"another folder, or pass overwrite to replace it"
            )
        complete = self.has_core() and all(map(self.has_shard, range(self.plan.shards)))
        if overwrite or (not complete and there.get("libraries") != wanted["libraries"]):
            # Other versions of the libraries may draw other pixels: half a benchmark of each is neither.
            for name in _OURS:
                path = root / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            self._mark(complete=False)

    def _read_marker(self, marker: Path) -> dict[str, Any]:
        try:
            there = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError:
            there = None
        if not isinstance(there, dict):
            raise ParameterError(
                f"root: {marker} is damaged, so what {self.root} holds is unknown; remove it first"
            )
        return there

    def _difference(self, there: dict[str, Any]) -> str:
        found = there.get("parameters")
        if there.get("generator") != _VERSION or not isinstance(found, dict):
            return f"generator version {there.get('generator')}, this is version {_VERSION}"
        wanted = asdict(self.plan.parameters)
        return ", ".join(f"{k} {found.get(k)} instead of {v}" for k, v in wanted.items() if found.get(k) != v)

    def finish(self, changed: bool) -> None:
        """Write checksums and declare the benchmark complete, unless it was and nothing changed."""
        if not changed and self._read_marker(self.root / _MARKER).get("complete") is True:
            return
        write_whole(self.root / "checksums.txt", _lines(self._checksums()))
        self._mark(complete=True)

    def _checksums(self) -> Iterable[str]:
        for folder in (self.ids, self.core, self.tars):
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                if is_leftover(path.name):
                    path.unlink()
                    continue
                digest = hashlib.sha256()
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
                yield f"{digest.hexdigest()}  {path.relative_to(self.root).as_posix()}"

    # -- core images and id files --------------------------------------------------------------------------

    def has_core(self) -> bool:
        """Whether all core images and id files are there."""
        expected = [self.root / "taxonomy.json"]
        names = ("image_query_ids.txt", "text_query_ids.txt", "distractor_ids.txt.gz", "positive_ids.txt")
        expected += [self.ids / name for name in names]
        for planned in self.plan.objects:
            for id_ in (*planned.query_ids, *planned.positive_ids):
                expected += [self.core / id_, self.core / id_.replace(".jpg", "_bbox.txt")]
            expected.append(self.core / planned.text_id)
        return all(path.is_file() for path in expected)

    def write_object(self, number: int, text: str, pictures: Iterable[tuple[str, Photograph]]) -> None:
        """Write the images, boxes and description of one object."""
        planned = self.plan.objects[number]
        for part in ("query", "pos"):
            (self.core / planned.name / part).mkdir(parents=True, exist_ok=True)
        for id_, photograph in pictures:
            path = self.core / id_
            write_whole(path, photograph.jpeg)
            box = [] if photograph.box is None else [" ".join(map(str, photograph.box))]
            write_whole(path.with_name(f"{path.stem}_bbox.txt"), _lines(box))
        write_whole(self.core / planned.text_id, _lines([text]))

    def write_ids(
        self,
        queries: dict[str, float],
        positives: dict[str, tuple[float, int]],
        families: list[tuple[str, str, str]],
    ) -> None:
        """Write the four id files (ids in Python string order) and the taxonomy."""
        self.ids.mkdir(exist_ok=True)
        taxonomy = json.dumps(self.plan.taxonomy(families), indent=1) + "\n"
        write_whole(self.root / "taxonomy.json", taxonomy.encode())
        write_whole(
            self.ids / "image_query_ids.txt", _lines(f"{i},{s:.8f}" for i, s in sorted(queries.items()))
        )
        text_ids = sorted(planned.text_id for planned in self.plan.objects)
        write_whole(self.ids / "text_query_ids.txt", _lines(text_ids))
        distractors = sorted(
            f"{self.plan.shard_name(shard)}/{self.plan.key(number)}"
            for shard in range(self.plan.shards)
            for number in self.plan.shard_members(shard)
        )
        packed = gzip.compress(_lines(distractors), mtime=0)
        write_whole(self.ids / "distractor_ids.txt.gz", packed)
        rows = (f"{i},{scale:.8f},{clutter}" for i, (scale, clutter) in sorted(positives.items()))
        write_whole(self.ids / "positive_ids.txt", _lines(rows))

    # -- distractors ---------------------------------------------------------------------------------------

    def has_shard(self, shard: int) -> bool:
        """Whether a tar is there."""
        return (self.tars / self.plan.shard_name(shard)).is_file()

    def write_shard(self, shard: int, pictures: Iterable[tuple[int, Photograph]]) -> None:
        """Write one WebDataset tar; its bytes depend on the pictures alone."""
        self.tars.mkdir(exist_ok=True)
        with (
            written(self.tars / self.plan.shard_name(shard), durable=False) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for number, photograph in pictures:
                member = tarfile.TarInfo(f"{self.plan.key(number)}.jpg")
                member.size = len(photograph.jpeg)
                tar.addfile(member, io.BytesIO(photograph.jpeg))
