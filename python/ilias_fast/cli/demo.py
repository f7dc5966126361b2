"""`ilias-fast demo`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, print_json, results_table, stages

__all__ = ["demo"]


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for everything the run makes; run again to go on.")
    ] = Path("demo"),
    images: Annotated[
        Path | None,
        typer.Option(
            help="Your own photographs instead of the generated ones: `<instance>/query`, `<instance>/pos` "
            "and `distractors/`, or the official ILIAS layout."
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(help="Images to generate, 10 to 100,000 (about one object in 25).", min=10, max=100_000),
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the generated images and of everything learnt.", min=0)] = 0,
    model: options.Model = None,
    weights: options.Weights = "pretrained",
    shortlist: Annotated[
        int, typer.Option("--shortlist", "-M", help="Images re-ranked per query.", min=1)
    ] = 1000,
    strict: options.Strict = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Run all eight stages, from images to a report, on a generated benchmark or on your photographs."""
    from ilias_fast.datasets import load_dataset
    from ilias_fast.pipeline import PipelineOptions, run_pipeline

    chosen = PipelineOptions(
        model=model, weights=weights, shortlist=shortlist, strict=strict, seed=seed, threads=threads
    )
    with stages() as progress:
        if images is None:
            from ilias_fast.datasets.generate import generate

            images = output / "images"
            generate(
                images,
                images=size,
                seed=seed,
                threads=threads,
                progress=lambda done, total: progress("images    generate", done, total),
            )
            dataset = replace(load_dataset(images), name=f"demo benchmark, seed {seed}")
        else:
            dataset = load_dataset(images)
        result = run_pipeline(dataset, output / "run", options=chosen, progress=progress)
    if as_json:
        print_json(
            {
                "map": {method.name: method.evaluation.tasks["image"].map for method in result.methods},
                "skipped": dict(result.skipped),
                "seconds": dict(result.seconds),
                "report": str(result.report),
            }
        )
        return
    out.print(
        f"\n[bold]{plain(dataset.name)}[/]: {len(dataset.image_queries)} queries, "
        f"{len(dataset.positives)} positives, {len(dataset.distractors)} distractors"
    )
    out.print(results_table([(method.label, method.evaluation) for method in result.methods]))
    labels = {method.name: method.label for method in result.methods}
    alone = ", ".join(f"{labels[name]} {value:.2f}" for name, value in result.alone.items())
    out.print(f"without the global score: {alone}", soft_wrap=True)
    for name, reason in result.skipped:
        out.print(f"[yellow]skipped[/] {plain(name)}: {plain(reason)}", soft_wrap=True)
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in result.seconds.items())
    out.print(f"seconds: {seconds}", soft_wrap=True)
    out.print(f"report: {plain(result.report)}", soft_wrap=True)
