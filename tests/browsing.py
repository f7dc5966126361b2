"""Pages in a headless browser: what they become, what a script finds in them, how they look on a phone."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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


def drive(browser: str, folder: Path, path: Path, driver: str) -> dict[str, Any]:
    """Run a script in the page, without its policy, and return what it put into `out`."""
    report = """
      const result = document.createElement("pre"); result.id = "driven";
      result.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(out))));
      document.body.append(result);
    """
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
    path.write_text(html.replace("</body>", f"<script>{driver}{report}</script></body>"), encoding="utf-8")
    dom = browse(browser, folder / "profile", "--dump-dom", path.as_uri())
    assert root_of(dom).get("data-errors") == "0", root_of(dom)
    found = re.search(r'<pre id="driven">([^<]*)</pre>', dom)
    assert found is not None
    driven: dict[str, Any] = json.loads(base64.b64decode(found.group(1)))
    return driven


def narrow(path: Path, width: int) -> Path:
    """Return a page that shows another as a phone of that width does: browsers have no window below 500."""
    frame = path.with_name(f"{path.stem}-{width}.html")
    style = f"border:0;width:{width}px;height:1600px"
    frame.write_text(f'<body style="margin:0"><iframe src="{path.name}" style="{style}"></iframe></body>')
    return frame
