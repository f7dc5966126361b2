"""The report as a real browser runs it: no errors, sorting, filters, policy, screenshots."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.report import QueryResult, Ranking, write_report
from tests.report_samples import HOSTILE, Image, make_data

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser found (looked for {', '.join(BROWSERS)})")
    return found


def browse(browser: str, profile: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *(f"--user-data-dir={profile}", "--virtual-time-budget=4000", *arguments),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    return done.stdout


def root_of(dom: str) -> dict[str, str]:
    found = re.search(r"<html[^>]*>", dom)
    assert found is not None
    return dict(re.findall(r'([\w-]+)="([^"]*)"', found.group()))


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
    # Opened: the first two queries and the one in the address; their pictures are blobs by now.
    assert len(re.findall(r'<details class="query"[^>]* open=""', dom)) == 3
    assert len(re.findall(r'<img data-image="\d+"[^>]* src="blob:', dom)) > 50
    assert len(re.findall(r'<image [^>]*href="blob:', dom)) == 2
    assert dom.count("<template>") == len(data.queries) - 3


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
      const rows = () => [...document.querySelectorAll("#ap tbody tr")];
      const column = () => rows().map((r) => r.cells[head.cellIndex].textContent);
      head.querySelector("button").click();
      out.down = column(); out.ariaDown = head.getAttribute("aria-sort");
      head.querySelector("button").click();
      out.up = column(); out.ariaUp = head.getAttribute("aria-sort");
      const queries = [...document.querySelectorAll("details.query")];
      const shown = () => queries.filter((q) => !q.hidden).map((q) => q.dataset.id);
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
      const result = document.createElement("pre"); result.id = "driven";
      result.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(out))));
      document.body.append(result);
    """
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
    path.write_text(html.replace("</body>", f"<script>{driver}</script></body>"), encoding="utf-8")
    dom = browse(browser, tmp_path / "profile", "--dump-dom", path.as_uri())
    assert root_of(dom).get("data-errors") == "0"
    found = re.search(r'<pre id="driven">([^<]*)</pre>', dom)
    assert found is not None
    out = json.loads(base64.b64decode(found.group(1)))
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


@pytest.mark.parametrize(("width", "scheme"), [(1280, 1), (400, 0)])
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
            f"--window-size={width},1600",
            f"--blink-settings=preferredColorScheme={scheme}",
        ),
        path.as_uri(),
    )
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (1600, width, 3)
    corner = pixels[-1, 2].mean()
    assert corner > 230 if scheme == 1 else corner < 40
    inked = np.abs(pixels.astype(int) - pixels[-1, 2]).sum(axis=2) > 60
    assert 0.01 < inked.mean() < 0.7
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
