"""Re-ranking a run over stores: scores are the kernels', the ensemble is the formula, errors name names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from ilias_fast import cpu, kernels
from ilias_fast.errors import (
    IncompatibleStoreError,
    NonFiniteError,
    ParameterError,
    ShapeError,
    UnknownIdError,
)
from ilias_fast.rerank import (
    ChamferOptions,
    LocalScores,
    SpatialOptions,
    correspondences,
    ensemble,
    rerank,
    tune,
)
from ilias_fast.rerank.bound import oracle as best_order
from ilias_fast.run import Run
from ilias_fast.store import LocalImage, LocalStore
from tests.oracles import rerank as oracle

QUERIES = ("object/q0", "object/q1", "empty/q2")
LONGEST = 12


class World(NamedTuple):
    queries: LocalStore
    database: LocalStore
    run: Run


def image(codes: NDArray[np.uint8], xy: NDArray[Any], geometry: tuple[float, float]) -> LocalImage:
    scale, angle = geometry
    count = len(codes)
    return LocalImage(
        codes,
        xy.astype(np.float32),
        np.full(count, scale, np.float32),
        np.full(count, angle, np.float32),
        None,
        (400, 200),
    )


def write(path: Path, images: dict[str, LocalImage], *, geometry: bool = True) -> LocalStore:
    bits = 8 * next(iter(images.values())).codes.shape[1]
    with LocalStore.create(path, bits=bits, optional=("scale", "angle") if geometry else ()) as writer:
        kept = images.values() if geometry else [i._replace(scale=None, angle=None) for i in images.values()]
        writer.append(list(images), list(kept))
        writer.commit()
    return LocalStore.open(path)


def build(folder: Path, rng: np.random.Generator, *, geometry: bool = True) -> World:
    """Queries of 60 keypoints; images 0 and 1 show the first two, rotated by 90 degrees and half as large."""
    codes = {name: rng.integers(0, 256, (60, 16), dtype=np.uint8) for name in QUERIES[:2]}
    codes["empty/q2"] = np.zeros((0, 16), np.uint8)
    queries, database = {}, {}
    for number, name in enumerate(QUERIES):
        xy = rng.uniform(0, 1, (len(codes[name]), 2))
        queries[name] = image(codes[name], xy, (10, 0.1))
        if number < 2:
            # In units of the longer side (1, 0.5): turn about the centre, shrink, and normalise again.
            centred = (xy - 0.5) * [1, 0.5]
            turned = 0.5 * centred[:, ::-1] * [-1, 1] / [1, 0.5] + 0.5
            clutter = rng.integers(0, 256, (40, 16), dtype=np.uint8)
            both = np.concatenate([codes[name][:30], clutter])
            places = np.concatenate([turned[:30], rng.uniform(0, 1, (40, 2))])
            database[f"match/{number}"] = image(both, places, (5, 0.1 + np.pi / 2))
    for number in range(LONGEST - 3):
        noise = rng.integers(0, 256, (50, 16), dtype=np.uint8)
        noise[:20] = codes[QUERIES[number % 2]][:20]  # the descriptors without the layout
        database[f"other/{number}"] = image(noise, rng.uniform(0, 1, (50, 2)), (8, number))
    database["blank/0"] = image(np.zeros((0, 16), np.uint8), np.zeros((0, 2)), (1, 0))
    names = list(database)
    results = {}
    for length, name in zip((LONGEST, 7, 4), QUERIES, strict=True):
        scores = np.sort(rng.uniform(0.2, 0.8, length))[::-1]
        order = rng.permutation(len(names))[:length]
        results[name] = {names[row]: float(score) for row, score in zip(order, scores, strict=True)}
    return World(
        write(folder / "queries", queries, geometry=geometry),
        write(folder / "database", database, geometry=geometry),
        Run.from_dict(results),
    )


@pytest.fixture
def world(tmp_path: Path, rng: np.random.Generator) -> World:
    return build(tmp_path, rng)


def pairs(run: Run) -> list[tuple[str, str]]:
    return [(name, found) for name in run for found in run[name].ids]


def stored(store: LocalStore, name: str) -> LocalImage:
    return store.image(int(store.find([name])[0]))


@pytest.mark.parametrize("limits", [(None, None), (7, 11), (0, 5)])
@pytest.mark.usefixtures("cpu_level")
def test_chamfer_scores_are_the_kernels(world: World, limits: tuple[int | None, int | None]) -> None:
    first, second = limits
    local = rerank(
        world.run, world.queries, world.database, method="chamfer", options=ChamferOptions(first, second)
    )
    for (query, found), score in zip(pairs(world.run), local.scores, strict=True):
        codes = stored(world.database, found).codes[:second]
        query_codes = stored(world.queries, query).codes[:first]
        assert score == oracle.chamfer(query_codes, codes, np.array([0, len(codes)]))[0]


@pytest.mark.parametrize("geometry", [True, False])
@pytest.mark.usefixtures("cpu_level")
def test_spatial_verification_separates_layout_from_descriptors(
    tmp_path: Path, rng: np.random.Generator, geometry: bool
) -> None:
    queries, database, run = build(tmp_path, rng, geometry=geometry)
    local = rerank(run, queries, database)
    assert local.inliers is not None
    assert local.tentative is not None
    assert local.models is not None
    for entry, (query, found) in enumerate(pairs(run)):
        true = found.startswith("match/") and QUERIES[int(found[-1])] == query
        assert (local.scores[entry] > 20) == true
        if true:
            assert local.inliers[entry] >= 30
            expected = [[0, -0.5], [0.5, 0]]
            np.testing.assert_allclose(local.models[entry, :, :2], expected, atol=0.02)
        else:
            assert local.scores[entry] == 0
        if query == "empty/q2" or found == "blank/0":
            assert local.tentative[entry] == local.inliers[entry] == 0
            assert np.isnan(local.models[entry]).all()


def test_scores_do_not_depend_on_threads_or_level(world: World) -> None:
    for method in ("chamfer", "spatial"):
        results = []
        for level in cpu.available_levels():
            for threads in (1, 2, 5):
                with cpu.pinned(level):
                    results.append(
                        rerank(world.run, world.queries, world.database, method=method, threads=threads)
                    )
        for result in results[1:]:
            for field in ("scores", "inliers", "tentative", "models"):
                np.testing.assert_array_equal(getattr(result, field), getattr(results[0], field))


def test_inlier_score_counts_inliers_and_few_count_as_none(world: World) -> None:
    plain = rerank(world.run, world.queries, world.database, options=SpatialOptions(score="inliers"))
    strict = rerank(
        world.run, world.queries, world.database, options=SpatialOptions(score="inliers", min_inliers=31)
    )
    assert plain.inliers is not None
    counted = np.where(plain.inliers >= 5, plain.inliers, 0)
    np.testing.assert_array_equal(plain.scores, counted)
    assert set(strict.scores[plain.inliers < 31].tolist()) <= {0.0}


def test_several_descriptors_at_one_spot_count_once(tmp_path: Path, rng: np.random.Generator) -> None:
    codes = rng.integers(0, 256, (1, 16), dtype=np.uint8).repeat(20, axis=0)
    here = rng.uniform(0.4, 0.6, (1, 2)).repeat(20, axis=0)
    queries = write(tmp_path / "q", {"q": image(codes, here, (1, 0))})
    database = write(tmp_path / "d", {"d": image(codes, rng.uniform(0, 1, (20, 2)), (1, 0))})
    local = rerank(
        Run.from_dict({"q": {"d": 1.0}}),
        queries,
        database,
        options=SpatialOptions(score="inliers", mutual=False),
    )
    assert local.inliers is not None
    assert local.inliers[0] == 20
    assert local.scores[0] == 0


def test_ratio_and_mutual_filters_equal_the_oracle(tmp_path: Path, rng: np.random.Generator) -> None:
    centres = rng.integers(0, 256, (6, 16), dtype=np.uint8)
    noise = np.packbits(rng.random((80, 128)) < 0.08, axis=1)
    codes = centres[rng.integers(0, 6, 80)] ^ noise
    queries = write(tmp_path / "q", {"q": image(codes[:45], rng.uniform(0, 1, (45, 2)), (1, 0))})
    database = write(tmp_path / "d", {"d": image(codes[45:], rng.uniform(0, 1, (35, 2)), (1, 0))})
    for ratio, mutual in [(1.0, False), (0.9, False), (1.0, True), (0.95, True)]:
        found = correspondences(queries, database, "q", "d", SpatialOptions(ratio=ratio, mutual=mutual))
        listed = list(
            zip(found.query.tolist(), found.database.tolist(), found.distance.tolist(), strict=True)
        )
        assert listed == oracle.match(codes[:45], codes[45:], 32, ratio=ratio, mutual=mutual)
        assert 0 < len(listed) < 45 or (ratio, mutual) == (1.0, False)


def test_only_the_shortlist_is_scored_and_the_tail_keeps_its_order(world: World) -> None:
    local = rerank(world.run, world.queries, world.database, shortlist=5)
    np.testing.assert_array_equal(np.isnan(local.scores), ~local.scored)
    final = ensemble(world.run, local, lam=0.3, gamma=1.0)
    for query in world.run:
        before, after = world.run[query], final[query]
        assert sorted(after.ids[:5]) == sorted(before.ids[:5])
        assert after.ids[5:] == before.ids[5:]
        assert (np.diff(after.scores) <= 0).all()
        if len(after) > 5:
            assert after.scores[4] > after.scores[5]
            np.testing.assert_allclose(np.diff(after.scores[5:]), np.diff(before.scores[5:]))
    nothing = ensemble(world.run, rerank(world.run, world.queries, world.database, shortlist=0))
    assert nothing == world.run


def test_ensemble_is_the_formula_and_matches_rise_to_the_top(world: World) -> None:
    local = rerank(world.run, world.queries, world.database)
    final = ensemble(world.run, local, lam=0.4, gamma=0.1)
    for query in world.run:
        entries = world.run.entries(query)
        expected = 0.4 * world.run.scores[entries] + 0.6 / (
            1 + np.exp(-0.1 * local.scores[entries].astype(float))
        )
        order = np.argsort(-expected, kind="stable")
        np.testing.assert_allclose(final[query].scores, expected[order], rtol=1e-14)
        assert final[query].ids == [world.run[query].ids[row] for row in order]
    for number, query in enumerate(QUERIES[:2]):
        if f"match/{number}" in world.run[query].ids:
            assert ensemble(world.run, local, lam=0.3)[query].ids[0] == f"match/{number}"
    assert final.provenance["rerank"]["lam"] == 0.4  # type: ignore[index]


def test_ensemble_of_huge_scores_does_not_overflow(world: World) -> None:
    local = rerank(world.run, world.queries, world.database, method="chamfer")
    huge = LocalScores(world.run, "chamfer", local.options, 1000, local.scores * np.float32(1e30))
    assert np.isfinite(ensemble(world.run, huge, gamma=1e6).scores).all()


def test_calibrated_chamfer_ignores_what_every_image_gets(world: World) -> None:
    local = rerank(world.run, world.queries, world.database, method="chamfer")
    raised = LocalScores(world.run, "chamfer", local.options, 1000, local.scores + np.float32(512))
    np.testing.assert_allclose(
        ensemble(world.run, raised).scores, ensemble(world.run, local).scores, rtol=1e-4
    )


def test_tuning_equals_single_ensembles(world: World, tmp_path: Path) -> None:
    local = rerank(world.run, world.queries, world.database)

    def first_is_match(run: Run) -> float:
        return float(np.mean([run[query].ids[0].startswith("match/") for query in run]))

    surface = tune(
        world.run, local, first_is_match, lams=[0.0, 1.0], gammas=[0.1, 1.0], shortlists=[0, 3, 1000]
    )
    assert len(surface.points) == 12
    for point in surface.points:
        scored = rerank(world.run, world.queries, world.database, shortlist=point.shortlist)
        assert point.value == first_is_match(ensemble(world.run, scored, lam=point.lam, gamma=point.gamma))
    assert surface.best.value == max(point.value for point in surface.points) > surface.baseline
    assert surface.baseline == first_is_match(world.run)
    surface.save(tmp_path / "surface.json")
    written = json.loads((tmp_path / "surface.json").read_text())
    assert written["best"] == surface.best._asdict()
    assert len(written["points"]) == 12
    surface.save(tmp_path / "surface.svg")
    drawn = ElementTree.parse(tmp_path / "surface.svg").getroot()
    assert len([part for part in drawn.iter() if part.tag.endswith("rect")]) == 13
    with pytest.raises(ParameterError, match=r"\.json or \.svg"):
        surface.save(tmp_path / "surface.txt")
    for wrong in ({"lams": []}, {"lams": [1.1]}, {"gammas": [0.0]}, {"shortlists": [1001]}):
        with pytest.raises(ParameterError):
            tune(world.run, local, first_is_match, **wrong)  # type: ignore[arg-type]
    lengths, lams, gammas = tune(world.run, local, first_is_match).axes()
    assert (lengths, len(lams), len(gammas)) == ([50, 100, 200, 500, 1000], 11, 7)


def test_no_reranking_exceeds_the_oracle(world: World) -> None:
    def positives(query: str) -> set[str]:
        return {world.run[query].ids[-1], world.run[query].ids[2], "elsewhere"}

    best = best_order(world.run, positives, 4)
    for query in world.run:
        before, after = world.run[query].ids, best[query].ids
        if len(before) > 4:
            assert after == [before[2], before[0], before[1], *before[3:]]
    assert best_order(world.run, positives, 0)[QUERIES[0]].ids == world.run[QUERIES[0]].ids
    whole = best_order(world.run, positives, 10_000)[QUERIES[0]].ids
    assert set(whole[:2]) == set(world.run[QUERIES[0]].ids) & positives(QUERIES[0])
    with pytest.raises(ParameterError, match="shortlist"):
        best_order(world.run, positives, -1)


def test_correspondences_map_query_pixels_to_database_pixels(world: World) -> None:
    found = correspondences(world.queries, world.database, "object/q0", "match/0")
    assert found.model is not None
    assert found.score > 20
    mapped = found.query_xy @ found.model[:, :2].T + found.model[:, 2]
    distance = np.linalg.norm(mapped - found.database_xy, axis=1)
    np.testing.assert_array_equal(distance <= 0.02 * 400, found.inliers)
    expected = kernels.match(
        stored(world.queries, "object/q0").codes, stored(world.database, "match/0").codes, max_distance=32
    )
    np.testing.assert_array_equal(found.database, expected.database)
    nothing = correspondences(world.queries, world.database, "object/q0", "blank/0")
    assert nothing.model is None
    assert len(nothing.query) == 0


def test_progress_counts_pairs_and_its_exception_stops_the_work(world: World) -> None:
    seen: list[tuple[int, int]] = []
    rerank(world.run, world.queries, world.database, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(world.run.indices), len(world.run.indices))

    def stop(done: int, total: int) -> None:
        raise RuntimeError(f"enough after {done} of {total}")

    with pytest.raises(RuntimeError, match="enough"):
        rerank(world.run, world.queries, world.database, progress=stop)


def test_missing_ids_are_named(world: World) -> None:
    with pytest.raises(UnknownIdError, match="ghost"):
        rerank(Run.from_dict({"ghost": {"match/0": 1.0}}), world.queries, world.database)
    run = Run.from_dict({"object/q0": {"match/0": 1.0, "phantom": 0.5}})
    with pytest.raises(UnknownIdError, match="phantom"):
        rerank(run, world.queries, world.database)
    assert len(rerank(run, world.queries, world.database, shortlist=1).scores) == 2
    with pytest.raises(UnknownIdError, match="ghost"):
        correspondences(world.queries, world.database, "ghost", "match/0")


def test_codes_of_different_lengths_are_refused(world: World, tmp_path: Path) -> None:
    short = write(
        tmp_path / "short", {"match/0": image(np.zeros((3, 8), np.uint8), np.zeros((3, 2)), (1, 0))}
    )
    run = Run.from_dict({"object/q0": {"match/0": 1.0}})
    for method in ("chamfer", "spatial"):
        with pytest.raises(IncompatibleStoreError, match=r"128 bits.*64 bits"):
            rerank(run, world.queries, short, method=method)
    with pytest.raises(IncompatibleStoreError, match=r"128 bits.*64 bits"):
        correspondences(world.queries, short, "object/q0", "match/0")
    with pytest.raises(IncompatibleStoreError, match="LocalStore"):
        rerank(run, world.queries, "a path")  # type: ignore[arg-type]


def test_scores_of_another_run_are_refused(world: World) -> None:
    local = rerank(world.run, world.queries, world.database)
    with pytest.raises(ShapeError, match="this run"):
        ensemble(world.run.truncate(3), local)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpatialOptions(max_distance=-1), "max_distance"),
        (lambda: SpatialOptions(max_distance=1.5), "max_distance"),  # type: ignore[arg-type]
        (lambda: SpatialOptions(threshold=0), "threshold"),
        (lambda: SpatialOptions(threshold=float("nan")), "threshold"),
        (lambda: SpatialOptions(min_inliers=-1), "min_inliers"),
        (lambda: SpatialOptions(score="votes"), "votes"),  # type: ignore[arg-type]
        (lambda: SpatialOptions(ratio=0), "ratio"),
        (lambda: SpatialOptions(ratio=1.1), "ratio"),
        (lambda: SpatialOptions(mutual=1), "mutual"),  # type: ignore[arg-type]
        (lambda: SpatialOptions(query_descriptors=-3), "query_descriptors"),
        (lambda: ChamferOptions(database_descriptors=2.5), "database_descriptors"),  # type: ignore[arg-type]
    ],
)
def test_options_are_checked_when_made(make: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


def test_arguments_are_checked(world: World) -> None:
    arguments = (world.run, world.queries, world.database)
    with pytest.raises(ParameterError, match="method"):
        rerank(*arguments, method="magic")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="ChamferOptions"):
        rerank(*arguments, method="chamfer", options=SpatialOptions())
    with pytest.raises(ParameterError, match="shortlist"):
        rerank(*arguments, shortlist=-1)
    with pytest.raises(ParameterError, match="threads"):
        rerank(*arguments, threads=0)
    local = rerank(*arguments)
    wrong: list[dict[str, Any]] = [
        {"lam": 1.5},
        {"lam": float("nan")},
        {"gamma": 0.0},
        {"gamma": float("inf")},
    ]
    for bad in wrong:
        with pytest.raises(ParameterError, match=next(iter(bad))):
            ensemble(world.run, local, **bad)


def test_a_position_that_is_not_a_number_is_an_error(world: World, tmp_path: Path) -> None:
    broken = stored(world.queries, "object/q0")
    xy = broken.xy.copy()
    xy[3, 1] = np.nan
    try:
        queries = write(tmp_path / "nan", {"object/q0": broken._replace(xy=xy)})
    except NonFiniteError:
        return  # The store already refuses it: nothing can reach the verification.
    with pytest.raises(NonFiniteError):
        rerank(Run.from_dict({"object/q0": {"match/0": 1.0}}), queries, world.database)


def test_an_empty_run(world: World) -> None:
    local = rerank(Run.from_dict({}), world.queries, world.database)
    assert len(local.scores) == 0
    assert len(ensemble(local.run, local)) == 0


def test_the_paper_s_protocol_is_a_preset() -> None:
    options = SpatialOptions.paper()
    assert (options.hypotheses, options.score, options.max_distance) == ("translation", "inliers", 32)
    assert (options.min_inliers, options.mutual, options.ratio) == (5, False, 1.0)
    with pytest.raises(ParameterError, match="hypotheses"):
        SpatialOptions(hypotheses="affine")  # type: ignore[arg-type]
