"""`match`, `chamfer`, `verify_spatial`: equal to their oracles at every CPU level; bad input is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ilias_fast import cpu
from ilias_fast.errors import DtypeError, NonFiniteError, ParameterError, ShapeError
from ilias_fast.kernels import chamfer, match, match_images, verify_instances, verify_spatial
from tests.oracles import rerank as oracle


def clustered(rng: np.random.Generator, count: int, length: int, *, flips: float = 0.1) -> NDArray[np.uint8]:
    """Codes near a few centres, so that small distances and ties are common."""
    centres = rng.integers(0, 256, (4, length), dtype=np.uint8)
    noise = np.packbits(rng.random((count, 8 * length)) < flips, axis=1)
    return np.asarray(centres[rng.integers(0, 4, count)] ^ noise)


def pair_of_sets(seed: int, length: int, m: int, n: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    both = clustered(np.random.default_rng(seed), m + n, length)
    return both[:m], both[m:]


@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(1, 64),
    m=st.integers(0, 90),
    n=st.integers(0, 40),
    max_distance=st.integers(0, 600),
    ratio=st.sampled_from([1.0, 0.9, 0.5]),
    mutual=st.booleans(),
)
def test_match_equals_the_oracle(
    seed: int, length: int, m: int, n: int, max_distance: int, ratio: float, mutual: bool
) -> None:
    query, database = pair_of_sets(seed, length, m, n)
    expected = oracle.match(query, database, max_distance, ratio=ratio, mutual=mutual)
    for level in cpu.available_levels():
        with cpu.pinned(level):
            found = match(query, database, max_distance=max_distance, ratio=ratio, mutual=mutual)
        assert list(zip(*(column.tolist() for column in found), strict=True)) == expected
        assert {column.dtype for column in found} == {np.dtype(np.int32)}


@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(1, 64),
    m=st.integers(0, 90),
    sizes=st.lists(st.integers(0, 20), max_size=6),
)
def test_chamfer_equals_the_oracle(seed: int, length: int, m: int, sizes: list[int]) -> None:
    query, codes = pair_of_sets(seed, length, m, sum(sizes))
    offsets = np.cumsum([0, *sizes])
    expected = oracle.chamfer(query, codes, offsets)
    for level in cpu.available_levels():
        for threads in (1, 3):
            with cpu.pinned(level):
                np.testing.assert_array_equal(chamfer(query, codes, offsets, threads=threads), expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    dimension=st.integers(1, 140),
    m=st.integers(0, 70),
    sizes=st.lists(st.integers(0, 20), max_size=5),
    direction=st.sampled_from(["query", "database", "symmetric"]),
)
def test_chamfer_of_float_descriptors_is_close_to_float64(
    seed: int, dimension: int, m: int, sizes: list[int], direction: Any
) -> None:
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(m, dimension)).astype(np.float32)
    rows = rng.normal(size=(sum(sizes), dimension)).astype(np.float16)
    offsets = np.cumsum([0, *sizes])
    expected = oracle.chamfer_float(query, rows, offsets, direction)
    found = []
    for level in cpu.available_levels():
        with cpu.pinned(level):
            for precision, share in (("float32", dimension * 2.0**-23), ("bfloat16", 2.0**-7)):
                scores = chamfer(query, rows, offsets, direction=direction, precision=precision)  # type: ignore[arg-type]
                bound = share * oracle.chamfer_float(abs(query), abs(rows), offsets, direction) + 1e-6
                assert (abs(scores - expected) <= bound).all()
                if precision == "float32":
                    found.append(scores.tobytes())
    assert len(set(found)) == 1


@pytest.mark.usefixtures("cpu_level")
def test_float_descriptors_that_are_refused() -> None:
    query, rows = np.ones((3, 8), np.float32), np.ones((4, 8), np.float16)
    assert chamfer(query, rows, [0, 4]).tolist() == [24]
    broken = rows.copy()
    broken[2, 5] = np.inf
    with pytest.raises(NonFiniteError, match="row 2, column 5"):
        chamfer(query, broken, [0, 1, 4])
    with pytest.raises(NonFiniteError, match="query"):
        chamfer(query * np.nan, rows, [0, 4])
    with pytest.raises(ShapeError, match="7 columns"):
        chamfer(query, rows[:, :7], [0, 4])
    with pytest.raises(DtypeError, match="float16"):
        chamfer(query, rows + np.float32(1e-4), [0, 4])
    with pytest.raises(ParameterError, match="precision"):
        chamfer(query, rows, [0, 4], precision="float64")  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [8, 16, 33])
@pytest.mark.parametrize("threads", [1, 2])
def test_match_images_is_match_of_each(rng: np.random.Generator, length: int, threads: int) -> None:
    sizes = rng.integers(0, 40, 300)
    sizes[[3, 299]] = 0
    offsets = np.cumsum([0, *sizes])
    query, codes = pair_of_sets(7, length, 50, int(offsets[-1]))
    options: Any = {"max_distance": 2 * length, "mutual": True}
    found = match_images(query, codes, offsets, threads=threads, **options)
    assert found.offsets.dtype == np.int64
    assert len(found.offsets) == 301
    for image in range(300):
        expected = match(query, codes[offsets[image] : offsets[image + 1]], **options)
        part = slice(found.offsets[image], found.offsets[image + 1])
        for column, other in zip(found[1:], expected, strict=True):
            np.testing.assert_array_equal(column[part], other)
    assert match_images(query, codes[:0], [0]).offsets.tolist() == [0]


@pytest.mark.usefixtures("cpu_level")
def test_chamfer_in_the_other_direction_and_in_both() -> None:
    sizes = [5, 0, 30, 1]
    offsets = np.cumsum([0, *sizes])
    query, codes = pair_of_sets(3, 16, 12, int(offsets[-1]))
    forward = chamfer(query, codes, offsets)
    backward = chamfer(query, codes, offsets, direction="database")
    both = chamfer(query, codes, offsets, direction="symmetric")
    for image, size in enumerate(sizes):
        part = codes[offsets[image] : offsets[image + 1]]
        assert backward[image] == oracle.chamfer(part, query, np.array([0, 12]))[0]
        if size:
            expected = (np.float64(forward[image]) / 12 + np.float64(backward[image]) / size) / 2
            assert both[image] == np.float32(expected)
    assert both[1] == 0
    with pytest.raises(ParameterError, match="direction"):
        chamfer(query, codes, offsets, direction="backward")  # type: ignore[arg-type]


@pytest.mark.usefixtures("cpu_level")
def test_the_distance_limit_is_inclusive_and_ties_go_to_the_lowest_index() -> None:
    query = np.zeros((1, 16), np.uint8)
    database = np.zeros((3, 16), np.uint8)
    database[0] = 255
    database[1:, 0] = 7
    assert match(query, database, max_distance=3).database.tolist() == [1]
    assert len(match(query, database, max_distance=2).query) == 0


@pytest.mark.usefixtures("cpu_level")
def test_chamfer_of_identical_and_opposite_codes() -> None:
    query = np.arange(5 * 16, dtype=np.uint8).reshape(5, 16)
    codes = np.concatenate([query, ~query[:1]])
    np.testing.assert_array_equal(chamfer(query, codes, [0, 5, 5, 6])[:2], [5, 0])
    np.testing.assert_array_equal(chamfer(query[:1], codes[[0, 5]], [0, 1, 1, 2]), [1, 0, -1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: match(np.zeros((2, 16), np.uint8), np.zeros((2, 15), np.uint8)), ShapeError, "15"),
        (lambda: match(np.zeros((2, 0), np.uint8), np.zeros((2, 0), np.uint8)), ShapeError, "1 to 64"),
        (lambda: match(np.zeros((2, 65), np.uint8), np.zeros((2, 65), np.uint8)), ShapeError, "65"),
        (lambda: match(np.zeros(16, np.uint8), np.zeros((2, 16), np.uint8)), ShapeError, "query_codes"),
        (lambda: match(np.zeros((2, 16)), np.zeros((2, 16), np.uint8)), DtypeError, "uint8"),
        (
            lambda: match(np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8), max_distance=-1),
            ParameterError,
            "-1",
        ),
        (lambda: chamfer(np.zeros((2, 4), np.uint8), np.zeros((2, 8), np.uint8), [0, 2]), ShapeError, "8"),
        (lambda: chamfer(np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8), [0, 3]), ShapeError, "3"),
        (
            lambda: chamfer(np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8), [1, 2]),
            ParameterError,
            "1",
        ),
        (
            lambda: chamfer(np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8), [0, 2, 1, 2]),
            ParameterError,
            "1 after 2",
        ),
        (
            lambda: chamfer(np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8), [0, -(2**62), 2]),
            ParameterError,
            "decrease",
        ),
        (
            lambda: chamfer(np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8), []),
            (ShapeError, DtypeError),
            "off",
        ),
        (
            lambda: chamfer(np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8), [0, 2], threads=0),
            ParameterError,
            "threads",
        ),
        (lambda: verify_spatial(np.zeros((2, 2)), np.zeros((3, 2)), threshold=1), ShapeError, "3"),
        (lambda: verify_spatial(np.zeros((2, 3)), np.zeros((2, 3)), threshold=1), ShapeError, "3"),
        (lambda: verify_spatial([[0, np.nan]], [[0, 0]], threshold=1), NonFiniteError, "query_xy"),
        (lambda: verify_spatial([[0, 0]], [[np.inf, 0]], threshold=1), NonFiniteError, "database_xy"),
        (lambda: verify_spatial([[0, 0]], [[0, 0]], threshold=0), ParameterError, "threshold"),
        (lambda: verify_spatial([[0, 0]], [[0, 0]], threshold=-1), ParameterError, "threshold"),
        (lambda: verify_spatial([[0, 0]], [[0, 0]], threshold=float("nan")), ParameterError, "threshold"),
        (lambda: verify_spatial([[0, 0]], [[0, 0]], threshold=float("inf")), ParameterError, "threshold"),
    ],
)
def test_bad_input(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def scene(
    rng: np.random.Generator, count: int, ratio: float, *, strong: bool, noise: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Correspondences in images of 500 pixels, some of them explained by one affine map."""
    true = max(3, round(count * ratio))
    query = rng.uniform(0, 500, (count, 2))
    angle, tilt = rng.uniform(-np.pi, np.pi, 2)
    if strong:
        stretch = rng.uniform(1, 2) ** 0.5
        linear = rotation(angle) @ rotation(tilt) @ np.diag([stretch, 1 / stretch]) @ rotation(-tilt)
        linear *= np.exp(rng.uniform(np.log(0.4), np.log(1.5)))
    else:
        linear = rotation(0.03 * angle) * np.exp(rng.uniform(-0.1, 0.1)) + rng.normal(0, 0.02, (2, 2))
    database = rng.uniform(0, 500, (count, 2))
    centre = rng.uniform(150, 350, 2)
    database[:true] = (query[:true] - 250) @ linear.T + centre + rng.normal(0, noise, (true, 2))
    order = rng.permutation(count)
    truth = np.arange(count) < true
    return query[order].astype(np.float32), database[order].astype(np.float32), truth[order]


@pytest.mark.parametrize(
    ("count", "ratio", "strong", "threshold", "least"),
    [
        (20, 0.3, False, 12, 0.95),
        (20, 0.3, True, 4, 0.95),
        (20, 0.6, True, 12, 0.95),
        (30, 0.1, False, 4, 0.4),  # three inliers: chance reaches as many, but of maps less plausible
        (50, 0.1, False, 12, 0.75),
        (50, 0.3, True, 12, 0.95),
        (100, 0.1, False, 12, 0.95),
        (100, 0.1, True, 12, 0.75),
        (100, 0.1, True, 4, 0.75),
        (100, 0.3, True, 12, 1.0),
        (100, 0.6, True, 4, 1.0),
        (300, 0.1, True, 12, 0.95),
        (300, 0.3, True, 4, 1.0),
        (300, 0.6, False, 12, 1.0),
    ],
)
def test_verification_finds_the_true_map(
    rng: np.random.Generator, count: int, ratio: float, strong: bool, threshold: float, least: float
) -> None:
    found = 0
    for _ in range(40):
        query, database, truth = scene(rng, count, ratio, strong=strong, noise=threshold / 6)
        result = verify_spatial(query, database, threshold=threshold)
        found += int((result.mask & truth).sum() >= 0.8 * truth.sum())
    assert found >= least * 40


@pytest.mark.parametrize(
    ("count", "threshold", "most"), [(20, 12, 4), (50, 12, 4.6), (100, 12, 4), (300, 12, 4), (100, 4, 2.5)]
)
def test_random_pairs_reach_few_inliers(
    rng: np.random.Generator, count: int, threshold: float, most: float
) -> None:
    counts = []
    for _ in range(20):
        query, database = rng.uniform(0, 500, (2, count, 2)).astype(np.float32)
        counts.append(verify_spatial(query, database, threshold=threshold).inliers)
    assert np.mean(counts) <= most


def test_of_maps_with_as_many_inliers_the_most_plausible_is_found() -> None:
    """Two right correspondences of 16, no more than any other two have: upright is found, turned is not."""
    found = {0.0: 0, 2.0: 0}
    for seed in range(100):
        for angle in found:
            rng = np.random.default_rng(seed)
            query, database = rng.uniform(0, 500, (2, 16, 2))
            database[:2] = (query[:2] - 250) @ (0.95 * rotation(angle + 0.05)).T + 230
            result = verify_spatial(query.astype(np.float32), database.astype(np.float32), threshold=2)
            found[angle] += int(result.mask[:2].all())
    assert found[0.0] >= 35
    assert found[2.0] <= 12


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    ratio=st.floats(0, 1),
    strong=st.booleans(),
    threshold=st.floats(0.5, 60),
)
def test_the_mask_is_what_the_model_explains(
    seed: int, count: int, ratio: float, strong: bool, threshold: float
) -> None:
    query, database, _ = scene(np.random.default_rng(seed), max(count, 3), ratio, strong=strong, noise=2)
    query, database = query[:count], database[:count]
    results = []
    for level in cpu.available_levels():
        with cpu.pinned(level):
            results.append(verify_spatial(query, database, threshold=threshold))
    for result in results:
        assert result.model is not None
        np.testing.assert_array_equal(result.mask, oracle.inliers(result.model, query, database, threshold))
        assert result.inliers == result.mask.sum() >= 1
        np.testing.assert_array_equal(result.model, results[0].model)
        assert np.linalg.det(result.model[:, :2]) > 0


@pytest.mark.usefixtures("cpu_level")
def test_pure_translation_is_found_exactly(rng: np.random.Generator) -> None:
    query = rng.integers(0, 400, (40, 2)).astype(np.float32)
    database = query + np.array([37, -12], np.float32)
    database[25:] = rng.uniform(0, 400, (15, 2))
    result = verify_spatial(query, database, threshold=3)
    assert result.model is not None
    np.testing.assert_allclose(result.model, [[1, 0, 37], [0, 1, -12]], atol=0.2)
    assert result.mask[:25].all()
    clean = verify_spatial(query[:25], database[:25], threshold=3)
    np.testing.assert_array_equal(clean.model, [[1, 0, 37], [0, 1, -12]])


@pytest.mark.usefixtures("cpu_level")
def test_degenerate_inputs() -> None:
    nothing = verify_spatial(np.zeros((0, 2)), np.zeros((0, 2)), threshold=1)
    assert nothing.inliers == 0
    assert nothing.model is None
    assert nothing.mask.shape == (0,)
    one = verify_spatial([[1, 2]], [[5, 5]], threshold=1)
    np.testing.assert_array_equal(one.model, [[1, 0, 4], [0, 1, 3]])
    two = verify_spatial([[0, 0], [10, 0]], [[0, 0], [0, 20]], threshold=1)
    assert two.inliers == 2
    assert two.model is not None
    np.testing.assert_allclose(two.model, [[0, -2, 0], [2, 0, 0]], atol=1e-9)
    same = verify_spatial(np.ones((30, 2)), np.full((30, 2), 4), threshold=1)
    assert same.inliers == 30
    line = np.column_stack([np.arange(30.0), 2 * np.arange(30.0)])
    assert verify_spatial(line, line[:, ::-1], threshold=0.5).inliers == 30


def test_collapsing_and_mirrored_maps_are_refused(rng: np.random.Generator) -> None:
    query = rng.uniform(0, 500, (60, 2))
    spot = np.full((60, 2), 250) + rng.normal(0, 0.1, (60, 2))
    assert verify_spatial(query, spot, threshold=4).inliers < 15
    mirrored = query * [-1, 1] + [500, 0]
    assert verify_spatial(query, mirrored, threshold=4).inliers < 20


@pytest.mark.parametrize("magnitude", [1e-30, 1e-6, 1e12, 1e30])
def test_any_magnitude_is_handled(rng: np.random.Generator, magnitude: float) -> None:
    query = rng.uniform(0, 1, (20, 2)) * magnitude
    result = verify_spatial(query, 1.5 * query, threshold=0.01 * magnitude)
    assert result.inliers == 20
    hopeless = verify_spatial(query, query[::-1], threshold=1e-37)
    assert hopeless.inliers == hopeless.mask.sum()


def two_objects(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    query, database = rng.uniform(0, 500, (2, 90, 2))
    database[:30] = 0.5 * query[:30] + 20
    database[30:55] = 0.4 * query[30:55] @ rotation(1.0).T + [300, 200]
    return query.astype(np.float32), database.astype(np.float32)


@pytest.mark.usefixtures("cpu_level")
def test_instances_are_found_one_after_the_other(rng: np.random.Generator) -> None:
    query, database = two_objects(rng)
    found = verify_instances(query, database, threshold=4, most=5)
    assert len(found) == 2
    assert found[0].mask[:30].all()
    assert found[1].mask[30:55].all()
    assert not (found[0].mask & found[1].mask).any()
    assert min(instance.score for instance in found) > 10
    assert all(instance.inliers == instance.mask.sum() and instance.hypotheses > 0 for instance in found)
    alone = verify_spatial(query, database, threshold=4)
    np.testing.assert_array_equal(alone.mask, found[0].mask)
    np.testing.assert_array_equal(alone.model, found[0].model)
    assert verify_instances(np.zeros((0, 2)), np.zeros((0, 2)), threshold=1) == []


def test_keypoints_and_simpler_models(rng: np.random.Generator) -> None:
    query, database = two_objects(rng)
    first = np.column_stack([rng.uniform(3, 9, 90), rng.uniform(-3, 3, 90)])
    second = first * [0.5, 1]
    second[30:] = rng.uniform(1, 3, (60, 2))
    geometry: Any = {"query_geometry": first, "database_geometry": second}
    (found,) = verify_instances(query, database, threshold=4, **geometry)
    assert found.mask[:30].all()
    assert found.hypotheses == 90
    for model in ("similarity", "translation"):
        (simple,) = verify_instances(query, database, threshold=4, model=model)  # type: ignore[arg-type]
        assert simple.model is not None
        (a, b, _), (c, d, _) = simple.model
        np.testing.assert_allclose([a, b], [d, -c])
    (paper,) = verify_instances(query, query + np.float32(7), threshold=4, hypotheses="translation")
    np.testing.assert_allclose(paper.model, [[1, 0, 7], [0, 1, 7]], atol=1e-3)
    for bad in (
        {"query_geometry": first},
        {"model": "projective"},
        {"hypotheses": "affine"},
        {"most": 0},
    ):
        with pytest.raises(ParameterError):
            verify_instances(query, database, threshold=4, **bad)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="database_geometry"):
        verify_instances(query, database, threshold=4, query_geometry=first, database_geometry=second[:5])
