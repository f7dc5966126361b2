"""The eight stages in order: images -> extract -> adapt -> store -> search -> rerank -> evaluate -> report.

Everything a run makes lies in one folder, and a run that was interrupted goes on where it stopped: the learnt
extractor and whitening are loaded instead of learnt again, images that are in the stores are not extracted
again, and the later stages, which take seconds, are made anew.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ilias_fast._doctor import made_by
from ilias_fast._extras import require
from ilias_fast._files import read_bytes, storage_error, written
from ilias_fast.adapt import PcaWhitening, derive, sample_rows
from ilias_fast.errors import (
    DatasetError,
    FileFormatError,
    IncompatibleStoreError,
    ParameterError,
)
from ilias_fast.evaluate import Evaluation, evaluate
from ilias_fast.extract import (
    ClassicalExtractor,
    Extractor,
    NeuralExtractor,
    extract_to_stores,
    load_network,
)
from ilias_fast.report import write_report
from ilias_fast.report.assemble import Judged, curve_plots, report_data
from ilias_fast.report.matching import matched_pairs
from ilias_fast.rerank import ensemble, rerank_both
from ilias_fast.run import Run
from ilias_fast.search import search
from ilias_fast.store import GlobalStore, LocalStore, exists

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ilias_fast.datasets import Dataset
    from ilias_fast.images import ImageSource

__all__ = ["PipelineOptions", "PipelineResult", "run_pipeline"]

_log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], object]

_WHITENING_SAMPLE = 2000


@dataclass(frozen=True)
class PipelineOptions:
    """Settings of a run.

    Attributes:
        model: timm model of the global descriptor; None for the classical one (VLAD of RootSIFT).
        weights: With a model: "pretrained", "random", or the path of a checkpoint.
        resolution: With a model: size of the longer side, in pixels; None for the benchmark's choice.
        dim: Dimensions kept by PCA whitening, at most; None for as many as the data supports.
        k: Depth of the ranked lists, and of mAP@k.
        shortlist: How many images of each query are re-ranked.
        query_expansions: Numbers of neighbours of the alpha-QE rows of the table.
        strict: Stop at the first image that cannot be read, instead of skipping it.
        seed: Of everything that is learnt from a sample.
        threads: Number of threads; None for all cores.

    Raises:
        ParameterError: A number is out of its range.

    Examples:
        >>> options = PipelineOptions(k=100, shortlist=50)
        >>> options.model is None, options.query_expansions
        (True, (1, 2, 5))
    """

    model: str | None = None
    weights: str = "pretrained"
    resolution: int | None = None
    dim: int | None = 512
    k: int = 1000
    shortlist: int = 1000
    query_expansions: tuple[int, ...] = (1, 2, 5)
    strict: bool = False
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("k", self.k), ("shortlist", self.shortlist), ("dim", self.dim)):
            if value is not None and value < 1:
                raise ParameterError(f"{name}: expected at least 1, found {value}")
        for count in self.query_expansions:
            if count < 1:
                raise ParameterError(f"query_expansions: expected numbers of at least 1, found {count}")


@dataclass(frozen=True)
class PipelineResult:
    """What a run found and where it lies.

    Attributes:
        dataset: What was searched.
        output: The folder of everything the run made.
        report: The HTML page.
        methods: Rows of the results table, in order.
        alone: mAP@k of the shortlists ordered by a local score alone, without the global one, by method name.
        skipped: (id, reason) of images that could not be read.
        seconds: Time of each stage.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import Dataset
        >>> dataset = Dataset("mine", Path(), Path(), ("mug/query/0.jpg",), (), ("mug/pos/0.jpg",))
        >>> seconds = {"extract": 9.5, "search": 0.2}
        >>> result = PipelineResult(dataset, Path("out"), Path("out/report.html"), (), (), seconds)
        >>> max(result.seconds, key=result.seconds.get), result.report.name
        ('extract', 'report.html')
    """

    dataset: Dataset
    output: Path
    report: Path
    methods: tuple[Judged, ...]
    skipped: tuple[tuple[str, str], ...]
    seconds: Mapping[str, float]
    alone: Mapping[str, float] = field(default_factory=dict)

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """The evaluation of each method, by name."""
        return {method.name: method.evaluation for method in self.methods}


@dataclass
class _Workplace:
    """Where a run keeps its files, what it reports to, and how long its stages took."""

    root: Path
    progress: Progress | None
    seconds: dict[str, float] = field(default_factory=dict)

    def at(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise storage_error(cause, path.parent, "create") from cause
        return path

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            _log.debug("%s: %.1f s", name, self.seconds[name])

    def watch(self, label: str) -> Callable[[int, int], None]:
        def told(done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(label, done, total)

        return told


def run_pipeline(
    dataset: Dataset,
    output: Path,
    *,
    options: PipelineOptions | None = None,
    progress: Progress | None = None,
) -> PipelineResult:
    """Run all stages on a dataset.

    Args:
        dataset: Queries, positives and distractors, from `ilias_fast.datasets.load_dataset`.
        output: Folder for everything the run makes; an interrupted run in it is continued.
        options: Settings; None for the defaults.
        progress: Called with (stage, done, total).

    Returns:
        The evaluation of global search, alpha-QE, and the ensembles of the global score with Chamfer
        similarity (CS) and spatial verification (SP), the rows of the ILIAS paper's Table 4.

    Raises:
        IncompatibleStoreError: `output` holds a run of other images or settings.
        FileFormatError, CorruptStoreError: A file in `output` is damaged; the message names it.
        ImageError: With `strict`, an image cannot be read.
        DatasetError: No query image, or no database image, can be read.
        MissingExtraError: A library the run needs is not installed.
        StorageError: The operating system refused to write.

    Examples:
        >>> from pathlib import Path
        >>> from ilias_fast.datasets import load_dataset
        >>> from ilias_fast.datasets.generate import generate
        >>> _ = generate("toy", objects=2, images=20)
        >>> result = run_pipeline(load_dataset("toy"), Path("out"), options=PipelineOptions(shortlist=5))
        >>> result.report.exists(), all(0 <= method.evaluation.map <= 100 for method in result.methods)
        (True, True)
    """
    options = options or PipelineOptions()
    # What the last stage needs should not be missed an hour after the first.
    for module, purpose in (("cv2", "extract local descriptors"), ("jinja2", "write the report")):
        require(module, purpose)
    place = _Workplace(Path(output), progress)
    _check_settings(place.at("settings.json"), options)
    source = dataset.image_source()
    ids = {
        "queries": list(dataset.image_queries),
        "database": [*dataset.positives, *dataset.distractors],
    }
    with place.stage("extract"):
        skipped = _extract(place, source, ids, options)
    with place.stage("adapt"):
        queries, database = _adapt(place, options)
    if not len(queries) or not len(database):
        raise DatasetError(
            f"{dataset.root}: none of the {'queries' if len(database) else 'database images'} can be read"
        )
    judged: list[Judged] = []

    def judge(name: str, label: str, run: Run) -> None:
        with place.stage("evaluate"):
            run.save(place.at("runs", f"{name}.json"))
            # An image that could not be read has no result: a query among them counts as zero.
            evaluation = evaluate(
                run, dataset, k=options.k, missing="zero", task="image", threads=options.threads
            )
            evaluation.save(place.at("evaluations", f"{name}.json"))
        judged.append(Judged(name, label, run, evaluation))

    with place.stage("search"):
        found = _search(place, queries, database, options)
    for name, label, run in found:
        judge(name, label, run)
    baseline = found[0][2]
    local = [LocalStore.open(place.at("stores", f"{part}-local")) for part in ids]
    with place.stage("rerank"):
        chamfer, spatial = rerank_both(
            baseline,
            *local,
            shortlist=options.shortlist,
            threads=options.threads,
            progress=place.watch("rerank"),
        )
    judge("cs", "Chamfer similarity (CS)", ensemble(baseline, chamfer))
    with place.stage("evaluate"):
        alone = {
            name: evaluate(
                ensemble(baseline, local_scores, lam=0.0, calibrate=False),
                dataset,
                k=options.k,
                missing="zero",
                task="image",
                threads=options.threads,
            ).map
            for name, local_scores in (("cs", chamfer), ("sp", spatial))
        }
    verified = ensemble(baseline, spatial)
    judge("sp", "Spatial verification (SP)", verified)
    with place.stage("report"):
        data = report_data(
            dataset,
            judged,
            matches=matched_pairs(dataset, baseline, verified, spatial, local[0], local[1], method="sp"),
            plots=curve_plots(dataset, judged, options.threads),
            skipped=skipped,
            provenance={
                "Descriptors": {"global": queries.provenance, "local": local[0].provenance},
                "Seconds": {name: f"{value:.1f}" for name, value in place.seconds.items()},
                "Stores": {
                    store.path.name: {"images": len(store), "checksum": store.checksum}
                    for store in (queries, database, *local)
                },
                "Made by": made_by(options.threads),
            },
        )
        report = write_report(place.at("report.html"), data, progress=place.watch("report    pictures"))
    return PipelineResult(
        dataset, place.root, report, tuple(judged), tuple(skipped), dict(place.seconds), alone
    )


def _check_settings(path: Path, options: PipelineOptions) -> None:
    """Record what the files in the folder depend on; refuse a folder that was made with something else."""
    settings = {name: getattr(options, name) for name in ("model", "weights", "resolution", "dim", "seed")}
    if not path.exists():
        with written(path) as file:
            file.write(json.dumps(settings, indent=2).encode())
        return
    try:
        there = json.loads(read_bytes(path))
    except ValueError as cause:
        raise FileFormatError(f"{path}: expected the settings of a run as JSON: {cause}") from cause
    if there != settings:
        raise IncompatibleStoreError(
            f"{path.parent}: holds a run with other settings ({there}; now {settings}); choose another "
            f"output folder, or remove this one"
        )


def _extract(
    place: _Workplace, source: ImageSource, ids: Mapping[str, list[str]], options: PipelineOptions
) -> list[tuple[str, str]]:
    """Fill the raw global store and the local store of queries and database; return what was skipped."""
    learnt = place.at("extractor.safetensors")
    classical = _classical(learnt, source, ids["database"], options, place)
    neural = _neural(options)
    skipped: dict[str, str] = {}
    for part, names in ids.items():
        raw, local = place.at("stores", f"{part}-raw"), place.at("stores", f"{part}-local")
        for path in (raw, local):
            _check_known(path, names)
        # One pass where one extractor makes both descriptors, else one each.
        passes: list[tuple[Extractor, Path | None, Path | None, str]] = (
            [(classical, raw, local, part)]
            if neural is None
            else [(neural, raw, None, f"{part}, global"), (classical, None, local, f"{part}, local")]
        )
        for extractor, global_store, local_store, label in passes:
            done = extract_to_stores(
                extractor,
                source,
                names,
                global_store=global_store,
                local_store=local_store,
                strict=options.strict,
                threads=options.threads,
                progress=place.watch(f"extract   {label}"),
            )
            skipped.update(done.skipped)
    return sorted(skipped.items())


def _classical(
    learnt: Path, source: ImageSource, names: list[str], options: PipelineOptions, place: _Workplace
) -> ClassicalExtractor:
    if learnt.exists():
        return ClassicalExtractor.load(learnt, threads=options.threads)
    watch = place.watch("extract   codebook")
    watch(0, 1)
    # From the database alone: a deployed system has not seen its queries.
    extractor = ClassicalExtractor.fit(source, names, seed=options.seed, threads=options.threads)
    extractor.save(learnt)
    watch(1, 1)
    return extractor


def _neural(options: PipelineOptions) -> NeuralExtractor | None:
    if options.model is None:
        return None
    network = load_network(options.model, weights=options.weights, seed=options.seed)
    return NeuralExtractor(network, resolution=options.resolution)


def _check_known(path: Path, names: Sequence[str]) -> None:
    """Refuse a store that holds images the dataset no longer has: they would turn up in the results."""
    if not exists(path):
        return
    known = frozenset(names)
    gone = (
        next((name for name in GlobalStore.open(path).ids if name not in known), None)
        if path.name.endswith("-raw")
        else next((name for name in LocalStore.open(path).ids if name not in known), None)
    )
    if gone is not None:
        raise IncompatibleStoreError(
            f"{path}: holds {gone!r}, which is not in the dataset; choose another output folder, "
            f"or remove this one"
        )


def _adapt(place: _Workplace, options: PipelineOptions) -> tuple[GlobalStore, GlobalStore]:
    """Whiten the raw descriptors of both sides, by a whitening learnt from the database."""
    raw = {part: GlobalStore.open(place.at("stores", f"{part}-raw")) for part in ("queries", "database")}
    learnt = place.at("whitening.safetensors")
    if learnt.exists():
        whitening = PcaWhitening.load(learnt)
    else:
        sample = sample_rows(raw["database"], _WHITENING_SAMPLE, seed=options.seed)
        whitening = PcaWhitening.fit(sample, options.dim)
        whitening.save(learnt)
    adapted = []
    for part, source in raw.items():
        path = place.at("stores", part)
        if exists(path) and (GlobalStore.open(path).parent or {}).get("checksum") != source.checksum:
            shutil.rmtree(path)  # derived from fewer images than there are now
        adapted.append(derive(source, path, whitening, progress=place.watch(f"adapt     {part}")))
    return adapted[0], adapted[1]


def _search(
    place: _Workplace, queries: GlobalStore, database: GlobalStore, options: PipelineOptions
) -> list[tuple[str, str, Run]]:
    found = []
    for count in (0, *options.query_expansions):
        name, label = (f"aqe{count}", f"α-QE {count}") if count else ("global", "Global")
        run = search(
            queries,
            database,
            options.k,
            query_expansion=count,
            threads=options.threads,
            progress=place.watch(f"search    {label}"),
        )
        found.append((name, label, run))
    return found
