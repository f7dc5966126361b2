"""The published numbers, with how far each can be trusted."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from ilias_fast import _arrays

__all__ = ["PublishedRow", "leaderboard"]


@dataclass(frozen=True)
class PublishedRow:
    """One published model; mAP@1k in percent, None where nothing was published or it cannot be read.

    Attributes:
        task: "i2i" (image queries) or "t2i" (text queries).
        model: The checkpoint.
        registry_name: Its name in the benchmark's registry.
        year: Of the model.
        map_5m: On mini-ILIAS (5 million distractors).
        map_100m: On ILIAS.
        map_5m_adapted: With the linear adaptation layer, on mini-ILIAS.
        map_100m_adapted: With the layer, on ILIAS.
        source: Where the numbers were published.
        quality: "ok", or why to be careful: "restored", "partly unreadable", "doubtful", "secondary
            source", ...
        note: What was restored or is doubtful.

    Examples:
        >>> row = leaderboard("i2i")[0]
        >>> row.task, row.model != "", row.map_5m is None or 0 <= row.map_5m <= 100
        ('i2i', True, True)
    """

    task: str
    model: str
    registry_name: str
    year: int | None
    map_5m: float | None
    map_100m: float | None
    map_5m_adapted: float | None
    map_100m_adapted: float | None
    source: str
    quality: str
    note: str


def leaderboard(task: Literal["i2i", "t2i"] | None = None) -> tuple[PublishedRow, ...]:
    """Return the published leaderboard.

    Args:
        task: Only image queries ("i2i") or text queries ("t2i"); None for both.

    Raises:
        ParameterError: There is no such task.

    Examples:
        >>> rows = leaderboard("t2i")
        >>> {row.task for row in rows}, len(rows) > 5
        ({'t2i'}, True)
    """
    if task is not None:
        _arrays.choice("task", task, ("i2i", "t2i"))
    return tuple(row for row in _rows() if task is None or row.task == task)


@cache
def _rows() -> tuple[PublishedRow, ...]:
    text = files("ilias_fast.evaluate").joinpath("leaderboard.csv").read_text("utf-8")
    return tuple(
        PublishedRow(
            row["task"],
            row["checkpoint"],
            row["registry_name"],
            int(row["year"]) if row["year"] else None,
            _percent(row["map1k_5M"]),
            _percent(row["map1k_100M"]),
            _percent(row["map1k_5M_adapted"]),
            _percent(row["map1k_100M_adapted"]),
            row["source"],
            row["quality"],
            row["note"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def _percent(text: str) -> float | None:
    """Return a published value; a blank is nothing, not zero."""
    return float(text) if text else None
