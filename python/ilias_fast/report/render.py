"""Writes the page: view, pictures, template, one file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from ilias_fast._extras import require
from ilias_fast._files import StrPath, written
from ilias_fast.report.data import ReportData, ReportOptions
from ilias_fast.report.explorer import Pictures
from ilias_fast.report.page import build_page
from ilias_fast.report.pairs import Pair, draw_pair
from ilias_fast.report.thumbnails import Thumbnail, make_thumbnails

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["write_report"]


def write_report(
    path: StrPath,
    data: ReportData,
    *,
    options: ReportOptions | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write a report as one HTML file that needs no network, no other file and, for tables, no JavaScript.

    Each picture is read once and embedded once. An image that cannot be read or decoded becomes a
    placeholder, counted and named on the page. The file appears under its name only when it is complete.

    Args:
        path: The file to write; replaced if it exists.
        data: What to show.
        options: How much to show; by default 10 results of at most 120 queries.
        progress: Called with (pictures done, pictures in all) after each picture.

    Returns:
        The path.

    Raises:
        MissingExtraError: jinja2 or pillow is not installed.
        StorageError: The file cannot be written.

    Examples:
        >>> ranking = Ranking(["1.jpg", "mug/pos/0.jpg"], [0.9, 0.8])
        >>> query = QueryResult("mug/query/0.jpg", ["mug/pos/0.jpg"], {"global": ranking})
        >>> method = MethodResult("global", "Global search", 50.0, 100.0, {"mug/query/0.jpg": 50.0})
        >>> path = write_report("report.html", ReportData("My photos", [method], [query], distractors=1))
        >>> "My photos" in path.read_text("utf-8")
        True
    """
    options = options or ReportOptions()
    environment = _environment()
    require("PIL.Image", "draw the pictures of a report", extra="report")
    pictures = Pictures()
    page = build_page(data, options, pictures)
    numbered = [
        (
            pictures.number(pair.query_id, 2 * options.thumbnail),
            pictures.number(pair.database_id, 2 * options.thumbnail),
        )
        for pair in data.matches
    ]
    thumbnails: dict[str, Thumbnail] = {}
    if data.image is not None:
        thumbnails = make_thumbnails(
            data.image,
            pictures.sides,
            quality=options.quality,
            max_bytes=options.image_bytes,
            progress=progress,
        )
    addresses = _addresses(data, pictures, thumbnails, Path(path))
    script = _resource("explorer.js") + _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    html = environment.get_template("report.html.j2").render(
        page=page,
        pairs=_pairs(data, options, thumbnails, numbered),
        with_pictures=data.image is not None,
        content=_script_json(
            {
                **page.queries_json,
                "ids": list(pictures.numbers),
                "pairs": _pairs_of(data),
                "boxes": _boxes(data, pictures, thumbnails),
            }
        ),
        images=_script_json(addresses),
        linked_pictures=any(address.startswith("./") for address in addresses),
        problems=[
            (id_, thumbnail.problem) for id_, thumbnail in thumbnails.items() if thumbnail.jpeg is None
        ],
        pictures=len(thumbnails),
        style=_resource("report.css"),
        script=script,
        script_digest=digest,
    )
    with written(Path(path)) as file:
        # Ids read from a file system may hold bytes that are not UTF-8, as lone surrogates.
        file.write(html.encode("utf-8", errors="xmlcharrefreplace"))
    return Path(path)


def _script_json(value: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _addresses(
    data: ReportData, pictures: Pictures, thumbnails: dict[str, Thumbnail], page: Path
) -> list[str]:
    """Return where each picture is: in the page, in a file beside it, or "" nowhere."""
    if data.image is None:
        return []
    folder = page.absolute().parent
    found = []
    for id_ in pictures.numbers:
        address = thumbnails[id_].data_uri if id_ in thumbnails else ""
        if not address and id_ not in thumbnails and data.file is not None:
            file = data.file(id_)
            if file is not None:
                try:
                    relative = os.path.relpath(file.absolute(), folder).replace(os.sep, "/")
                    address = "./" + quote(os.fsencode(relative))
                except ValueError:  # another drive: no relative path leads there
                    address = ""
        found.append(address)
    return found


def _boxes(
    data: ReportData, pictures: Pictures, thumbnails: dict[str, Thumbnail]
) -> dict[int, list[list[float]]]:
    """Return the boxes of the pictures of queries and positives, in thousandths of width and height.

    Of a picture that is only linked the size is not known here: its boxes are in pixels, and negative numbers
    of pictures say so.
    """
    if data.boxes is None:
        return {}
    found: dict[int, list[list[float]]] = {}
    wanted = dict.fromkeys(query.id for query in data.queries if query.text is None)
    wanted.update(dict.fromkeys(id_ for query in data.queries for id_ in query.positives))
    for id_ in wanted:
        number = pictures.numbers.get(id_)
        if number is None:
            continue
        boxes = np.asarray(data.boxes(id_), np.float64).reshape(-1, 4)
        thumbnail = thumbnails.get(id_)
        if not len(boxes) or (thumbnail is not None and thumbnail.jpeg is None):
            continue
        if thumbnail is None:
            found[-1 - number] = boxes.tolist()
        else:
            width, height = thumbnail.original
            found[number] = (1000 * boxes / (width, height, width, height)).round(1).tolist()
    return found


def _pairs_of(data: ReportData) -> dict[int, list[int]]:
    """Return the numbers of the pairs drawn of each query."""
    number = {query.id: q for q, query in enumerate(data.queries)}
    found: dict[int, list[int]] = {}
    for position, pair in enumerate(data.matches):
        found.setdefault(number[pair.query_id], []).append(position)
    return found


def _pairs(
    data: ReportData,
    options: ReportOptions,
    thumbnails: dict[str, Thumbnail],
    numbered: list[tuple[int, int]],
) -> list[Pair]:
    labels = {method.name: method.label for method in data.methods}
    queries = {query.id: (q, frozenset(query.positives)) for q, query in enumerate(data.queries)}
    unknown = Thumbnail(None, (4, 3))
    return [
        draw_pair(
            pair,
            number=number,
            query_number=queries[pair.query_id][0],
            method=labels[pair.method],
            positive=pair.database_id in queries[pair.query_id][1],
            images=images,
            sizes=(
                thumbnails.get(pair.query_id, unknown).size,
                thumbnails.get(pair.database_id, unknown).size,
            ),
            max_lines=options.lines,
        )
        for number, (pair, images) in enumerate(zip(data.matches, numbered, strict=True))
    ]


def _resource(name: str) -> str:
    return files("ilias_fast.report").joinpath("templates", name).read_text(encoding="utf-8")


def _environment() -> Environment:
    """Return a Jinja environment that escapes everything and refuses undefined names."""
    jinja2 = require("jinja2", "write a report")
    environment: Environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1f}"
    environment.filters["signed"] = _signed
    environment.filters["at"] = lambda value: f"{value:.1f}".removesuffix(".0")
    return environment


def _signed(value: float | None) -> str:
    """Format a difference with a sign (a true minus), one decimal; no sign on what rounds to zero."""
    if value is None:
        return "–"
    rounded = round(value, 1)
    if rounded == 0:
        return "0.0"
    return f"+{rounded:.1f}" if rounded > 0 else f"−{-rounded:.1f}"
