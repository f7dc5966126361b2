"""The registry: every model of the benchmark, with the settings it was published with."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ilias_fast import _arrays
from ilias_fast.errors import ParameterError

__all__ = ["FRAMEWORKS", "Model", "find_model", "models", "near"]

FRAMEWORKS = {
    "timm": "timm",
    "och": "open_clip",
    "tv": "torchvision",
    "fb": "torch.hub (DINO, DINOv2, DINOv3, SwAV, MoCo v3)",
    "cvn": "CVNet and SuperGlobal",
    "unicom": "UNICOM",
    "unc": "UNIC",
    "hier": "HIER",
}
"""What the registry's framework codes stand for."""

_NO_DOWNLOAD = ("cvn", "unc", "hier")  # public, but behind pages that are not a plain download


@dataclass(frozen=True)
class Model:
    """One row of the registry. None where the benchmark says nothing: never zero.

    Attributes:
        order: Place in the benchmark's list, from 1.
        name: The name on the benchmark's command line, and here.
        paper_name: The checkpoint's name in the paper, or "(not in paper)".
        display: The name in the paper's tables.
        year: Of the model.
        framework: A key of `FRAMEWORKS`.
        pooling: "head" for the model's own, or the pooling the benchmark used.
        train_size: Side of the training images, in pixels.
        test_size: Resolution of the benchmark, in pixels.
        text: Whether the benchmark also describes text queries with it.
        arch: Family of architectures: "CNN", "R50", "ViT-B", ...
        train: How it was trained: "sup", "ssl", "vla", "dist", ...
        train_data: What on.
        data_size: How many images that is.
        dims_paper: Dimension of the descriptor as the paper prints it.
        dims: Dimension of what the model returns.
        norm_stats: "imagenet", "clip" or "half"; or, in parentheses, where to find them.
        pad_multiple: Sides are zero-padded to a multiple of this.
        paper_repo: Where the weights are; a star where they are not public.
        weights_public: "yes", "no", "gated (...)" or "yes (converted)".
        loads_with_published_code: "yes", or what is in the way.
        text_model: open_clip model of the text tower, or "".
        text_pretrained: Its weights tag.
        text_repo: "oc" for open_clip's own, "hf" for a hub, or "".
        note: What to know about the row.

    Examples:
        >>> model = find_model("dino_resnet50")
        >>> model.framework, model.train_size, model.test_size, model.dims
        ('fb', 224, 384, 2048)
    """

    order: int
    name: str
    paper_name: str
    display: str
    year: int
    framework: str
    pooling: str
    train_size: int | None
    test_size: int
    text: bool
    arch: str
    train: str
    train_data: str
    data_size: str
    dims_paper: int | None
    dims: int
    norm_stats: str
    pad_multiple: int
    paper_repo: str
    weights_public: str
    loads_with_published_code: str
    text_model: str
    text_pretrained: str
    text_repo: str
    note: str

    @property
    def needs_checkpoint(self) -> str | None:
        """Why the weights have to be given as a file, or None if they can be downloaded."""
        if self.weights_public == "no":
            return "its weights are not public"
        if self.weights_public.startswith("gated"):
            return "its weights are gated: their owner sends the address on request"
        if self.weights_public != "yes":
            return f"its weights are public only in another form ({self.weights_public})"
        if self.framework in _NO_DOWNLOAD:
            return "its weights are public but no plain download"
        return None


def models(
    *, framework: str | None = None, text: bool | None = None, public: bool | None = None, word: str = ""
) -> tuple[Model, ...]:
    """Return the benchmark's models, in its order.

    Args:
        framework: Only those of a framework (a key of `FRAMEWORKS`).
        text: Only those that describe texts (True) or do not (False).
        public: Only those whose weights can be downloaded (True) or have to be given as a file (False).
        word: Only those with this in their name, display name, architecture or training data, in any case.

    Raises:
        ParameterError: There is no such framework.

    Examples:
        >>> len(models()), [model.name for model in models(word="dinov2")][:2]
        (72, ['dinov2_vitb14', 'dinov2_vitl14'])
    """
    if framework is not None:
        _arrays.choice("framework", framework, tuple(FRAMEWORKS))
    return tuple(
        row
        for row in _rows().values()
        if framework in (None, row.framework)
        and text in (None, row.text)
        and public in (None, row.needs_checkpoint is None)
        and any(word.lower() in field.lower() for field in (row.name, row.display, row.arch, row.train_data))
    )


def find_model(name: str) -> Model:
    """Return a row by its name.

    Args:
        name: As in the benchmark's list.

    Raises:
        ParameterError: There is no such row; the message names near ones.

    Examples:
        >>> find_model("dinov2_vitb14").pad_multiple
        14
    """
    try:
        return _rows()[name]
    except KeyError:
        raise ParameterError(
            f"the benchmark has no model {name!r}{near(name, _rows())} (`ilias-fast models` lists all)"
        ) from None


def near(name: str, names: Iterable[str]) -> str:
    """Return "; near: ..." with the three names most like one that does not exist, or nothing.

    Args:
        name: The one that does not exist.
        names: Those that do.
    """
    found = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; near: {', '.join(found)}" if found else ""


@cache
def _rows() -> dict[str, Model]:
    text = files("ilias_fast.extract").joinpath("models.csv").read_text("utf-8")
    return {row["name"]: _model(row) for row in csv.DictReader(text.splitlines())}


def _model(row: dict[str, str]) -> Model:
    return Model(
        order=int(row["order"]),
        name=row["name"],
        paper_name=row["paper_name"],
        display=row["display"],
        year=int(row["year"]),
        framework=row["framework"],
        pooling=row["pooling"],
        train_size=_whole(row["train_res"]),
        test_size=int(row["test_res"]),
        text=row["is_text"] == "true",
        arch=row["arch"],
        train=row["train"],
        train_data=row["train_data"],
        data_size=row["data_size"],
        dims_paper=_whole(row["dims_paper"]),
        dims=int(row["dims_actual"]),
        norm_stats=row["norm_stats"],
        pad_multiple=int(row["pad_multiple"]),
        paper_repo=row["paper_repo"],
        weights_public=row["weights_public"],
        loads_with_published_code=row["loads_with_published_code"],
        text_model=row["text_model"],
        text_pretrained=row["text_pretrained"],
        text_repo=row["text_repo"],
        note=row["note"],
    )


def _whole(text: str) -> int | None:
    """Return a number; a blank is nothing, not zero."""
    return int(text) if text else None
