"""Extraction into stores: in order, resumable, and whole after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast.errors import (
    DuplicateIdError,
    ImageError,
    IncompatibleStoreError,
    ParameterError,
    StoreLockedError,
)
from ilias_fast.extract import (
    ClassicalExtractor,
    LocalFeatures,
    extract_to_stores,
)
from ilias_fast.images import FolderSource, TarSource
from ilias_fast.store import GlobalStore, LocalStore, exists
from tests.extract_samples import images_of

pytest.importorskip("PIL.Image", reason="decoding images needs Pillow (extra: classical)")

from tests.oracles import images as image_oracle  # needs Pillow


def _contents(global_store: Path, local_store: Path) -> tuple[Any, ...]:
    one, other = GlobalStore.open(global_store), LocalStore.open(local_store)
    images = [other.image(row) for row in range(len(other))]
    return (
        list(one.ids),
        one.rows(np.arange(len(one))).tobytes(),
        list(other.ids),
        [
            (
                i.codes.tobytes(),
                i.xy.tobytes(),
                i.scale.tobytes(),
                i.angle.tobytes(),
                i.weight.tobytes(),
                i.size,
            )
            for i in images
            if i.scale is not None and i.angle is not None and i.weight is not None
        ],
    )


class _Mean:
    """A fast extractor: mean colour as the global descriptor, one local descriptor an image."""

    global_dim = 3
    code_bits = 8
    local_optional = ("weight",)

    def __init__(self, version: int = 1, fail_at: int | None = None) -> None:
        self.version = version
        self.fail_at = fail_at
        self.seen = 0

    def provenance(self) -> dict[str, object]:
        return {"extractor": "mean", "version": self.version}

    def extract(self, images: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], list[LocalFeatures]]:
        self.seen += len(images)
        if self.fail_at is not None and self.seen > self.fail_at:
            raise KeyboardInterrupt
        means = np.array([image.mean(axis=(0, 1)) for image in images], np.float32).reshape(-1, 3)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return means, [
            LocalFeatures(
                xy=np.full((1, 2), 0.5, np.float32),
                size=(image.shape[1], image.shape[0]),
                codes=np.array([[image[0, 0, 0]]], np.uint8),
                weight=np.ones(1, np.float32),
            )
            for image in images
        ]


def test_everything_is_stored_in_order(classical: ClassicalExtractor, textures: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = extract_to_stores(
        classical,
        FolderSource(textures),
        global_store=tmp_path / "g",
        local_store=tmp_path / "l",
        batch_size=5,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert (report.extracted, report.resumed, report.skipped) == (12, 0, [])
    assert calls == [(0, 12), (5, 12), (10, 12), (12, 12)]
    vectors, local = classical.extract(images_of(textures))
    store, locals_ = GlobalStore.open(tmp_path / "g"), LocalStore.open(tmp_path / "l")
    names = [f"{number:02d}.jpg" for number in range(12)]
    assert list(store.ids) == list(locals_.ids) == names
    np.testing.assert_array_equal(store.rows(np.arange(12)), vectors.astype(np.float16))
    for row, features in enumerate(local):
        image = locals_.image(row)
        np.testing.assert_array_equal(image.codes, features.codes)
        np.testing.assert_array_equal(image.xy, features.xy)
        assert image.angle is not None
        np.testing.assert_array_equal(image.angle, features.angle)
        assert tuple(image.size) == features.size
    assert store.provenance["vocabulary"] == classical.fingerprint


def test_resuming_does_nothing_twice(textures: Path, tmp_path: Path) -> None:
    source = FolderSource(textures)
    names = list(source.ids())
    extractor = _Mean()
    first = extract_to_stores(extractor, source, names[:5], global_store=tmp_path / "g")
    assert first.extracted == 5
    # The local store is new, so all is needed; the global one gets only what it lacks.
    second = extract_to_stores(extractor, source, global_store=tmp_path / "g", local_store=tmp_path / "l")
    assert (second.extracted, second.resumed) == (12, 0)
    third = extract_to_stores(extractor, source, global_store=tmp_path / "g", local_store=tmp_path / "l")
    assert (third.extracted, third.resumed) == (0, 12)
    assert list(GlobalStore.open(tmp_path / "g").ids) == names
    assert list(LocalStore.open(tmp_path / "l").ids) == names


def test_ctrl_c_keeps_what_is_finished(textures: Path, tmp_path: Path) -> None:
    source = FolderSource(textures)
    with pytest.raises(KeyboardInterrupt):
        extract_to_stores(_Mean(fail_at=8), source, global_store=tmp_path / "g", batch_size=4)
    assert len(GlobalStore.open(tmp_path / "g")) == 8
    report = extract_to_stores(_Mean(), source, global_store=tmp_path / "g")
    assert (report.extracted, report.resumed) == (4, 8)


def test_an_unreadable_image_in_the_middle(textures: Path, tmp_path: Path) -> None:
    source = FolderSource(textures, [*[f"{n:02d}.jpg" for n in range(6)], "gone.jpg", "07.jpg"])
    report = extract_to_stores(_Mean(), source, global_store=tmp_path / "g", batch_size=3)
    assert report.extracted == 7
    assert [name for name, _ in report.skipped] == ["gone.jpg"]
    assert "No such file" in report.skipped[0][1]
    assert "gone.jpg" not in GlobalStore.open(tmp_path / "g").ids
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        extract_to_stores(_Mean(), source, global_store=tmp_path / "s", batch_size=4, strict=True)
    assert len(GlobalStore.open(tmp_path / "s")) == 6  # what came before is kept, in its own batch too


def test_damaged_images_of_every_kind_are_skipped(textures: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    good = (textures / "00.jpg").read_bytes()
    for name, data in {"a": good, "b": b"", "c": good[:-200], "d": b"text", "e": good}.items():
        (root / f"{name}.jpg").write_bytes(data)
    report = extract_to_stores(_Mean(), FolderSource(root), global_store=tmp_path / "g")
    assert report.extracted == 2
    assert [name for name, _ in report.skipped] == ["b.jpg", "c.jpg", "d.jpg"]
    assert len(GlobalStore.open(tmp_path / "g")) == 2


def test_tars_are_extracted_by_their_official_ids(textures: Path, tmp_path: Path) -> None:
    members = {f"{number}.jpg": (textures / f"{number:02d}.jpg").read_bytes() for number in range(3)}
    image_oracle.write_tar(tmp_path / "yfcc100m_0.tar", {**members, "3.jpg": b"damaged"})
    report = extract_to_stores(_Mean(), TarSource(tmp_path), global_store=tmp_path / "g")
    assert [name for name, _ in report.skipped] == ["yfcc100m_0.tar/3"]
    assert list(GlobalStore.open(tmp_path / "g").ids) == [f"yfcc100m_0.tar/{number}" for number in range(3)]


def test_no_image_readable_leaves_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"text")
    report = extract_to_stores(_Mean(), FolderSource(tmp_path), global_store=tmp_path / "g")
    assert (report.extracted, len(report.skipped)) == (0, 1)
    assert len(GlobalStore.open(tmp_path / "g")) == 0


def test_other_settings_are_not_mixed_in(textures: Path, tmp_path: Path) -> None:
    source = FolderSource(textures)
    extract_to_stores(_Mean(), source, global_store=tmp_path / "g")
    with pytest.raises(IncompatibleStoreError, match=r"version: 1 there, 2 now"):
        extract_to_stores(_Mean(version=2), source, global_store=tmp_path / "g")
    with pytest.raises(IncompatibleStoreError, match="local"):
        extract_to_stores(_Mean(), source, local_store=tmp_path / "g")
    wider = _Mean()
    wider.global_dim = 4
    with pytest.raises(IncompatibleStoreError, match="dimension 4, found 3"):
        extract_to_stores(wider, source, global_store=tmp_path / "g")
    # None of these left a lock behind, or a row.
    assert extract_to_stores(_Mean(), source, global_store=tmp_path / "g").resumed == 12


def test_two_writers(textures: Path, tmp_path: Path) -> None:
    extract_to_stores(_Mean(), FolderSource(textures), ["00.jpg"], global_store=tmp_path / "g")
    writer = GlobalStore.append_to(tmp_path / "g")
    with pytest.raises(StoreLockedError):
        extract_to_stores(_Mean(), FolderSource(textures), global_store=tmp_path / "g")
    writer.close()


def test_bad_arguments(textures: Path, tmp_path: Path) -> None:
    source = FolderSource(textures)
    with pytest.raises(ParameterError, match="neither"):
        extract_to_stores(_Mean(), source)
    with pytest.raises(ParameterError, match="batch_size"):
        extract_to_stores(_Mean(), source, global_store=tmp_path / "g", batch_size=0)
    with pytest.raises(DuplicateIdError, match=r"00\.jpg"):
        extract_to_stores(_Mean(), source, ["00.jpg", "00.jpg"], global_store=tmp_path / "g")
    blind: Any = _Mean()
    blind.code_bits = None
    with pytest.raises(ParameterError, match="no local codes"):
        extract_to_stores(blind, source, local_store=tmp_path / "l")
    assert not (tmp_path / "g").exists()


_KILLED = """
import sys, time
from pathlib import Path
from ilias_fast.extract import ClassicalExtractor, extract_to_stores
from ilias_fast.images import FolderSource
root, model, out = map(Path, sys.argv[1:])
class Slow(ClassicalExtractor):
    def extract(self, images):
        time.sleep(0.3)  # to be killed in
        return super().extract(images)
extract_to_stores(Slow.load(model, threads=1), FolderSource(root), global_store=out / "g",
                  local_store=out / "l", batch_size=2, commit_every=4, threads=1)
"""


def test_a_killed_extraction_resumes_to_the_same_stores(
    classical: ClassicalExtractor, textures: Path, tmp_path: Path
) -> None:
    classical.save(tmp_path / "model")
    source = FolderSource(textures)
    (tmp_path / "whole").mkdir()
    extract_to_stores(
        classical, source, global_store=tmp_path / "whole" / "g", local_store=tmp_path / "whole" / "l"
    )
    for stored in (4, 8):
        out = tmp_path / f"killed{stored}"
        out.mkdir()
        arguments = [sys.executable, "-c", _KILLED, str(textures), str(tmp_path / "model"), str(out)]
        with subprocess.Popen(arguments) as process:
            while process.poll() is None:
                if exists(out / "l") and len(LocalStore.open(out / "l")) >= stored:  # committed second
                    os.kill(process.pid, signal.SIGKILL)
                    break
                time.sleep(0.01)
        assert process.returncode == -signal.SIGKILL
        deadline = time.monotonic() + 5
        while True:
            try:
                report = extract_to_stores(classical, source, global_store=out / "g", local_store=out / "l")
                break
            except StoreLockedError:  # the lock goes with the last thread of the killed process
                assert time.monotonic() < deadline
        assert stored <= report.resumed < 12
        assert report.resumed + report.extracted == 12
        assert _contents(out / "g", out / "l") == _contents(
            tmp_path / "whole" / "g", tmp_path / "whole" / "l"
        )
