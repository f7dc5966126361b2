"""`ilias-fast extract-local`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._extracting import extraction_progress, source_of, tell_report

__all__ = ["extract_local"]


def extract_local(
    images: Annotated[
        list[Path],
        typer.Argument(help="A folder of images, WebDataset tars, or image files.", exists=True),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Store of the local descriptors.")],
    part: Annotated[
        Literal["queries", "positives", "distractors", "database"] | None,
        typer.Option(
            help="IMAGES is a dataset, in the official ILIAS layout or a folder of photographs: describe a "
            "part of it. Queries are cropped to their boxes; `database`: positives and distractors."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="`dinov2_vitb14_reg`, another DINOv2, or `cvnet_resnet101`.")
    ] = "dinov2_vitb14_reg",
    weights: options.Weights = "pretrained",
    detector: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of the attention detector; without, features are weighed by norm."),
    ] = None,
    itq: Annotated[
        Path | None, typer.Option(help="ITQ binarisation (.npz or ours); float16 is kept without.")
    ] = None,
    descriptors: Annotated[int, typer.Option(help="Kept of an image, by weight.", min=1)] = 700,
    side: Annotated[
        int | None, typer.Option(help="Longer side in pixels; the image's own if not given.", min=1)
    ] = None,
    crop: Annotated[
        bool | None, typer.Option("--crop/--no-crop", help="With --part: crop to boxes; queries are.")
    ] = None,
    global_output: Annotated[
        Path | None, typer.Option("--global", help="Store of a global descriptor, made in passing.")
    ] = None,
    global_by: Annotated[
        Literal["attention", "cls"], typer.Option(help="With --global: mean by weight, or class token.")
    ] = "attention",
    device: Annotated[
        str | None, typer.Option(help="A torch device; the best there is if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random weights.", min=0)] = 0,
    strict: options.Strict = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Describe positions of images by a network; run again after an interruption, it goes on."""
    from ilias_fast.adapt import Itq
    from ilias_fast.errors import ParameterError
    from ilias_fast.extract import LocalExtractor, attention_detector, extract_to_stores, local_network

    found = source_of(images, part)
    cropped = part == "queries" if crop is None else crop
    if cropped and found.boxes is None:
        raise ParameterError("--crop takes the boxes of a dataset: say which --part of it")
    network = local_network(model, weights=weights, seed=seed)
    extractor = LocalExtractor(
        network,
        None if detector is None else attention_detector(network.dim, detector),
        None if itq is None else Itq.load(itq),
        most=descriptors,
        side=side,
        crop=cropped,
        global_by=None if global_output is None else global_by,
        device=device,
    )
    with extraction_progress() as show:
        done = extract_to_stores(
            extractor,
            found.source,
            found.ids,
            global_store=global_output,
            local_store=output,
            boxes=found.boxes if cropped else None,
            strict=strict,
            processes=None,
            threads=threads,
            progress=show.progress,
            on_skip=show.skip,
        )
    tell_report(done, as_json)
