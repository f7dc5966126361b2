"""Hostile arguments that once gave a raw traceback or a wrong answer, or were taken for something else."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast import cpu, kernels
from ilias_fast.adapt import Itq, PcaWhitening, Signs, sample_rows
from ilias_fast.datasets import GroundTruth, Labels, load_dataset, load_truth
from ilias_fast.errors import (
    CpuLevelError,
    DatasetError,
    DtypeError,
    IliasFastError,
    InputError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    StorageError,
)
from ilias_fast.evaluate import RandomSubsets, run_from_ranks
from ilias_fast.images import (
    FilesSource,
    FolderSource,
    TarSource,
    box_mask,
    crop_to_boxes,
    padding,
    resize,
    resize_mask,
    resized_size,
    white_balance,
)
from ilias_fast.rerank import (
    ChamferOptions,
    DiffusionOptions,
    KReciprocalOptions,
    LocalScores,
    SpatialOptions,
)
from ilias_fast.run import Run
from ilias_fast.search import augment, search, search_fused
from ilias_fast.store import (
    GlobalStore,
    LocalImage,
    LocalStore,
    exists,
    export_store,
    import_store,
    merge,
    open_store,
    read_matrix,
)
from tests.command_line import SOURCES

QUERIES = np.eye(2, 4, dtype=np.float32)
ROWS = np.eye(4, dtype=np.float16)
CODES = np.arange(64, dtype=np.uint8).reshape(4, 16)
XY = np.full((4, 2), 0.5, np.float32)
IMAGE = np.zeros((6, 8, 3), np.uint8)
RUN = Run.from_dict({"q": {"a": 1.0, "b": 0.5}})
HUGE = 10**400


@pytest.fixture
def store(tmp_path: Path) -> GlobalStore:
    with GlobalStore.create(tmp_path / "vectors", dim=4) as writer:
        writer.append(["a", "b", "c", "d"], ROWS)
    return GlobalStore.open(tmp_path / "vectors")


def refused(error: type[IliasFastError], message: str, call: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=message) as raised:
            call()
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 500


# --- numbers ---


@pytest.mark.parametrize(
    ("name", "call"),
    {
        "threshold": lambda: kernels.verify_spatial(XY, XY, threshold=HUGE),
        "ratio": lambda: kernels.match(CODES, CODES, ratio=HUGE),
        "alpha": lambda: DiffusionOptions(alpha=HUGE),
        "gamma": lambda: DiffusionOptions(gamma=HUGE),
        "k1": lambda: KReciprocalOptions(k1=HUGE),
        "min_inliers": lambda: SpatialOptions(min_inliers=2**70),
        "query_descriptors": lambda: ChamferOptions(query_descriptors=2**70),
        "shortlist": lambda: LocalScores(
            RUN, "chamfer", ChamferOptions(), 1, np.ones(2, np.float32)
        ).truncate("1"),  # type: ignore[arg-type]
        "resolution": lambda: resized_size(10, 20, float("nan")),  # type: ignore[arg-type]
        "width": lambda: padding(1.5, 2, 4, 4),  # type: ignore[arg-type]
        "seed": lambda: Itq.fit(np.eye(8, dtype=np.float32), 8, seed=-1),
        "shrinkage": lambda: PcaWhitening.fit(ROWS, 2, shrinkage="1"),  # type: ignore[arg-type]
        "threads": lambda: cpu.threads(10**6),
        "query": lambda: kernels.MapCounter([[1.0]]).positive_scores(1),
        "first": lambda: kernels.MapCounter([[1.0]]).counted_from(-1),
        "k": lambda: kernels.topk(QUERIES, ROWS, "9" * 5000),  # type: ignore[arg-type]
    }.items(),
)
def test_numbers_out_of_range_and_numbers_that_are_none(name: str, call: Callable[[], object]) -> None:
    refused(ParameterError, f"^{name}: expected", call)


def test_numbers_too_large_for_float32_are_infinite_and_said_to_be() -> None:
    far = np.full((1, 4), 1e300)
    refused(NonFiniteError, "queries", lambda: kernels.topk(far, ROWS, 1))
    refused(NonFiniteError, "query_xy", lambda: kernels.verify_spatial(far[:, :2], XY[:1], threshold=1.0))
    refused(NonFiniteError, "positive_scores", lambda: kernels.MapCounter([[1e300]]))


def test_negative_seeds(store: GlobalStore) -> None:
    refused(ParameterError, "^seed: expected", lambda: sample_rows(store, 2, seed=-1))


# --- flags: a string is no yes ---


def test_only_true_and_false_are_flags(store: GlobalStore, tmp_path: Path) -> None:
    no: Any = "no"
    refused(ParameterError, "^mutual: expected True or False", lambda: kernels.match(CODES, CODES, mutual=no))
    refused(
        ParameterError,
        "^mutual: expected True",
        lambda: kernels.match_images(CODES, CODES, [0, 4], mutual=no),
    )
    (tmp_path / "x.npy").write_bytes(b"precious")
    refused(ParameterError, "^overwrite: ", lambda: export_store(store, tmp_path / "x.npy", overwrite=no))
    assert (tmp_path / "x.npy").read_bytes() == b"precious"
    refused(ParameterError, "^overwrite: ", lambda: GlobalStore.create(store.path, dim=4, overwrite=no))
    refused(
        ParameterError, "^overwrite: ", lambda: import_store(tmp_path / "x.npy", store.path, overwrite=no)
    )
    assert len(GlobalStore.open(store.path)) == 4
    assert kernels.match(CODES, CODES, mutual=np.bool_(True)).query.tolist() == [0, 1, 2, 3]  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float99", "f4,f4", "int8", "S3", 3, object], ids=str)
def test_dtypes_of_raw_numbers(dtype: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    refused(
        DtypeError,
        "^dtype: expected float16, float32 or uint8",
        lambda: import_store(tmp_path / "x.npy", tmp_path / "s", number_rows=True, dtype=dtype),
    )


# --- a single string is no list of ids ---


def test_a_single_string_is_not_taken_for_its_characters(store: GlobalStore) -> None:
    refused(ParameterError, "single str 'ab'", lambda: search(("ab", QUERIES), store, 2))
    refused(InputError, "query_ids.* single str", lambda: Run.from_arrays("q", [0, 1], ["a"], [0], [1.0]))
    refused(InputError, "database_ids.* single str", lambda: Run.from_arrays(["q"], [0, 1], "a", [0], [1.0]))
    refused(InputError, "database_ids", lambda: Run.from_topk(["q"], [[1.0]], [[0]], lambda _: "a"))
    refused(InputError, "single str 'q'", lambda: RUN.select("q"))
    assert RUN.select(name for name in ["q"])["q"].ids == ["a", "b"]  # type: ignore[arg-type]


def test_rows_of_ids_are_whole_numbers(store: GlobalStore) -> None:
    for row in (1.5, np.nan, "1", None):
        with pytest.raises(TypeError):
            store.ids[row]  # type: ignore[call-overload]
    for row in (4, -5, 2**70):
        with pytest.raises(IndexError, match="4 rows"):
            store.ids[row]
    assert store.ids[np.int64(1)] == store.ids[True] == "b"


# --- arrays ---


def test_ragged_and_masked_arrays(store: GlobalStore) -> None:
    ragged: Any = [1, [2]]
    masked = np.ma.masked_array(QUERIES, QUERIES > 0)
    refused(DtypeError, "^queries: expected values everywhere", lambda: kernels.topk(masked, ROWS, 1))
    refused(DtypeError, "^scores: expected an array", lambda: Run.from_topk(["q"], ragged, [[0]], list))
    refused(DtypeError, "^rows: expected an array", lambda: store.id_of(ragged))
    refused(DtypeError, "^boxes: expected an array", lambda: box_mask(3, 3, ragged))
    counter = kernels.MapCounter([[1.0]], subsets=1)
    refused(DtypeError, "^members: ", lambda: counter.add(np.zeros((1, 2)), 0, members=ragged))
    refused(DtypeError, "^own: ", lambda: counter.add_always(np.zeros((1, 2)), own=ragged))
    with GlobalStore.append_to(store.path) as writer:
        refused(DtypeError, "^vectors: expected an array", lambda: writer.append(["e"], ragged))


def test_masks_and_margins_of_another_length() -> None:
    counter = kernels.MapCounter([[1.0], [0.5]])

    def exact(_queries: object, columns: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.zeros(len(columns), np.float32)

    scores = np.zeros((2, 3), np.float32)
    refused(ShapeError, "^margin: ", lambda: counter.add_approximate(scores, 0, np.ones(3), exact))
    refused(
        ParameterError,
        "^planes: expected what `build_planes` made, found str",
        lambda: kernels.topk(QUERIES, ROWS, 1, planes="planes"),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("size", [(100.7, 80), (0, 80), (100,), "ab", None, (100, 1j), (2**40, 5)], ids=repr)
def test_sizes_of_images_are_never_cut_to_whole_pixels(size: Any, tmp_path: Path) -> None:
    image = LocalImage(CODES, XY, None, None, None, size)
    with LocalStore.create(tmp_path / "local", bits=128) as writer:
        refused(InputError, "^size: expected", lambda: writer.append(["a"], [image]))
        assert len(writer) == 0


def test_offsets_far_beyond_the_descriptors(tmp_path: Path) -> None:
    with LocalStore.create(tmp_path / "local", bits=128) as writer:
        refused(
            InputError, "expected", lambda: writer.append_arrays(["a"], [0, 2**62], CODES, XY, size=[[8, 6]])
        )
        refused(ParameterError, "codes", lambda: writer.append_arrays(["a"], [0, 4], None, XY, size=[[8, 6]]))


# --- images and boxes ---


@pytest.mark.parametrize(
    ("boxes", "error"),
    [
        ([[np.nan, 0, 3, 3]], ParameterError),
        ([[0, 0, 1e300, 3]], ParameterError),
        ([[0, 0, 2**63, 3]], ParameterError),
        ([["1", "0", "3", "3"]], DtypeError),
        ([[1, 2, 3]], ShapeError),
        ([1, 2, 3, 4], ShapeError),
    ],
    ids=repr,
)
def test_boxes(boxes: Any, error: type[IliasFastError]) -> None:
    refused(error, "^boxes: expected", lambda: box_mask(8, 6, boxes))
    refused(error, "^boxes: expected", lambda: crop_to_boxes(IMAGE, boxes))


def test_images_of_another_shape_or_dtype() -> None:
    for image, error in (
        (IMAGE[..., :1], ShapeError),
        (np.zeros((6, 8, 4), np.uint8), ShapeError),
        (IMAGE[0], ShapeError),
        (IMAGE[:0], ShapeError),
        (IMAGE.astype(np.float32), DtypeError),
        ([[0]], DtypeError),
    ):
        refused(error, "^image: expected", lambda image=image: white_balance(image))  # type: ignore[misc]
        refused(error, "^image: expected", lambda image=image: resize(image, 4))  # type: ignore[misc]
    refused(ShapeError, "^mask: expected", lambda: resize_mask(np.ones(3, np.bool_), 4))


# --- searching nothing ---


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_expansion_where_nothing_is_searched(store: GlobalStore, tmp_path: Path, mode: Any) -> None:
    with GlobalStore.create(tmp_path / "empty", dim=4):
        pass
    queries = ["p", "q"], QUERIES
    for database, options in (
        (store, {"selected_ids": []}),
        (GlobalStore.open(tmp_path / "empty"), {}),
    ):
        run = search(queries, database, 3, query_expansion=2, mode=mode, **options)
        assert (list(run), len(run.indices)) == (["p", "q"], 0)


def test_augmentation_that_exceeds_float64(tmp_path: Path) -> None:
    with GlobalStore.create(tmp_path / "long", dim=4) as writer:
        writer.append(["a", "b"], np.full((2, 4), 100, np.float16))
    refused(
        NonFiniteError,
        "row 0 exceeds float64 .* smaller alpha",
        lambda: augment(GlobalStore.open(tmp_path / "long"), tmp_path / "augmented", alpha=1e6),
    )
    refused(ParameterError, "stores: expected at least one", lambda: merge(iter([]), tmp_path / "m"))  # type: ignore[arg-type, type-var]
    refused(ParameterError, "parts: expected", lambda: search_fused(iter([]), 3))  # type: ignore[arg-type]


def test_a_level_that_is_no_text() -> None:
    for name in (None, 3, "\udcff", ["avx2"]):
        with pytest.raises(CpuLevelError), cpu.pinned(name):  # type: ignore[arg-type]
            pass


def test_random_subsets_out_of_range() -> None:
    refused(ParameterError, "^size: expected at most 3", lambda: RandomSubsets(3, 4, 1))
    refused(ParameterError, "^total: expected fewer than", lambda: RandomSubsets(10**9, 4, 1))
    subsets = RandomSubsets(10, 3, 2)
    refused(ParameterError, "^start: ", lambda: subsets.members(-1, 3))
    for start, stop in ((0, 11), (5, 4), (0, -1)):
        refused(ParameterError, "^stop: expected", lambda a=start, b=stop: subsets.members(a, b))  # type: ignore[misc]
    assert subsets.members(4, 4).shape == (2, 0)


def test_ranks_far_beyond_any_database() -> None:
    truth = GroundTruth("mine", (Labels("q", {"ok": frozenset(["7"])}),))
    assert run_from_ranks(truth, [[2**60], [7]])["q"].ids == [str(2**60), "7"]
    refused(
        ParameterError, "^ranks: expected positions from 0, found -1", lambda: run_from_ranks(truth, [[-1]])
    )
    refused(DtypeError, "^ranks: expected an array", lambda: run_from_ranks(truth, [1, [2]]))  # type: ignore[list-item]


# --- paths ---

READERS: dict[str, Callable[[Any], object]] = {
    "open_store": open_store,
    "Run.load": Run.load,
    "read_matrix": read_matrix,
    "load_dataset": load_dataset,
    "load_truth": load_truth,
    "FolderSource": FolderSource,
    "FilesSource": lambda path: FilesSource([path]),
    "TarSource": TarSource,
    "MapCounter.load": kernels.MapCounter.load,
    "Signs.load": Signs.load,
}
WRITERS: dict[str, Callable[[Any, GlobalStore], object]] = {
    "save": lambda path, _: kernels.MapCounter([[1.0]]).save(path),
    "export_store": lambda path, store: export_store(store, path, format="npy"),
    "create": lambda path, _: GlobalStore.create(path, dim=4),
    "import_store": lambda path, store: import_store(store.path.with_name("x.npy"), path, number_rows=True),
    "resume": lambda path, store: search((["p", "q"], QUERIES), store, 2, resume=path),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "/dev/null/x", "nowhere"], ids=lambda path: path[:4])
def test_paths_that_cannot_be_read(name: str, path: str) -> None:
    with pytest.raises((StorageError, InputError, DatasetError, IliasFastError)):
        READERS[name](path)
    assert not exists(path)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    "path", ["x" * 5000, "a\0b", "/dev/null/x", "/proc/self/mem"], ids=lambda path: path[:7]
)
def test_paths_that_cannot_be_written(name: str, path: str, store: GlobalStore) -> None:
    np.save(store.path.with_name("x.npy"), ROWS)
    with pytest.raises(IliasFastError):
        WRITERS[name](path, store)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_what_is_no_file_is_never_replaced(store: GlobalStore, tmp_path: Path) -> None:
    """As root, a file renamed over /dev/null would take its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (
        kernels.MapCounter([[1.0]]).save,
        lambda path: export_store(store, path, format="npy", overwrite=True),
        lambda path: Signs(8).save(path),
    ):
        refused(
            StorageError,
            "expected a file to replace, found a device, pipe or socket",
            lambda w=write: w(pipe),
        )  # type: ignore[misc]
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == []
    for path in ("", ".", "/"):
        refused(StorageError, "expected the name of a file", lambda p=path: Signs(8).save(p))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["with space", "-dash", "ünïcödé", "a'b\"c", "…" * 60, "#?&%", "[x]*"])
def test_odd_names_are_only_names(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with GlobalStore.create(folder / name, dim=4) as writer:
        writer.append([name], ROWS[:1])
    (tmp_path / "link").symlink_to(folder / name)
    store = GlobalStore.open(tmp_path / "link")
    run = search(([name], QUERIES[:1]), store, 2)
    run.save(folder / f"{name}.json")
    assert Run.load(folder / f"{name}.json")[name].ids == [name]
    export_store(store, folder / f"{name}.npy")
    ids, rows = read_matrix(folder / f"{name}.npy")
    assert (ids, rows.tolist()) == ([name], ROWS[:1].tolist())
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [name, f"{name}.json", f"{name}.npy", f"{name}.txt"]
    )


# --- worker processes that end ---


def test_a_script_without_a_guard_is_told_what_it_lacks(
    textures: Path, classical: Any, tmp_path: Path
) -> None:
    classical.save(tmp_path / "extractor.safetensors")
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from ilias_fast.extract import ClassicalExtractor, extract_to_stores\n"
        "from ilias_fast.errors import ParameterError\n"
        "from ilias_fast.images import FolderSource\n"
        f"extractor = ClassicalExtractor.load({str(tmp_path / 'extractor.safetensors')!r}, threads=1)\n"
        "try:\n"
        f"    extract_to_stores(extractor, FolderSource({str(textures)!r}), processes=1,\n"
        f"        global_store=Path({str(tmp_path / 'vectors')!r}))\n"
        "except ParameterError as error:\n"
        "    print(error)\n"
    )
    paths = os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("processes: a process that decodes images has ended")
    assert '`if __name__ == "__main__":`' in done.stdout
