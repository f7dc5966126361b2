"""Check a wheel: its tag and symbols, its size, what is in it; then install it alone and run the smoke test.

Usage: check_wheel.py WHEEL
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

LARGEST = 5_000_000
"""Bytes of a wheel."""

SMOKE = Path(__file__).with_name("smoke.py")


def check_contents(wheel: Path) -> None:
    """Refuse a wheel that is too large, is bound to one Python, or lacks or adds files."""
    size = wheel.stat().st_size
    assert size < LARGEST, f"{wheel.name}: {size:,} bytes, at most {LARGEST:,} are allowed"
    assert "-cp310-abi3-" in wheel.name, f"{wheel.name}: expected an abi3 wheel for Python 3.10 and newer"
    names = set(zipfile.ZipFile(wheel).namelist())
    for needed in ("py.typed", "_core.pyi", "evaluate/leaderboard.csv", "report/templates/report.html.j2"):
        assert f"ilias_fast/{needed}" in names, f"{wheel.name} lacks ilias_fast/{needed}"
    assert any(name.endswith("licenses/LICENSE-MIT") for name in names), f"{wheel.name} lacks the licences"
    strangers = [name for name in names if not name.startswith(("ilias_fast/", "ilias_fast-"))]
    assert not strangers, f"{wheel.name} holds {strangers}"
    print(f"{wheel.name}: {size / 1e6:.2f} MB, {len(names)} files")


def check_policy(wheel: Path) -> None:
    """Refuse a Linux wheel whose symbols ask for more than its name says."""
    if "linux" not in wheel.name:
        return
    said = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", "--json", str(wheel)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(said.stdout)
    tags = wheel.stem.split("-")[-1].split(".")
    assert found["sym_tag"] in tags, f"{wheel.name}: its symbols need {found['sym_tag']}"
    assert "manylinux" in found["overall_tag"], f"{wheel.name} is {found['overall_tag']}"
    print(f"auditwheel: {found['overall_tag']}, libraries {', '.join(sorted(found['versioned_symbols']))}")


def check_alone(wheel: Path) -> None:
    """Install the wheel and what it depends on, nothing else, and run the smoke test at every CPU level."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "venv"
        venv.create(home, with_pip=True)
        python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        constraints = Path(__file__).parents[1] / "constraints.txt"
        subprocess.run([*pip, "--constraint", str(constraints), str(wheel)], check=True)
        ask = "import ilias_fast.cpu as cpu; print(*cpu.available_levels())"
        plain = {
            name: value for name, value in os.environ.items() if not name.startswith(("ILIAS_", "PYTHON"))
        }
        levels = subprocess.run(
            [str(python), "-c", ask], check=True, capture_output=True, text=True, cwd=folder, env=plain
        ).stdout.split()
        answers = set()
        for level in levels:
            done = subprocess.run(
                [str(python), str(SMOKE)],
                check=True,
                capture_output=True,
                text=True,
                cwd=folder,
                env={**plain, "ILIAS_FAST_CPU": level},
            )
            answers.add(done.stdout)
            print(f"smoke test at {level}: {done.stdout.strip()}")
        assert len(answers) == 1, "the CPU levels disagree"
        for missing in {"scalar", "avx2", "avx512"} - set(levels):
            print(f"smoke test at {missing}: skipped, this CPU has no {missing}")


def main() -> None:
    """Run all checks on the wheel named by the argument."""
    wheel = Path(sys.argv[1]).resolve()
    check_contents(wheel)
    check_policy(wheel)
    check_alone(wheel)


if __name__ == "__main__":
    main()
