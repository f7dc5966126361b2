"""Ground truth of the other benchmarks, from the files their authors published.

Nothing in them is executed.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ilias_fast._files import StrPath, read_bytes, read_lines, storage_error
from ilias_fast.datasets.matlab import mat_content
from ilias_fast.errors import DatasetError, FileFormatError, IliasFastError
from ilias_fast.run import unpickle

__all__ = [
    "GroundTruth",
    "Labels",
    "load_gldv2",
    "load_gnd",
    "load_holidays",
    "load_names",
    "load_oxford_text",
    "load_sop",
    "load_ukbench",
]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Labels:
    """What is known of one query.

    Attributes:
        query: Its id.
        positives: By difficulty: "ok", or "easy" and "hard".
        junk: Ids that count neither way: they are taken out of the ranking.
        box: (x1, y1, x2, y2), in pixels, the part of the image that is the query; None for all of it.
        public: False for a query whose ground truth was kept back for the final ranking (GLDv2).

    Examples:
        >>> query = Labels("0.jpg", {"easy": frozenset({"1.jpg"}), "hard": frozenset({"2.jpg"})})
        >>> sorted(query.positives["hard"]), query.junk, query.public
        (['2.jpg'], frozenset(), True)
    """

    query: str
    positives: Mapping[str, frozenset[str]]
    junk: frozenset[str] = frozenset()
    box: Box | None = None
    public: bool = True

    @property
    def relevant(self) -> frozenset[str]:
        """All positives, whatever their difficulty."""
        return frozenset().union(*self.positives.values())


@dataclass(frozen=True, repr=False)
class GroundTruth:
    """A benchmark of ranked lists against labels.

    An id of a run is known by the name used here, or by its last part without extension
    ("jpg/all_souls_1.jpg" for "all_souls_1"): both spellings are common. Any other id is a distractor, so
    that distractor sets such as R1M need no list.

    Attributes:
        name: A short name.
        queries: The queries, in the file's order.
        database: Names of the database images, in the file's order; empty where the file has no list.

    Raises:
        DatasetError: A query is listed twice, or there is none.

    Examples:
        >>> query = Labels("0.jpg", {"ok": frozenset({"1.jpg", "2.jpg"})}, junk=frozenset({"0.jpg"}))
        >>> truth = GroundTruth("mine", (query,))
        >>> len(truth.queries), truth.public() == truth
        (1, True)
    """

    name: str
    queries: tuple[Labels, ...]
    database: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.queries:
            raise DatasetError(f"{self.name}: the ground truth has no queries")
        if len(self.position) < len(self.queries):
            seen: set[str] = set()
            twice = next(q.query for q in self.queries if q.query in seen or seen.add(q.query))  # type: ignore[func-returns-value]
            raise DatasetError(f"{self.name}: query {twice!r} is listed twice")

    def __repr__(self) -> str:
        return f"GroundTruth({self.name!r}: {len(self.queries)} queries, {len(self.database)} images)"

    @cached_property
    def position(self) -> Mapping[str, int]:
        """Query id -> position."""
        return {labels.query: position for position, labels in enumerate(self.queries)}

    @cached_property
    def known(self) -> frozenset[str]:
        """Every database id that the labels or the list of the database name."""
        return frozenset(self.database).union(*(q.relevant | q.junk for q in self.queries))

    def public(self) -> GroundTruth:
        """Return the ground truth without the queries that were kept back."""
        return GroundTruth(self.name, tuple(q for q in self.queries if q.public), self.database)


def load_gnd(path: StrPath, *, name: str | None = None) -> GroundTruth:
    """Read `gnd_<dataset>.pkl` of revisitop (ROxford5k, RParis6k, Oxford5k, Paris6k), or INSTRE's `.mat`.

    `imlist`, `qimlist`, and `gnd`: for each query the index lists `easy`, `hard`, `junk`, or `ok` and
    `junk` (Oxford5k, Paris6k, INSTRE), and `bbx` = [x1, y1, x2, y2]. JSON of the same layout is read as well,
    and MATLAB files, whose indices start at 1 (extra `[mat]`).

    Args:
        path: The pickle, a `.mat`, or a `.json`.
        name: What to call it; None for the file's name without "gnd_".

    Raises:
        FileFormatError: The file is damaged or not of this layout, or the pickle holds anything but
            containers, text, numbers and arrays.
        StorageError: It cannot be read.

    Examples:
        >>> import json
        >>> from pathlib import Path
        >>> one = {"easy": [0], "hard": [2], "junk": [1], "bbx": [0, 0, 50, 50]}
        >>> content = {"imlist": ["a", "b", "c"], "qimlist": ["q"], "gnd": [one]}
        >>> _ = Path("gnd_mine.json").write_text(json.dumps(content))
        >>> truth = load_gnd("gnd_mine.json")
        >>> truth.name, truth.database, truth.queries[0].positives["easy"]
        ('mine', ('a', 'b', 'c'), frozenset({'a'}))
    """
    path = Path(path)
    content = _content(path)
    database = _names(path, content, "imlist")
    query_ids = _names(path, content, "qimlist")
    gnd = content.get("gnd")
    if not isinstance(gnd, (list, tuple)) or len(gnd) != len(query_ids):
        raise FileFormatError(f"{path}: gnd: expected a list of {len(query_ids)} entries, one a query")
    queries = []
    for number, (query, entry) in enumerate(zip(query_ids, gnd, strict=True)):
        where = f"{path}: gnd[{number}] ({query})"
        if not isinstance(entry, dict) or not ({"easy", "hard"} <= entry.keys() or "ok" in entry):
            raise FileFormatError(f"{where}: expected 'easy', 'hard', 'junk', or 'ok' and 'junk'")
        kinds = ("ok",) if "ok" in entry else ("easy", "hard")
        sets = {kind: _images(where, kind, entry[kind], database) for kind in kinds}
        junk = _images(where, "junk", entry.get("junk", ()), database)
        queries.append(Labels(query, sets, junk, _box(where, entry.get("bbx"))))
    return GroundTruth(name or path.stem.removeprefix("gnd_"), tuple(queries), database)


def load_gldv2(path: StrPath, *, private: int = 750) -> GroundTruth:
    r"""Read the retrieval ground truth of Google Landmarks v2.

    Args:
        path: `retrieval_solution_v2.1.csv` (columns id, images, Usage), or the AMES pickle
            `gnd_gldv2-test.pkl` (index lists `ok`; ids are then the positions "0", "1", ... unless it has
            `imlist` and `qimlist`).
        private: Of a pickle, the number of queries at the end that are private; the csv says it itself.

    Raises:
        FileFormatError: The file is damaged or not of this layout.
        StorageError: It cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> content = "id,images,Usage\nq1,a b,Public\nq2,None,Ignored\nq3,c,Private\n"
        >>> _ = Path("retrieval_solution_v2.1.csv").write_text(content)
        >>> truth = load_gldv2("retrieval_solution_v2.1.csv")
        >>> [(query.query, sorted(query.positives["ok"]), query.public) for query in truth.queries]
        [('q1', ['a', 'b'], True), ('q3', ['c'], False)]
    """
    path = Path(path)
    if path.suffix != ".csv":
        content = _content(path)
        gnd = content.get("gnd")
        if not isinstance(gnd, (list, tuple)):
            raise FileFormatError(f"{path}: gnd: expected a list, one entry a query")
        database = _names(path, content, "imlist") if "imlist" in content else None
        names = _names(path, content, "qimlist") if "qimlist" in content else tuple(map(str, range(len(gnd))))
        queries = []
        for number, entry in enumerate(gnd):
            where = f"{path}: gnd[{number}]"
            if not isinstance(entry, dict) or "ok" not in entry:
                raise FileFormatError(f"{where}: expected a dictionary with 'ok'")
            sets = {"ok": _images(where, "ok", entry["ok"], database)}
            junk = _images(where, "junk", entry.get("junk", ()), database)
            queries.append(Labels(names[number], sets, junk, public=number < len(gnd) - private))
        return GroundTruth("gldv2", tuple(queries), database or ())
    rows = list(csv.DictReader(read_lines(path)))
    if not rows or not {"id", "images"} <= rows[0].keys():
        raise FileFormatError(f"{path}: expected the columns id, images, Usage")
    return GroundTruth(
        "gldv2",
        tuple(
            Labels(
                row["id"],
                {"ok": frozenset((row["images"] or "").replace("None", "").split())},
                public=row.get("Usage") != "Private",
            )
            for row in rows
            if row.get("Usage") != "Ignored"
        ),
    )


def load_oxford_text(folder: StrPath, *, name: str = "oxford5k") -> GroundTruth:
    """Read the original ground truth of Oxford Buildings or Paris: `<query>_{query,good,ok,junk}.txt`.

    Good and ok images are positives. The first word of the query file is the image, with "oxc1_" before it.

    Args:
        folder: The folder of the text files.
        name: What to call it.

    Raises:
        FileFormatError: A file is missing or malformed.
        StorageError: A file cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> parts = {"query": "oxc1_tower 1 2 30 40", "good": "a", "ok": "b", "junk": "c"}
        >>> for part, content in parts.items():
        ...     _ = Path(f"tower_1_{part}.txt").write_text(content)
        >>> query = load_oxford_text(".").queries[0]
        >>> query.query, sorted(query.positives["ok"]), sorted(query.junk)
        ('tower_1', ['a', 'b'], ['c'])
    """
    folder = Path(folder)
    queries = []
    try:
        files = sorted(folder.glob("*_query.txt"))
    except OSError as cause:
        raise storage_error(cause, folder, "list") from cause
    for file in files:
        stem = file.name.removesuffix("_query.txt")
        words = " ".join(read_lines(file)).split()
        try:
            x1, y1, x2, y2 = map(float, words[1:5])
        except ValueError as cause:
            raise FileFormatError(f"{file}: expected 'image x1 y1 x2 y2', found {words}") from cause
        sets = {
            kind: frozenset(
                line.strip() for line in read_lines(folder / f"{stem}_{kind}.txt") if line.strip()
            )
            for kind in ("good", "ok", "junk")
        }
        queries.append(Labels(stem, {"ok": sets["good"] | sets["ok"]}, sets["junk"], (x1, y1, x2, y2)))
    return GroundTruth(name, tuple(queries))


def load_sop(path: StrPath) -> GroundTruth:
    r"""Read `Ebay_test.txt` of Stanford Online Products: every image is a query against the others.

    Args:
        path: The file; its columns are image_id class_id super_class_id path, with a header.

    Raises:
        FileFormatError: A line is malformed; names it.
        StorageError: The file cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> lines = ["image_id class_id super_class_id path", "1 7 1 a/1.jpg", "2 7 1 a/2.jpg"]
        >>> _ = Path("Ebay_test.txt").write_text("\n".join(lines))
        >>> [(query.query, sorted(query.positives["ok"])) for query in load_sop("Ebay_test.txt").queries]
        [('a/1.jpg', ['a/2.jpg']), ('a/2.jpg', ['a/1.jpg'])]
    """
    path = Path(path)
    classes: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if number == 1 and words[:1] == ["image_id"]:
            continue
        if len(words) != 4:
            raise FileFormatError(f"{path}:{number}: expected 'image_id class_id super_class_id path'")
        classes[words[1]].append(words[3])
    return _all_against_all("sop", classes.values())


def load_ukbench(names: Iterable[str]) -> GroundTruth:
    """Return the ground truth of UKBench.

    Its images are `ukbench00000.jpg` to `ukbench10199.jpg`, four of each object in a row.

    Args:
        names: The image names; the number in each says its object.

    Raises:
        DatasetError: A name holds no number.

    Examples:
        >>> truth = load_ukbench([f"ukbench{number:05d}.jpg" for number in range(8)])
        >>> len(truth.queries), sorted(truth.queries[5].positives["ok"])[:2]
        (8, ['ukbench00004.jpg', 'ukbench00005.jpg'])
    """
    groups: dict[int, list[str]] = defaultdict(list)
    for name in names:
        groups[_number("ukbench", name) // 4].append(name)
    return _all_against_all("ukbench", groups.values(), itself=True)


def load_holidays(names: Iterable[str]) -> GroundTruth:
    """Return the ground truth of INRIA Holidays from its image names: `100000.jpg` asks for `100001.jpg`, ...

    Args:
        names: The image names; the number without its last two digits says the group, "00" is the query.

    Raises:
        DatasetError: A name holds no number.

    Examples:
        >>> truth = load_holidays(["100000.jpg", "100001.jpg", "100100.jpg", "100101.jpg"])
        >>> [(query.query, sorted(query.positives["ok"])) for query in truth.queries]
        [('100000.jpg', ['100001.jpg']), ('100100.jpg', ['100101.jpg'])]
    """
    groups: dict[int, list[tuple[int, str]]] = defaultdict(list)
    database = list(names)
    for name in database:
        group, within = divmod(_number("holidays", name), 100)
        groups[group].append((within, name))
    queries = []
    for members in groups.values():
        (within, query), *others = sorted(members)
        if within == 0 and others:
            queries.append(Labels(query, {"ok": frozenset(name for _, name in others)}, frozenset([query])))
    return GroundTruth("holidays", tuple(queries), tuple(database))


def load_names(path: StrPath) -> tuple[str, ...]:
    r"""Read a list of images, a line each, such as `revisitop1m.txt`.

    Args:
        path: The file.

    Raises:
        FileFormatError: It is not UTF-8.
        StorageError: It cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("names.txt").write_text("a.jpg\nb.jpg\n")
        >>> load_names("names.txt")
        ('a.jpg', 'b.jpg')
    """
    return tuple(line.strip() for line in read_lines(Path(path)) if line.strip())


def _all_against_all(name: str, groups: Iterable[Sequence[str]], itself: bool = False) -> GroundTruth:
    queries: list[Labels] = []
    database: list[str] = []
    for group in groups:
        for query in group:
            others = frozenset(group) if itself else frozenset(group) - {query}
            queries.append(Labels(query, {"ok": others}, frozenset() if itself else frozenset([query])))
        database += group
    return GroundTruth(name, tuple(queries), tuple(database))


def _number(dataset: str, name: str) -> int:
    found = re.search(r"(\d+)(?:\.\w+)?$", name)
    if found is None:
        raise DatasetError(f"{dataset}: expected a name that ends in a number, found {name!r}")
    return int(found.group(1))


def _content(path: Path) -> dict[str, Any]:
    if path.suffix == ".mat":
        return mat_content(path)
    data = read_bytes(path)
    if path.suffix == ".json":
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as cause:
            raise FileFormatError(f"{path}: not a JSON file: {cause}") from cause
    else:
        content = unpickle(data, path)
    if not isinstance(content, dict):
        raise FileFormatError(f"{path}: expected a dictionary with 'gnd', found {type(content).__name__}")
    return content


def _list(value: object) -> list[Any] | None:
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, (list, tuple)) else None


def _names(path: Path, content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = _list(content.get(key))
    if names is None or not all(isinstance(name, str) for name in names):
        raise FileFormatError(f"{path}: {key}: expected a list of image names")
    return tuple(names)


def _images(where: str, kind: str, value: object, database: Sequence[str] | None) -> frozenset[str]:
    rows = _list(value)
    if rows is None:
        raise FileFormatError(f"{where}: {kind}: expected a list of indices")
    most = float("inf") if database is None else len(database)
    for row in rows:
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < most:
            raise FileFormatError(f"{where}: {kind}: expected indices below {most}, found {row!r}")
    if len(set(rows)) < len(rows):
        raise FileFormatError(f"{where}: {kind}: an image is listed twice")
    return frozenset(str(row) if database is None else database[row] for row in rows)


def _box(where: str, value: object) -> Box | None:
    if value is None:
        return None
    numbers = _list(value) or []
    try:
        x1, y1, x2, y2 = map(float, numbers)
    except (TypeError, ValueError, IliasFastError) as cause:
        raise FileFormatError(f"{where}: bbx: expected [x1, y1, x2, y2], found {value!r}") from cause
    return x1, y1, x2, y2
