"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "STDOUT",
    "AsJson",
    "Dataset",
    "Depth",
    "Model",
    "Overwrite",
    "RunOutput",
    "Strict",
    "Threads",
    "Weights",
    "in_a_folder",
]


STDOUT = Path("-")
"""As an output: print it, and nothing else."""


def in_a_folder(path: Path | None) -> Path | None:
    """Refuse an output whose folder is missing, before hours are spent on what goes into it."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent} to write {path.name} to")
    return path


def _run_output(path: Path) -> Path:
    if path.suffix not in (".json", ".pkl", ".pickle", ".npz", ".trec", ".run", ".parquet"):
        raise typer.BadParameter(
            f"expected a file name ending in .json, .pkl or .npz, or .trec or .parquet, found {path.name!r}"
        )
    in_a_folder(path)
    return path


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", "-t", help="Number of threads; all cores if not given.", min=1, max=1024),
]
RunOutput = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="The run: .json or .pkl (official formats), or .npz.", callback=_run_output
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first unreadable image instead of skipping it.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at the output.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="Network of the global descriptor: a name of `ilias-fast models`, or any of timm or open_clip; "
        "the classical one (VLAD of RootSIFT) if not given."
    ),
]
Weights = Annotated[
    str, typer.Option(help="With --model: `pretrained`, `random`, or the path of a checkpoint of that model.")
]
Depth = Annotated[int, typer.Option("--k", "-k", help="Depth of the ranked lists.", min=1)]
Dataset = Annotated[
    Path, typer.Option("--dataset", "-d", help="Folder in the official ILIAS layout, or of photographs.")
]
