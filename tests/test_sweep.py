"""Sweeps: dimension and re-ranking against one search each, curves of runs against streaming."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ilias_fast.datasets import Dataset
from ilias_fast.errors import FileFormatError, ParameterError
from ilias_fast.evaluate import Sweep, SweepSeries, evaluate, run_curve
from ilias_fast.rerank import ChamferOptions, ensemble, rerank
from ilias_fast.run import Run
from ilias_fast.search import search
from ilias_fast.store import GlobalStore, LocalStore
from ilias_fast.sweep import curve_sweep, dimension_sweep, rerank_sweep

OBJECTS, DISTRACTORS, DIM = 6, 60, 32


def make_dataset() -> Dataset:
    return Dataset(
        "small",
        Path(),
        Path(),
        tuple(f"o{n}/query/q.jpg" for n in range(OBJECTS)),
        (),
        tuple(f"o{n}/pos/p{m}.jpg" for n in range(OBJECTS) for m in range(3)),
        tuple(f"t.tar/{n:03d}" for n in range(DISTRACTORS)),
    )


def make_stores(folder: Path, rng: np.random.Generator) -> tuple[Dataset, GlobalStore, list[GlobalStore]]:
    dataset = make_dataset()
    centres = rng.standard_normal((OBJECTS, DIM))
    rows = {
        "q": (dataset.image_queries, centres + 0.8 * rng.standard_normal((OBJECTS, DIM))),
        "p": (
            dataset.positives,
            np.repeat(centres, 3, axis=0) + 0.8 * rng.standard_normal((3 * OBJECTS, DIM)),
        ),
        "d": (dataset.distractors, rng.standard_normal((DISTRACTORS, DIM))),
    }
    stores = []
    for name, (ids, vectors) in rows.items():
        with GlobalStore.create(folder / name, dim=DIM, shard_bytes=1000) as writer:
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            writer.append(list(ids), unit.astype(np.float32))
        stores.append(GlobalStore.open(folder / name))
    return dataset, stores[0], stores[1:]


def test_dimensions_equal_a_search_each(tmp_path: Path, rng: np.random.Generator) -> None:
    dataset, queries, database = make_stores(tmp_path, rng)
    told: list[tuple[int, int]] = []
    sweep = dimension_sweep(
        dataset, queries, database, dims=[8, 4, DIM], k=20, progress=lambda *state: told.append(state)
    )
    (series,) = sweep.series
    assert (series.x, series.bytes_per_image) == ((4.0, 8.0, 32.0), (8.0, 16.0, 64.0))
    assert told[-1] == (3 * OBJECTS + DISTRACTORS,) * 2
    everything = np.concatenate([store.rows(np.arange(len(store))) for store in database]).astype(np.float64)
    names = [name for store in database for name in store.ids]
    asked = queries.rows(np.arange(OBJECTS)).astype(np.float64)
    for dim, value in zip((4, 8), series.maps, strict=False):
        q, x = (
            part[:, :dim] / np.linalg.norm(part[:, :dim], axis=1)[:, None] for part in (asked, everything)
        )
        scores = q @ x.astype(np.float16).astype(np.float64).T
        run = Run.from_dict(
            {
                query: {names[at]: float(row[at]) for at in np.argsort(-row, kind="stable")[:20]}
                for query, row in zip(queries.ids, scores, strict=True)
            }
        )
        assert value == pytest.approx(evaluate(run, dataset, k=20).map, abs=1e-9)
    for bad in ([0], [33], []):
        with pytest.raises(ParameterError, match="dims"):
            dimension_sweep(dataset, queries, database, dims=bad)
    with pytest.raises(ParameterError, match="database"):
        dimension_sweep(dataset, queries, [])


def test_shortlists_and_descriptors_equal_a_reranking_each(tmp_path: Path, rng: np.random.Generator) -> None:
    dataset, queries, database = make_stores(tmp_path, rng)
    run = search(queries, database, 40)
    stores = []
    for name, ids in (("lq", queries.ids), ("ld", [*database[0].ids, *database[1].ids])):
        with LocalStore.create(tmp_path / name, bits=64) as writer:
            count = len(ids)
            writer.append_arrays(
                list(ids),
                np.arange(count + 1) * 10,
                rng.integers(0, 256, (count * 10, 8), dtype=np.uint8),
                rng.random((count * 10, 2), np.float32),
                size=np.full((count, 2), 100),
            )
        stores.append(LocalStore.open(tmp_path / name))
    sweep = rerank_sweep(dataset, run, *stores, shortlists=(30, 5), descriptors=(2, 10), k=40)
    assert [one.label for one in sweep.series] == [
        "2 descriptors, 16 B an image",
        "10 descriptors, 80 B an image",
    ]
    for one, count in zip(sweep.series, (2, 10), strict=True):
        assert one.bytes_per_image == (8.0 * count,) * 2
        for length, value in zip((5, 30), one.maps, strict=True):
            local = rerank(
                run,
                *stores,
                method="chamfer",
                shortlist=length,
                options=ChamferOptions(database_descriptors=count),
            )
            assert value == evaluate(ensemble(run, local), dataset, k=40).map
    with pytest.raises(ParameterError, match="method"):
        rerank_sweep(dataset, run, *stores, method="ames")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="at least one number"):
        rerank_sweep(dataset, run, *stores, shortlists=())


def test_curves_of_runs_and_sweeps_as_files(tmp_path: Path, rng: np.random.Generator) -> None:
    dataset, queries, database = make_stores(tmp_path, rng)
    run = search(queries, database, 3 * OBJECTS + DISTRACTORS)
    curve = run_curve(run, dataset, subsets=2, subset_size=20, k=10)
    assert curve.distractors.tolist() == [0, 10, 60]
    assert curve.maps[-1] == pytest.approx(evaluate(run, dataset, k=10).map)
    assert (np.diff(curve.maps) <= 1e-12).all()
    few = Run.from_dict(
        {
            query: {
                name: float(score)
                for name, score in zip(run[query].ids, run[query].scores, strict=True)
                if not name.startswith("t.tar") or int(name[-3:]) < 10
            }
            for query in run
        }
    )
    assert curve.maps[1] == pytest.approx(evaluate(few, dataset, k=10).map)
    with pytest.raises(ParameterError, match="end before their last positive"):
        run_curve(run.truncate(2), dataset)
    with pytest.raises(ParameterError, match="at most 60"):
        run_curve(run, dataset, prefixes=[61])
    with pytest.raises(ParameterError, match="1 to 10,000,000 distractors"):
        run_curve(run, dataclasses.replace(dataset, distractors=()))
    sweep = curve_sweep({"global": curve})
    assert [one.label for one in sweep.series] == ["global", "global, 2 random subsets"]
    sweep.save(tmp_path / "s.json")
    assert Sweep.load(tmp_path / "s.json") == sweep
    assert "2 random subsets" in sweep._repr_html_()
    for text in ("[]", "{}", "nonsense", (tmp_path / "s.json").read_text().replace("60.0", "NaN")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FileFormatError, match="not a sweep"):
            Sweep.load(tmp_path / "bad.json")
    with pytest.raises(ParameterError, match="one k"):
        curve_sweep({})
    for bad in (((1.0,), ()), ((2.0, 1.0), (1.0, 1.0)), ((1.0,), (float("nan"),))):
        with pytest.raises(ParameterError, match="series"):
            SweepSeries("s", *bad)


def test_text_queries_have_curves_and_sweeps_of_their_own(tmp_path: Path, rng: np.random.Generator) -> None:
    image, queries, database = make_stores(tmp_path, rng)
    text = tuple(f"o{n}/query/t.txt" for n in range(OBJECTS))
    dataset = dataclasses.replace(image, text_queries=text)
    with GlobalStore.create(tmp_path / "t", dim=DIM) as writer:
        writer.append(list(text), queries.rows(np.arange(OBJECTS)))
    texts = GlobalStore.open(tmp_path / "t")
    (series,) = dimension_sweep(dataset, texts, database, dims=[8, DIM], k=20).series
    assert series.maps == dimension_sweep(image, queries, database, dims=[8, DIM], k=20).series[0].maps
    assert min(series.maps) > 0
    runs = [search(store, database, 3 * OBJECTS + DISTRACTORS) for store in (queries, texts)]
    curve = run_curve(runs[1], dataset, k=10)
    assert curve.queries == text
    assert curve.maps.tolist() == run_curve(runs[0], image, k=10).maps.tolist()
    both = Run.from_dict(
        {q: dict(zip(run[q].ids, run[q].scores.tolist(), strict=True)) for run in runs for q in run}
    )
    with pytest.raises(ParameterError, match="2 tasks"):
        run_curve(both, dataset)
    assert run_curve(both, dataset, k=10, task="text").maps.tolist() == curve.maps.tolist()
