"""The eight stages in a row: on generated images, on photographs, again, interrupted, with damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="the pipeline's local descriptors need OpenCV")
pytest.importorskip("jinja2", reason="the pipeline ends in a report")

from ilias_fast.datasets import Dataset, load_dataset
from ilias_fast.datasets.generate import CASES, generate
from ilias_fast.errors import (
    FileFormatError,
    ImageError,
    IncompatibleStoreError,
    ParameterError,
    StorageError,
)
from ilias_fast.pipeline import PipelineOptions, PipelineResult, run_pipeline
from ilias_fast.run import Run
from ilias_fast.store import GlobalStore, LocalStore

METHODS = ["global", "aqe1", "aqe2", "aqe5", "cs", "sp"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "images"
    generate(root, images=60, seed=3)
    return root


@pytest.fixture(scope="module")
def dataset(images: Path) -> Dataset:
    return load_dataset(images)


@pytest.fixture(scope="module")
def result(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> PipelineResult:
    return run_pipeline(dataset, tmp_path_factory.mktemp("run"))


def copied(result: PipelineResult, to: Path) -> Path:
    shutil.copytree(result.output, to)
    return to


def test_every_stage_leaves_what_it_made(result: PipelineResult, dataset: Dataset) -> None:
    assert [method.name for method in result.methods] == METHODS
    database = [*dataset.positives, *dataset.distractors]
    assert list(GlobalStore.open(result.output / "stores/database").ids) == database
    assert list(LocalStore.open(result.output / "stores/database-local").ids) == database
    for method in result.methods:
        saved = Run.load(result.output / "runs" / f"{method.name}.json")
        assert saved.query_ids == dataset.image_queries
        assert (result.output / "evaluations" / f"{method.name}.json").exists()
    page = result.report.read_text("utf-8")
    assert "Spatial verification" in page
    assert all(query in page for query in dataset.image_queries)
    assert result.skipped == ()
    assert set(result.seconds) == {"extract", "adapt", "search", "rerank", "evaluate", "report"}


def test_reranking_improves_on_global_search(result: PipelineResult) -> None:
    scores = {name: evaluation.map for name, evaluation in result.evaluations.items()}
    assert 0 < scores["global"] < 100
    assert scores["sp"] > scores["global"]
    # Weighed so that it does not hurt where it cannot help, it may leave as few images as these as they are.
    assert scores["cs"] >= scores["global"]
    assert set(result.alone) == {"cs", "sp"}
    assert all(0 < value <= 100 for value in result.alone.values())
    assert result.alone["sp"] != scores["sp"]


def test_reranking_does_not_hurt_where_it_cannot_help(tmp_path: Path) -> None:
    """Low texture, the same walls, tiny, blurred, noisy, stamped pictures, near-duplicates, in turns."""
    generate(tmp_path / "images", images=80, seed=5, hard=list(CASES))
    hard = load_dataset(tmp_path / "images")
    done = run_pipeline(hard, tmp_path / "run", options=PipelineOptions(query_expansions=()))
    before, after, chamfer = (done.evaluations[name] for name in ("global", "sp", "cs"))
    assert after.map > before.map - 1
    assert chamfer.map > before.map - 1
    # Nor does any half of the queries.
    change = np.sort(after.aps - before.aps)
    assert change[: len(change) // 2 + 1].mean() > -1


def test_photographs(photos: Path, tmp_path: Path) -> None:
    done = run_pipeline(load_dataset(photos), tmp_path / "run")
    scores = {name: evaluation.map for name, evaluation in done.evaluations.items()}
    assert scores["sp"] > scores["global"] > 70
    assert scores["sp"] > 94


def test_again_extracts_nothing_and_finds_the_same(
    result: PipelineResult, dataset: Dataset, tmp_path: Path
) -> None:
    output = copied(result, tmp_path / "run")
    seen: dict[str, int] = {}
    again = run_pipeline(dataset, output, progress=lambda stage, done, _total: seen.setdefault(stage, done))
    # The first report of an extraction that has nothing to do is that all is done.
    assert seen["extract   queries"] == len(dataset.image_queries)
    assert {name: e.map for name, e in again.evaluations.items()} == {
        name: e.map for name, e in result.evaluations.items()
    }


class _StopError(Exception):
    pass


def test_interrupted_run_goes_on(result: PipelineResult, dataset: Dataset, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "extract   database" and done > total // 2:
            raise _StopError

    with pytest.raises(_StopError):
        run_pipeline(dataset, tmp_path / "run", progress=stop)
    done = run_pipeline(dataset, tmp_path / "run")
    for name in METHODS:
        assert Run.load(done.output / "runs" / f"{name}.json") == Run.load(
            result.output / "runs" / f"{name}.json"
        )


def test_threads_do_not_change_the_answer(result: PipelineResult, dataset: Dataset, tmp_path: Path) -> None:
    alone = run_pipeline(dataset, tmp_path / "run", options=PipelineOptions(threads=1))
    for mine, theirs in zip(alone.methods, result.methods, strict=True):
        assert mine.run == theirs.run, mine.name


def test_unreadable_images_are_skipped_and_named(images: Path, tmp_path: Path) -> None:
    broken = tmp_path / "images"
    shutil.copytree(images, broken)
    dataset = load_dataset(broken)
    query, positive = dataset.image_queries[0], dataset.positives[1]
    (broken / "ilias_core" / query).write_bytes(b"not an image")
    (broken / "ilias_core" / positive).write_bytes(b"")
    done = run_pipeline(dataset, tmp_path / "run")
    assert [name for name, _ in done.skipped] == sorted([query, positive])
    # The unreadable query counts as zero: leaving it out would flatter the mean.
    evaluation = done.evaluations["global"]
    assert dict(zip(evaluation.queries, evaluation.aps, strict=True))[query] == 0
    assert "could not be read" in done.report.read_text("utf-8")
    with pytest.raises(ImageError, match=query.rpartition("/")[2]):
        run_pipeline(dataset, tmp_path / "strict", options=PipelineOptions(strict=True))


def test_added_images_are_appended(images: Path, tmp_path: Path) -> None:
    full = load_dataset(images)
    fewer = Dataset(
        name=full.name,
        root=full.root,
        core=full.core,
        image_queries=full.image_queries,
        text_queries=(),
        positives=full.positives,
        distractors=tuple(full.distractors)[:-5],
        tars=full.tars,
    )
    before = run_pipeline(fewer, tmp_path / "run")
    after = run_pipeline(full, tmp_path / "run")
    assert len(GlobalStore.open(before.output / "stores/database")) == len(full.positives) + len(
        full.distractors
    )
    found = after.methods[0].run[full.image_queries[0]]
    assert set(tuple(full.distractors)[-5:]) <= set(found.ids)


def test_removed_images_are_refused(result: PipelineResult, dataset: Dataset, tmp_path: Path) -> None:
    output = copied(result, tmp_path / "run")
    fewer = Dataset(
        name=dataset.name,
        root=dataset.root,
        core=dataset.core,
        image_queries=dataset.image_queries,
        text_queries=(),
        positives=dataset.positives,
        distractors=tuple(dataset.distractors)[1:],
        tars=dataset.tars,
    )
    with pytest.raises(IncompatibleStoreError, match="not in the dataset"):
        run_pipeline(fewer, output)


def test_damaged_leftovers_are_named(result: PipelineResult, dataset: Dataset, tmp_path: Path) -> None:
    output = copied(result, tmp_path / "run")
    (output / "extractor.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(FileFormatError, match=r"extractor\.safetensors"):
        run_pipeline(dataset, output)


@pytest.mark.parametrize("other", [{"seed": 1}, {"dim": 16}, {"model": "resnet18"}])
def test_other_settings_need_another_folder(
    result: PipelineResult, dataset: Dataset, other: dict[str, object]
) -> None:
    with pytest.raises(IncompatibleStoreError, match="other settings"):
        run_pipeline(dataset, result.output, options=PipelineOptions(**other))  # type: ignore[arg-type]


def test_output_that_cannot_be_made(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        run_pipeline(dataset, tmp_path / "file" / "run")


def test_a_network_for_the_global_descriptor(dataset: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs the extra [torch]")
    options = PipelineOptions(model="resnet18", weights="random", resolution=96, query_expansions=(1,))
    done = run_pipeline(dataset, tmp_path / "run", options=options)
    assert [method.name for method in done.methods] == ["global", "aqe1", "cs", "sp"]
    assert GlobalStore.open(done.output / "stores/database-raw").dim == 512
    assert np.isfinite([evaluation.map for evaluation in done.evaluations.values()]).all()


@pytest.mark.parametrize("wrong", [{"k": 0}, {"shortlist": 0}, {"dim": 0}, {"query_expansions": (0,)}])
def test_wrong_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        PipelineOptions(**wrong)  # type: ignore[arg-type]
