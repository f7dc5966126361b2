"""UNICOM: a vision transformer without class token whose whole token grid is projected to the descriptor.

An et al., "Unicom: universal and compact representation learning for image retrieval", ICLR 2023.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ilias_fast._extras import require
from ilias_fast.errors import ParameterError
from ilias_fast.extract.hub_models import resized_positions
from ilias_fast.extract.network import STATISTICS, Network, Wanted, describe_by, dimension
from ilias_fast.extract.weights import constructing, load, without_prefix

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["build", "unicom"]

_BASE = "https://github.com/deepglint/unicom/releases/download"


class _Size(NamedTuple):
    patch: int
    trained: int
    dim: int
    depth: int
    heads: int
    file: str | None
    sha256: str | None


_MODELS = {
    "unicom_vit_base_patch16_224": _Size(
        16,
        224,
        768,
        12,
        12,
        "b16/FP16-ViT-B-16.pt",
        "c04f324f7c3b4435667236ec6c0eca1cd62f9d64fbfc2d06f8e8e60e6497edef",
    ),
    "unicom_vit_large_patch14_224": _Size(
        14,
        224,
        1024,
        24,
        16,
        "l14/FP16-ViT-L-14.pt",
        "ff3ab62ff782876460099e6e0ee17b73a7c01109de2fffd595f16f4129404bbd",
    ),
    "unicom_vit_large_patch14_336": _Size(
        14,
        336,
        1024,
        24,
        16,
        "l14_336px/FP16-ViT-L-14-336px.pt",
        "3916ab5aed3b522fc90345be8b4457fe5dad60801ad2af5a6871c0c096e8d7ea",
    ),
    "unicom_vit_base_patch16_gldv2": _Size(16, 512, 768, 12, 12, None, None),
    "unicom_vit_base_patch16_sop": _Size(16, 224, 768, 12, 12, None, None),
}


def build(wanted: Wanted) -> Network:
    """Build a UNICOM model.

    Args:
        wanted: Its name is one of the registry's.

    Raises:
        ParameterError: There is no such model, the pooling does not suit it, or the weights cannot be had.
        StorageError, FileFormatError: The checkpoint cannot be read or does not fit.
        MissingExtraError: timm is not installed.
    """
    if wanted.name not in _MODELS:
        raise ParameterError(f"expected one of {', '.join(_MODELS)}, found {wanted.name!r}")
    size = _MODELS[wanted.name]
    timm = require("timm", "build UNICOM")
    with constructing(wanted):
        module = unicom(size.patch, size.trained, size.dim, size.depth, size.heads)
    load(
        module,
        wanted,
        url=None if size.file is None else f"{_BASE}/{size.file}",
        sha256=size.sha256,
        convert=lambda state: without_prefix(state, "_orig_mod.", "module."),
    )
    module.float().eval()
    describe = describe_by(wanted, head=module, features=module.tokens)  # type: ignore[arg-type]
    mean, std = STATISTICS["clip"]
    return Network(
        module=module,
        describe=describe,
        dim=dimension(describe, module, 2 * size.patch, 2 * size.patch),
        mean=mean,
        std=std,
        train_size=size.trained,
        pad_multiple=size.patch,
        resolution=None if wanted.row is None else wanted.row.test_size,
        provenance=wanted.provenance("unicom", str(timm.__version__), module),
    )


def unicom(
    patch: int, trained: int, dim: int, depth: int, heads: int, *, outputs: int = 768
) -> torch.nn.Module:
    """Return the network, [B, 3, H, W] -> [B, outputs].

    The tokens of an image of another size than the trained one are averaged down (or repeated up) to the
    trained grid, which the projection needs; position embeddings are resized bicubically, not antialiased.

    Args:
        patch: Side of a patch in pixels.
        trained: Side of the training images in pixels.
        dim: Of the tokens.
        depth: Number of blocks.
        heads: Of the attention.
        outputs: Dimension of the descriptor.
    """
    torch = require("torch", "build UNICOM")
    vit: Any = require("timm.models.vision_transformer", "build UNICOM")
    nn = torch.nn
    grid = trained // patch

    class Unicom(vit.VisionTransformer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(
                img_size=trained,
                patch_size=patch,
                embed_dim=dim,
                depth=depth,
                num_heads=heads,
                class_token=False,
                global_pool="",
                num_classes=0,
                qkv_bias=False,
                act_layer=nn.ReLU6,
                norm_layer=partial(nn.LayerNorm, eps=1e-5),
                dynamic_img_size=True,
            )
            self.feature = nn.Sequential(
                nn.Linear(dim * grid * grid, dim, bias=False),
                nn.BatchNorm1d(dim, eps=2e-5),
                nn.Linear(dim, outputs, bias=False),
                nn.BatchNorm1d(outputs, eps=2e-5),
            )

        def _grid(self, x: Tensor) -> Tensor:
            """Return the final tokens as a map [B, h, w, dim]."""
            x = self.patch_embed(x)
            size = (int(x.shape[1]), int(x.shape[2]))
            tokens = x.flatten(1, 2) + resized_positions(self.pos_embed, size, square=size[0] == size[1])
            for block in self.blocks:
                tokens = block(tokens)
            grid: Tensor = self.norm(tokens.float()).reshape(len(x), *size, -1)
            return grid

        def tokens(self, x: Tensor) -> Tensor:
            return self._grid(x).flatten(1, 2)

        def forward(self, x: Tensor) -> Any:
            maps = self._grid(x).permute(0, 3, 1, 2)
            pooled = nn.functional.adaptive_avg_pool2d(maps, grid)
            return self.feature(pooled.permute(0, 2, 3, 1).flatten(1))  # position by position, as trained

    return Unicom()
