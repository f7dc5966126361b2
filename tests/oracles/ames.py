"""The published AMES forward: padded, masked, nothing cached, torch's own multi-head attention."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.cross_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(
        self, x: torch.Tensor, own: torch.Tensor, other: torch.Tensor, padding: torch.Tensor
    ) -> torch.Tensor:
        for attention, norm, mask in (
            (self.self_attn, self.norm1, own),
            (self.cross_attn, self.norm2, other),
        ):
            found = attention(x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False)[0]
            x = norm(x + found)
        return self.norm3(x + self.linear2(torch.relu(self.linear1(x))))


class _Binarise(nn.Module):
    def __init__(self, local_dim: int, dim: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(local_dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sign(nn.functional.normalize(x, dim=-1) @ self.W)


class Ames(nn.Module):
    """The network; parameters are named as in a published checkpoint."""

    def __init__(
        self,
        local_dim: int = 768,
        dim: int = 128,
        heads: int = 2,
        layers: int = 5,
        feedforward: int = 1024,
        *,
        binary: bool = False,
    ) -> None:
        super().__init__()
        self.binary = binary
        self.mtc_token = nn.Parameter(torch.randn(dim))
        first = [_Binarise(local_dim, dim), nn.Linear(dim, dim)] if binary else [nn.Linear(local_dim, dim)]
        self.remap_local = nn.Sequential(*first, nn.LayerNorm(dim))
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList(_Layer(dim, heads, feedforward) for _ in range(layers))
        self.classifier = nn.Linear(dim, 1)

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Embed descriptors [B, n, local_dim]."""
        embedded: torch.Tensor = self.remap_local(nn.functional.normalize(x, dim=-1))
        return embedded

    def pairs(
        self,
        query: torch.Tensor,
        query_mask: torch.Tensor,
        database: torch.Tensor,
        database_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return logits [B] of embedded pairs; masks are True for padding."""
        number, q, d = len(query), query.shape[1], database.shape[1]
        if not self.binary:
            database = database.half().float()
        x = torch.cat([self.mtc_token.expand(number, 1, -1), query, database], 1)
        padding = torch.cat([query_mask.new_zeros(number, 1), query_mask, database_mask], 1)
        side = torch.tensor([0] + [1] * q + [2] * d, device=query.device)
        apart = (side[:, None] != side[None]) & (side[:, None] != 0) & (side[None] != 0)
        together = (side[:, None] == side[None]) & (side[:, None] != 0)
        for layer in self.decoder.layers:
            x = layer(x, apart, together, padding)
        logits: torch.Tensor = self.classifier(x[:, 0])[:, 0]
        return logits

    def forward(
        self,
        query: torch.Tensor,
        query_mask: torch.Tensor,
        database: torch.Tensor,
        database_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return logits [B] of pairs of descriptors [B, n, local_dim]; masks are True for padding."""
        return self.pairs(self.tokens(query), query_mask, self.tokens(database), database_mask)


def load(state: Mapping[str, torch.Tensor], heads: int = 2) -> Ames:
    """The network of a checkpoint."""
    binary = "remap_local.0.W" in state
    local_dim = state["remap_local.0.W"].shape[0] if binary else state["remap_local.0.weight"].shape[1]
    layers = sum(name.endswith(".linear1.bias") for name in state)
    network = Ames(
        local_dim,
        len(state["mtc_token"]),
        heads,
        layers,
        len(state["decoder.layers.0.linear1.bias"]),
        binary=binary,
    )
    network.load_state_dict(dict(state))
    return network.eval()
