"""The demo benchmark: an instance retrieval data set in the official ILIAS layout, drawn from a seed.

Objects of fifteen families are drawn with distinctive detail. Queries show one on clean ground; positives
show it among clutter, small or large, turned, tilted, partly hidden, in any light; distractors show other
objects of the same families, clutter alone, and near-duplicates that differ in two details. Nothing is
downloaded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ilias_fast import cpu
from ilias_fast._files import StrPath
from ilias_fast.datasets.generate.drawing import cv
from ilias_fast.datasets.generate.families import FAMILIES
from ilias_fast.datasets.generate.hard import CASES
from ilias_fast.datasets.generate.layout import Layout
from ilias_fast.datasets.generate.photographs import Photograph
from ilias_fast.datasets.generate.plan import MAX_IMAGES, MIN_IMAGES, Plan, check_parameters
from ilias_fast.datasets.generate.studio import Studio
from ilias_fast.errors import StorageError

__all__ = ["CASES", "MAX_IMAGES", "MIN_IMAGES", "GeneratedSummary", "generate"]

Progress = Callable[[int, int], object]
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class GeneratedSummary:
    """What a generated benchmark holds.

    Attributes:
        root: Its folder.
        objects, image_queries, positives, distractors: Counts; there is one text query an object.
        near_duplicates: How many of the distractors nearly duplicate a query object.
        reused: Whether everything was there already.

    Examples:
        >>> summary = generate("toy", objects=1, images=10)
        >>> summary.objects, summary.reused, generate("toy", objects=1, images=10).reused
        (1, False, True)
    """

    root: Path
    objects: int
    image_queries: int
    positives: int
    distractors: int
    near_duplicates: int
    reused: bool

    @property
    def images(self) -> int:
        """All images: queries, positives and distractors."""
        return self.image_queries + self.positives + self.distractors


def generate(
    root: StrPath,
    *,
    objects: int | None = None,
    images: int | None = None,
    seed: int = 0,
    near_duplicates: float = 0.15,
    hard: Sequence[str] = (),
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> GeneratedSummary:
    """Generate the demo benchmark in the official ILIAS layout.

    The files are a function of `objects`, `images`, `seed`, `near_duplicates` and `hard` (and of the versions
    of NumPy and OpenCV), the same for any number of threads. Called again with the same parameters, a
    complete benchmark is reused and an interrupted one is completed: finished tars are kept, the core images
    are kept once all are there.

    Args:
        root: Folder to fill: absent, empty, or holding a benchmark generated before.
        objects: Query objects, 1 to 25,000; 40 unless given, or as many as suit `images`.
        images: Queries, positives and distractors together, 10 to 100,000; 25 an object unless given.
        seed: Another seed is another benchmark.
        near_duplicates: Share of the distractors that nearly duplicate a query object, 0 to 1.
        hard: Names of hard cases for re-ranking, of `CASES`; objects and distractors take turns.
        overwrite: Replace a benchmark generated before (never anything else).
        threads: Images drawn at the same time; None for all cores.
        progress: Called with (images done, images in all), from the calling thread.

    Returns:
        The counts.

    Raises:
        ParameterError: A parameter is out of range, or `root` holds something else.
        MissingExtraError: OpenCV is not installed.
        StorageError: The operating system refused to write.

    Examples:
        >>> from ilias_fast.datasets import load_ilias
        >>> summary = generate("toy", objects=2, images=20, seed=1)
        >>> load_ilias("toy")
        Dataset('toy': 2 image queries, 2 text queries, 8 positives)
    """
    parameters = check_parameters(objects, images, seed, near_duplicates, hard)
    workers = cpu.threads(threads)
    cv()
    plan = Plan(parameters, len(FAMILIES))
    layout = Layout(Path(root), plan)
    try:
        layout.prepare(overwrite)
        reused = _fill(layout, plan, workers, progress or (lambda _done, _total: None))
    except OSError as cause:
        if isinstance(cause, StorageError):
            raise
        where = cause.filename or root
        raise StorageError(
            f"cannot write the benchmark: {cause.strerror or cause} ({where}); "
            f"what is finished is kept, run it again to go on",
            cause.errno,
            where,
        ) from cause
    return GeneratedSummary(
        root=layout.root,
        objects=len(plan.objects),
        image_queries=sum(planned.queries for planned in plan.objects),
        positives=sum(planned.positives for planned in plan.objects),
        distractors=plan.distractors,
        near_duplicates=plan.near_duplicates,
        reused=reused,
    )


def _fill(layout: Layout, plan: Plan, workers: int, progress: Progress) -> bool:
    """Draw what is missing; return whether nothing was."""
    total = plan.parameters.images
    core_needed = not layout.has_core()
    shards_needed = [shard for shard in range(plan.shards) if not layout.has_shard(shard)]
    core_images = total - plan.distractors
    done = (0 if core_needed else core_images) + plan.distractors
    done -= sum(len(plan.shard_members(shard)) for shard in shards_needed)
    progress(done, total)
    if core_needed or shards_needed:
        studio = Studio(plan)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="ilias-fast-generate")
        try:
            if core_needed:
                for count in _write_core(layout, plan, studio, pool, workers):
                    done += count
                    progress(done, total)
            for shard in shards_needed:

                def counted(shard: int = shard) -> Iterator[tuple[int, Photograph]]:
                    nonlocal done
                    members = plan.shard_members(shard)
                    for number, photograph in zip(
                        members,
                        _in_order(pool, studio.photograph_distractor, members, 4 * workers),
                        strict=True,
                    ):
                        yield number, photograph
                        done += 1
                        progress(done, total)

                layout.write_shard(shard, counted())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    layout.finish(changed=bool(core_needed or shards_needed))
    return not (core_needed or shards_needed)


def _write_core(
    layout: Layout, plan: Plan, studio: Studio, pool: ThreadPoolExecutor, workers: int
) -> Iterator[int]:
    """Draw and write every object, then the id files; yield the images written each time."""
    queries: dict[str, float] = {}
    positives: dict[str, tuple[float, int]] = {}
    for taken in _in_order(pool, studio.photograph_object, range(len(plan.objects)), 2 * workers):
        planned = plan.objects[taken.number]
        query_pictures = list(zip(planned.query_ids, taken.queries, strict=True))
        positive_pictures = list(zip(planned.positive_ids, taken.positives, strict=True))
        layout.write_object(taken.number, taken.text, query_pictures + positive_pictures)
        queries.update((id_, picture.scale) for id_, picture in query_pictures)
        positives.update((id_, (picture.scale, picture.clutter)) for id_, picture in positive_pictures)
        yield len(query_pictures) + len(positive_pictures)
    layout.write_ids(queries, positives, [family.taxonomy for family in FAMILIES])


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[_T], _R], items: Iterable[_T], ahead: int
) -> Iterator[_R]:
    """Results of `work` in the order of the items, at most `ahead` of them under way."""
    waiting: deque[Future[_R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
