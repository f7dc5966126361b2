"""The published leaderboard with the report's own rows in it, each marked by its source."""

from __future__ import annotations

from dataclasses import dataclass

from ilias_fast.report.data import ReportData

__all__ = ["Standing", "standings"]

_MINI, _FULL = (4_500_000, 5_500_000), (90_000_000, 110_000_000)


@dataclass(frozen=True)
class Standing:
    """A row of the leaderboard; a value is percent, None where nothing was published or measured.

    Attributes:
        method: Number of the report's own method; None for a published row.
        label: The model.
        year: Of the model.
        here: mAP in this report, where its database is neither mini-ILIAS nor ILIAS by its size.
        mini: mAP with 5 million distractors, plain and with the linear adaptation layer.
        full: The same with 100 million.
        task: "image" or "text".
        source: Where the number comes from.
        quality: "" or why to be careful.
    """

    method: int | None
    label: str
    year: int | None
    here: float | None
    mini: tuple[float | None, float | None]
    full: tuple[float | None, float | None]
    task: str
    source: str
    quality: str


def standings(data: ReportData) -> list[Standing]:
    """Return the report's rows, then the published ones, the best first; none if nothing was published."""
    if not data.published:
        return []
    is_mini, is_full = (low <= data.distractors <= high for low, high in (_MINI, _FULL))
    task = "text" if data.queries and all(query.text is not None for query in data.queries) else "image"
    own = [
        Standing(
            number,
            method.label,
            None,
            None if is_mini or is_full else method.map,
            (method.map if is_mini else None, None),
            (method.map if is_full else None, None),
            task,
            "this report",
            "",
        )
        for number, method in enumerate(data.methods)
    ]
    published = [
        Standing(
            None,
            row.model,
            row.year,
            None,
            (row.map_5m, row.map_5m_adapted),
            (row.map_100m, row.map_100m_adapted),
            "image" if row.task == "i2i" else "text",
            row.source,
            "" if row.quality == "ok" else row.quality,
        )
        for row in data.published
    ]

    def best(row: Standing) -> float:
        return -max((value for value in (*row.full, *row.mini) if value is not None), default=0.0)

    return own + sorted(published, key=best)
