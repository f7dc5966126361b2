"""The published networks as their authors' code computes them, small, in plain torch, with their names.

Each has the tensor names of the published checkpoints: a state dict saved from here is such a checkpoint.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, rotate: Any = None) -> Any:
        count, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(count, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        if rotate is not None:
            query, key = rotate(query), rotate(key)
        weights = (query @ key.transpose(-2, -1) / math.sqrt(dim // self.heads)).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(count, tokens, dim))


class _Mlp(nn.Module):
    def __init__(self, dim: int, act: nn.Module) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.act = act
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc2(self.act(self.fc1(x)))


class _Scale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(dim))

    def forward(self, x: torch.Tensor) -> Any:
        return x * self.gamma


class _Block(nn.Module):
    def __init__(
        self, dim: int, heads: int, *, eps: float, scale: bool, act: nn.Module, bias: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = _Attention(dim, heads, bias)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = _Mlp(dim, act)
        if scale:
            self.ls1, self.ls2 = _Scale(dim), _Scale(dim)

    def forward(self, x: torch.Tensor, rotate: Any = None) -> Any:
        first, second = (self.ls1, self.ls2) if hasattr(self, "ls1") else (nn.Identity(), nn.Identity())
        x = x + first(self.attn(self.norm1(x), rotate))
        return x + second(self.mlp(self.norm2(x)))


class _Patches(nn.Module):
    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, x: torch.Tensor) -> Any:
        return self.proj(x).flatten(2).transpose(1, 2)


class Dino(nn.Module):
    """DINO (no registers, no layer scale) and DINOv2 (layer scale, perhaps registers): the class token."""

    def __init__(
        self, *, patch: int, grid: int, dim: int, depth: int, heads: int, v2: bool, registers: int = 0
    ) -> None:
        super().__init__()
        self.patch, self.registers = patch, registers
        self.patch_embed = _Patches(patch, dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid * grid, dim))
        if registers:
            self.register_tokens = nn.Parameter(torch.randn(1, registers, dim))
        if v2:
            self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.blocks = nn.ModuleList(
            _Block(dim, heads, eps=1e-6, scale=v2, act=nn.GELU()) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def _interpolated(self, x: torch.Tensor, w: int, h: int) -> torch.Tensor:
        count = self.pos_embed.shape[1] - 1
        if x.shape[1] - 1 == count and w == h:
            return self.pos_embed
        first, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        side, dim = math.isqrt(count), x.shape[-1]
        grid = rest.reshape(1, side, side, dim).permute(0, 3, 1, 2)
        w0, h0 = w // self.patch, h // self.patch
        if self.registers:
            grid = functional.interpolate(grid, size=(w0, h0), mode="bicubic", antialias=True)
        else:
            scale = (float(w0 + 0.1) / side, float(h0 + 0.1) / side)
            grid = functional.interpolate(grid, scale_factor=scale, mode="bicubic")
        assert grid.shape[-2:] == (w0, h0)
        return torch.cat([first, grid.permute(0, 2, 3, 1).reshape(1, -1, dim)], dim=1)

    def forward(self, x: torch.Tensor) -> Any:
        count, _, w, h = x.shape  # the published code calls the rows w
        tokens = self.patch_embed(x)
        tokens = torch.cat([self.cls_token.expand(count, -1, -1), tokens], dim=1)
        tokens = tokens + self._interpolated(tokens, w, h)
        if self.registers:
            registers = self.register_tokens.expand(count, -1, -1)
            tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 0]


class Dinov3(nn.Module):
    """DINOv3: rotary positions on the patches, four storage tokens, no bias of the key; the class token."""

    def __init__(self, *, patch: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch = patch
        self.patch_embed = _Patches(patch, dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.storage_tokens = nn.Parameter(torch.randn(1, 4, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.rope_embed = nn.Module()
        quarter = dim // heads // 4
        self.rope_embed.register_buffer("periods", 100.0 ** (torch.arange(quarter).float() / quarter))
        self.blocks = nn.ModuleList(
            _Block(dim, heads, eps=1e-5, scale=True, act=nn.GELU()) for _ in range(depth)
        )
        for block in self.blocks:
            mask = torch.ones(3 * dim)
            mask[dim : 2 * dim] = 0
            block.attn.qkv.register_buffer("bias_mask", mask)  # type: ignore[union-attr]
            block.attn.qkv.bias.data.mul_(mask)  # type: ignore[union-attr]
        self.norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x: torch.Tensor) -> Any:
        count, _, height, width = x.shape
        rows, columns = height // self.patch, width // self.patch
        down = (torch.arange(rows) + 0.5) / rows
        across = (torch.arange(columns) + 0.5) / columns
        places = torch.stack(torch.meshgrid(down, across, indexing="ij"), dim=-1).flatten(0, 1) * 2 - 1
        angles = 2 * math.pi * places[:, :, None] / self.rope_embed.periods[None, None]
        angles = angles.flatten(1, 2).tile(2)
        sine, cosine = angles.sin(), angles.cos()

        def rotate(tokens: torch.Tensor) -> torch.Tensor:
            before, patches = tokens[:, :, :5], tokens[:, :, 5:]
            one, two = patches.chunk(2, dim=-1)
            turned = patches * cosine + torch.cat([-two, one], dim=-1) * sine
            return torch.cat([before, turned], dim=2)

        tokens = torch.cat(
            [
                self.cls_token.expand(count, -1, -1),
                self.storage_tokens.expand(count, -1, -1),
                self.patch_embed(x),
            ],
            dim=1,
        )
        for block in self.blocks:
            tokens = block(tokens, rotate)
        return self.norm(tokens)[:, 0]


class Unicom(nn.Module):
    """UNICOM, with the benchmark's pooling of other token grids to the trained one."""

    def __init__(self, *, patch: int, trained: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch, self.grid, self.dim = patch, trained // patch, dim
        self.patch_embed = _Patches(patch, dim)
        self.pos_embed = nn.Parameter(torch.randn(1, self.grid**2, dim))
        self.blocks = nn.ModuleList(
            _Block(dim, heads, eps=1e-5, scale=False, act=nn.ReLU6(), bias=False) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.feature = nn.Sequential(
            nn.Linear(dim * self.grid**2, dim, bias=False),
            nn.BatchNorm1d(dim, eps=2e-5),
            nn.Linear(dim, 768, bias=False),
            nn.BatchNorm1d(768, eps=2e-5),
        )

    def forward(self, x: torch.Tensor) -> Any:
        rows, columns = x.shape[2] // self.patch, x.shape[3] // self.patch
        positions = self.pos_embed
        if (rows, columns) != (self.grid, self.grid):
            grid = positions.reshape(1, self.grid, self.grid, self.dim).permute(0, 3, 1, 2)
            grid = functional.interpolate(grid, size=(rows, columns), mode="bicubic")
            positions = grid.permute(0, 2, 3, 1).reshape(1, -1, self.dim)
        tokens = self.patch_embed(x) + positions
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        maps = tokens.transpose(1, 2).reshape(len(x), self.dim, rows, columns)
        pooled = functional.adaptive_avg_pool2d(maps, (self.grid, self.grid))
        return self.feature(pooled.flatten(2).transpose(1, 2).reshape(len(x), -1))


def randomise(module: nn.Module) -> None:
    """Give a network's statistics and scales values that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                layer.running_mean.copy_(0.1 * torch.randn(layer.num_features, generator=generator))
                layer.running_var.copy_(0.5 + torch.rand(layer.num_features, generator=generator))


def cvnet(x: torch.Tensor, state: dict[str, torch.Tensor], *, superglobal: bool, relup: bool) -> torch.Tensor:
    """Run CVNet or SuperGlobal on RGB images straight from the tensors of a checkpoint."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return functional.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])

    x = x[:, [2, 1, 0]]
    x = functional.conv2d(x, state["stem.conv.weight"], stride=2, padding=3)
    x = functional.max_pool2d(functional.relu(norm(x, "stem.bn")), 3, stride=2, padding=1)
    for stage in range(1, 5):
        number = 1
        while f"s{stage}.b{number}.f.a.weight" in state:
            name = f"s{stage}.b{number}"
            stride = 2 if stage > 1 and number == 1 else 1
            y = functional.relu(norm(functional.conv2d(x, state[f"{name}.f.a.weight"]), f"{name}.f.a_bn"))
            y = functional.conv2d(y, state[f"{name}.f.b.weight"], stride=stride, padding=1)
            y = functional.relu(norm(y, f"{name}.f.b_bn"))
            y = norm(functional.conv2d(y, state[f"{name}.f.c.weight"]), f"{name}.f.c_bn")
            if f"{name}.proj.weight" in state:
                x = norm(functional.conv2d(x, state[f"{name}.proj.weight"], stride=stride), f"{name}.bn")
            x = x + y
            x = (
                torch.where(x < 0.014, torch.full_like(x, 0.014), x)
                if relup and stage < 4
                else functional.relu(x)
            )
            number += 1
    if superglobal:
        if min(x.shape[2:]) >= 5:
            pooled = functional.lp_pool2d(
                functional.pad(x / 25 ** (1 / 2.5), (2, 2, 2, 2), mode="reflect"), 2.5, 5, stride=1
            )
            x = 0.5 * pooled + 0.5 * x
        x = x.clamp(min=1e-8).pow(4.4).mean(dim=(2, 3)).pow(1 / 4.4)
        x = x / x.norm(dim=1, keepdim=True)
    else:
        power = state["head.pool.p"]
        x = x.clamp(min=1e-6).pow(power).mean(dim=(2, 3)).pow(1 / power)
    return functional.linear(x, state["head.fc.weight"], state["head.fc.bias"])
