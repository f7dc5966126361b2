"""`ilias-fast report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli import _runs
from ilias_fast.cli._console import out, plain, print_json, stages

if TYPE_CHECKING:
    from ilias_fast.datasets import Dataset
    from ilias_fast.report import MatchedPair
    from ilias_fast.report.assemble import Judged
    from ilias_fast.run import Run

__all__ = ["report"]


def _recorded(run: Run) -> dict[str, object]:
    """Return what a run says of itself, without the name of the file it was read from."""
    return {key: value for key, value in run.provenance.items() if key != "source"}


def _matches(
    dataset: Dataset,
    methods: list[Judged],
    local_queries: Path | None,
    local_database: Path | None,
    pairs: Path | None,
) -> list[MatchedPair]:
    """Return the pairs to draw; none without local descriptors."""
    from ilias_fast.report.matching import chosen_pairs, pairs_between
    from ilias_fast.store import LocalStore

    if local_queries is None or local_database is None:
        return []
    queries, database = LocalStore.open(local_queries), LocalStore.open(local_database)
    last = methods[-1]
    if pairs is not None:
        return chosen_pairs(_runs.ids_by_query(pairs), last.run, queries, database, method=last.name)
    shown = methods[0].evaluation.queries
    return pairs_between(dataset, methods[0].run, last.run, queries, database, method=last.name, shown=shown)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Runs to show, .json, .pkl or .npz; the others are compared with the first."),
    ],
    dataset: options.Dataset,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The HTML page, report.html if not given; another format is printed then.",
            callback=options.in_a_folder,
        ),
    ] = None,
    k: options.Depth = 1000,
    form: Annotated[
        Literal["html", "md", "json", "csv", "latex"],
        typer.Option("--format", "-f", help="The page, or the results table for papers and programs."),
    ] = "html",
    leaderboard: Annotated[
        bool | None,
        typer.Option(
            "--leaderboard/--no-leaderboard",
            help="The published numbers: on the page unless refused, in another format if asked for.",
        ),
    ] = None,
    task: Annotated[
        Literal["image", "text"] | None,
        typer.Option(help="Which queries the page is about; image queries if a run answers any."),
    ] = None,
    duplicates: _runs.Duplicates = "error",
    sweeps: Annotated[
        list[Path] | None,
        typer.Option("--sweep", help="Draw this too: what `ilias-fast sweep --json` wrote. May be repeated."),
    ] = None,
    local_queries: Annotated[
        Path | None,
        typer.Option(help="Local store of the queries: pairs are drawn with their matched keypoints."),
    ] = None,
    local_database: Annotated[Path | None, typer.Option(help="Local store of the database.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="JSON file `{query id: [database ids]}` of the pairs to draw; if not given, positives that "
            "the last run moved up and distractors it ranks highest."
        ),
    ] = None,
    strips: Annotated[
        int,
        typer.Option(min=0, help="Queries whose pictures are in the page; files of others are linked."),
    ] = 120,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Write one HTML page about runs: table, plots, groups, and the pictures; or the table as text."""
    from ilias_fast._doctor import made_by
    from ilias_fast._files import written
    from ilias_fast.datasets import load_dataset
    from ilias_fast.errors import ParameterError
    from ilias_fast.evaluate import Sweep, format_results
    from ilias_fast.report import ReportOptions, write_report
    from ilias_fast.report.assemble import Judged, curve_plots, report_data, sweep_plot

    if as_json and form != "html":
        raise ParameterError(f"--json: it says where the page is, and --format {form} makes none")
    if (local_queries is None) != (local_database is None):
        raise ParameterError("--local-queries and --local-database: expected both, or none")
    if pairs is not None and local_queries is None:
        raise ParameterError(
            "--pairs: needs --local-queries and --local-database, whose keypoints are matched"
        )
    truth, loaded = load_dataset(dataset), _runs.load_runs(runs, duplicates)
    if form != "html":
        evaluations = {}
        for named in loaded:
            evaluations[named.name] = _runs.judged(named, truth, k=k, task=task, threads=threads)
            _runs.warn_of_missing(named, evaluations[named.name])
        text = format_results(evaluations, form, published=bool(leaderboard))
        if output is None:
            typer.echo(text, nl=False)
        else:
            with written(output) as file:
                file.write(text.encode())
        return
    plots = [sweep_plot(Sweep.load(path)) for path in sweeps or ()]
    if task is None:
        image = any(query in named.run for named in loaded for query in truth.image_queries)
        task = "image" if image or not truth.text_queries else "text"
    methods: list[Judged] = []
    for named in loaded:
        evaluation = _runs.judged(named, truth, k=k, task=task, threads=threads)
        methods.append(Judged(named.name, named.name, named.run, evaluation))
    with stages() as progress:
        page = write_report(
            output or Path("report.html"),
            report_data(
                truth,
                methods,
                matches=_matches(truth, methods, local_queries, local_database, pairs),
                plots=[*curve_plots(truth, methods, threads), *plots],
                published=leaderboard is not False,
                provenance={
                    "Runs": {
                        named.name: {"file": str(named.path), **_recorded(named.run)} for named in loaded
                    },
                    "Made by": made_by(threads),
                },
            ),
            options=ReportOptions(strips=strips),
            progress=lambda done, total: progress("pictures", done, total),
        )
    if as_json:
        print_json(
            {"map": {judge.name: judge.evaluation.tasks[task].map for judge in methods}, "report": str(page)}
        )
    else:
        out.print(f"report: {plain(page)}", soft_wrap=True)
