"""`ilias-fast extract`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, print_json
from ilias_fast.cli._extracting import (
    Images,
    extraction_progress,
    selected,
    source_of,
    tell_report,
    texts_of,
)

if TYPE_CHECKING:
    from ilias_fast.extract import Extractor, NeuralExtractor

__all__ = ["extract"]

Part = Literal["queries", "positives", "distractors", "database", "texts"]
Precision = Literal["auto", "float32", "float16", "bfloat16"]


def extract(
    images: Annotated[
        list[Path],
        typer.Argument(help="A folder of images, WebDataset tars, or image files.", exists=True),
    ],
    part: Annotated[
        Part | None,
        typer.Option(
            help="IMAGES is a dataset, in the official ILIAS layout or a folder of photographs: describe a "
            "part of it, by the ids it is evaluated by. `database`: positives and distractors."
        ),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option("--ids", help="File of ids, one a line: only these, in this order.", exists=True),
    ] = None,
    selected_ids: Annotated[
        Path | None,
        typer.Option(help="File of bare keys, one a line (mini-ILIAS): of tars, only these.", exists=True),
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
        str | None, typer.Option(help="`head`, `cls`, `gap`, `gem`, `mac`; the benchmark's if not given.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="S of the transform, in pixels; the benchmark's if not given.", min=1)
    ] = None,
    transform: Annotated[
        str | None,
        typer.Option(help="`RESIZE_LARGE` (the benchmark's), `_SMALL`, `_CENTER`, `_SQUARE` or `_PAD`."),
    ] = None,
    min_size: Annotated[int, typer.Option(help="Zero-pad sides to at least this.", min=0)] = 0,
    multiscale: Annotated[bool, typer.Option("--multiscale", help="Scales 0.707, 1, 1.414.")] = False,
    multirotate: Annotated[bool, typer.Option("--multirotate", help="0, 90, 180, 270 degrees.")] = False,
    crop: Annotated[bool, typer.Option("--crop", help="With --part: crop images to their boxes.")] = False,
    mask: Annotated[bool, typer.Option("--mask", help="With --part: blank out all but the boxes.")] = False,
    white_balance: Annotated[bool, typer.Option("--white-balance", help="Balance channels first.")] = False,
    official: Annotated[
        bool, typer.Option("--official", help="Reproduce the published extraction code where it errs.")
    ] = False,
    device: Annotated[
        list[str] | None,
        typer.Option(help="`cpu`, `cuda:0`, `mps`, ...; give it several times for a process a device."),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="`auto`: float16 on CUDA, as published, else float32.")
    ] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Run through torch.compile.")] = False,
    channels_last: Annotated[
        bool | None,
        typer.Option("--channels-last/--no-channels-last", help="Memory layout; chosen if not given."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images of one size run at once; chosen if not given.", min=1)
    ] = None,
    window: Annotated[
        int, typer.Option(help="Images that may wait until a batch of their size is full.", min=1)
    ] = 4096,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Decode in so many processes in place of threads; one a core for a GPU if not given.",
            min=0,
            max=1024,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is learnt, or of random weights.", min=0)] = 0,
    strict: options.Strict = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Describe images (or texts) and append them to stores; run again after an interruption, it goes on."""
    from ilias_fast.errors import ParameterError
    from ilias_fast.extract import extract_on_devices, extract_to_stores

    if output is None and local is None:
        raise ParameterError("expected --output, --local, or both; found neither")
    if part == "texts":
        _texts(images, output, model, weights, seed, device, precision, as_json)
        return
    found = source_of(images, part, keys=selected(selected_ids))
    if ids is not None:
        found = Images(found.source, selected(ids), found.boxes)
    settings: dict[str, Any] = {
        "resolution": resolution,
        "transform": transform,
        "batch_size": batch_size,
        "precision": precision,
        "multiscale": multiscale,
        "multirotate": multirotate,
        "min_size": min_size,
        "crop": crop,
        "mask": mask,
        "white_balance": white_balance,
        "channels_last": channels_last,
        "compile": compiled,
    }
    if (crop or mask) and found.boxes is None:
        raise ParameterError("--crop and --mask take the boxes of a dataset: say which --part of it")
    network = {"weights": weights, "pooling": pooling, "seed": seed, "official": official}
    schedule: dict[str, Any] = {"window": window, "strict": strict, "processes": processes}
    work: dict[str, Any] = {"boxes": found.boxes if crop or mask else None, "threads": threads}
    with extraction_progress() as show:
        work |= {"progress": show.progress, "on_skip": show.skip}
        if model is not None and device is not None and len(device) > 1:
            if output is None or local is not None:
                raise ParameterError("several devices fill one store of global descriptors: --output")
            make = partial(_neural, model, network, settings)
            done = extract_on_devices(
                make, device, found.source, found.ids, global_store=output, options=schedule, **work
            )
        else:
            if model is not None:
                chosen = device[0] if device else None
                extractor: Extractor = _neural(model, network, settings, chosen)
            else:
                extractor = _classical(found, learnt, seed, threads)
            done = extract_to_stores(
                extractor,
                found.source,
                found.ids,
                global_store=output,
                local_store=local,
                batch_size=batch_size,
                **schedule,
                **work,
            )
    tell_report(done, as_json)


def _neural(
    model: str, network: dict[str, Any], settings: dict[str, Any], device: str | None
) -> NeuralExtractor:
    """Make the extractor; sent to other processes by name."""
    from ilias_fast.extract import NeuralExtractor, load_network

    return NeuralExtractor(load_network(model, **network), device=device, **settings)


def _texts(
    images: list[Path],
    output: Path | None,
    model: str | None,
    weights: str,
    seed: int,
    device: list[str] | None,
    precision: Precision,
    as_json: bool,
) -> None:
    from ilias_fast.errors import ParameterError
    from ilias_fast.extract import TextExtractor, extract_texts

    if model is None or output is None:
        raise ParameterError("--part texts: expected --model and --output")
    texts = texts_of(images)
    extractor = TextExtractor(
        model, weights=weights, seed=seed, device=device[0] if device else None, precision=precision
    )
    with extraction_progress() as show:
        done = extract_texts(extractor, texts, output, progress=show.progress)
    if as_json:
        print_json({"extracted": done, "resumed": len(texts) - done})
    else:
        out.print(f"{done} texts described, {len(texts) - done} were there")


def _classical(found: Images, learnt: Path | None, seed: int, threads: int | None) -> Extractor:
    from ilias_fast.errors import ParameterError
    from ilias_fast.extract import ClassicalExtractor

    if learnt is None:
        raise ParameterError(
            "the classical extractor learns a codebook: name a file for it with --learnt, and give the same "
            "file when you extract the other side (or choose a network with --model)"
        )
    if learnt.exists():
        return ClassicalExtractor.load(learnt, threads=threads)
    extractor = ClassicalExtractor.fit(found.source, found.ids, seed=seed, threads=threads)
    extractor.save(learnt)
    return extractor
