"""List the licences of everything that is built into a wheel or installed with it; fail on one not allowed.

Works without a network: `cargo metadata` of the locked dependencies, and the metadata of the installed
distributions that the core and its extras ask for. Advisories need a database and are not looked at.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC",
    "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0", "Unicode-3.0", "Unlicense", "Zlib",
}  # fmt: skip
CLASSIFIERS = {
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
# PyTorch brings NVIDIA's libraries, whose own terms allow installing them from the index, not shipping them.
OTHERS = re.compile(r"nvidia|cuda|triton|torch")


def allowed(expression: str) -> bool:
    """Say whether an SPDX expression can be met by allowed licences."""
    text = re.sub(r"[()]", " ", expression.replace("/", " OR "))
    text = re.sub(r"\s+WITH\s+LLVM-exception", "", text)
    choices = [re.split(r"\s+AND\s+", choice.strip()) for choice in re.split(r"\s+OR\s+", text)]
    return any(all(name.strip() in ALLOWED for name in choice) for choice in choices)


def crates() -> dict[str, str]:
    """Return crate -> licence of everything in the lock file that is built."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform"]
    host = re.search(r"host: (\S+)", subprocess.run(["rustc", "-vV"], capture_output=True, text=True).stdout)
    assert host is not None
    done = subprocess.run([*command, host[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = json.loads(done.stdout)["packages"]
    return {f"{one['name']} {one['version']}": one["license"] or "none" for one in packages if one["source"]}


def distributions() -> dict[str, str]:
    """Return distribution -> licence of what ilias-fast and its extras ask for, as far as it is installed."""
    found: dict[str, str] = {}
    waiting = ["ilias-fast"]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop().lower())
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name in found:
            continue
        marks = metadata.get_all("Classifier") or []
        last = [mark.rpartition(" :: ")[2] for mark in marks if mark.startswith("License")]
        named = [CLASSIFIERS[one] for one in last if one in CLASSIFIERS]
        text = (metadata.get("License") or "").strip()
        short = CLASSIFIERS.get(text, text) if len(text) < 60 else ""
        found[name] = metadata.get("License-Expression") or " OR ".join(named) or short or "none stated"
        for line in importlib.metadata.requires(name) or []:
            if name == "ilias-fast" or "extra ==" not in line:
                waiting.append(re.split(r"[^\w.-]", line, maxsplit=1)[0])
    return found


def main() -> int:
    """Print the licences with their numbers, then what is not allowed."""
    everything = {**crates(), **distributions()}
    groups: dict[str, list[str]] = defaultdict(list)
    for name, licence in everything.items():
        groups[licence].append(name)
    for licence, names in sorted(groups.items(), key=lambda item: -len(item[1])):
        print(f"{len(names):4} {licence}" + ("" if len(names) > 3 else f": {', '.join(names)}"))
    refused = [
        f"{name}: {licence}"
        for name, licence in everything.items()
        if not allowed(licence) and not OTHERS.search(name)
    ]
    for line in refused:
        print(f"not allowed: {line}", file=sys.stderr)
    return bool(refused)


if __name__ == "__main__":
    sys.exit(main())
