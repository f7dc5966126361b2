"""What the tests of the report share: sample data, and a strict reader of the page."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast.report import GroupScore, MatchedPair, MethodResult, QueryResult, Ranking, ReportData

Image = pytest.importorskip("PIL.Image", reason="needs the extra [report]")
pytest.importorskip("jinja2", reason="needs the extra [report]")

HOSTILE = "<script>document.documentElement.dataset.owned=1</script>\"'&amp;<img src=x onerror=alert(1)>.jpg"
VOID = {"meta", "img", "br", "input", "link", "hr"}


def picture(id_: str, size: tuple[int, int] = (320, 240)) -> bytes:
    """A JPEG of coloured noise blocks, different for each id, as incompressible as a photo."""
    rng = np.random.default_rng(list(id_.encode()))
    blocks = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def make_data(
    rng: np.random.Generator, queries: int = 6, methods: int = 3, depth: int = 40, pool: int = 160
) -> ReportData:
    names = ["global", "aqe1", "cs", "sp", "m4", "m5", "m6", "m7", "m8", "m9"][:methods]
    results = []
    aps: dict[str, dict[str, float]] = {name: {} for name in names}
    for q in range(queries):
        id_ = f"object_{q:03d}/query/Q{q:03d}.jpg"
        positives = [f"object_{q:03d}/pos/P{j}.jpg" for j in range(3)]
        candidates = positives + [f"distractors/D{i:04d}.jpg" for i in rng.permutation(pool)[: depth - 3]]
        rankings = {}
        for name in names:
            order = rng.permutation(depth)
            rankings[name] = Ranking([candidates[i] for i in order], np.linspace(1, 0, depth))
            aps[name][id_] = float(rng.uniform(0, 100))
        groups = {"scale": ["small"] if q % 3 else ["small", "large"]}
        kinds = ["toy", "art"][q % 2], ["car", "mural"][q % 2]
        results.append(QueryResult(id_, positives, rankings, *kinds, groups=groups))
    rows = [
        MethodResult(
            name,
            f"Method {name}",
            float(np.mean(list(aps[name].values()))),
            95.0,
            aps[name],
            {"scale": [GroupScore("small", 20.0 + m, 4), GroupScore("large", None, 0)]},
            [GroupScore("art", 40.0 + m, 3), GroupScore("toy", 50.0 + m, 3)],
            [GroupScore("art-mural", 40.0 + m, 3)],
        )
        for m, name in enumerate(names)
    ]
    xy = rng.uniform(0, 1, (30, 2))
    model = np.array([[0.5, 0.0, 0.25], [0.0, 0.5, 0.25]])
    pair = MatchedPair(
        results[0].id,
        results[0].positives[0],
        names[-1],
        xy,
        xy @ model[:, :2].T + model[:, 2],
        np.arange(30) < 12,
        model,
    )
    return ReportData(
        "A <report> & its title",
        rows,
        results,
        distractors=1234,
        image=picture,
        matches=[pair],
        provenance={"command": "ilias-fast demo", "machine": {"threads": 2, "level": "avx2", "gpu": None}},
        notes=["One image was skipped."],
    )


class Page(HTMLParser):
    """Parses strictly: every element must be closed in order. Collects what the tests look at."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self.stack, f"unclosed: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"repeated attribute in <{tag}>: {attrs}"
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack[-1] == tag, f"</{tag}> inside {self.stack[-3:]}"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        if self.stack[-1:] != ["script"] and self.stack[-1:] != ["style"]:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def script(self, id_: str) -> Any:
        """What a JSON script element of the page holds."""
        found = re.search(rf'<script type="application/json" id="{id_}">(.*?)</script>', self.source, re.S)
        assert found is not None
        return json.loads(found.group(1))

    @property
    def images(self) -> list[str]:
        uris: list[str] = self.script("images")
        return uris

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = self.script("content")
        return content

    def shown(self, query: int) -> dict[str, tuple[str, list[int]]]:
        """Id -> kind and rank by each method, of the images that a query shows."""
        entry = self.content["queries"][query]
        ids = [self.content["ids"][number] for number in entry["i"]]
        return dict(zip(ids, zip(entry["k"], entry["r"], strict=True), strict=True))

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())
