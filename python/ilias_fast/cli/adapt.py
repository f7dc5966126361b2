"""`ilias-fast adapt`: train and fit adaptations, apply them to stores, export them, compare them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import StageProgress, out, plain, print_json, stages

if TYPE_CHECKING:
    from ilias_fast.adapt import Itq, PcaWhitening, SupervisedWhitening, TrainingOptions, VectorAdapter
    from ilias_fast.evaluate import Evaluation
    from ilias_fast.store import BinaryStore, GlobalStore, LocalStore

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Adaptation: train or fit it, apply it to a store, export it, compare it."
)

StorePath = Annotated[Path, typer.Argument(help="Store of the features to learn from.")]
AdapterOutput = Annotated[
    Path,
    typer.Option("--output", "-o", help="The adapter, a safetensors file.", callback=options.in_a_folder),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="List of labelled images, `id,label` or `id,label,domain` a line.", exists=True),
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Leave out ids that the store or the list has alone.")
]
Dim = Annotated[int, typer.Option(help="Dimension of the adapted descriptors.", min=1)]
Seed = Annotated[int, typer.Option(help="Of everything random.", min=0)]


@app.command("train")
def train(
    store: StorePath,
    labels: Annotated[Path, typer.Argument(help="List of labelled images.", exists=True)],
    output: AdapterOutput,
    dim: Dim = 512,
    epochs: Annotated[int, typer.Option(help="Passes over the features.", min=1)] = 2,
    batch_size: Annotated[int, typer.Option(help="Images a step.", min=1)] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Coupled, on all parameters.")] = 1e-6,
    sampled_classes: Annotated[
        int | None,
        typer.Option(
            help="Classes in the softmax of a step: an approximation, faster on a CPU; all if not given."
        ),
    ] = None,
    seed: Seed = 0,
    partial: Partial = False,
    device: Annotated[
        str | None, typer.Option(help="A torch device; CUDA if there is one, else the CPU, if not given.")
    ] = None,
    overwrite: options.Overwrite = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Train the linear layer by normalised softmax; run again after an interruption, it goes on."""
    from ilias_fast._files import storage_error
    from ilias_fast.adapt import TrainingOptions, read_labels, train_linear
    from ilias_fast.errors import ParameterError
    from ilias_fast.store import GlobalStore

    if output.exists() and not overwrite:
        raise ParameterError(f"--output: {output} exists; choose another file, or ask to --overwrite")
    state = output.with_name(output.name + ".training")
    with stages() as progress:
        done = train_linear(
            GlobalStore.open(store),
            read_labels(labels),
            TrainingOptions(dim, epochs, batch_size, learning_rate, weight_decay, sampled_classes, seed),
            partial=partial,
            device=device,
            threads=threads,
            checkpoint=state,
            progress=lambda done, total: progress("train", done, total),
        )
    done.adapter.save(output)
    try:
        state.unlink(missing_ok=True)
    except OSError as cause:
        raise storage_error(cause, state, "remove") from cause
    if as_json:
        trained = {"images": done.images, "classes": done.classes, "losses": done.losses}
        print_json({**_facts(done.adapter, output), **trained})
        return
    losses = ", ".join(f"{loss:.3f}" for loss in done.losses)
    out.print(f"{done.images:,} images of {done.classes:,} classes, mean loss of each epoch: {losses}")
    _say(done.adapter, output)


@app.command("fit")
def fit(
    store: StorePath,
    output: AdapterOutput,
    method: Annotated[
        Literal["pcaw", "lw", "itq"],
        typer.Option(
            help="PCA whitening, supervised whitening (needs labels or pairs), or ITQ binarisation."
        ),
    ],
    dim: Annotated[
        int | None, typer.Option(help="Of a whitening; all there are if not given.", min=1)
    ] = None,
    bits: Annotated[int, typer.Option(help="Of ITQ, a multiple of 8.", min=8)] = 128,
    labels: Labels = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Instead of labels: `query<tab>positive` a line.", exists=True)
    ] = None,
    shrinkage: Annotated[
        float, typer.Option(help="PCAw: this multiple of the mean eigenvalue is added to each.", min=0)
    ] = 0.0,
    mean: Annotated[
        bool, typer.Option("--mean/--no-mean", help="PCAw, ITQ: subtract the mean when applying.")
    ] = True,
    seed: Seed = 0,
    partial: Partial = False,
    as_json: options.AsJson = False,
) -> None:
    """Fit a whitening or a binarisation in one pass over a store, as published by default."""
    from ilias_fast.adapt import Itq, PcaWhitening
    from ilias_fast.errors import ParameterError
    from ilias_fast.store import GlobalStore, LocalStore, open_store

    source = open_store(store)
    if not isinstance(source, (GlobalStore, LocalStore)):
        raise ParameterError(f"STORE: expected a store of float16 vectors, found {source!r}")
    fitted: Itq | PcaWhitening | SupervisedWhitening
    with stages() as progress:

        def tell(done: int, total: int) -> None:
            progress("fit", done, total)

        if method == "itq":
            fitted = Itq.fit(source, bits, seed=seed, subtract_mean=mean, progress=tell)
        elif method == "pcaw":
            fitted = PcaWhitening.fit(source, dim, shrinkage=shrinkage, subtract_mean=mean, progress=tell)
        else:
            if not isinstance(source, GlobalStore):
                raise ParameterError(f"STORE: expected a global store, found {source!r}")
            fitted = _supervised(source, dim, labels, pairs, partial, tell)
    fitted.save(output)
    if as_json:
        print_json(_facts(fitted, output))
        return
    if dim is not None and not isinstance(fitted, Itq) and fitted.output_dim < dim:
        out.print(f"[yellow]{dim} dimensions asked for, the features span {fitted.output_dim}[/]")
    _say(fitted, output)


@app.command("apply")
def apply(
    path: Annotated[Path, typer.Argument(help="The store.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to make or continue.")],
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="A linear layer (.pth or ours), a whitening, or an ITQ binarisation (.npz or ours)."
        ),
    ] = None,
    signs: Annotated[bool, typer.Option("--signs", help="Binarise vectors by their signs.")] = False,
    unpack: Annotated[
        bool, typer.Option("--unpack", help="Cast binary codes to float16 vectors of unit length.")
    ] = False,
    strongest: Annotated[
        int | None, typer.Option(help="Keep this many local descriptors an image, by weight.", min=1)
    ] = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Derive a store from another, row by row; run again after an interruption, it goes on."""
    from ilias_fast.adapt import Signs, Step, Strongest, Unpack, derive, load_adapter
    from ilias_fast.cli._card import tell
    from ilias_fast.errors import IncompatibleStoreError, ParameterError
    from ilias_fast.store import open_store

    if (adapter is not None) + signs + unpack + (strongest is not None) != 1:
        raise ParameterError("expected one of --adapter, --signs, --unpack and --strongest")
    source: GlobalStore | BinaryStore | LocalStore = open_store(path)
    found = source.info()
    step: Step
    if adapter is not None:
        step = load_adapter(adapter)
    elif strongest is not None:
        step = Strongest(strongest)
    elif not (found.dim if signs else found.bits):
        expected = "float16 vectors or descriptors" if signs else "binary codes"
        raise IncompatibleStoreError(f"{path}: expected a store of {expected}, found {source!r}")
    else:
        step = Signs(found.dim) if signs else Unpack(found.bits)
    with stages() as progress:
        store = derive(
            source,
            output,
            step,
            threads=threads,
            progress=lambda done, total: progress("apply", done, total),
        )
    tell(store, as_json)


@app.command("export")
def export(
    adapter: Annotated[Path, typer.Argument(help="A linear layer.", exists=True)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .pth file.", callback=options.in_a_folder)
    ],
    as_json: options.AsJson = False,
) -> None:
    """Write a linear layer as the torch checkpoint that the official code reads."""
    from ilias_fast.adapt import LinearAdapter, load_adapter
    from ilias_fast.errors import ParameterError

    layer = load_adapter(adapter)
    if not isinstance(layer, LinearAdapter):
        raise ParameterError(f"ADAPTER: expected a linear layer, found a {layer.kind} adapter")
    layer.export(output)
    if as_json:
        print_json(_facts(layer, output))
    else:
        _say(layer, output)


@app.command("compare")
def compare(
    queries: Annotated[Path, typer.Argument(help="Store of the queries, not adapted.")],
    database: Annotated[list[Path], typer.Argument(help="Stores of the database, not adapted.")],
    dataset: options.Dataset,
    adapters: Annotated[
        list[Path] | None,
        typer.Option(
            "--adapter", help="Fitted adapters to compare; can be given several times.", exists=True
        ),
    ] = None,
    train_on: Annotated[
        Path | None,
        typer.Option(
            "--train-on", help="Fit PCAw on this store and, with --labels, Lw and the linear layer."
        ),
    ] = None,
    labels: Labels = None,
    dim: Dim = 512,
    epochs: Annotated[int, typer.Option(help="Of the linear layer.", min=1)] = 2,
    batch_size: Annotated[int, typer.Option(help="Of the linear layer.", min=1)] = 128,
    partial: Partial = False,
    seed: Seed = 0,
    k: options.Depth = 1000,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Print mAP without adaptation and with each: the benchmark's table of adaptations."""
    from ilias_fast.adapt import TrainingOptions, VectorAdapter, load_adapter
    from ilias_fast.datasets import load_dataset
    from ilias_fast.errors import ParameterError
    from ilias_fast.evaluate import evaluate
    from ilias_fast.search import search
    from ilias_fast.store import GlobalStore

    truth = load_dataset(dataset)
    asked, stores = GlobalStore.open(queries), [GlobalStore.open(path) for path in database]
    compared: dict[str, VectorAdapter | None] = {"none": None}
    for path in adapters or []:
        loaded = load_adapter(path)
        if not isinstance(loaded, VectorAdapter):
            raise ParameterError(
                f"--adapter: {path}: expected a linear layer or a whitening, found {loaded.kind}"
            )
        compared[path.stem if path.stem not in compared else str(path)] = loaded
    rows = []
    with stages() as progress:
        if train_on is not None:
            settings = TrainingOptions(dim=dim, epochs=epochs, batch_size=batch_size, seed=seed)
            learnt = GlobalStore.open(train_on)
            compared |= _learnt(learnt, labels, settings, partial, threads, progress)
        for name, adapter in compared.items():

            def tell(done: int, total: int, name: str = name) -> None:
                progress(f"search  {name}", done, total)

            run = search(asked, stores, k, adapter=adapter, threads=threads, progress=tell)
            found = evaluate(run, truth, k=k, missing="zero", threads=threads)
            rows.append((name, adapter, found))
    if as_json:
        print_json({name: _scores(found, adapter, asked.dim) for name, adapter, found in rows})
    else:
        out.print(_table(rows, asked.dim, k))


def _learnt(
    store: GlobalStore,
    labels: Path | None,
    settings: TrainingOptions,
    partial: bool,
    threads: int | None,
    progress: StageProgress,
) -> dict[str, VectorAdapter]:
    """Fit what can be compared: PCAw, and with labels Lw and the linear layer."""
    from ilias_fast.adapt import PcaWhitening, read_labels, train_linear

    whitening = PcaWhitening.fit(
        store,
        settings.dim,
        shrinkage=0,
        subtract_mean=True,
        progress=lambda done, total: progress("fit     PCAw", done, total),
    )
    fitted: dict[str, VectorAdapter] = {"PCAw": whitening}
    if labels is not None:
        fitted["Lw"] = _supervised(
            store,
            min(settings.dim, store.dim),
            labels,
            None,
            partial,
            lambda done, total: progress("fit     Lw", done, total),
        )
        fitted["linear"] = train_linear(
            store,
            read_labels(labels),
            settings,
            partial=partial,
            threads=threads,
            progress=lambda done, total: progress("train   linear", done, total),
        ).adapter
    return fitted


def _supervised(
    store: GlobalStore,
    dim: int | None,
    labels: Path | None,
    pairs: Path | None,
    partial: bool,
    tell: Callable[[int, int], object],
) -> SupervisedWhitening:
    from ilias_fast._files import read_lines
    from ilias_fast.adapt import Labelled, SupervisedWhitening, matching_pairs, read_labels
    from ilias_fast.errors import FileFormatError, ParameterError

    if (labels is None) == (pairs is None):
        raise ParameterError("--method lw: expected --labels or --pairs")
    if labels is not None:
        queries, positives = matching_pairs(Labelled.match(store, read_labels(labels), partial=partial))
    else:
        assert pairs is not None
        lines = [line.split("\t") for line in read_lines(pairs) if line.strip()]
        for number, line in enumerate(lines, 1):
            if len(line) != 2:
                raise FileFormatError(f"{pairs}: pair {number}: expected query<tab>positive, found {line!r}")
        queries = store.find([query for query, _ in lines])
        positives = store.find([positive for _, positive in lines])
    return SupervisedWhitening.fit(store, queries, positives, dim, progress=tell)


def _table(rows: list[tuple[str, VectorAdapter | None, Evaluation]], dim: int, k: int) -> Table:
    from ilias_fast.adapt import PcaWhitening

    tasks = list(dict.fromkeys(task for _, _, found in rows for task in found.tasks))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("adaptation", overflow="fold")
    for title in ("labels", "dim"):
        table.add_column(title, justify="right")
    for task in tasks:
        prefix = f"{task} " if len(tasks) > 1 else ""
        for title in (f"{prefix}mAP@{k}", "difference", "oracle"):
            table.add_column(title, justify="right", no_wrap=True)
    base = rows[0][2]
    best = {task: max(found.tasks[task].map for _, _, found in rows) for task in tasks}
    for name, adapter, found in rows:
        supervised = "–" if adapter is None else "no" if isinstance(adapter, PcaWhitening) else "yes"
        cells = [plain(name), supervised, str(dim if adapter is None else adapter.output_dim)]
        for task in tasks:
            scores = found.tasks[task]
            shown = f"{scores.map:.2f}"
            cells.append(f"[bold]{shown}[/]" if scores.map == best[task] else shown)
            cells.append("" if adapter is None else f"{scores.map - base.tasks[task].map:+.2f}")
            cells.append(f"{scores.oracle:.2f}")
        table.add_row(*cells)
    return table


def _scores(found: Evaluation, adapter: VectorAdapter | None, dim: int) -> dict[str, object]:
    """Return a row of the table, for JSON."""
    tasks = {name: {"map": scores.map, "oracle": scores.oracle} for name, scores in found.tasks.items()}
    return {"dim": dim if adapter is None else adapter.output_dim, **tasks}


def _facts(adapter: VectorAdapter | Itq, path: Path) -> dict[str, object]:
    """Return what an adapter is and where it was written, for JSON."""
    parameters = {"fingerprint": adapter.fingerprint, **adapter.parameters()}
    return {"kind": adapter.kind, "input_dim": adapter.input_dim, **parameters, "output": str(path)}


def _say(adapter: VectorAdapter | Itq, path: Path) -> None:
    size = f"{adapter.bits} bits" if hasattr(adapter, "bits") else str(adapter.output_dim)
    out.print(f"{adapter.kind}, {adapter.input_dim} -> {size}: {plain(path)}", soft_wrap=True)
