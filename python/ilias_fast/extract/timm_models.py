"""Networks from timm, under any of its model names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ilias_fast._extras import require
from ilias_fast.errors import ParameterError
from ilias_fast.extract.network import Network, Wanted, describe_by, dimension
from ilias_fast.extract.registry import near
from ilias_fast.extract.weights import cannot_be_had, constructing, load
from ilias_fast.images import Transform

if TYPE_CHECKING:
    import torch

__all__ = ["build"]

# Rows of the registry that are no timm names: the model they were fine-tuned from, and the outputs of the
# linear layer the published checkpoints end with (None where the benchmark takes what comes before it).
_FINE_TUNED: dict[str, tuple[str, int | None]] = {
    "recall_512-resnet50": ("resnet50.tv_in1k", 512),
    "recall_512-vit_base_patch16_224_in21k": ("vit_base_patch16_224.augreg_in21k", 512),
    "uscrr_64-vit_base_patch16_clip_224.openai": ("vit_base_patch16_clip_224.openai", None),
    "udon_64-vit_base_patch16_224.augreg_in21k_ft_in1k": ("vit_base_patch16_224.augreg_in21k_ft_in1k", None),
    "udon_64-vit_base_patch16_clip_224.openai": ("vit_base_patch16_clip_224.openai", None),
}
_TRANSFORMERS = ("vit", "eva", "deit", "beit")


def build(wanted: Wanted) -> Network:
    """Build a timm model as the benchmark's protocol does.

    The classifier is dropped, except in models with `clip` or `pe_core` in their name, where it is the
    projection into the joint space. Vision transformers take images of any size: position embeddings are
    resampled and sides padded to the patch size. A model of another family that takes one size only is given
    squares of it.

    Args:
        wanted: Name, weights, pooling.

    Raises:
        ParameterError: timm has no such model, the pooling does not suit it, or the pretrained weights
            cannot be had.
        StorageError, FileFormatError: The checkpoint cannot be read or does not fit.
        MissingExtraError: timm is not installed.
    """
    timm = require("timm", "build timm models")
    name, outputs = _FINE_TUNED.get(wanted.name, (wanted.name, None))
    if not timm.is_model(name):
        raise ParameterError(f"timm has no model {name!r}{near(name, timm.list_models())}")
    options: dict[str, Any] = {"num_classes": outputs or 0}
    if _keeps_head(name) and wanted.name == name:
        options = {}
    with constructing(wanted):
        module, any_size = _create(timm, name, wanted.weights == "pretrained", options)
    config = module.pretrained_cfg
    classifier = config.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    if wanted.checkpoint is not None:
        load(module, wanted, ignored=heads)
    module.eval()
    describe = describe_by(wanted, head=module, features=_features(module), token=_class_token(module))
    patch = module.patch_embed.patch_size if any_size else (1, 1)
    _, height, width = config["input_size"]
    sides = (2 * patch[0], 2 * patch[1]) if patch != (1, 1) else (height, width)
    fixed = bool(config.get("fixed_input_size")) and not any_size
    row = wanted.row
    return Network(
        module=module,
        describe=describe,
        dim=dimension(describe, module, *sides),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        train_size=(row.train_size if row is not None else None) or int(max(height, width)),
        pad_multiple=max(patch),
        resolution=row.test_size if row is not None else max(height, width) if fixed else None,
        transform=Transform.RESIZE_SQUARE if fixed else Transform.RESIZE_LARGE,
        provenance=wanted.provenance("timm", str(timm.__version__), module),
    )


def _keeps_head(name: str) -> bool:
    return "clip" in name or "pe_core" in name


def _create(timm: Any, name: str, pretrained: bool, options: dict[str, Any]) -> tuple[Any, bool]:
    """Return the model, and whether it takes images of any size that its patch size divides."""
    architecture = name.split(".")[0]
    try:
        if any(family in architecture for family in _TRANSFORMERS):
            try:
                # The position embeddings are resampled to whatever token grid comes.
                return timm.create_model(name, pretrained, dynamic_img_size=True, **options), True
            except TypeError:  # a hybrid (levit, mobilevit, ...) that has no such embeddings
                pass
        return timm.create_model(name, pretrained, **options), False
    except Exception as cause:
        if not pretrained:
            raise
        raise cannot_be_had(name, cause) from cause


def _class_token(module: Any) -> Any:
    if getattr(module, "cls_token", None) is None:
        return None

    def token(batch: torch.Tensor) -> Any:
        return module.forward_features(batch)[:, 0]

    return token


def _features(module: Any) -> Any:
    prefix = int(getattr(module, "num_prefix_tokens", 0))
    channels_last = getattr(module, "output_fmt", None) == "NHWC"

    def features(batch: torch.Tensor) -> Any:
        found = module.forward_features(batch)
        if found.ndim == 4:
            return found.flatten(1, 2) if channels_last else found.flatten(2).transpose(1, 2)
        return found[:, prefix:]

    return features
