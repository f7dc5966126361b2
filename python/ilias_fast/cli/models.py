"""`ilias-fast models`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ilias_fast.cli._console import out, plain

if TYPE_CHECKING:
    from ilias_fast.evaluate import PublishedRow
    from ilias_fast.extract import Model

__all__ = ["models"]

_MARKS = {
    "ok": "",
    "restored": "r",
    "partly unreadable": "p",
    "unreadable": "u",
    "doubtful": "d",
    "secondary source": "s",
}


def models(
    name: Annotated[
        str | None, typer.Argument(help="Explain this model; a part of a name lists those that have it.")
    ] = None,
    framework: Annotated[
        str | None,
        typer.Option(
            help="Only of this framework: `timm`, `och`, `tv`, `fb`, `cvn`, `unicom`, `unc`, `hier`."
        ),
    ] = None,
    text: Annotated[
        bool | None, typer.Option("--text/--no-text", help="Only those with a text tower, or without.")
    ] = None,
    public: Annotated[
        bool | None,
        typer.Option("--public/--not-public", help="Only those whose weights can be downloaded, or cannot."),
    ] = None,
    sort: Annotated[
        bool, typer.Option("--sort", help="By the published mAP@1k on 100 million images, best first.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a model.")] = False,
) -> None:
    """List the models of the benchmark with their settings and published mAP@1k, or explain one.

    Any other model of timm, open_clip or torchvision works by its own configuration (`extract --model`).
    """
    from ilias_fast.extract import find_model
    from ilias_fast.extract import models as registry

    published = _published()
    everything = registry()
    if name is not None and name in {row.name for row in everything} and not as_json:
        _explain(find_model(name), published.get(name, []))
        return
    rows = [
        row
        for row in registry(framework=framework, text=text, public=public, word=name or "")
        if name is None or row.name == name or name not in {other.name for other in everything}
    ]
    if name is not None and not rows:
        find_model(name)  # says which are near
    if sort:
        rows.sort(key=lambda row: -(_images(published.get(row.name, [])).get("map_100m") or -1.0))
    if as_json:
        found = [
            {**asdict(row), "published": [asdict(one) for one in published.get(row.name, [])]} for row in rows
        ]
        out.print_json(json.dumps(found))
        return
    _list(rows, published)


def _published() -> dict[str, list[PublishedRow]]:
    from ilias_fast.evaluate import leaderboard

    found: dict[str, list[PublishedRow]] = {}
    for row in leaderboard():
        found.setdefault(row.registry_name, []).append(row)
    return found


def _images(rows: list[PublishedRow]) -> dict[str, Any]:
    return next((vars(row) for row in rows if row.task == "i2i"), {})


def _number(value: float | None) -> str:
    """Return a published number; what is not known is a dash, never a zero."""
    return "–" if value is None else f"{value:.1f}"


def _list(rows: list[Model], published: dict[str, list[PublishedRow]]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    for title in ("of", "px", "dim", ""):
        table.add_column(title, no_wrap=True)
    for title in ("5M", "100M", "5M†", "100M†"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        numbers = _images(published.get(row.name, []))
        table.add_row(
            plain(row.name),
            row.framework,
            f"{row.train_size or '?'}→{row.test_size}",
            str(row.dims),
            ("T" if row.text else "") + ("" if row.needs_checkpoint is None else "F"),
            *(
                _number(numbers.get(key))
                for key in ("map_5m", "map_100m", "map_5m_adapted", "map_100m_adapted")
            ),
            _MARKS.get(numbers.get("quality", ""), "?") if numbers else "",
        )
    out.print(table)
    out.print(
        f"{len(rows)} models. T: has a text tower. F: give the weights as a file. px: trained at → extracted "
        "at. Published mAP@1k of image queries with 5M and 100M distractors, † after linear adaptation; – "
        "unknown; r restored, p partly unreadable, u unreadable, d doubtful, s secondary source."
    )


def _explain(row: Model, published: list[PublishedRow]) -> None:
    from ilias_fast.extract.registry import FRAMEWORKS

    out.print(f"[bold]{plain(row.name)}[/]  {plain(row.display)} ({row.year})")
    dims = str(row.dims)
    if row.dims_paper not in (None, row.dims):
        dims += f" (the paper says {row.dims_paper})"
    lines = {
        "framework": FRAMEWORKS[row.framework],
        "architecture": row.arch,
        "training": " ".join(
            part for part in (row.train, "on", row.train_data, f"({row.data_size})") if row.train_data
        )
        or row.train,
        "trained at": "unknown" if row.train_size is None else f"{row.train_size} px",
        "extracted at": f"{row.test_size} px, longer side; sides padded to a multiple of {row.pad_multiple}"
        if row.pad_multiple > 1
        else f"{row.test_size} px, longer side",
        "descriptor": f"{dims} numbers, pooling {row.pooling}",
        "normalisation": row.norm_stats,
        "weights": "downloaded when first used"
        if row.needs_checkpoint is None
        else f"give a file (--weights PATH): {row.needs_checkpoint}",
        "text queries": f"{row.text_model} {row.text_pretrained}".strip()
        if row.text_model
        else "no text tower",
        "published code": row.loads_with_published_code,
        "note": row.note,
    }
    for title, value in lines.items():
        if value:
            out.print(f"  {title:<15} {plain(value)}", soft_wrap=True)
    for one in published:
        task = "image queries" if one.task == "i2i" else "text queries"
        numbers = ", ".join(
            f"{label} {_number(value)}"
            for label, value in (
                ("5M", one.map_5m),
                ("100M", one.map_100m),
                ("5M†", one.map_5m_adapted),
                ("100M†", one.map_100m_adapted),
            )
            if value is not None
        )
        flag = "" if one.quality == "ok" else f"; {one.quality}"
        note = f" ({one.note})" if one.note else ""
        text = f"mAP@1k, {task}: {numbers or 'not readable'} - {one.source}{flag}{note}"
        out.print(f"  {plain(text)}", soft_wrap=True)
