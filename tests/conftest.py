"""Shared fixtures: seeded randomness, every CPU level, the folder of shared examples."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

# Two test processes on two cores: BLAS threads beyond that only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from ilias_fast import cpu
from tests.command_line import World, make_world

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
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny dataset and everything the command line makes of it; read-only."""
    pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")
    pytest.importorskip("cv2", reason="classical extraction needs OpenCV (extra: classical)")
    return make_world(tmp_path_factory.mktemp("world"))
