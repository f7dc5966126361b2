"""The command line: hostile names, odd outputs, Ctrl-C and kills."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.store import GlobalStore, LocalStore
from tests.command_line import (
    World,
    done,
    draw_photos,
    failing,
    finished,
    only_progress,
    process,
    the_error,
)


@pytest.mark.parametrize("name", ["[red]x", "[bold", ":cat:", "a\nb", "\x1b[2J", "café", "x" * 150, "\udcff"])
def test_names_are_printed_as_they_are_and_do_nothing(name: str, tmp_path: Path) -> None:
    array = tmp_path / "x.npy"
    np.save(array, np.eye(3, dtype=np.float32))
    array = array.rename(tmp_path / f"{name}.npy")
    output = tmp_path / f"{name}.json"
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert done("search", array, array, "-o", output).endswith(f"{shown}.json\n")
    assert f"{shown}.hdf5" in failing("search", tmp_path / f"{name}.hdf5", array, "-o", output)


def test_an_output_without_unicode(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    search = ["search", tmp_path / "x.npy", tmp_path / "x.npy", "-o", tmp_path / "café.json"]
    result = finished(*search, environment={"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"})
    assert (result.code, result.out) == (0, f"3 queries, 9 results: {tmp_path}/caf\\xe9.json\n")
    only_progress(result.err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_is_full() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = finished("doctor", stdout=full)
    assert result.code == 1
    assert the_error(result.err) == "cannot print: No space left on device"


def test_a_reader_that_has_seen_enough(world: World) -> None:
    for arguments in (
        ["--help"],
        ["store", "info", world.database],
        ["evaluate", world.run, "-d", world.photos],
    ):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as nobody:
            result = finished(*arguments, stdout=nobody)
        assert result.err == "", arguments
        assert result.code in (0, 1), arguments


def test_color_only_on_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in done("store", "info", world.database)
    script = shutil.which("script")
    if script is None:
        pytest.skip("there is no script command to make a terminal")
    line = f"{sys.executable} -m ilias_fast store info {world.database}"
    monkeypatch.setenv("TERM", "xterm")
    for setting, colored in ((None, True), ("1", False)):
        if setting is not None:
            monkeypatch.setenv("NO_COLOR", setting)
        shown = subprocess.run([script, "-qec", line, "/dev/null"], capture_output=True, text=True).stdout
        assert "vocabulary" in shown
        assert ("\x1b[1m" in shown or "\x1b[31m" in shown) or not colored


def interrupted(started: subprocess.Popen[str]) -> tuple[str, float]:
    """Send Ctrl-C; return stderr and how long the end took."""
    began = time.monotonic()
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=30)
    return err, time.monotonic() - began


def test_ctrl_c_during_a_search(tmp_path: Path, rng: np.random.Generator) -> None:
    store, output = tmp_path / "s", tmp_path / "run.json"
    with GlobalStore.create(store, dim=256) as writer:
        writer.append([str(row) for row in range(40_000)], rng.standard_normal((40_000, 256)).astype("f2"))
    np.save(tmp_path / "q.npy", rng.standard_normal((100_000, 256)).astype(np.float32))
    with process("search", tmp_path / "q.npy", store, "-o", output, "-t", 1) as started:
        time.sleep(1.5)
        assert started.poll() is None, "the search was over before it could be stopped"
        err, seconds = interrupted(started)
    assert started.returncode == 130
    assert the_error(err) == "interrupted"
    # The promise is one second on a machine with nothing else to do; the whole search takes over 25.
    assert seconds < 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.npy", "s"]


def cpu_seconds(process: int) -> float:
    """What a process has computed so far, however busy the machine is."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_extraction_goes_on(world: World, tmp_path: Path, stop: signal.Signals) -> None:
    photos = tmp_path / "photos"
    draw_photos(photos)
    for number in range(1200):
        (photos / "distractors" / f"e{number:04d}.jpg").hardlink_to(photos / "distractors" / "d0.jpg")
    extract = ["extract", photos, "--learnt", world.learnt, "-o", tmp_path / "g", "--local", tmp_path / "l"]
    with process(*extract, "--batch-size", 4, "-t", 1) as started:
        while not (tmp_path / "l" / "lock").exists():
            assert started.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)
        assert started.poll() is None, "the extraction was over before it could be stopped"
        started.send_signal(stop)
        _, err = started.communicate(timeout=30)
    if stop == signal.SIGINT:
        assert (started.returncode, the_error(err)) == (130, "interrupted")
        assert 0 < len(GlobalStore.open(tmp_path / "g")) == len(LocalStore.open(tmp_path / "l")) < 1212
    else:
        assert started.returncode == -signal.SIGKILL
    printed = done(*extract)
    resumed = int(printed.split(" were there")[0].split()[-1])
    assert (resumed > 0) == (stop == signal.SIGINT)  # nothing was committed when the process was killed
    assert len(GlobalStore.open(tmp_path / "g")) == len(LocalStore.open(tmp_path / "l")) == 1212
    assert "all good" in done("store", "verify", tmp_path / "g")
