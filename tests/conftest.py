"""Shared fixtures: seeded randomness, every CPU level, the folder of shared examples."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Two test processes on two cores: BLAS threads beyond that only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from ilias_fast import cpu
from tests.browsing import BROWSERS
from tests.command_line import World, make_world

if TYPE_CHECKING:
    from ilias_fast.extract import ClassicalExtractor

# Started in the background of a script, a process ignores Ctrl-C, and so do its children; the tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile(
    "thorough", parent=settings.get_profile("default"), max_examples=2000, derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a CUDA device where there is none."""
    if item.get_closest_marker("cuda") is not None:
        torch = pytest.importorskip("torch", reason="torch is not installed")
        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device here")


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers seeded by the test's own name: the same on every run, different in every test."""
    digest = hashlib.sha256(request.node.nodeid.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


@pytest.fixture(params=cpu.available_levels())
def cpu_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once at every CPU level this machine has."""
    with cpu.pinned(request.param):
        yield request.param


def _shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the shared folder {'/'.join(parts)} is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def examples() -> Path:
    """The worked examples of the field's protocols."""
    return _shared("protocols", "examples")


@pytest.fixture(scope="session")
def photos() -> Path:
    """Real photographs in the `<instance>/query`, `<instance>/pos`, `distractors/` layout."""
    return _shared("photos")


@pytest.fixture(scope="session")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve textured JPEGs of different sizes, `00.jpg` to `11.jpg`. Not to be changed."""
    pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")
    from tests.extract_samples import write_textures

    root = tmp_path_factory.mktemp("textures")
    write_textures(root)
    return root


@pytest.fixture(scope="session")
def classical(textures: Path) -> ClassicalExtractor:
    """A small classical extractor fitted to the textures."""
    pytest.importorskip("cv2", reason="classical extraction needs OpenCV (extra: classical)")
    from ilias_fast.extract import ClassicalExtractor
    from ilias_fast.images import FolderSource
    from tests.extract_samples import SMALL

    return ClassicalExtractor.fit(FolderSource(textures), options=SMALL, threads=2)


@pytest.fixture
def small(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A global store of two shards of 4 rows each."""
    from ilias_fast.store import GlobalStore

    path = tmp_path / "small"
    with GlobalStore.create(path, dim=4, provenance={"model": "m"}) as writer:
        for first in (0, 4):
            matrix = rng.standard_normal((4, 4)).astype(np.float16)
            writer.append([f"id{first + row}" for row in range(4)], matrix)
            writer.commit()
    return path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny dataset and everything the command line makes of it; read-only."""
    pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")
    pytest.importorskip("cv2", reason="classical extraction needs OpenCV (extra: classical)")
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser found (looked for {', '.join(BROWSERS)})")
    return found
