"""Networks from timm, under any of its model names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._extras import require
from ilias_fast._files import StrPath
from ilias_fast.errors import FileFormatError, ParameterError
from ilias_fast.extract.neural import Network, state_fingerprint
from ilias_fast.extract.pooling import pooling as named_pooling

if TYPE_CHECKING:
    import torch

__all__ = ["timm_network"]


def timm_network(
    name: str,
    *,
    weights: Literal["pretrained", "random"] | StrPath = "pretrained",
    pooling: str = "head",
    seed: int = 0,
) -> Network:
    """Build a timm model as the benchmark's protocol does.

    The classifier is dropped, except in models with `clip` or `pe_core` in their name, where it is the
    projection into the joint space. Vision transformers take images of any size: position embeddings are
    resampled and sides padded to the patch size.

    Args:
        name: Any timm model name, with or without a weights tag.
        weights: "pretrained" (downloaded by timm unless cached), "random" (drawn from `seed`), or the path of
            a checkpoint of this model (`.safetensors`, or a `.pth` state dict, which is read without
            executing code).
        pooling: "head" for the model's own pooling, or a pooling of the final features: "cls" (the class
            token), "gap", "gem" or "mac" over the positions, prefix tokens left out.
        seed: Of random weights, from 0 to 2^63 - 1.

    Raises:
        ParameterError: timm has no such model, the pooling does not exist or does not suit the model, the
            seed is out of range, or the pretrained weights cannot be had.
        StorageError: The checkpoint cannot be read.
        FileFormatError: The checkpoint is damaged or does not fit the model.
        MissingExtraError: torch or timm is not installed.
    """
    if not 0 <= seed < 1 << 63:
        raise ParameterError(f"seed: expected a whole number from 0 to 2^63 - 1, found {seed!r}")
    timm = require("timm", "build timm models")
    torch = require("torch", "build timm models")
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:5])
        raise ParameterError(f"timm has no model {name!r}" + (f"; near: {near}, ..." if near else ""))
    if pooling not in ("head", "cls"):
        named_pooling(pooling)
    options: dict[str, Any] = {} if _keeps_head(name) else {"num_classes": 0}
    # Random weights come from torch's global generator; its state is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module, any_size = _create(timm, name, weights == "pretrained", options)
    chosen: dict[str, object] = {"weights_source": "pretrained"}
    if weights == "random":
        chosen = {"weights_source": "random", "seed": seed}
    elif weights != "pretrained":
        _load_checkpoint(module, Path(weights), name)
        chosen = {"weights_source": "checkpoint"}
    module.eval()
    describe = module if pooling == "head" else _pooled(module, pooling, name)
    config = module.pretrained_cfg
    patch = module.patch_embed.patch_size if any_size else (1, 1)
    channels, height, width = config["input_size"]
    with torch.inference_mode():
        sides = (2 * patch[0], 2 * patch[1]) if patch != (1, 1) else (height, width)
        dim = int(describe(torch.zeros(1, channels, *sides)).shape[-1])
    provenance = {
        "framework": "timm",
        "framework_version": str(timm.__version__),
        "model": name,
        "pooling": pooling,
        **chosen,
        "weights": state_fingerprint(module),
    }
    return Network(
        module=module,
        describe=describe,
        dim=dim,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        train_size=int(max(height, width)),
        pad_multiple=max(patch),
        provenance=provenance,
    )


def _keeps_head(name: str) -> bool:
    return "clip" in name or "pe_core" in name


def _create(timm: Any, name: str, pretrained: bool, options: dict[str, Any]) -> tuple[Any, bool]:
    """Return the model, and whether it takes images of any size that its patch size divides."""
    architecture = name.split(".")[0]
    try:
        if any(family in architecture for family in ("vit", "eva", "deit", "beit")):
            try:
                # The position embeddings are resampled to whatever token grid comes.
                return timm.create_model(name, pretrained, dynamic_img_size=True, **options), True
            except TypeError:  # a hybrid (levit, mobilevit, ...) that has no such embeddings
                pass
        return timm.create_model(name, pretrained, **options), False
    except Exception as cause:
        if not pretrained:
            raise
        raise ParameterError(
            f"the pretrained weights of {name} cannot be had ({type(cause).__name__}: "
            f"{(str(cause).splitlines() or [''])[0]}); without a network, give a checkpoint file "
            f"(weights=PATH) or ask for random weights (weights='random')"
        ) from cause


def _pooled(module: Any, pooling: str, name: str) -> Any:
    prefix = int(getattr(module, "num_prefix_tokens", 0))
    if pooling == "cls" and getattr(module, "cls_token", None) is None:
        raise ParameterError(
            f"pooling: {name} has no class token; expected head, gap, gem or mac, found 'cls'"
        )
    channels_last = getattr(module, "output_fmt", None) == "NHWC"

    def describe(batch: torch.Tensor) -> Any:
        features = module.forward_features(batch)
        if pooling == "cls":
            return features[:, 0]
        if features.ndim == 4:
            tokens = features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
        else:
            tokens = features[:, prefix:]
        return named_pooling(pooling)(tokens)

    return describe


def _load_checkpoint(module: Any, path: Path, name: str) -> None:
    state = read_checkpoint(path)
    own = module.state_dict()
    missing = sorted(set(own) - set(state))
    if missing:
        raise FileFormatError(
            f"{path}: {len(missing)} of {len(own)} tensors of {name} are missing, the first is {missing[0]}"
        )
    for key, tensor in own.items():
        if tensor.shape != state[key].shape:
            raise FileFormatError(
                f"{path}: {key} should be {list(tensor.shape)} for {name}, found {list(state[key].shape)}"
            )
    classifier = module.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    unknown = sorted(key for key in set(state) - set(own) if not any(key.startswith(head) for head in heads))
    if unknown:
        raise FileFormatError(
            f"{path}: {len(unknown)} tensors do not belong to {name}, the first is {unknown[0]}"
        )
    module.load_state_dict({key: state[key] for key in own})
