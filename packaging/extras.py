"""Resolve a wheel with every extra, without installing anything: `pip install --dry-run 'WHEEL[EXTRA]'`.

What the environment has already is taken as it is, for a dry run downloads whatever else it finds, torch and
its gigabytes included. In an environment of its own the choice is free.

Usage: extras.py WHEEL
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path


def extras_of(wheel: Path) -> list[str]:
    """Return the extras that a wheel's metadata names."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return re.findall(r"^Provides-Extra: (\S+)", archive.read(name).decode(), re.MULTILINE)


def main() -> None:
    """Resolve every extra of the wheel named by the argument; stop at the first that cannot be."""
    wheel = Path(sys.argv[1]).resolve()
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    pip += ["--dry-run", "--report", "-"]
    for extra in extras_of(wheel):
        done = subprocess.run([*pip, f"{wheel}[{extra}]"], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"[{extra}] does not resolve:\n{done.stderr}")
        chosen = [package["metadata"] for package in json.loads(done.stdout)["install"]]
        listed = ", ".join(f"{one['name']} {one['version']}" for one in chosen)
        print(f"[{extra}] resolves; not installed here: {listed}")


if __name__ == "__main__":
    main()
