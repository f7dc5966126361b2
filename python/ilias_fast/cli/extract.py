"""`ilias-fast extract`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, stages

if TYPE_CHECKING:
    from ilias_fast.extract import Extractor
    from ilias_fast.images import ImageSource

__all__ = ["extract"]


def extract(
    images: Annotated[
        list[Path],
        typer.Argument(help="A folder of images, searched recursively, or WebDataset tars.", exists=True),
    ],
    part: Annotated[
        Literal["queries", "database"] | None,
        typer.Option(
            help="IMAGES is a dataset, in the official ILIAS layout or a folder of photographs: describe its "
            "image queries, or its positives and distractors, by the ids it is evaluated by."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Store of the global descriptors.")
    ] = None,
    local: Annotated[
        Path | None, typer.Option("--local", help="Store of the local descriptors (classical extractor).")
    ] = None,
    learnt: Annotated[
        Path | None,
        typer.Option(
            "--learnt",
            help="File of the classical extractor's codebook and binarisation: loaded if it is there, else "
            "learnt from these images and saved. Queries and database need the same one.",
            callback=options.in_a_folder,
        ),
    ] = None,
    model: options.Model = None,
    weights: options.Weights = "pretrained",
    pooling: Annotated[
        str, typer.Option(help="With --model: `head`, `cls`, `gap`, `gem` or `mac`.")
    ] = "head",
    resolution: Annotated[
        int | None, typer.Option(help="With --model: longer side in pixels.", min=1)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images given to the extractor at once.", min=1)] = 32,
    seed: Annotated[int, typer.Option(help="Of what is learnt, or of random weights.", min=0)] = 0,
    strict: options.Strict = False,
    threads: options.Threads = None,
) -> None:
    """Describe images and append them to stores; run again after an interruption, it goes on."""
    from ilias_fast.errors import ParameterError
    from ilias_fast.extract import NeuralExtractor, extract_to_stores, load_network

    if output is None and local is None:
        raise ParameterError("expected --output, --local, or both; found neither")
    source, ids = _source(images, part)
    if model is not None:
        network = load_network(model, weights=weights, pooling=pooling, seed=seed)
        extractor: Extractor = NeuralExtractor(network, resolution=resolution, batch_size=batch_size)
    else:
        extractor = _classical(source, ids, learnt, seed, threads)
    with stages() as progress:
        done = extract_to_stores(
            extractor,
            source,
            ids,
            global_store=output,
            local_store=local,
            batch_size=batch_size,
            strict=strict,
            threads=threads,
            progress=lambda done, total: progress("extract", done, total),
        )
    out.print(f"{done.extracted} images described, {done.resumed} were there, {len(done.skipped)} skipped")
    for name, reason in done.skipped:
        out.print(f"[yellow]skipped[/] {plain(name)}: {plain(reason)}", soft_wrap=True)


def _source(
    images: list[Path], part: Literal["queries", "database"] | None
) -> tuple[ImageSource, list[str] | None]:
    """Return where the images are, and which of them are wanted; None for all."""
    from ilias_fast.datasets import load_dataset
    from ilias_fast.errors import ParameterError
    from ilias_fast.images import FolderSource, TarSource

    if part is not None:
        if len(images) > 1:
            raise ParameterError(f"IMAGES: expected one dataset with --part, found {len(images)} paths")
        dataset = load_dataset(images[0])
        wanted = dataset.image_queries if part == "queries" else [*dataset.positives, *dataset.distractors]
        return dataset.image_source(), list(wanted)
    if len(images) == 1 and images[0].is_dir():
        return FolderSource(images[0]), None
    if any(path.is_dir() for path in images):
        raise ParameterError(
            "IMAGES: expected one folder or a number of tar files, found several paths with a folder"
        )
    return TarSource(images), None


def _classical(
    source: ImageSource, ids: list[str] | None, learnt: Path | None, seed: int, threads: int | None
) -> Extractor:
    from ilias_fast.errors import ParameterError
    from ilias_fast.extract import ClassicalExtractor

    if learnt is None:
        raise ParameterError(
            "the classical extractor learns a codebook: name a file for it with --learnt, and give the same "
            "file when you extract the other side (or choose a network with --model)"
        )
    if learnt.exists():
        return ClassicalExtractor.load(learnt, threads=threads)
    extractor = ClassicalExtractor.fit(source, ids, seed=seed, threads=threads)
    extractor.save(learnt)
    return extractor
