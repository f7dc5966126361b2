"""Running the command line inside the test process, and a tiny dataset to run it on."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ilias_fast.cli import main

SOURCES = Path(__file__).resolve().parents[1] / "python"
_PROGRESS = re.compile(r"[\w ,]+: [\d,]+")


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def command(*arguments: object) -> Result:
    """Run `ilias-fast` with these arguments, its outputs not being terminals."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return Result(code, *texts)


def done(*arguments: object) -> str:
    """Run a command that has to succeed; return what it printed."""
    result = command(*arguments)
    assert result.code == 0, result
    only_progress(result.err)
    return result.out


def failing(*arguments: object, code: int = 1) -> str:
    """Run a command that has to fail in one clear line; return that line."""
    result = command(*arguments)
    assert result.code == code, result
    assert result.out == "", result
    return the_error(result.err)


def the_error(text: str) -> str:
    """Check that a stderr holds one error, in one line, at its end; return its message."""
    *before, last = text.splitlines()
    assert last.startswith("error: "), text
    only_progress("\n".join(before))
    return last.removeprefix("error: ")


def only_progress(text: str) -> None:
    """Check that a stderr holds nothing but finished stages."""
    for line in text.splitlines():
        assert _PROGRESS.fullmatch(line), text


def process(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start `python -m ilias_fast` with these arguments."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
        **options.pop("environment", {}),
    }
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    command_line = [sys.executable, "-m", "ilias_fast", *map(str, arguments)]
    return subprocess.Popen(command_line, env=environment, **given)


def finished(*arguments: object, **options: Any) -> Result:
    """Run `python -m ilias_fast` to its end."""
    with process(*arguments, **options) as started:
        out, err = started.communicate(timeout=60)
    return Result(started.returncode, out, err)


class World(NamedTuple):
    """Two objects, their photographs, the features of all and the runs made of them."""

    photos: Path
    learnt: Path
    queries: Path
    database: Path
    local_queries: Path
    local_database: Path
    run: Path
    reranked: Path


def make_world(root: Path) -> World:
    """Draw the photographs and take them through extraction, search and re-ranking by the command line."""
    names = ("photos", "learnt.safetensors", "q", "db", "q-local", "db-local", "global.json", "spatial.npz")
    world = World(*(root / name for name in names))
    draw_photos(world.photos)
    extract = ["extract", world.photos, "--learnt", world.learnt]
    done(*extract, "--part", "database", "-o", world.database, "--local", world.local_database)
    done(*extract, "--part", "queries", "-o", world.queries, "--local", world.local_queries)
    done("search", world.queries, world.database, "-o", world.run, "-k", 8)
    done("rerank", world.run, world.local_queries, world.local_database, "-o", world.reranked)
    return world


def draw_photos(folder: Path) -> None:
    """Draw 2 queries, 4 positives and 6 distractors."""
    from tests.oracles import images

    generator = np.random.default_rng(0)

    def save(path: Path, image: np.ndarray[Any, Any]) -> None:
        noisy = image.astype(np.int64) + generator.integers(-12, 13, image.shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encode(np.clip(noisy, 0, 255).astype(np.uint8), "JPEG", quality=90))

    for name in ("bag", "cup"):
        seen = images.texture(generator, 160, 120, 60)
        save(folder / name / "query" / f"{name}-q.jpg", seen)
        for number in range(2):
            save(folder / name / "pos" / f"{name}-{number}.jpg", seen)
    for number in range(6):
        save(folder / "distractors" / f"d{number}.jpg", images.texture(generator, 150, 110, 60))


def write_features(folder: Path, rng: np.random.Generator, rows: int = 20) -> tuple[Path, Path]:
    """Write `x.npy` of float32 [rows, 8] and `x.txt` of ids."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "x.npy", rng.standard_normal((rows, 8)).astype(np.float16).astype(np.float32))
    (folder / "x.txt").write_text("".join(f"id {row}\n" for row in range(rows)))
    return folder / "x.npy", folder / "x.txt"
