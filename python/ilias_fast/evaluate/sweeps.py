"""mAP against a setting: what the sweeps of the paper's figures are kept in, printed and drawn from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ilias_fast._files import StrPath, read_bytes, written
from ilias_fast.errors import FileFormatError, ParameterError

__all__ = ["Sweep", "SweepSeries"]


@dataclass(frozen=True)
class SweepSeries:
    """mAP at a few values of a setting; in percent.

    Attributes:
        label: What differs from the other series.
        x: Values of the setting, ascending.
        maps: mAP at each.
        spread: Standard deviation at each; empty where nothing was repeated.
        bytes_per_image: Memory of an image's descriptors at each; empty if it does not matter.

    Examples:
        >>> series = SweepSeries("PCA", (64, 128), (40.0, 45.0), bytes_per_image=(128, 256))
        >>> series.maps[-1] - series.maps[0]
        5.0
    """

    label: str
    x: tuple[float, ...]
    maps: tuple[float, ...]
    spread: tuple[float, ...] = ()
    bytes_per_image: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("maps", "spread", "bytes_per_image"):
            values = getattr(self, name)
            if len(values) != len(self.x) and (values or name == "maps"):
                raise ParameterError(
                    f"series {self.label!r}: expected {len(self.x)} {name}, one a point, found {len(values)}"
                )
        numbers = (*self.x, *self.maps, *self.spread, *self.bytes_per_image)
        if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
            raise ParameterError(f"series {self.label!r}: expected finite numbers, found {numbers}")
        if any(a >= b for a, b in zip(self.x, self.x[1:], strict=False)):
            raise ParameterError(f"series {self.label!r}: expected ascending x, found {list(self.x)}")


@dataclass(frozen=True)
class Sweep:
    """mAP@k against a setting, in one or more series.

    Attributes:
        title: What was varied.
        x_label: The setting.
        k: The cut.
        series: The curves, at least one.
        log: Whether the setting is best drawn on a logarithmic axis.
        note: How it was measured.

    Examples:
        >>> sweep = Sweep("Dimensions", "dimension", 1000, (SweepSeries("PCA", (64, 128), (40.0, 45.0)),))
        >>> sweep.save("sweep.json")
        >>> Sweep.load("sweep.json") == sweep, sweep.header()
        (True, ['', 'dimension', 'mAP@1k', 'std', 'bytes an image'])
    """

    title: str
    x_label: str
    k: int
    series: tuple[SweepSeries, ...]
    log: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if not self.series:
            raise ParameterError(f"sweep {self.title!r}: expected at least one series, found none")

    @property
    def metric(self) -> str:
        """What was measured, as the field writes it: mAP@1k."""
        return f"mAP@{self.k // 1000}k" if self.k % 1000 == 0 else f"mAP@{self.k}"

    def rows(self) -> list[tuple[str, float, float, float | None, float | None]]:
        """Return (series, x, mAP, spread, bytes an image) of every point."""
        return [
            (
                one.label,
                x,
                one.maps[at],
                one.spread[at] if one.spread else None,
                one.bytes_per_image[at] if one.bytes_per_image else None,
            )
            for one in self.series
            for at, x in enumerate(one.x)
        ]

    def header(self) -> list[str]:
        """Return the titles of the columns of `rows`."""
        return ["", self.x_label, self.metric, "std", "bytes an image"]

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        return {"kind": "sweep", "unit": "percent", **asdict(self)}

    def save(self, path: StrPath) -> None:
        """Write it as JSON, atomically.

        Args:
            path: The file.

        Raises:
            StorageError: The file cannot be written.
        """
        with written(Path(path)) as file:
            file.write((json.dumps(self.to_dict(), indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: StrPath) -> Sweep:
        """Read what `save` wrote.

        Args:
            path: The file.

        Raises:
            FileFormatError: It is damaged, or something else.
            StorageError: It cannot be read.
        """
        path = Path(path)
        try:
            content = json.loads(read_bytes(path))
            if not isinstance(content, dict) or content.get("kind") != "sweep":
                raise ValueError("expected an object of kind 'sweep'")
            return cls(
                str(content["title"]),
                str(content["x_label"]),
                int(content["k"]),
                tuple(_series(one) for one in content["series"]),
                bool(content.get("log", False)),
                str(content.get("note", "")),
            )
        except (ValueError, KeyError, TypeError, RecursionError, ParameterError) as cause:
            raise FileFormatError(f"{path}: not a sweep: {cause}") from cause

    def _repr_html_(self) -> str:
        from ilias_fast._html import table

        return table(self.title, self.header(), self.rows(), self.note)


def _series(content: Mapping[str, Any]) -> SweepSeries:
    def numbers(name: str) -> Sequence[float]:
        return tuple(content.get(name, ()))

    return SweepSeries(
        str(content["label"]),
        tuple(content["x"]),
        tuple(content["maps"]),
        tuple(numbers("spread")),
        tuple(numbers("bytes_per_image")),
    )
