"""The families of torch.hub: DINO, DINOv2 (with and without registers), DINOv3, SwAV, MoCo v3; UNIC and HIER.

The architectures are timm's and torchvision's, which compute the same; the weights keep the names they were
published under and are renamed on loading. What differs from timm is how position embeddings follow the size
of the image: `resized_positions` does it as each family's own code does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilias_fast._checkpoints import read_checkpoint
from ilias_fast._extras import require
from ilias_fast.errors import ParameterError
from ilias_fast.extract.network import STATISTICS, Network, Wanted, describe_by, dimension
from ilias_fast.extract.weights import State, constructing, load, without_prefix

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["build", "resized_positions"]

_BASE = "https://dl.fbaipublicfiles.com"


@dataclass(frozen=True)
class _Published:
    """How one hub model is built: its architecture, and the address and the names of its weights."""

    architecture: str  # of timm, or "resnet50" of torchvision
    url: str | None = None
    prefixes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    offset: float = 0.1  # of the scale that position embeddings are resized by
    antialias: bool = False
    own_positions: bool = True  # resized by the family's rule, not by timm's


_MODELS: dict[str, _Published] = {
    "dino_resnet50": _Published(
        "resnet50", f"{_BASE}/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth", ignored=("fc.",)
    ),
    "dino_vitb16": _Published(
        "vit_base_patch16_224.dino", f"{_BASE}/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"
    ),
    "swav": _Published(
        "resnet50",
        f"{_BASE}/deepcluster/swav_800ep_pretrain.pth.tar",
        ("module.",),
        ("projection_head.", "prototypes."),
    ),
    "mocov3_resnet50": _Published(
        "resnet50", f"{_BASE}/moco-v3/r-50-1000ep/r-50-1000ep.pth.tar", ("module.base_encoder.",), ("fc.",)
    ),
    "mocov3_vitb16": _Published(
        "vit_base_patch16_224",
        f"{_BASE}/moco-v3/vit-b-300ep/vit-b-300ep.pth.tar",
        ("module.base_encoder.",),
        ("head.",),
        own_positions=False,
    ),
    "dino_vit16_patch16_224_sop": _Published(
        "vit_small_patch16_224.dino",
        prefixes=("module.backbone.", "backbone.", "module.", "encoder."),
        ignored=("head.", "fc.", "lcas"),
    ),
    "dinov3_vitb16": _Published("vit_base_patch16_dinov3_qkvb", own_positions=False),
    "dinov3_vitl16": _Published("vit_large_patch16_dinov3_qkvb", own_positions=False),
    "unic_l": _Published(
        "vit_large_patch14_dinov2",
        prefixes=("module.encoder.", "encoder.", "module."),
        ignored=("head.", "lp.", "projector."),
    ),
}
for _size in "bl":
    for _suffix, _timm, _antialias in (("", "", False), ("_reg", "_reg4", True)):
        _letter = {"b": "base", "l": "large"}[_size]
        _MODELS[f"dinov2_vit{_size}14{_suffix}"] = _Published(
            f"vit_{_letter}_patch14{_timm}_dinov2",
            f"{_BASE}/dinov2/dinov2_vit{_size}14/dinov2_vit{_size}14{_timm}_pretrain.pth",
            offset=0.0 if _antialias else 0.1,
            antialias=_antialias,
        )


def build(wanted: Wanted) -> Network:
    """Build a model of torch.hub, UNIC or HIER.

    Args:
        wanted: Its name is one of the registry's.

    Raises:
        ParameterError: There is no such model, the pooling does not suit it, or the weights cannot be had.
        StorageError, FileFormatError: The checkpoint cannot be read or does not fit.
        MissingExtraError: timm or torchvision is not installed.
    """
    try:
        published = _MODELS[wanted.name]
    except KeyError:
        raise ParameterError(f"expected one of {', '.join(sorted(_MODELS))}, found {wanted.name!r}") from None
    if published.architecture == "resnet50":
        return _resnet(wanted, published)
    return _transformer(wanted, published)


def _network(wanted: Wanted, library: str, module: Any, describe: Any, patch: int) -> Network:
    row = wanted.row
    assert row is not None
    side = 4 * patch if patch > 1 else 64
    mean, std = STATISTICS["imagenet"]
    return Network(
        module=module,
        describe=describe,
        dim=dimension(describe, module, side, side),
        mean=mean,
        std=std,
        train_size=row.train_size or row.test_size,
        pad_multiple=patch,
        resolution=row.test_size,
        provenance=wanted.provenance(library, str(require(library, "build hub models").__version__), module),
    )


def _resnet(wanted: Wanted, published: _Published) -> Network:
    torch = require("torch", "build hub models")
    torchvision = require("torchvision", "build hub models")
    with constructing(wanted):
        module = torchvision.models.resnet50(weights=None)
        module.fc = torch.nn.Identity()
    load(
        module,
        wanted,
        url=published.url,
        convert=lambda state: without_prefix(state, *published.prefixes),
        ignored=published.ignored,
    )
    module.eval()
    body = torch.nn.Sequential(*list(module.children())[:-2])

    def features(batch: Tensor) -> Tensor:
        maps: Tensor = body(batch)
        return maps.flatten(2).transpose(1, 2)

    describe = describe_by(wanted, head=module, features=features)
    return _network(wanted, "torchvision", module, describe, 1)


def _transformer(wanted: Wanted, published: _Published) -> Network:
    timm = require("timm", "build hub models")
    options: dict[str, Any] = {"num_classes": 0, "dynamic_img_size": True, "global_pool": "token"}
    if wanted.name == "unic_l":
        options |= _unic_options(wanted)
    with constructing(wanted):
        module = timm.create_model(published.architecture, pretrained=False, **options)
    convert = _dinov3 if "dinov3" in published.architecture else _registers
    load(
        module,
        wanted,
        url=published.url,
        convert=lambda state: convert(without_prefix(state, *published.prefixes)),
        ignored=published.ignored,
    )
    module.eval()
    tokens = _tokens(module, published) if published.own_positions else module.forward_features
    prefix = int(module.num_prefix_tokens)

    def token(batch: Tensor) -> Tensor:
        return tokens(batch)[:, 0]

    describe = describe_by(wanted, head=token, features=lambda batch: tokens(batch)[:, prefix:], token=token)
    return _network(wanted, "timm", module, describe, int(module.patch_embed.patch_size[0]))


def _tokens(module: Any, published: _Published) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of a timm transformer up to its final norm, with the family's positions."""
    torch = require("torch", "run hub models")

    def tokens(batch: Tensor) -> Tensor:
        grid = module.patch_embed(batch)  # [B, h, w, C]
        size = (int(grid.shape[1]), int(grid.shape[2]))
        positions = module.pos_embed
        first = module.cls_token
        if not module.no_embed_class:  # the class token has a position too
            first, positions = first + positions[:, :1], positions[:, 1:]
        square = batch.shape[-1] == batch.shape[-2]
        patches = grid.flatten(1, 2) + resized_positions(
            positions, size, offset=published.offset, antialias=published.antialias, square=square
        )
        before = [first] if module.reg_token is None else [first, module.reg_token]
        x = torch.cat([*(part.expand(len(batch), -1, -1) for part in before), patches], dim=1)
        for block in module.blocks:
            x = block(x)
        normal: Tensor = module.norm(x)
        return normal

    return tokens


def resized_positions(
    positions: Tensor,
    size: tuple[int, int],
    *,
    offset: float = 0.0,
    antialias: bool = False,
    square: bool = True,
) -> Tensor:
    """Resample a square grid of position embeddings to the grid of an image, bicubically.

    With an offset the scale is (side + offset) / trained side and not the ratio of the sides: DINO and DINOv2
    do so against rounding, and their descriptors depend on it.

    Args:
        positions: [1, n * n, C].
        size: (rows, columns) of the image's grid.
        offset: Added to the sides before the scale is computed; 0 scales by the sizes.
        antialias: Low-pass where the grid becomes smaller.
        square: Whether the image is square: a grid of n x n is left alone only then.

    Returns:
        [1, rows * columns, C].
    """
    torch = require("torch", "run hub models")
    side = round(positions.shape[1] ** 0.5)
    if size[0] * size[1] == side * side and square:
        return positions
    grid = positions.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = {"scale_factor": tuple((n + offset) / side for n in size)} if offset else {"size": size}
    resized = torch.nn.functional.interpolate(grid, mode="bicubic", antialias=antialias, **scale)
    found: Tensor = resized.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
    return found


def _registers(state: State) -> State:
    """Rename what DINOv2 calls differently; with registers timm keeps the class token's position in it."""
    renamed = {key: value for key, value in state.items() if key != "mask_token"}
    if "register_tokens" in renamed and "pos_embed" in renamed and "cls_token" in renamed:
        renamed["reg_token"] = renamed.pop("register_tokens")
        renamed["cls_token"] = renamed["cls_token"] + renamed["pos_embed"][:, :1]
        renamed["pos_embed"] = renamed["pos_embed"][:, 1:]
    return renamed


def _dinov3(state: State) -> State:
    """Rename DINOv3's tensors; rotary periods and the mask of the key's bias are constants of the code."""
    renamed: State = {}
    for key, value in state.items():
        if key == "mask_token" or key.endswith((".periods", ".bias_mask")):
            continue
        if key.endswith("attn.qkv.bias"):
            query, _, values = value.chunk(3)
            renamed[key.replace("qkv.bias", "q_bias")] = query
            renamed[key.replace("qkv.bias", "v_bias")] = values
            continue
        for old, new in (("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2"), ("storage_tokens", "reg_token")):
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


def _unic_options(wanted: Wanted) -> dict[str, Any]:
    """Read from UNIC's checkpoint what its architecture leaves open: layer scale, trained size, registers."""
    if wanted.checkpoint is None:
        return {}
    state = without_prefix(read_checkpoint(Path(wanted.checkpoint)), *_MODELS["unic_l"].prefixes)
    options: dict[str, Any] = {}
    if not any(key.endswith("ls1.gamma") for key in state):
        options["init_values"] = 0.0
    if "pos_embed" in state and state["pos_embed"].ndim == 3:
        options["img_size"] = 14 * int((state["pos_embed"].shape[1] - 1) ** 0.5)
    return options
