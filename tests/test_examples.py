"""The examples run, on what they make themselves, and the notebook from top to bottom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = {
    "photo_folder": ("cv2", ["--size", "12"], "query: "),
    "rerank_faiss": ("faiss", ["--size", "12"], "re-ranked  mAP"),
    "compare_models": ("numpy", [], "small -> large: +"),
    "distractor_curve": ("numpy", [], "picture: curve.svg"),
}


def test_every_script_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SCRIPTS)
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")]:
        assert f"`{path.name}`" in listed


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs(name: str, tmp_path: Path) -> None:
    library, arguments, expected = SCRIPTS[name]
    pytest.importorskip(library, reason=f"the example needs {library}")
    if name != "compare_models":
        pytest.importorskip("cv2", reason="the examples draw their images with OpenCV")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout, done.stdout


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(EXAMPLES / "first_steps.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    client.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": tmp_path}}).execute()
    last = notebook.cells[-1]["outputs"][0]["data"]["text/plain"]
    assert "image_0.jpg" in last
