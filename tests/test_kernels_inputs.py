"""What the kernels take in place, copy and refuse; where results are written; how they are stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilias_fast import kernels
from ilias_fast.errors import DtypeError, InputError, ParameterError, ShapeError

Call = Callable[..., object]


class WithArray:
    """Offers `__array__` and nothing else."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return self.array if dtype is None else self.array.astype(dtype)


class WithDlpack:
    """Offers DLPack and nothing else."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> object:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class Elsewhere(WithDlpack):
    """A tensor on another device."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **options: Any) -> object:
        raise BufferError("on the GPU")


def everything(make: Callable[[np.ndarray[Any, Any]], Any]) -> list[np.ndarray[Any, Any]]:
    """Call every kernel with its arrays as `make` hands them over."""
    rng = np.random.default_rng(5)
    queries = make(rng.standard_normal((3, 16)).astype(np.float32))
    vectors = make(rng.standard_normal((50, 16)).astype(np.float16))
    codes = make(rng.integers(0, 256, (40, 16), dtype=np.uint8))
    more = make(rng.integers(0, 256, (60, 16), dtype=np.uint8))
    offsets = make(np.array([0, 20, 20, 60]))
    xy = make(rng.random((30, 2), dtype=np.float32))
    scores = make(rng.random(20).astype(np.float32))
    relevant = make(rng.random(20) < 0.5)
    block = make(rng.random((1, 9)).astype(np.float32))
    floats = make(rng.standard_normal((60, 16)).astype(np.float16))
    found: list[object] = [
        *kernels.topk(queries, vectors, 5),
        *kernels.hamming_topk(codes, more, 5),
        kernels.hamming_matrix(codes, more),
        *kernels.match(codes, more, max_distance=60),
        *kernels.match_images(codes, more, offsets, max_distance=60),
        kernels.chamfer(codes, more, offsets),
        kernels.chamfer(queries, floats, offsets),
        kernels.verify_spatial(xy, xy, threshold=0.01).mask,
        kernels.verify_instances(xy, xy, threshold=0.01)[0].mask,
        kernels.average_precision(scores, relevant, positives=20, k=10),
        *kernels.streaming_map([scores], [block], prefixes=[4]),
    ]
    return [np.asarray(one) for one in found]


def torch_tensor(array: np.ndarray[Any, Any]) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(array)


def memmap(array: np.ndarray[Any, Any]) -> Any:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        mapped: Any = np.memmap(file.name, array.dtype, "w+", shape=array.shape)
        mapped[:] = array
        return mapped


def read_only(array: np.ndarray[Any, Any]) -> Any:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "make",
    [
        torch_tensor,
        memmap,
        WithArray,
        WithDlpack,
        read_only,
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=0)[::2],
        lambda array: array.astype(array.dtype.newbyteorder(">")),
    ],
    ids=["torch", "memmap", "__array__", "dlpack", "read-only", "Fortran order", "strided", "big-endian"],
)
def test_every_kernel_takes_every_sort_of_array(make: Callable[[np.ndarray[Any, Any]], Any]) -> None:
    for found, expected in zip(everything(make), everything(lambda array: array), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "make",
    [lambda a: a, torch_tensor, memmap, WithArray, WithDlpack],
    ids=["NumPy", "torch", "memmap", "__array__", "dlpack"],
)
def test_what_is_contiguous_is_used_in_place(
    make: Callable[[np.ndarray[Any, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ilias_fast import _core

    database = np.zeros((500, 16), np.float16)
    given, seen = make(database), []
    original = np.asarray(given) if not isinstance(given, WithDlpack) else database

    def spy(queries: Any, array: np.ndarray[Any, Any], *rest: Any, **more: Any) -> Any:
        seen.append(array)
        return core(queries, array, *rest, **more)

    core = _core.topk
    monkeypatch.setattr(_core, "topk", spy)
    kernels.topk(np.ones((1, 16), np.float32), given, 3)
    assert seen[0].__array_interface__["data"][0] == original.__array_interface__["data"][0]


def unaligned(array: np.ndarray[Any, Any]) -> Any:
    return np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)


class Subclass(np.ndarray[Any, Any]):
    """An array that is more than one."""


@pytest.mark.parametrize(
    "make",
    [
        lambda array: array.view(Subclass),
        lambda array: np.ma.masked_array(array),
        unaligned,
    ],
    ids=["subclass", "masked nowhere", "unaligned"],
)
def test_unusual_arrays_give_the_usual_answers(make: Callable[[np.ndarray[Any, Any]], Any]) -> None:
    for found, expected in zip(everything(make), everything(lambda array: array), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_masked_values_are_refused_by_every_kernel() -> None:
    def masked(array: np.ndarray[Any, Any]) -> Any:
        return np.ma.masked_array(array, mask=np.arange(array.size).reshape(array.shape) % 7 == 0)

    codes, xy = masked(np.zeros((9, 16), np.uint8)), masked(np.zeros((9, 2), np.float32))
    vectors, scores = masked(np.zeros((9, 4), np.float16)), masked(np.zeros(9))
    for call in (
        lambda: kernels.topk(vectors, vectors, 1),
        lambda: kernels.hamming_topk(codes, codes, 1),
        lambda: kernels.hamming_matrix(codes, codes),
        lambda: kernels.match(codes, codes),
        lambda: kernels.match_images(codes, codes, [0, 9]),
        lambda: kernels.chamfer(codes, codes, [0, 9]),
        lambda: kernels.chamfer(vectors, vectors, [0, 9]),
        lambda: kernels.verify_spatial(xy, xy, threshold=1.0),
        lambda: kernels.verify_instances(xy, xy, threshold=1.0),
        lambda: kernels.average_precision(scores, np.ones(9, bool), positives=9, k=1),
        lambda: kernels.streaming_map([scores], []),
        lambda: kernels.build_planes(vectors),
    ):
        with pytest.raises(DtypeError, match="masked array"):
            call()


@pytest.mark.parametrize("make", [torch_tensor, memmap, WithArray, WithDlpack])
def test_large_arguments_take_no_memory(make: Callable[[np.ndarray[Any, Any]], Any]) -> None:
    """Every kernel reads what it is given where it is: nothing of the size of an argument is allocated."""
    import tracemalloc

    count = 300_000
    codes, few = make(np.zeros((count, 16), np.uint8)), np.zeros((2, 16), np.uint8)
    vectors, xy = make(np.zeros((count, 16), np.float16)), make(np.zeros((count, 2), np.float32))
    queries, scores = make(np.zeros((count, 16), np.float32)), make(np.linspace(1, 0, count))
    relevant, block = make(np.zeros(count, np.bool_)), make(np.zeros((1, count), np.float32))
    offsets = make(np.array([0, count]))
    out = make(np.zeros((2, count), np.int32))
    calls: dict[str, tuple[int, Callable[[], object]]] = {
        "topk": (0, lambda: kernels.topk(queries[:2] if make is torch_tensor else few, vectors, 3)),
        "hamming_topk": (0, lambda: kernels.hamming_topk(few, codes, 3)),
        "hamming_matrix": (0, lambda: kernels.hamming_matrix(few, codes, out=out)),
        "match": (0, lambda: kernels.match(few, codes)),
        "match_images": (0, lambda: kernels.match_images(few, codes, offsets)),
        "chamfer": (0, lambda: kernels.chamfer(few, codes, offsets)),
        "chamfer of floats": (0, lambda: kernels.chamfer(np.zeros((1, 16), np.float32), vectors, offsets)),
        "chamfer of a query": (0, lambda: kernels.chamfer(queries, np.zeros((1, 16), np.float16), [0, 1])),
        "average_precision": (
            0,
            lambda: kernels.average_precision(scores, relevant, positives=1, k=10),
        ),
        "streaming_map": (0, lambda: kernels.streaming_map([[0.5]], [block])),
        # A mask of a byte for each correspondence.
        "verify_spatial": (count, lambda: kernels.verify_spatial(xy, xy, threshold=1.0)),
    }
    for name, (result, call) in calls.items():
        call()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < result + 50_000, name


def test_progress_that_cannot_be_called_is_refused_before_the_work() -> None:
    codes, xy = np.zeros((9, 16), np.uint8), np.zeros((9, 2), np.float32)
    bad: Any = 3
    for call in (
        lambda: kernels.topk(xy, xy.astype(np.float16), 1, progress=bad),
        lambda: kernels.hamming_matrix(codes, codes, progress=bad),
        lambda: kernels.match(codes, codes, progress=bad),
        lambda: kernels.match(codes.repeat(90, 0), codes.repeat(90, 0), progress=bad),
        lambda: kernels.verify_spatial(xy, xy, threshold=1.0, progress=bad),
        lambda: kernels.average_precision([1.0], [True], positives=1, k=1, progress=bad),
        lambda: kernels.streaming_map([[1.0]], [], progress=bad),
    ):
        with pytest.raises(ParameterError, match=r"^progress: expected a function, or None, found 3"):
            call()


@pytest.mark.parametrize("value", [Elsewhere(np.zeros((2, 16), np.uint8)), "codes", {1: 2}, object(), None])
def test_what_is_no_array_here_is_refused(value: Any) -> None:
    codes = np.zeros((2, 16), np.uint8)
    for call in (
        lambda: kernels.hamming_matrix(codes, value),
        lambda: kernels.match(value, codes),
        lambda: kernels.chamfer(value, codes, [0, 2]),
        lambda: kernels.topk(value, np.zeros((2, 16), np.float16), 1),
    ):
        with pytest.raises(InputError, match=r"expected"):
            call()


def test_tensors_numpy_cannot_see_are_refused() -> None:
    torch = pytest.importorskip("torch")
    database = torch.zeros((4, 16), dtype=torch.bfloat16)
    with pytest.raises(DtypeError, match=r"^database: expected an array, found Tensor"):
        kernels.topk(torch.zeros((1, 16)), database, 1)
    with pytest.raises(DtypeError, match=r"^queries: expected an array, found Tensor.*detach"):
        kernels.topk(torch.zeros((1, 16), requires_grad=True), database.half(), 1)


# --- all distances ---


@pytest.mark.parametrize("bytes_", [0, 1, 7, 8, 16, 31, 64, 300])
def test_hamming_matrix_counts_bits(bytes_: int, cpu_level: str, rng: np.random.Generator) -> None:
    queries = rng.integers(0, 256, (131, bytes_), dtype=np.uint8)
    database = rng.integers(0, 256, (333, bytes_), dtype=np.uint8)
    expected = np.unpackbits(queries[:, None] ^ database[None], axis=2).sum(axis=2, dtype=np.int32)
    for threads in (1, 2, 3):
        found = kernels.hamming_matrix(queries, database, threads=threads)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)
    del cpu_level


@pytest.mark.parametrize(("q", "n"), [(0, 5), (5, 0), (0, 0), (1, 1), (128, 64), (129, 65), (3, 20_000)])
def test_hamming_matrix_of_any_extent(q: int, n: int, rng: np.random.Generator) -> None:
    queries = rng.integers(0, 256, (q, 16), dtype=np.uint8)
    database = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    found = kernels.hamming_matrix(queries, database)
    assert found.shape == (q, n)
    for i in range(0, q, 40):
        expected = np.unpackbits(queries[i] ^ database, axis=1).sum(axis=1)
        np.testing.assert_array_equal(found[i], expected)


def test_results_are_written_where_asked(tmp_path: Path, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    codes = rng.integers(0, 256, (30, 16), dtype=np.uint8)
    expected = kernels.hamming_matrix(codes, codes)
    own = np.full((30, 30), -1, np.int32)
    assert kernels.hamming_matrix(codes, codes, out=own) is own
    mapped = np.memmap(tmp_path / "distances", np.int32, "w+", shape=(30, 30))
    tensor = torch.full((30, 30), -1, dtype=torch.int32)
    for out in (mapped, tensor):
        kernels.hamming_matrix(codes, codes, out=out)
        np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(own, expected)


def test_results_are_written_nowhere_else() -> None:
    codes = np.zeros((4, 16), np.uint8)

    def refused(out: Any, error: type[Exception], codes: np.ndarray[Any, Any] = codes) -> None:
        with pytest.raises(error, match=r"^out: expected"):
            kernels.hamming_matrix(codes, codes, out=out)

    refused(np.zeros((4, 5), np.int32), ShapeError)
    refused(np.zeros(16, np.int32), ShapeError)
    refused(np.zeros((4, 4), np.int64), DtypeError)
    refused(np.zeros((4, 4), np.int32, order="F"), ParameterError)
    refused(read_only(np.zeros((4, 4), np.int32)), ParameterError)
    refused([[0] * 4] * 4, DtypeError)
    shared = np.zeros((4, 4), np.int32)
    refused(shared, ParameterError, shared.view(np.uint8))


# --- options ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: kernels.chamfer(
                np.zeros((1, 8), "u1"), np.zeros((1, 8), "u1"), [0, 1], direction="querry"
            ),  # type: ignore[arg-type]
            r"^direction: expected 'query', 'database' or 's.*', found 'querry'; did you mean 'query'\?$",
        ),
        (
            lambda: kernels.verify_instances(
                np.zeros((1, 2)),
                np.zeros((1, 2)),
                threshold=1,
                model="Afine",  # type: ignore[arg-type]
            ),
            r"^model: expected .* found 'Afine'; did you mean 'affine'\?$",
        ),
        (
            lambda: kernels.verify_instances(
                np.zeros((1, 2)),
                np.zeros((1, 2)),
                threshold=1,
                hypotheses=3,  # type: ignore[arg-type]
            ),
            r"^hypotheses: expected 'similarity' or 'translation', found 3$",
        ),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(call: Call, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call()


@pytest.mark.parametrize("name", kernels.__all__)
def test_options_are_keyword_only(name: str) -> None:
    import inspect

    function = getattr(kernels, name)
    if not inspect.isfunction(function):
        return
    for parameter in inspect.signature(function).parameters.values():
        optional = parameter.default is not inspect.Parameter.empty
        assert not optional or parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter


# --- progress, interruption ---

LONG = """
import sys, numpy as np
from ilias_fast import kernels
rng = np.random.default_rng(0)
codes = rng.integers(0, 256, (40_000, 16), dtype=np.uint8)
many = codes.repeat(10, axis=0)
floats = rng.standard_normal((40_000, 128)).astype(np.float16)
offsets = np.arange(0, 40_001, 200)
def started(done):
    print("running", flush=True) if not said else None
    said.append(done)
said = []
calls = {
    "hamming_matrix": lambda: kernels.hamming_matrix(
        codes[:20_000].repeat(3, axis=0), codes[:10_000], threads=1, out=np.empty((60_000, 10_000), np.int32),
        progress=started),
    "hamming_topk": lambda: kernels.hamming_topk(
        many, codes, 5, threads=1, progress=started),
    "chamfer": lambda: kernels.chamfer(many, codes, offsets, threads=1, progress=started),
    "chamfer of floats": lambda: kernels.chamfer(
        floats.astype(np.float32), floats, offsets, threads=1, progress=started),
    "match_images": lambda: kernels.match_images(
        many, codes, offsets, max_distance=1, threads=1, progress=started),
}
try:
    while True:
        calls[sys.argv[1]]()
except KeyboardInterrupt:
    print("interrupted", max(said, default=0) > 0 or len(said) < 3, flush=True)
"""


@pytest.mark.parametrize(
    "name", ["hamming_matrix", "hamming_topk", "chamfer", "chamfer of floats", "match_images"]
)
def test_ctrl_c_stops_a_kernel(name: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LONG, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("interrupted True\n", "", 0)
    assert time.monotonic() - pressed < 20


def test_progress_counts_to_the_end(rng: np.random.Generator) -> None:
    codes = rng.integers(0, 256, (300, 16), dtype=np.uint8)
    seen: dict[str, list[int]] = {"matrix": [], "chamfer": [], "images": []}
    kernels.hamming_matrix(codes, codes, progress=seen["matrix"].append)
    kernels.chamfer(codes, codes, [0, 100, 300], progress=seen["chamfer"].append)
    kernels.match_images(codes, codes, [0, 100, 300], progress=seen["images"].append)
    assert {name: values[-1] for name, values in seen.items()} == {
        "matrix": 90_000,
        "chamfer": 2,
        "images": 2,
    }


def test_an_exception_of_the_callback_is_raised(rng: np.random.Generator) -> None:
    codes = rng.integers(0, 256, (10, 16), dtype=np.uint8)

    def stop(_: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        kernels.hamming_matrix(codes, codes, progress=stop)


# --- DataLoader workers ---


class Scores:
    """A torch dataset whose items are searches."""

    def __init__(self) -> None:
        rng = np.random.default_rng(9)
        self.codes = rng.integers(0, 256, (2000, 16), dtype=np.uint8)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, item: int) -> np.ndarray[Any, Any]:
        return kernels.hamming_matrix(self.codes[item : item + 1], self.codes, threads=2)[0]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_of_a_data_loader() -> None:
    data = pytest.importorskip("torch.utils.data")
    dataset: Any = Scores()
    here = [dataset[item] for item in range(len(dataset))]
    loader = data.DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    for found, expected in zip(loader, here, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("search", "dtypes"), [("topk", ("f4", "f2")), ("hamming_topk", ("u1", "u1"))])
def test_more_results_than_memory_are_refused_at_once(search: str, dtypes: tuple[str, str]) -> None:
    # Rows without columns take no memory themselves.
    queries, database = (np.zeros((10**7, 0), dtype) for dtype in dtypes)
    with pytest.raises(ParameterError, match=r"k: expected results that fit in memory .*10000000 x 10000000"):
        getattr(kernels, search)(queries, database, 10**7)
