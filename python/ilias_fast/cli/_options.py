"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Dataset", "Depth", "Model", "Overwrite", "Strict", "Threads", "Weights"]

Threads = Annotated[
    int | None, typer.Option("--threads", "-t", help="Number of threads; all cores if not given.", min=1)
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first unreadable image instead of skipping it.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at the output.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="timm model of the global descriptor; the classical one (VLAD of RootSIFT) if not given."
    ),
]
Weights = Annotated[
    str, typer.Option(help="With --model: `pretrained`, `random`, or the path of a checkpoint of that model.")
]
Depth = Annotated[int, typer.Option("--k", "-k", help="Depth of the ranked lists.", min=1)]
Dataset = Annotated[
    Path, typer.Option("--dataset", "-d", help="Folder in the official ILIAS layout, or of photographs.")
]
