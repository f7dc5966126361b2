"""CVNet's global branch and SuperGlobal: a ResNet of pycls' design with GeM, and its tuned poolings.

Lee et al., "Correlation verification for image retrieval", CVPR 2022; Shao et al., "Global features are all
you need for image retrieval and reranking", ICCV 2023 (whose scale-GeM the benchmark leaves out).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ilias_fast._extras import require
from ilias_fast.extract.network import STATISTICS, Network, Wanted, describe_by, dimension
from ilias_fast.extract.weights import constructing, load, without_prefix

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["build", "cvnet"]

_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3)}
_RELUP = 0.014  # lower bound of the activations that close a block of the first three stages
_REGION, _REGION_POWER = 5, 2.5
_POWER, _FLOOR = 4.4, 1e-8  # SuperGlobal's GeM+
_LEARNT_FLOOR = 1e-6  # CVNet's GeM, whose power is learnt


def build(wanted: Wanted) -> Network:
    """Build CVNet or SuperGlobal; both have the same checkpoint.

    The published extraction code runs CVNet with SuperGlobal's ReLUP by mistake, and the published numbers
    are of that: `official` reproduces it.

    Args:
        wanted: Its name ends with the depth, 50 or 101.

    Raises:
        ParameterError: The pooling does not suit the model.
        StorageError, FileFormatError: The checkpoint cannot be read or does not fit.
    """
    torch = require("torch", "build CVNet")
    superglobal = wanted.name.startswith("superglobal")
    with constructing(wanted):
        module = cvnet(
            _DEPTHS[wanted.name.rpartition("resnet")[2]],
            superglobal=superglobal,
            relup=superglobal or wanted.official,
        )
    load(
        module,
        wanted,
        convert=lambda state: without_prefix(state, "module.encoder_q.", "encoder_q.", "module."),
        ignored=("encoder_k.", "queue"),
    )
    module.eval()

    def features(batch: Tensor) -> Any:
        return module.maps(batch.flip(1)).flatten(2).transpose(1, 2)  # type: ignore[operator]

    describe = describe_by(wanted, head=lambda batch: module(batch.flip(1)), features=features)  # RGB to BGR
    mean, std = STATISTICS["imagenet"]
    row = wanted.row
    return Network(
        module=module,
        describe=describe,
        dim=dimension(describe, module, 64, 64),
        mean=mean,
        std=std,
        train_size=512,
        resolution=None if row is None else row.test_size,
        provenance=wanted.provenance("cvnet", str(torch.__version__), module),
    )


def cvnet(
    depths: tuple[int, ...], *, superglobal: bool, relup: bool, width: int = 64, dim: int = 2048
) -> torch.nn.Module:
    """Return the network on BGR images, [B, 3, H, W] -> [B, dim].

    Args:
        depths: Blocks of each of the four stages.
        superglobal: SuperGlobal's poolings in place of CVNet's GeM.
        relup: Bound the activations of the first three stages from below at 0.014.
        width: Channels of the stem.
        dim: Of the descriptor.
    """
    torch = require("torch", "build CVNet")
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inside: int, outside: int, bottleneck: int, stride: int, low: float) -> None:
            super().__init__()
            self.low = low
            if inside != outside or stride != 1:
                self.proj = nn.Conv2d(inside, outside, 1, stride=stride, bias=False)
                self.bn = nn.BatchNorm2d(outside)
            self.f = nn.Sequential()
            for name, layer in {
                "a": nn.Conv2d(inside, bottleneck, 1, bias=False),
                "a_bn": nn.BatchNorm2d(bottleneck),
                "a_relu": nn.ReLU(),
                "b": nn.Conv2d(bottleneck, bottleneck, 3, stride=stride, padding=1, bias=False),
                "b_bn": nn.BatchNorm2d(bottleneck),
                "b_relu": nn.ReLU(),
                "c": nn.Conv2d(bottleneck, outside, 1, bias=False),
                "c_bn": nn.BatchNorm2d(outside),
            }.items():
                self.f.add_module(name, layer)

        def forward(self, x: Tensor) -> Any:
            shortcut = self.bn(self.proj(x)) if hasattr(self, "proj") else x
            return (shortcut + self.f(x)).clamp(min=self.low)

    class Cvnet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential()
            self.stem.add_module("conv", nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False))
            self.stem.add_module("bn", nn.BatchNorm2d(width))
            self.stem.add_module("relu", nn.ReLU())
            self.stem.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
            inside = width
            for stage, depth in enumerate(depths):
                outside = 4 * width << stage
                blocks = nn.Sequential()
                for number in range(depth):
                    stride = 2 if stage and not number else 1
                    low = _RELUP if relup and stage < len(depths) - 1 else 0.0
                    blocks.add_module(f"b{number + 1}", Block(inside, outside, width << stage, stride, low))
                    inside = outside
                self.add_module(f"s{stage + 1}", blocks)
            self.head = nn.Module()
            self.head.pool = nn.Module()
            self.head.pool.p = nn.Parameter(torch.full((1,), 3.0))
            self.head.fc = nn.Linear(inside, dim)

        def maps(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for stage in range(len(depths)):
                x = getattr(self, f"s{stage + 1}")(x)
            return x

        def forward(self, x: Tensor) -> Any:
            x = self.maps(x)
            if superglobal:
                pooled = nn.functional.normalize(_gem(_regional_gem(x), _POWER, _FLOOR))
            else:
                pooled = _gem(x, self.head.pool.p, _LEARNT_FLOOR)
            return self.head.fc(pooled)

    return Cvnet()


def _gem(maps: Tensor, power: float | Tensor, floor: float) -> Tensor:
    return maps.clamp(min=floor).pow(power).mean(dim=(2, 3)).pow(1 / power)


def _regional_gem(maps: Tensor) -> Tensor:
    """Mix each position half and half with the generalised mean of the 5 x 5 around it."""
    functional: Any = require("torch.nn.functional", "run SuperGlobal")
    if min(maps.shape[2:]) < _REGION:
        return maps
    around = functional.pad(maps / (_REGION**2) ** (1 / _REGION_POWER), (_REGION // 2,) * 4, mode="reflect")
    pooled: Tensor = functional.lp_pool2d(around, _REGION_POWER, _REGION, stride=1)
    return 0.5 * pooled + 0.5 * maps
