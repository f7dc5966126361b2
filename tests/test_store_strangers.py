"""Stores among strangers: forked children and their locks, pipes under the names of files, odd names."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ilias_fast import _core
from ilias_fast.errors import CorruptStoreError, StoreLockedError
from ilias_fast.store import GlobalStore, gc, verify
from tests.store_samples import make_global, shards_of, vectors

unix = pytest.mark.skipif(not hasattr(os, "fork"), reason="Unix")


def _ends(call: Callable[[], object]) -> BaseException | None:
    """Return what `call` raises; fail if it does not come back."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
        except BaseException as cause:
            raised.append(cause)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert raised, "it hangs"
    return raised[0]


@unix
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_keeps_no_lock_and_gives_none_away(tmp_path: Path, rng: np.random.Generator) -> None:
    reader, end = os.pipe()
    with GlobalStore.create(tmp_path / "s", dim=8) as writer:
        writer.append(["a"], vectors(rng, 1))
        child = os.fork()
        if child == 0:
            os.close(end)
            os.read(reader, 1)  # until the parent is through
            os._exit(0)
        # A child that ends takes nothing with it.
        brief = os.fork()
        if brief == 0:
            writer.close()
            os._exit(0)
        os.waitpid(brief, 0)
        writer.commit()
        with pytest.raises(StoreLockedError):
            GlobalStore.append_to(tmp_path / "s")
    try:
        with GlobalStore.append_to(tmp_path / "s") as writer:
            writer.append(["b"], vectors(rng, 1))
        assert gc(tmp_path / "s") == ()
    finally:
        os.close(end)
        os.close(reader)
        os.waitpid(child, 0)
    assert list(GlobalStore.open(tmp_path / "s").ids) == ["a", "b"]


@unix
@pytest.mark.parametrize("name", ["manifest.json", "lock", "shard"])
def test_a_pipe_under_the_name_of_a_file_keeps_nobody_waiting(
    tmp_path: Path, rng: np.random.Generator, name: str
) -> None:
    make_global(tmp_path / "s", rng)
    path = shards_of(tmp_path / "s")[0] if name == "shard" else tmp_path / "s" / name
    path.unlink()
    os.mkfifo(path)
    raised = _ends(lambda: GlobalStore.append_to(tmp_path / "s"))
    assert isinstance(raised, CorruptStoreError)
    assert str(path) in str(raised)
    if name == "shard":
        report = verify(tmp_path / "s")
        assert "found a pipe" in report.damages[0].detail
    if name != "lock":
        assert isinstance(_ends(lambda: GlobalStore.open(tmp_path / "s")), CorruptStoreError)


@unix
def test_a_device_is_no_manifest(tmp_path: Path, rng: np.random.Generator) -> None:
    make_global(tmp_path / "s", rng)
    (tmp_path / "s" / "manifest.json").unlink()
    (tmp_path / "s" / "manifest.json").symlink_to("/dev/zero")
    with pytest.raises(CorruptStoreError, match="found a pipe, a socket or a device"):
        GlobalStore.open(tmp_path / "s")


@unix
def test_gc_leaves_folders_and_names_that_are_no_text_alone(tmp_path: Path, rng: np.random.Generator) -> None:
    make_global(tmp_path / "s", rng)
    shards = tmp_path / "s" / "shards"
    (shards / "folder.safetensors").mkdir()
    stranger = os.fsencode(shards) + b"/\xff.safetensors"
    try:
        Path(os.fsdecode(stranger)).touch()
    except OSError:
        pytest.skip("this file system wants text")
    (shards / "000009-left.safetensors").touch()
    assert verify(tmp_path / "s").leftovers == ("shards/000009-left.safetensors",)
    assert [str(name) for name in gc(tmp_path / "s")] == ["shards/000009-left.safetensors"]
    assert len(list(shards.iterdir())) == 3
    assert _core.gc_store(tmp_path / "s") == []
