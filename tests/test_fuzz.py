"""Damaged input of every kind, through public calls: only typed errors may come out, and never a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast._files import read_lines
from ilias_fast.adapt import LinearAdapter, PcaWhitening
from ilias_fast.datasets import load_dataset
from ilias_fast.errors import IliasFastError
from ilias_fast.evaluate import evaluate
from ilias_fast.images import TarSource, decode
from ilias_fast.run import Run
from ilias_fast.search import search
from ilias_fast.store import GlobalStore, LocalStore, gc, import_store, open_store, verify
from ilias_fast.store.sources import open_features, read_queries
from tests.command_line import World
from tests.store_samples import write_manifest


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with a few of them changed, removed, repeated, or replaced by extreme ones."""
    bad = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(bad) + 1))
        length = int(rng.integers(1, 9))
        match int(rng.integers(0, 5)):
            case 0:
                bad[at : at + length] = rng.bytes(length)
            case 1:
                del bad[at : at + length]
            case 2:
                bad[at:at] = bad[max(0, at - length) : at]
            case 3:
                bad[at : at + length] = rng.choice([b"\x00", b"\xff", b"9", b"-", b"\n", b'"']) * length
            case _:
                del bad[at:]
    return bytes(bad)


def survives(call: Callable[[], object]) -> bool:
    """Return whether a call succeeds; anything but a typed error fails the test."""
    try:
        call()
    except IliasFastError:
        return False
    return True


def fuzz(path: Path, call: Callable[[], object], rng: np.random.Generator, rounds: int) -> None:
    """Call with `rounds` damaged versions of a file, some of which must be refused."""
    good = path.read_bytes()
    assert survives(call)
    refused = 0
    for _ in range(rounds):
        path.write_bytes(mutated(good, rng))
        refused += not survives(call)
    path.write_bytes(good)
    assert refused > rounds // 20


def test_npy(tmp_path: Path, rng: np.random.Generator) -> None:
    array, ids = tmp_path / "x.npy", tmp_path / "x.txt"
    np.save(array, rng.standard_normal((6, 3)).astype(np.float16))
    ids.write_text("".join(f"ïd {row}\n" for row in range(6)), "utf-8")

    def load() -> None:
        import_store(array, tmp_path / "s", ids=ids, overwrite=True)
        read_queries(array)
        with open_features([array], near=tmp_path / "run.json") as stores:
            assert len(stores[0]) == 6

    fuzz(array, load, rng, 250)
    fuzz(ids, load, rng, 80)
    fuzz(ids, lambda: read_lines(ids), rng, 200)
    assert not list(tmp_path.glob(".ilias-fast-*"))


def test_tar(tmp_path: Path, rng: np.random.Generator) -> None:
    images = pytest.importorskip("tests.oracles.images", reason="decoding images needs Pillow")
    pixels = images.texture(rng, 20, 16, 5)
    members = {
        f"{row}.{kind}": images.encode(pixels, form)
        for row, (kind, form) in enumerate([("jpg", "JPEG"), ("png", "PNG"), ("jpeg", "JPEG")])
    }
    path = images.write_tar(tmp_path / "x.tar", members)

    def load() -> None:
        source = TarSource(path)
        for name in source.ids():
            decode(source.read(name), name)

    fuzz(path, load, rng, 400)


def test_learnt_files(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "layer"
    LinearAdapter(rng.standard_normal((3, 4)).astype("f4"), np.zeros(3, "f4")).save(path)
    fuzz(path, lambda: LinearAdapter.load(path), rng, 300)
    whitening = tmp_path / "whitening"
    PcaWhitening.fit(rng.standard_normal((20, 4)).astype("f4"), 3).save(whitening)
    fuzz(whitening, lambda: PcaWhitening.load(whitening), rng, 300)


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_official_checkpoints(tmp_path: Path, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="checkpoints need torch (extra: torch)")
    path = tmp_path / "layer.pth"
    state = {"layer.weight": torch.ones(3, 4), "layer.bias": torch.zeros(3)}
    for new_format in (True, False):
        torch.save(state, path, _use_new_zipfile_serialization=new_format)
        fuzz(path, lambda: LinearAdapter.load(path), rng, 120)
    for strange in (torch.ones(3, 4).to_sparse(), torch.ones(3, 4, dtype=torch.complex64)):
        torch.save({**state, "layer.weight": strange}, path)
        assert not survives(lambda: LinearAdapter.load(path))


@pytest.mark.parametrize("extension", ["json", "pkl", "npz"])
def test_runs_to_the_end_of_an_evaluation(
    world: World, extension: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, dataset = tmp_path / f"run.{extension}", load_dataset(world.photos)
    Run.load(world.run).save(path)
    fuzz(path, lambda: evaluate(Run.load(path), dataset, missing="zero", check_ids=True), rng, 150)


EXTREMES: list[Any] = [
    0,
    1,
    -1,
    2**31,
    2**53,
    2**63 - 1,
    2**64 - 1,
    2**64,
    1.5,
    True,
    None,
    "",
    "../..",
    [],
    {},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, child in inner for found in places(child, (*path, key))]


@pytest.mark.parametrize("kind", ["database", "local_database"])
def test_manifests_that_lie_with_a_valid_checksum(world: World, kind: str, tmp_path: Path) -> None:
    """Whatever a manifest claims, the files are checked against it before they are read."""
    import shutil

    path = Path(shutil.copytree(getattr(world, kind), tmp_path / "s"))
    manifest = path / "manifest.json"
    good = manifest.read_text()
    signed = 0

    def use() -> None:
        store = open_store(path)
        names = list(store.ids)
        store.find(names)
        if isinstance(store, LocalStore):
            assert all(image.codes.shape[0] == image.xy.shape[0] for image in store)
        elif isinstance(store, GlobalStore):
            search(GlobalStore.open(world.queries), store, 3)
        verify(path)
        gc(path)

    assert survives(use)
    content = json.loads(good)
    for place in places(content):
        for extreme in EXTREMES:
            changed = json.loads(good)
            inside = changed
            for key in place[:-1]:
                inside = inside[key]
            inside[place[-1]] = extreme
            write_manifest(path, changed)
            signed += "checksum mismatch" not in _message(path)
            survives(use)
            assert sorted(file.name for file in tmp_path.iterdir()) == ["s"]
    assert signed > 200, "the checksums were wrong: the test tests nothing"
    manifest.write_text(good)
    assert survives(use)


def _message(path: Path) -> str:
    try:
        open_store(path)
    except IliasFastError as error:
        return str(error)
    return ""


def test_shard_headers(world: World, tmp_path: Path, rng: np.random.Generator) -> None:
    import shutil

    path = Path(shutil.copytree(world.local_database, tmp_path / "s"))
    (shard,) = (path / "shards").iterdir()
    good = shard.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")

    def use() -> None:
        store = LocalStore.open(path)
        for image in store:
            assert image.codes.sum() >= 0
            assert image.xy.shape[0] == image.codes.shape[0]
        assert len(list(store.ids)) == len(store)

    refused = 0
    for _ in range(400):
        # The size is kept, which the manifest checks, so that the content is what is looked at.
        bad = bytearray(good)
        for at in rng.integers(0, header, 2):
            bad[at] = int(rng.choice(list(b'0129"[]{},: \xff')))
        shard.write_bytes(bad)
        refused += not survives(use)
    assert refused > 200
