"""Writes the page: view, pictures, template, one file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ilias_fast._extras import require
from ilias_fast._files import StrPath, written
from ilias_fast.report.data import ReportData, ReportOptions
from ilias_fast.report.page import build_page
from ilias_fast.report.pairs import Pair, draw_pair
from ilias_fast.report.strips import Pictures
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
    script = _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    html = environment.get_template("report.html.j2").render(
        page=page,
        pairs=_pairs(data, options, thumbnails, numbered),
        with_pictures=data.image is not None,
        images=json.dumps(
            [thumbnails[id_].data_uri for id_ in pictures.sides if thumbnails], separators=(",", ":")
        ),
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
