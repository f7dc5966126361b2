"""The report as a real browser runs it: no errors, sorting, filters, policy, screenshots."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.evaluate import leaderboard
from ilias_fast.report import MethodResult, QueryResult, Ranking, ReportData, ReportOptions, write_report
from tests.browsing import browse, drive, narrow, root_of
from tests.report_samples import HOSTILE, Image, make_data, picture


def test_browser_runs_the_page_without_error(browser: str, tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng)
    hostile = QueryResult(HOSTILE, ["p"], {"global": Ranking([HOSTILE, "p"], [1, 0])}, category=HOSTILE)
    data = dataclasses.replace(data, queries=[*data.queries, hostile])
    path = write_report(tmp_path / "r.html", data)
    dom = browse(browser, tmp_path / "profile", "--dump-dom", path.as_uri() + "#query-6")
    root = root_of(dom)
    assert root.get("data-ready") == "true"
    assert root.get("data-errors") == "0", root
    assert "data-owned" not in root
    # Opened: the query in the address; its pictures are blobs, those of other queries nowhere in the tree.
    assert dom.count('<tr class="detail">') == 1
    detail = dom[dom.index('<tr class="detail">') :]
    assert len(re.findall(r'<img data-image="\d+"[^>]*src="blob:', detail)) >= 2
    assert "<script>document" not in re.sub(r"<script.*?</script>", "", dom, flags=re.S)


def test_browser_opens_a_query(browser: str, tmp_path: Path) -> None:
    """The strips, the positives missed, the hard negatives and the boxes, as the page draws them."""
    ids = [f"d{i}" for i in range(8)]
    rankings = {
        "g": Ranking(["d0", "d1", "p0", *ids[2:], "p1"], range(10, 0, -1)),
        "r": Ranking(["p0", "d1", "d0", "new", *ids[2:]], range(10, 0, -1)),
    }
    query = QueryResult("q", ["p0", "p1", "p2"], rankings, junk=["d1"])
    methods = [MethodResult("g", "G", 20, 60, {"q": 20.0}), MethodResult("r", "R", 40, 60, {"q": 40.0})]
    data = ReportData(
        "t",
        methods,
        [query],
        8,
        image=picture,
        boxes=lambda id_: [[32, 24, 160, 120]] if id_[0] in "pq" else [],
    )
    path = write_report(tmp_path / "r.html", data, options=ReportOptions(results=4))
    dom = browse(browser, tmp_path / "profile", "--dump-dom", path.as_uri())
    assert root_of(dom).get("data-errors") == "0"
    detail = dom[dom.index('<tr class="detail">') :]
    strips = re.findall(r"<h4>(.*?)</h4>(.*?)</ol>", detail, re.S)
    titles = [re.sub(r"<[^>]*>|\s+", " ", title).split() for title, _ in strips]
    assert [words[0] for words in titles] == ["G", "R", "Missed", "Hard"]
    assert titles[2][1:3] == ["2", "positives"]
    listed = [re.findall(r'<li class="(\w+)" title="(\w+)', body) for _, body in strips]
    assert listed[0] == [("distractor", "d0"), ("junk", "d1"), ("positive", "p0"), ("distractor", "d2")]
    assert listed[1] == [("positive", "p0"), ("junk", "d1"), ("distractor", "d0"), ("distractor", "new")]
    assert listed[2] == [("missed", "p1"), ("missed", "p2")]
    assert listed[3][:2] == [("distractor", "d0"), ("distractor", "d2")]
    for text in ('<span class="from up">3 → 1</span>', "1 → 3", "new → 4"):
        assert text in strips[1][1], text
    assert "10 → &gt; 10" in strips[2][1]
    # The query, p0 twice and the two missed have boxes: 32 of 320 pixels is a tenth of the picture.
    assert detail.count('<svg viewBox="0 0 160 120" class="boxes"') == 5
    assert '<rect x="16" y="12" width="80" height="60"></rect>' in detail


def test_browser_compares_any_two_and_obeys_keys(
    browser: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    data = make_data(rng, queries=150)
    path = write_report(tmp_path / "r.html", dataclasses.replace(data, image=None))
    driver = """
      const out = {};
      const rows = () => [...document.querySelectorAll("tr.query")];
      const opened = () => document.querySelector("tr.query.open")?.id ?? "";
      const key = (k) => document.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true }));
      out.first = rows().length; out.start = opened();
      key("Escape");
      out.closed = opened(); key("j"); key("j"); out.second = opened(); key("k"); out.back = opened();
      key("/"); out.focused = document.activeElement.id; document.activeElement.blur();
      const point = document.querySelector('#points circle[data-q="140"]');
      point.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
      out.tip = document.getElementById("tip").textContent;
      const base = document.getElementById("base"), focus = document.getElementById("focus");
      base.value = "2"; base.dispatchEvent(new Event("change"));
      focus.value = "1"; focus.dispatchEvent(new Event("change"));
      out.up = document.getElementById("count-up").textContent;
      out.r = document.getElementById("pearson").textContent;
      document.querySelector("[data-filter=up]").click();
      out.gained = document.getElementById("shown").textContent;
      document.querySelector("[data-filter=all]").click();
      location.hash = "#query-149"; window.dispatchEvent(new Event("hashchange")); out.far = opened();
    """
    out = drive(browser, tmp_path, path, driver)
    aps = [np.array([method.aps[query.id] for query in data.queries]) for method in data.methods]
    up = int((aps[1] - aps[2] >= 0.05).sum())
    assert (out["first"], out["start"], out["closed"]) == (100, "query-0", "")
    assert (out["second"], out["back"], out["focused"]) == ("query-1", "query-0", "search")
    assert out["tip"].startswith(data.queries[140].id)
    assert (out["up"], out["gained"]) == (str(up), f"{up} queries")
    assert float(out["r"]) == pytest.approx(np.corrcoef(aps[2], aps[1])[0, 1], abs=0.005)
    assert out["far"] == "query-149"


def test_browser_sorts_and_filters(browser: str, tmp_path: Path, rng: np.random.Generator) -> None:
    data = make_data(rng, queries=8)
    aps = dict(list(data.methods[2].aps.items())[1:])
    data = dataclasses.replace(
        data, methods=[*data.methods[:2], dataclasses.replace(data.methods[2], aps=aps)]
    )
    path = write_report(tmp_path / "r.html", data)
    driver = """
      const out = {};
      const heads = [...document.querySelectorAll("#ap thead th")];
      const head = heads.find((h) => h.textContent.trim() === "Method cs");
      const rows = () => [...document.querySelectorAll("#ap tbody tr.query")];
      const column = () => rows().map((r) => r.cells[head.cellIndex].textContent);
      head.querySelector("button").click();
      out.down = column(); out.ariaDown = head.getAttribute("aria-sort");
      head.querySelector("button").click();
      out.up = column(); out.ariaUp = head.getAttribute("aria-sort");
      heads[0].querySelector("button").click();
      const shown = () => rows().map((row) => row.cells[0].title);
      const press = (kind) => document.querySelector(`[data-filter=${kind}]`).click();
      press("up"); out.gained = shown(); press("down"); out.lost = shown(); press("all"); out.all = shown();
      const category = document.getElementById("category");
      category.value = "art"; category.dispatchEvent(new Event("change")); out.art = shown();
      category.value = ""; category.dispatchEvent(new Event("change"));
      const grouping = document.querySelector("select.grouping");
      grouping.value = "1"; grouping.dispatchEvent(new Event("change")); out.large = shown();
      grouping.value = ""; grouping.dispatchEvent(new Event("change"));
      const search = document.getElementById("search");
      search.value = "OBJECT_003"; search.dispatchEvent(new Event("input")); out.search = shown();
      out.count = document.getElementById("shown").textContent;
      document.getElementById("theme").click(); out.theme = document.documentElement.dataset.theme;
    """
    out = drive(browser, tmp_path, path, driver)
    expected = sorted(aps.values(), reverse=True)
    assert out["down"] == [*(f"{ap:.1f}" for ap in expected), "–"]
    assert out["up"] == [*(f"{ap:.1f}" for ap in reversed(expected)), "–"]
    assert (out["ariaDown"], out["ariaUp"]) == ("descending", "ascending")
    ids = [query.id for query in data.queries]
    focus = max(data.methods[1:], key=lambda method: method.map).aps
    change = {i: focus[i] - data.methods[0].aps[i] for i in ids if i in focus}
    assert out["gained"] == [i for i in ids if change.get(i, 0) > 0]
    assert out["lost"] == [i for i in ids if change.get(i, 0) < 0]
    assert out["all"] == ids
    assert out["art"] == ids[1::2]
    assert out["large"] == ids[::3]
    assert out["search"] == [ids[3]]
    assert out["count"] == "1 query"
    assert out["theme"] in ("dark", "light")


def test_browser_refuses_a_script_that_is_not_the_pages(
    browser: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """The policy in the page holds even if escaping failed."""
    path = write_report(tmp_path / "r.html", dataclasses.replace(make_data(rng, queries=1), image=None))
    attack = "<script>document.documentElement.dataset.owned=1</script></body>"
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", attack), encoding="utf-8")
    root = root_of(browse(browser, tmp_path / "profile", "--dump-dom", path.as_uri()))
    assert "data-owned" not in root
    assert root.get("data-errors") == "1"


@pytest.mark.parametrize(("width", "scheme"), [(1280, 1), (390, 0)])
def test_browser_screenshot(
    browser: str, tmp_path: Path, rng: np.random.Generator, width: int, scheme: int
) -> None:
    path = write_report(tmp_path / "r.html", make_data(rng))
    shot = tmp_path / "shot.png"
    browse(
        browser,
        tmp_path / "profile",
        *(
            f"--screenshot={shot}",
            f"--window-size={max(width, 500)},1600",
            f"--blink-settings=preferredColorScheme={scheme}",
        ),
        (path if width > 500 else narrow(path, width)).as_uri(),
    )
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB"))[:, :width]
    assert pixels.shape == (1600, width, 3)
    corner = pixels[-1, 2].mean()
    assert corner > 230 if scheme == 1 else corner < 40
    inked = np.abs(pixels.astype(int) - pixels[-1, 2]).sum(axis=2) > 60
    assert 0.01 < inked.mean() < 0.7
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("width", [390, 320])
def test_browser_fits_a_phone(browser: str, tmp_path: Path, rng: np.random.Generator, width: int) -> None:
    """With everything unfolded nothing but what scrolls by itself is wider than the screen."""
    data = make_data(rng, methods=7)
    first = dataclasses.replace(data.methods[0], interval=(10.0, 30.0))
    data = dataclasses.replace(data, methods=[first, *data.methods[1:]], published=leaderboard())
    path = write_report(tmp_path / "r.html", data)
    driver = """
      const out = {};
      for (const one of document.querySelectorAll("details")) one.open = true;
      const box = (element) => element.getBoundingClientRect();
      const wide = [...document.querySelectorAll("main *")].filter(
        (one) => box(one).right > innerWidth + 1 && !one.closest(".scroll, .strip ol, svg"));
      out.wide = wide.map((one) => `${one.tagName} ${one.className} ${box(one).right}`);
      out.interval = getComputedStyle(document.querySelector(".results small")).display;
      out.innerWidth = innerWidth;
      parent.postMessage(JSON.stringify(out), "*");
    """
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
    path.write_text(html.replace("</body>", f"<script>{driver}</script></body>"), encoding="utf-8")
    frame = narrow(path, width)
    hear = "addEventListener('message', (event) => { document.title = event.data; });"
    frame.write_text(f"<script>{hear}</script>{frame.read_text()}")
    dom = browse(browser, tmp_path / "profile", "--dump-dom", frame.as_uri())
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    assert json.loads(title.group(1)) == {"wide": [], "interval": "block", "innerWidth": width}


def test_browser_shows_text_queries(browser: str, tmp_path: Path) -> None:
    rankings = {"t": Ranking(["d0", "p0"], [2, 1]), "u": Ranking(["p0", "d0"], [2, 1])}
    words = "A mug with a <b>sailing boat</b>"
    queries = [
        QueryResult("mug_1/query/T001.txt", ["p0"], rankings, text=words),
        QueryResult("pin_2/query/T002.txt", ["p1"], rankings, text="A pin"),
    ]
    methods = [
        MethodResult(name, name.upper(), value, 60, {query.id: value for query in queries})
        for name, value in (("t", 25.0), ("u", 50.0))
    ]
    path = write_report(tmp_path / "r.html", ReportData("t", methods, queries, 3, image=picture))
    assert "<dd>2</dd><dt>text queries</dt>" in path.read_text(encoding="utf-8")
    driver = """
      const out = {};
      const row = document.querySelector("tr.query");
      out.row = [row.querySelector(".head").textContent, row.querySelector(".tail").textContent,
        row.querySelector("q").textContent, row.querySelectorAll("img").length];
      const body = document.querySelector("tr.detail .about");
      out.body = [body.querySelector("q").textContent, body.querySelectorAll("img").length];
      out.pictures = document.querySelectorAll("tr.detail .strips img").length;
      const search = document.getElementById("search");
      search.value = "sailing"; search.dispatchEvent(new Event("input"));
      out.found = [...document.querySelectorAll("tr.query")].map((one) => one.id);
    """
    out = drive(browser, tmp_path, path, driver)
    assert out["row"] == ["mug_1/query/", "T001.txt", words, 0]
    assert out["body"] == [words, 0]
    assert out["pictures"] >= 4
    assert out["found"] == ["query-0"]
