"""The report page: structure, escaping, numbers, pictures and what happens to damaged ones."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from ilias_fast import errors
from ilias_fast.evaluate import leaderboard
from ilias_fast.report import (
    Curve,
    GroupScore,
    Heat,
    LinePlot,
    MethodResult,
    QueryResult,
    Ranking,
    ReportData,
    ReportOptions,
    write_report,
)
from ilias_fast.report.plots import change_of, scatter
from tests.report_samples import HOSTILE, Page, make_data, picture

GOOD = MethodResult("g", "G", 50, 60, {"q": 50.0})


@pytest.fixture
def written(tmp_path: Path, rng: np.random.Generator) -> tuple[Page, ReportData]:
    data = make_data(rng)
    path = write_report(tmp_path / "report.html", data)
    assert path == tmp_path / "report.html"
    return Page(path), data


def test_structure_is_sound(written: tuple[Page, ReportData]) -> None:
    page, _ = written
    assert page.source.lstrip().lower().startswith("<!doctype html>")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in page.all("a"):
        assert attributes["href"] is not None
        assert attributes["href"].removeprefix("#") in ids
    for attributes in page.all("use"):
        assert attributes["href"] is not None
        assert attributes["href"].removeprefix("#") in ids
    for tag in ("img", "svg"):
        for attributes in page.all(tag):
            described = {"alt", "aria-label", "aria-hidden"} & attributes.keys()
            assert described or (tag == "svg" and "x" in attributes), attributes
    assert [attributes["lang"] for attributes in page.all("html")] == ["en"]


def test_nothing_outside_the_file(written: tuple[Page, ReportData]) -> None:
    page, _ = written
    written_out = re.sub(r"base64,[A-Za-z0-9+/=]*", "", page.source)
    assert not re.search(r"(?i:https?:|//[a-z0-9-]+\.[a-z]|@import)|url\(", written_out)
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "srcset", "href", "xlink:href", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), (tag, name, value)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    policy = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1
    assert "default-src 'none'" in str(policy[0])
    assert "script-src 'sha256-" in str(policy[0])


def test_results_table_and_queries(written: tuple[Page, ReportData]) -> None:
    page, data = written
    base = data.methods[0].map
    for method in data.methods:
        assert method.label in page.words
        assert f"{method.map:.1f}" in page.words
    deltas = [method.map - base for method in data.methods[1:]]
    for delta in deltas:
        assert (f"+{delta:.1f}" if delta > 0 else f"−{-delta:.1f}") in page.words
    table = page.source[page.source.index('id="ap"') :]
    table = table[: table.index("</table>")]
    for query in data.queries:
        assert query.id in table
        for method in data.methods:
            assert f">{method.aps[query.id]:.1f}<" in table
    assert table.count('<tr class="query"') == len(data.queries)
    assert f"{len(data.queries)} queries" in page.words
    assert "18 positives" in page.words
    assert "1,234 distractors" in page.words
    assert "ilias-fast demo" in page.words
    assert "One image was skipped." in page.words


def test_best_value_is_marked(tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng)
    maps = [30.0, 52.04, 52.0]
    data = dataclasses.replace(
        data, methods=[dataclasses.replace(m, map=v) for m, v in zip(data.methods, maps, strict=True)]
    )
    page = Page(write_report(tmp_path / "r.html", data))
    overview = page.source[: page.source.index('id="groups"')]
    # Equal at the precision shown: both are best.
    assert overview.count('<td class="n best">52.0</td>') == 2
    assert '<td class="n">30.0</td>' in overview
    assert "raises mAP@1k from 30.0 (Method global) to 52.0" in page.words


def test_ranks_frames_and_missed_positives(tmp_path: Path) -> None:
    ids = [f"d{i}" for i in range(8)]
    rankings = {
        "g": Ranking(["d0", "d1", "p0", *ids[2:], "p1"], range(10, 0, -1)),
        "r": Ranking(["p0", "d1", "d0", "new", *ids[2:]], range(10, 0, -1)),
    }
    query = QueryResult("q", ["p0", "p1", "p2"], rankings, junk=["d1"])
    methods = [MethodResult("g", "G", 20, 60, {"q": 20.0}), MethodResult("r", "R", 40, 60, {"q": 40.0})]
    data = ReportData("t", methods, [query], 8, image=picture)
    page = Page(write_report(tmp_path / "r.html", data, options=ReportOptions(results=4)))
    shown = page.shown(0)
    assert shown["p0"] == ("p", [3, 1])
    assert shown["d1"] == ("j", [2, 2])
    assert shown["d0"] == ("d", [1, 3])
    assert shown["new"] == ("d", [0, 4])
    # Positives that the compared method R lacks among 4: p1 was at rank 10 in G, p2 nowhere.
    assert shown["p1"] == ("p", [10, 0])
    assert shown["p2"] == ("p", [0, 0])
    entry = page.content["queries"][0]
    assert entry["d"] == [10, 10]
    assert entry["s"] == [[10, 9, 8, 7], [10, 9, 8, 7]]
    assert [list(shown)[at] for at in entry["h"]][:2] == ["d0", "d2"]
    assert 'class="n up">+20.0<' in page.source


def test_hard_negatives_stand_above_a_positive(tmp_path: Path) -> None:
    """The highest ranked by all methods together come first; junk, and what no positive follows, is none."""
    rankings = {
        "g": Ranking(["a", "junk", "b", "p", "c"], [5, 4, 3, 2, 1]),
        "r": Ranking(["b", "p", "a", "c"], [4, 3, 2, 1]),
    }
    query = QueryResult("q", ["p"], rankings, junk=["junk"])
    methods = [MethodResult("g", "G", 25, 60, {"q": 25.0}), MethodResult("r", "R", 50, 60, {"q": 50.0})]
    page = Page(write_report(tmp_path / "r.html", ReportData("t", methods, [query], 3)))
    shown = list(page.shown(0))
    assert [shown[at] for at in page.content["queries"][0]["h"]] == ["b", "a"]


def test_precision_and_recall(tmp_path: Path) -> None:
    """A positive at rank 2 of 2: recall 50% at precision 50%, recall 100% never."""
    query = QueryResult("q", ["p", "elsewhere"], {"g": Ranking(["d", "p"], [2, 1])})
    page = Page(write_report(tmp_path / "r.html", ReportData("t", [GOOD], [query], 1)))
    plot = page.source[page.source.index("Precision and recall") :]
    numbers = re.findall(r'<th scope="row" class="n">(\d+)</th><td class="n">([\d.]+)</td>', plot)
    table = {int(recall): float(precision) for recall, precision in numbers}
    assert len(table) > 5
    assert all(precision == (50.0 if recall <= 50 else 0.0) for recall, precision in table.items())


def test_plots_shares_and_the_leaderboard(tmp_path: Path) -> None:
    plots = [
        LinePlot(
            "A curve", "Distractors", "mAP", [Curve("one", [0, 10, 1e8], [90, 80, 30], [0, 1, 2])], log=True
        ),
        LinePlot("Flat", "Dimension", "mAP", [Curve("two", [64], [5.0]), Curve("three", [64, 128], [0, 0])]),
    ]
    heat = Heat("Ranks", "Clutter", ["low"], ["1-10", "11-100"], [[75.0, None]], [[3, 0]])
    page = Page(
        write_report(
            tmp_path / "r.html",
            ReportData(
                "t",
                [GOOD],
                [QueryResult("q", ["p"])],
                5_000_000,
                plots=plots,
                heats=[heat],
                published=leaderboard(),
            ),
        )
    )
    for words in ("A curve", "100M", "one", "Ranks", "75.0", "siglip", "this report"):
        assert words in page.words, words
    own = re.search(r'<tr class="own">(.*?)</tr>', page.source, re.S)
    assert own is not None
    # Five million distractors: the value stands in that column.
    assert re.findall(r'<td class="n">([^<]*)</td>', own.group(1)) == ["–", "50.0", "–", "–", "–"]


def test_pictures_that_are_not_embedded_are_linked(tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng, queries=6)
    (tmp_path / "out").mkdir()
    files = {id_: tmp_path / "pictures of" / f"{id_}" for query in data.queries for id_ in query.positives}
    data = dataclasses.replace(data, file=files.get, matches=[])
    page = Page(write_report(tmp_path / "out" / "r.html", data, options=ReportOptions(strips=2)))
    embedded = [uri for uri in page.images if uri.startswith("data:")]
    linked = {uri for uri in page.images if uri.startswith("./")}
    assert len(embedded) > 20
    positives = {id_ for query in data.queries for id_ in query.positives}
    assert linked < {f"./../pictures%20of/{id_}" for id_ in positives}
    assert len(linked) == 12
    policy = next(str(a["content"]) for a in page.all("meta") if "http-equiv" in a)
    assert "img-src data: blob: 'self' file:;" in policy
    assert "2 of 6 queries are in this file" in page.words


def test_boxes_are_relative_to_the_upright_image(tmp_path: Path) -> None:
    query = QueryResult("q", ["p"], {"g": Ranking(["p"], [1])})
    data = ReportData(
        "t", [GOOD], [query], 0, image=picture, boxes=lambda id_: [[32, 24, 160, 120]] if id_ == "p" else []
    )
    page = Page(write_report(tmp_path / "r.html", data))
    assert page.content["boxes"] == {str(page.content["ids"].index("p")): [[100, 100, 500, 500]]}


def test_failed_query(tmp_path: Path) -> None:
    query = QueryResult("q", ["p"], {"g": Ranking(["d0", "d1", "p"], [3, 2, 1])})
    data = ReportData("t", [MethodResult("g", "G", 33, None, {"q": 33.3})], [query], 2)
    for results, failed in ((2, 1), (3, 0)):
        page = Page(write_report(tmp_path / "r.html", data, options=ReportOptions(results=results)))
        assert f"Failed <span>{failed}</span>" in page.source


@pytest.mark.parametrize("place", ["query", "database", "label", "category", "text", "provenance", "group"])
def test_hostile_text_is_escaped(tmp_path: Path, rng: np.random.Generator, place: str) -> None:
    data = make_data(rng, queries=2)
    query, method = data.queries[0], data.methods[0]
    changes: dict[str, object] = {}
    if place == "query":
        methods = [
            dataclasses.replace(m, aps={HOSTILE if i == query.id else i: ap for i, ap in m.aps.items()})
            for m in data.methods
        ]
        pair = dataclasses.replace(data.matches[0], query_id=HOSTILE)
        queries = [dataclasses.replace(query, id=HOSTILE), *data.queries[1:]]
        changes = {"methods": methods, "queries": queries, "matches": [pair]}
    elif place == "database":
        rankings = {"global": Ranking([HOSTILE, "x"], [1, 0])}
        changed = dataclasses.replace(query, positives=[HOSTILE], rankings=rankings)
        pair = dataclasses.replace(data.matches[0], database_id=HOSTILE)
        changes = {"queries": [changed, *data.queries[1:]], "matches": [pair]}
    elif place == "label":
        changes = {"methods": [dataclasses.replace(method, label=HOSTILE), *data.methods[1:]]}
    elif place == "category":
        changed = dataclasses.replace(query, category=HOSTILE, subcategory=HOSTILE)
        changes = {"queries": [changed, *data.queries[1:]]}
    elif place == "text":
        changes = {"queries": [dataclasses.replace(query, text=HOSTILE), *data.queries[1:]], "title": HOSTILE}
    elif place == "provenance":
        changes = {"provenance": {HOSTILE: {HOSTILE: [HOSTILE]}}, "notes": [HOSTILE]}
    else:
        groups = {HOSTILE: [GroupScore(HOSTILE, 1.0, 2)]}
        changes = {"methods": [dataclasses.replace(method, groups=groups), *data.methods[1:]]}
    page = Page(write_report(tmp_path / "r.html", dataclasses.replace(data, **changes)))
    assert "<script>document" not in page.source
    assert "<img src=x" not in page.source
    assert len(page.all("script")) == 3
    assert "&lt;script&gt;" in page.source or HOSTILE in page.content["ids"]
    assert not [a for _, a in page.elements if "onerror" in a]


def test_ids_that_are_not_utf8(tmp_path: Path) -> None:
    id_ = "caf\udce9/\x00Q.jpg"
    query = QueryResult(id_, ["p"], {"g": Ranking(["p"], [1])})
    data = ReportData(
        "t", [MethodResult("g", "G", 100, 100, {id_: 100.0})], [query], 0, image=picture_of_anything
    )
    assert "caf" in Page(write_report(tmp_path / "r.html", data)).source


def picture_of_anything(_: str) -> bytes:
    return picture("any")


def test_without_pictures(tmp_path: Path, rng: np.random.Generator) -> None:
    page = Page(write_report(tmp_path / "r.html", dataclasses.replace(make_data(rng), image=None)))
    assert page.images == []
    assert "could not be shown" not in page.words


def test_smallest_report(tmp_path: Path) -> None:
    data = ReportData("t", [MethodResult("g", "G", 50, None, {"q": 50.0})], [QueryResult("q", [])], 0)
    page = Page(write_report(tmp_path / "r.html", data))
    assert "G reaches 50.0 mAP@1k." in page.words
    assert "Nothing was recorded." in page.words


def test_many_methods_and_text_queries(tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng, methods=10)
    text = dataclasses.replace(data.queries[1], text="a red car")
    read: list[str] = []

    def image(id_: str) -> bytes:
        read.append(id_)
        return picture(id_)

    data = dataclasses.replace(
        data, queries=[data.queries[0], text, *data.queries[2:]], image=image, baseline="cs"
    )
    page = Page(write_report(tmp_path / "r.html", data))
    assert "a red car" in page.words
    assert "5 image + 1 text queries" in page.words
    assert text.id not in read
    assert "is better than Method cs" in page.words


def test_missing_ap_is_a_dash_and_counted(tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng)
    aps = dict(list(data.methods[1].aps.items())[2:])
    methods = [data.methods[0], dataclasses.replace(data.methods[1], aps=aps), data.methods[2]]
    page = Page(write_report(tmp_path / "r.html", dataclasses.replace(data, methods=methods)))
    assert "Method aqe1: no AP for 2 of 6 queries" in page.words
    assert all(query.id in page.source for query in data.queries)


def test_pictures_are_of_the_queries_that_changed_most(tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng, queries=12, methods=2)
    data = dataclasses.replace(data, matches=[])
    page = Page(write_report(tmp_path / "r.html", data, options=ReportOptions(strips=4)))
    before, after = (method.aps for method in data.methods)
    change = sorted(data.queries, key=lambda query: -abs(after[query.id] - before[query.id]))
    ids, images = page.content["ids"], page.images
    pictured = {id_ for id_, uri in zip(ids, images, strict=True) if uri}
    assert {query.id for query in data.queries} <= pictured
    assert {id_ for id_ in pictured if "/pos/" in id_} == {p for q in change[:4] for p in q.positives}
    assert "Pictures of 4 of 12 queries" in page.words
    assert len(page.all("tr")) > 12


def test_matched_pair_geometry(tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng)
    page = Page(write_report(tmp_path / "r.html", data))
    assert "12 inliers of 30, Method cs" in page.words
    # 320 x 240 pictures are drawn 320 x 240; the model halves and centres the query's frame.
    frames = {a["points"] for a in page.all("polygon")}
    assert frames == {"80.0,60.0 240.0,60.0 240.0,180.0 80.0,180.0"}
    (inliers,) = re.findall(r'<g class="inliers"><path d="([^"]*)"', page.source)
    ends = np.array(re.findall(r"M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)", inliers), dtype=float)
    assert len(ends) == 12
    xy = np.asarray(data.matches[0].query_xy)[:12]
    np.testing.assert_allclose(ends[:, :2], xy * (320, 240), atol=0.06)
    np.testing.assert_allclose(ends[:, 2:], xy * (160, 120) + (334 + 80, 60), atol=0.06)
    few = Page(write_report(tmp_path / "f.html", data, options=ReportOptions(lines=15)))
    assert "15 not drawn" in few.words


def test_pair_without_correspondences_or_model(tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng)
    none = np.zeros((0, 2), np.float32)
    pair = dataclasses.replace(
        data.matches[0], query_xy=none, database_xy=none, inliers=np.zeros(0, bool), model=None
    )
    page = Page(write_report(tmp_path / "r.html", dataclasses.replace(data, matches=[pair])))
    assert "0 inliers of 0, Method cs, no model" in page.words
    assert page.all("polygon") == []


def test_pearson_and_counts() -> None:
    x, y = [0.0, 50.0, 100.0, 20.0], [10.0, 50.0, 90.0, 20.04]
    plot = scatter(x, y, list("abcd"), [0, 1, 2, 3])
    assert plot.pearson == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert (plot.up, plot.down, plot.same) == (1, 1, 2)
    assert scatter([1.0, 1.0], [0.0, 2.0], ["a", "b"], [0, 1]).pearson is None
    assert [change_of(v) for v in (0.05, 0.049, -0.049, -0.05)] == ["up", "same", "same", "down"]


def test_unwritable_path_leaves_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    data = dataclasses.replace(make_data(rng, queries=1), image=None)
    with pytest.raises(errors.StorageError, match="cannot write"):
        write_report(tmp_path / "missing" / "r.html", data)
    (tmp_path / "taken").mkdir()
    with pytest.raises(errors.StorageError, match="taken"):
        write_report(tmp_path / "taken", data)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("module", ["jinja2", "PIL.Image"])
def test_missing_extra_is_named(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    from ilias_fast.report import render

    real = render.require

    def require(name: str, purpose: str, **options: str) -> object:
        if name == module:
            raise errors.MissingExtraError(f"{name} is needed to {purpose}; install it with: pip install ...")
        return real(name, purpose, **options)

    monkeypatch.setattr(render, "require", require)
    with pytest.raises(errors.MissingExtraError, match="report"):
        write_report(tmp_path / "r.html", make_data(rng, queries=1))
    assert list(tmp_path.iterdir()) == []


def test_provenance_of_provenance_is_listed_line_by_line(tmp_path: Path, rng: np.random.Generator) -> None:
    recorded = {
        "threads": 2,
        "Runs": {
            "a": {"file": "a.npz", "parts": [{"weight": 0.5}, {"weight": 1}], "dims": [8, 16]},
            "b": None,
        },
    }
    data = dataclasses.replace(make_data(rng, queries=1), provenance=recorded)
    page = Page(write_report(tmp_path / "r.html", data)).source
    page = page[page.index('<section id="provenance">') :]
    for text in (
        '<th scope="row">threads</th><td>2</td>',
        "<caption>Runs</caption>",
        "<dt>file</dt><dd>a.npz</dd>",
        "<dt>1</dt><dd><dl><div><dt>weight</dt><dd>0.5</dd></div></dl></dd>",
        "<dt>dims</dt><dd>8, 16</dd>",
        '<th scope="row">b</th><td>–</td>',
    ):
        assert text in page, text
