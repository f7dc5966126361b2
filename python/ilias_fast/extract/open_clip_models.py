"""Image and text towers of open_clip: the benchmark's RN50, its text towers, and any other model's."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._extras import require
from ilias_fast.errors import ParameterError
from ilias_fast.extract.network import Network, Wanted, describe_by, dimension
from ilias_fast.extract.weights import cannot_be_had, constructing, load_state, without_prefix
from ilias_fast.images import Transform

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["build", "create", "tokenizer"]

_MODES = {
    "longest": Transform.RESIZE_PAD,
    "shortest": Transform.RESIZE_CENTER,
    "squash": Transform.RESIZE_SQUARE,
}
_HUB = "hf-hub:"
_OPENAI = {"RN50.openai": ("RN50", "openai")}


def build(wanted: Wanted) -> Network:
    """Build the image tower of an open_clip model.

    A tower with attention pooling over a convolutional map (RN50 and its kin) takes images of any size: its
    table of positions is resized, as the benchmark does. Another is given what its own configuration says.

    Args:
        wanted: Its name is an open_clip model, "/" and a weights tag if it has several; or "RN50.openai".

    Raises:
        ParameterError: There is no such model, the pooling does not suit it, or the weights cannot be had.
        StorageError, FileFormatError: The checkpoint cannot be read or does not fit.
        MissingExtraError: open_clip is not installed.
    """
    open_clip = require("open_clip", "build open_clip models")
    name, tag = _OPENAI.get(wanted.name, _parts(wanted.name))
    model = create(name, tag, wanted, part="visual")
    module = model.visual
    config = dict(module.preprocess_cfg)
    size = config.get("size", 224)
    trained = int(max(size) if isinstance(size, (tuple, list)) else size)
    convolutional = hasattr(module, "attnpool") and hasattr(module, "layer4")
    head = _any_size(module) if convolutional else module
    features = _maps(module) if convolutional else None
    describe = describe_by(wanted, head=head, features=features)
    row = wanted.row
    return Network(
        module=module,
        describe=describe,
        dim=dimension(describe, module, trained, trained),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        train_size=trained,
        resolution=row.test_size if row is not None else None if convolutional else trained,
        transform=Transform.RESIZE_LARGE if convolutional else _MODES[config.get("resize_mode", "shortest")],
        provenance=wanted.provenance("open_clip", str(open_clip.__version__), module),
    )


def _parts(name: str) -> tuple[str, str | None]:
    """Split a name into the model and its weights tag; the names of a hub have slashes of their own."""
    if name.startswith(_HUB):
        return name, None
    model, _, tag = name.partition("/")
    return model, tag or None


def _architecture(name: str) -> str:
    return name.rpartition("/")[2] if name.startswith(_HUB) else name


def create(name: str, tag: str | None, wanted: Wanted, *, part: str) -> Any:
    """Return an open_clip model in evaluation mode, weights and all.

    Args:
        name: The model; "hf-hub:..." for one whose weights a hub keeps.
        tag: Its weights; None where there is nothing to choose.
        wanted: Where the weights come from.
        part: "visual" or "text": which tower a checkpoint has to bring.

    Raises:
        ParameterError: There is no such model or tag, or the weights cannot be had.
        StorageError, FileFormatError: The checkpoint cannot be read or does not fit.
    """
    open_clip = require("open_clip", "build open_clip models")
    architecture = _architecture(name)
    if architecture not in open_clip.list_models():
        raise ParameterError(f"open_clip has no model {architecture!r}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if wanted.weights == "pretrained" and not name.startswith(_HUB):
        if tag is None and len(tags) == 1:
            tag = tags[0]
        if tag not in tags:
            raise ParameterError(
                f"{architecture}: expected a weights tag, {architecture}/TAG, with one of "
                f"{', '.join(tags) or 'none (give a checkpoint)'}; found {tag!r}"
            )
    with constructing(wanted), _quiet():
        try:
            if wanted.weights == "pretrained":
                model = open_clip.create_model(name, pretrained=tag, weights_only=True)
            else:
                device = "meta" if wanted.weights == "none" else "cpu"
                model = open_clip.create_model(
                    architecture, pretrained=None, load_weights=False, pretrained_text=False, device=device
                )
        except Exception as cause:
            if wanted.weights != "pretrained":
                raise
            raise cannot_be_had(wanted.name, cause) from cause
    if wanted.checkpoint is not None:
        _fill(model, wanted, part)
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's warnings to itself: that a model drawn at random is so, and about activations.

    It logs by functions that set up the root logger where it has no handler; with one they leave it alone.
    """
    root, nothing = logging.getLogger(), logging.NullHandler()
    root.addHandler(nothing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(nothing)


def _fill(model: Any, wanted: Wanted, part: str) -> None:
    """Load the tower that is needed; a checkpoint may be of the whole model or of the tower alone."""
    assert wanted.checkpoint is not None
    path = Path(wanted.checkpoint)
    state = without_prefix(read_checkpoint(path), "module.")
    if part == "visual" and any(key.startswith("visual.") for key in state):
        load_state(model.visual, without_prefix(state, "visual."), path, wanted.name)
    elif part == "visual":
        load_state(model.visual, state, path, wanted.name)
    else:
        own = model.state_dict()
        theirs = {key: value for key, value in own.items() if key.startswith("visual.")}
        load_state(model, {**theirs, **state}, path, wanted.name)


def tokenizer(name: str) -> Any:
    """Return what turns texts into tokens [n, context] for a model, longer texts truncated.

    Args:
        name: The model; CLIP's and PE's tokenizers come with open_clip, SigLIP's is downloaded from a hub.

    Raises:
        ParameterError: The tokenizer has to be downloaded and cannot be.
        MissingExtraError: open_clip, or transformers for a tokenizer of a hub, is not installed.
    """
    open_clip = require("open_clip", "describe texts")
    architecture = _architecture(name)
    config = open_clip.get_model_config(architecture) or {}
    if config.get("text_cfg", {}).get("hf_tokenizer_name"):
        require("transformers", f"tokenize for {architecture}")
    try:
        with _quiet():
            return open_clip.get_tokenizer(architecture)
    except Exception as cause:
        raise ParameterError(
            f"the tokenizer of {name} cannot be had ({type(cause).__name__}: "
            f"{(str(cause).splitlines() or [''])[0]})"
        ) from cause


def _maps(module: Any) -> Any:
    def features(batch: Tensor) -> Any:
        return _stages(module, batch).flatten(2).transpose(1, 2)

    return features


def _stages(module: Any, x: Tensor) -> Tensor:
    for stage in (module.stem, module.layer1, module.layer2, module.layer3, module.layer4):
        x = stage(x)
    return x


def _any_size(module: Any) -> Any:
    """Return the forward pass with the positions of the attention pool resized to the map."""
    torch = require("torch", "run open_clip models")
    functional = torch.nn.functional
    pool = module.attnpool

    def describe(batch: Tensor) -> Any:
        maps = _stages(module, batch)
        size = maps.shape[2:]
        table = pool.positional_embedding
        side = round((len(table) - 1) ** 0.5)
        if tuple(size) != (side, side):
            grid = table[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
            resized = functional.interpolate(grid, size=size, mode="bicubic", align_corners=False)
            table = torch.cat([table[:1], resized.flatten(2)[0].T])
        x = maps.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(dim=0, keepdim=True), x])
        x = x + table[:, None, :].to(x.dtype)
        out, _ = functional.multi_head_attention_forward(
            query=x[:1],  # only the pooled token's answer is used
            key=x,
            value=x,
            embed_dim_to_check=x.shape[-1],
            num_heads=pool.num_heads,
            q_proj_weight=pool.q_proj.weight,
            k_proj_weight=pool.k_proj.weight,
            v_proj_weight=pool.v_proj.weight,
            in_proj_weight=None,
            in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=pool.c_proj.weight,
            out_proj_bias=pool.c_proj.bias,
            use_separate_proj_weight=True,
            training=False,
            need_weights=False,
        )
        return out[0]

    return describe
