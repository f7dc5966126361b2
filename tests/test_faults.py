"""What a user of the command line meets when disks fill up, files are damaged, images cannot be read."""

from __future__ import annotations

import json
import pickle
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.adapt import LinearAdapter
from ilias_fast.run import Run
from ilias_fast.store import GlobalStore, LocalStore
from tests.command_line import World, command, done, draw_photos, failing, finished, the_error


@pytest.fixture
def photos(world: World, tmp_path: Path) -> Path:
    """A copy of the photographs, to damage."""
    return Path(shutil.copytree(world.photos, tmp_path / "photos"))


# --- images that cannot be read ---------------------------------------------------------------------------


def test_unreadable_images_are_skipped_and_named(world: World, photos: Path, tmp_path: Path) -> None:
    (photos / "distractors" / "d2.jpg").write_bytes(b"no image")
    half = photos / "cup" / "pos" / "cup-1.jpg"
    half.write_bytes(half.read_bytes()[:500])
    (photos / "distractors" / "d4.jpg").write_bytes(b"")
    stores = ["-o", tmp_path / "g", "--local", tmp_path / "l"]
    extract = ["extract", photos, "--learnt", world.learnt, "--part", "database", *stores]
    first, *skipped = done(*extract).splitlines()
    assert first == "7 images described, 0 were there, 3 skipped"
    assert [line.split(":")[0] for line in skipped] == [
        "skipped cup/pos/cup-1.jpg",
        "skipped distractors/d2.jpg",
        "skipped distractors/d4.jpg",
    ]
    assert len(GlobalStore.open(tmp_path / "g")) == len(LocalStore.open(tmp_path / "l")) == 7
    # The images come back: the same command completes the stores.
    for name in ("distractors/d2.jpg", "distractors/d4.jpg", "cup/pos/cup-1.jpg"):
        shutil.copy(world.photos / name, photos / name)
    assert done(*extract).startswith("3 images described, 7 were there, 0 skipped")


def test_strict_stops_at_the_first_and_keeps_what_came_before(
    world: World, photos: Path, tmp_path: Path
) -> None:
    (photos / "distractors" / "d2.jpg").write_bytes(b"no image")
    extract = ["extract", photos, "--learnt", world.learnt, "--part", "database", "-o", tmp_path / "g"]
    assert failing(*extract, "--strict").startswith("distractors/d2.jpg: ")
    assert list(GlobalStore.open(tmp_path / "g").ids)[-1] == "distractors/d1.jpg"
    assert done(*extract).splitlines()[0] == "3 images described, 6 were there, 1 skipped"


def test_nothing_readable(world: World, photos: Path, tmp_path: Path) -> None:
    for image in photos.rglob("*.jpg"):
        image.write_bytes(b"no image")
    assert "none of 12 can be read" in failing(
        "extract", photos, "--learnt", tmp_path / "new", "-o", tmp_path / "g"
    )
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "g").exists()
    extract = ["extract", photos, "--learnt", world.learnt, "-o", tmp_path / "g"]
    assert done(*extract).startswith("0 images described, 0 were there, 12 skipped")
    done("search", tmp_path / "g", world.database, "-o", tmp_path / "none.json")
    done("search", world.queries, tmp_path / "g", "-o", tmp_path / "empty.json")
    assert [
        len(Run.load(tmp_path / "empty.json")[query].ids) for query in GlobalStore.open(world.queries).ids
    ] == [
        0,
        0,
    ]
    assert done("evaluate", tmp_path / "empty.json", "-d", world.photos).split()[-3:] == ["0.00", "0.00", "2"]


def test_the_report_shows_images_that_vanished(world: World, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="a report needs Jinja (extra: report)")
    (photos / "distractors" / "d2.jpg").write_bytes(b"no image")
    done("report", world.run, "-d", photos, "-o", tmp_path / "page.html")
    assert "d2.jpg" in (tmp_path / "page.html").read_text("utf-8")


# --- features and runs that do not fit together -----------------------------------------------------------


def test_sides_made_by_different_extractors(world: World, tmp_path: Path) -> None:
    draw_photos(tmp_path / "photos")
    (tmp_path / "photos" / "distractors" / "d0.jpg").unlink()
    other = [
        "--learnt",
        tmp_path / "other",
        "--part",
        "queries",
        "-o",
        tmp_path / "q",
        "--local",
        tmp_path / "l",
    ]
    done("extract", tmp_path / "photos", *other, "--seed", 7)
    search = ["search", tmp_path / "q", world.database, "-o", tmp_path / "r.json"]
    message = failing(*search)
    assert "found different vocabulary" in message
    done(*search, "--force")
    continued = failing("extract", world.photos, "--learnt", tmp_path / "other", "-o", world.database)
    assert "made with other settings (vocabulary" in continued


def test_dimensions_that_differ(world: World, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    assert "3" in failing("search", tmp_path / "x.npy", world.database, "-o", tmp_path / "r.json")
    assert "16384" in failing("search", world.queries, tmp_path / "x.npy", "-o", tmp_path / "r.json").replace(
        ",", ""
    )


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.array([[1.0, np.nan]], np.float32), "NaN"),
        (np.array([[1.0, -np.inf]], np.float32), "inf"),
        (np.array([[1.0, 1e9]], np.float32), "float16|inf"),
        (np.zeros((1, 2), np.complex64), "complex64"),
        (np.zeros((1, 2), np.int64), "int64"),
        (np.zeros(3, np.float32), r"\[3\]"),
        (np.zeros((2, 2, 2), np.float32), r"\[2, 2, 2\]"),
        (np.zeros((3, 0), np.float32), r"\[3, 0\]"),
        (np.array([["a"]], object), "npy"),
    ],
)
def test_matrices_that_are_no_features(
    matrix: np.ndarray[tuple[int, ...], np.dtype[np.generic]], message: str, tmp_path: Path
) -> None:
    import re

    np.save(tmp_path / "x.npy", matrix, allow_pickle=True)
    (tmp_path / "x.txt").write_text("".join(f"{row}\n" for row in range(len(matrix))))
    for arguments in (
        ["store", "import", tmp_path / "x.npy", "-o", tmp_path / "s"],
        ["search", tmp_path / "x.npy", tmp_path / "x.npy", "-o", tmp_path / "r.json"],
    ):
        assert re.search(message, failing(*arguments)), arguments
    assert not (tmp_path / "r.json").exists()
    assert "expected a store" in failing("store", "info", tmp_path / "s")


@pytest.mark.parametrize("names", ["a\nb\n", "a\nb\nc\nd\n", "a\nb\nb\n", "a\n\nb\n", ""])
def test_ids_that_do_not_fit_the_rows(names: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "x.txt").write_text(names)
    failing("store", "import", tmp_path / "x.npy", "-o", tmp_path / "s")
    failing("search", tmp_path / "x.npy", tmp_path / "x.npy", "-o", tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


class _Weapon:
    """Unpickles by creating a file."""

    def __init__(self, target: Path):
        self.target = str(target)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.target, "w")


def test_a_malicious_pickle_is_not_executed(world: World, tmp_path: Path) -> None:
    (tmp_path / "run.pkl").write_bytes(pickle.dumps(_Weapon(tmp_path / "executed")))
    for arguments in (
        ["evaluate", tmp_path / "run.pkl", "-d", world.photos],
        ["report", tmp_path / "run.pkl", "-d", world.photos, "-o", tmp_path / "page.html"],
        [
            "rerank",
            tmp_path / "run.pkl",
            world.local_queries,
            world.local_database,
            "-o",
            tmp_path / "r.json",
        ],
        [
            "search",
            world.queries,
            world.database,
            "--adapter",
            tmp_path / "run.pth",
            "-o",
            tmp_path / "r.json",
        ],
    ):
        shutil.copy(tmp_path / "run.pkl", tmp_path / "run.pth")
        assert "run.p" in failing(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.pkl", "run.pth"]


def test_runs_that_name_what_is_not_there(world: World, tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    local = [world.local_queries, world.local_database]
    run.write_text(json.dumps({"bag/query/bag-q.jpg": {"bag/pos/bag-9.jpg": 1}}))
    assert "'bag/pos/bag-9.jpg'" in failing("rerank", run, *local, "-o", tmp_path / "r.json")
    assert "bag-9.jpg" in failing("evaluate", run, "-d", world.photos, "--check-ids")
    run.write_text(json.dumps({"bag/query/nobody.jpg": {"bag/pos/bag-1.jpg": 1}}))
    for arguments in (
        ["rerank", run, *local, "-o", tmp_path / "r.json"],
        ["evaluate", run, "-d", world.photos],
        ["report", run, "-d", world.photos, "-o", tmp_path / "r.html"],
    ):
        assert "'bag/query/nobody.jpg'" in failing(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


# --- damaged stores ---------------------------------------------------------------------------------------


def _truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])


def _flip(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "opens"),
    [(_truncate, False), (Path.unlink, False), (_flip, True)],
    ids=["cut", "gone", "flipped"],
)
def test_a_damaged_shard(world: World, damage: Callable[[Path], None], opens: bool, tmp_path: Path) -> None:
    store = Path(shutil.copytree(world.local_database, tmp_path / "s"))
    (shard,) = (store / "shards").iterdir()
    damage(shard)
    verified = command("store", "verify", store)
    assert verified.code == 1
    assert shard.name in verified.out
    assert "DAMAGED" in verified.out
    assert "\nTraceback" not in verified.err
    if opens:
        done("store", "info", store)
        return
    for arguments in (
        ["store", "info", store],
        ["rerank", world.run, world.local_queries, store, "-o", tmp_path / "r.json"],
        ["extract", world.photos, "--part", "database", "--learnt", world.learnt, "--local", store],
    ):
        assert shard.name in failing(*arguments)
    assert not (tmp_path / "r.json").exists()


def test_a_store_that_is_being_written(world: World, tmp_path: Path) -> None:
    store = Path(shutil.copytree(world.database, tmp_path / "s"))
    extract = ["extract", world.photos, "--part", "database", "--learnt", world.learnt, "-o", store]
    with GlobalStore.append_to(store):
        assert "another writer has this store open" in failing(*extract)
        assert "another writer has this store open" in failing("store", "gc", store)
        done("search", world.queries, store, "-o", tmp_path / "r.json")  # reading is always possible
    done(*extract)


# --- disks that are full ----------------------------------------------------------------------------------


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """Mount a small tmpfs, or skip the test."""
    path.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "none", path], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def writing_commands(world: World, array: Path, disk: Path) -> dict[str, list[object]]:
    """Return commands that write more than 100 kB to `disk`, by the name of what they write."""
    ids = array.with_suffix(".txt")
    return {
        "learnt": ["extract", world.photos, "--learnt", disk / "learnt", "--local", disk / "new"],
        "g": ["extract", world.photos, "--learnt", world.learnt, "-o", disk / "g"],
        "s": ["store", "import", array, "--ids", ids, "-o", disk / "s"],
        "x.npy": ["store", "export", world.database, "-o", disk / "x.npy"],
        "x.safetensors": ["store", "export", array.with_name("random"), "-o", disk / "x.safetensors"],
        "x.faiss": ["store", "export", array.with_name("random"), "-o", disk / "x.faiss"],
        "b": [
            "adapt",
            "apply",
            array.with_name("random"),
            "--adapter",
            array.with_name("layer"),
            "-o",
            disk / "b",
        ],
        "x.hdf5": ["store", "export", array.with_name("random"), "-o", disk / "x.hdf5"],
        "run.json": ["search", array, array, "-o", disk / "run.json"],
        "run.npz": ["search", array, array, "-o", disk / "run.npz"],
        "page.html": ["report", world.run, "-d", world.photos, "-o", disk / "page.html"],
    }


@pytest.fixture(scope="module")
def random_array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matrix of 1000 x 100 random numbers with its ids, and a store of them."""
    folder = tmp_path_factory.mktemp("array")
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((1000, 100)).astype(np.float32))
    (folder / "x.txt").write_text("".join(f"{row}\n" for row in range(1000)))
    done("store", "import", folder / "x.npy", "-o", folder / "random")
    LinearAdapter(np.eye(100), np.zeros(100)).save(folder / "layer")
    return folder / "x.npy"


def leftovers(disk: Path) -> list[str]:
    """Return the files that a failed command left, empty lock files apart."""
    return [path.name for path in disk.rglob("*") if path.is_file() and path.name != "lock"]


WRITERS = [
    "learnt",
    "g",
    "s",
    "b",
    "x.npy",
    "x.safetensors",
    "x.faiss",
    "x.hdf5",
    "run.json",
    "run.npz",
    "page.html",
]


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk(world: World, random_array: Path, name: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 48 << 10) as disk:
        arguments = writing_commands(world, random_array, disk)[name]
        message = failing(*arguments)
        assert "No space left on device" in message or "errno = 28" in message
        assert str(disk) in message
        assert leftovers(disk) == []
        # With room the same command succeeds.
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        done(*arguments)


@pytest.mark.parametrize("name", ["g", "s", "b", "x.faiss", "run.json", "page.html"])
def test_a_limit_on_the_size_of_files(world: World, random_array: Path, name: str, tmp_path: Path) -> None:
    # EFBIG takes the same way as a full disk, and needs no privileges.
    def limited() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    disk = tmp_path / "disk"
    disk.mkdir()
    arguments = writing_commands(world, random_array, disk)[name]
    result = finished(*arguments, preexec_fn=limited)
    assert result.code == 1
    assert "File too large" in the_error(result.err)
    assert leftovers(disk) == []


def test_a_full_disk_leaves_what_was_there(world: World, random_array: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        store, run = disk / "s", disk / "run.json"
        shutil.copytree(world.queries, store)
        run.write_text("{}")
        done("store", "verify", store)
        (disk / "ballast").write_bytes(bytes(840 << 10))
        add = ["extract", world.photos, "--part", "database", "--learnt", world.learnt, "-o", store]
        assert "No space left" in failing(*add)
        assert "all good" in done("store", "verify", store)
        assert len(GlobalStore.open(store)) == 2
        assert "No space left" in failing("search", random_array, random_array, "-o", run)
        assert run.read_text() == "{}"
        (disk / "ballast").unlink()
        assert done(*add).startswith("10 images described")
        assert len(GlobalStore.open(store)) == 12
