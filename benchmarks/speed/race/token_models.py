"""ILRA, RRT and STAMP's Transformer in plain torch, for ``loops``: the default settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mil_bench.benchmarks.speed.race.core_models import WIDTH
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Cross(nn.Module):
    """ILRA's attention of queries to keys, in torch's module with projections of its own."""

    def __init__(self, query_dim: int, key_dim: int, width: int, gated: bool = True) -> None:
        super().__init__()
        self.fc_q, self.fc_k = nn.Linear(query_dim, width), nn.Linear(key_dim, width)
        self.fc_v, self.fc_o = nn.Linear(key_dim, width), nn.Linear(width, width)
        self.attention = nn.MultiheadAttention(width, 8, batch_first=True)
        self.ln0, self.ln1 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gate = nn.Sequential(nn.Linear(query_dim, width), nn.SiLU()) if gated else None

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """``[1, a, query_dim]``, ``[1, b, key_dim]`` -> ``[1, a, width]``."""
        q, k, v = self.fc_q(queries), self.fc_k(keys), self.fc_v(keys)
        out = self.ln0(q + self.attention(q, k, v, need_weights=False)[0])
        out = self.ln1(out + F.relu(self.fc_o(out)))
        return out if self.gate is None else out * self.gate(queries)


class _LowRank(nn.Module):
    """ILRA's block: a learned vector attends to the rows, then the rows to what it has become."""

    def __init__(self, in_dim: int, width: int) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.empty(1, 1, width))
        nn.init.xavier_uniform_(self.latent)
        self.inward, self.outward = _Cross(width, in_dim, width), _Cross(in_dim, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[1, N, in_dim]`` -> ``[1, N, width]``."""
        return self.outward(x, self.inward(self.latent, x))


class ILRA(nn.Module):
    """Two blocks of rank 1 with norms, as in the configuration; one learned query pools."""

    def __init__(self, classes: int, width: int = 256) -> None:
        super().__init__()
        self.blocks = nn.Sequential(_LowRank(WIDTH, width), _LowRank(width, width))
        self.query = nn.Parameter(torch.empty(1, 1, width))
        nn.init.xavier_uniform_(self.query)
        self.pooling = _Cross(width, width, width, gated=False)
        self.fc = nn.Linear(width, classes)

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy of the bag."""
        pooled = self.pooling(self.query, self.blocks(x[None]))
        return F.cross_entropy(self.fc(pooled[:, 0]), label)


class _Regions:
    """RRT's square of a bag: 8 x 8 regions, with zero rows in the empty places."""

    def __init__(self, rows: int) -> None:
        side = math.ceil(math.sqrt(rows))
        self.rows, self.side = rows, side + -side % 8

    def part(self, x: Tensor) -> Tensor:
        """``[N, E]`` -> ``[64, places, E]``."""
        x = F.pad(x, (0, 0, 0, self.side**2 - self.rows))
        x = x.view(8, self.side // 8, 8, self.side // 8, -1)
        return x.transpose(1, 2).reshape(64, (self.side // 8) ** 2, -1)

    def join(self, x: Tensor) -> Tensor:
        """``[64, places, E]`` -> ``[N, E]``."""
        x = x.view(8, 8, self.side // 8, self.side // 8, -1).transpose(1, 2)
        return x.reshape(self.side**2, -1)[: self.rows]


class _Inner(nn.Module):
    """RRT's attention inside groups of tokens; ``kernel`` convolves the scores along queries."""

    def __init__(self, width: int, kernel: int = 0, heads: int = 8) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)
        self.pe = (
            nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads)
            if kernel
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[G, n, E]`` -> ``[G, n, E]``."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q * self.scale) @ k.transpose(-2, -1)  # [G, heads, n, n]
        if self.pe is not None:
            scores = scores + self.pe(scores)
        merged = (F.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2)
        return self.dropout(self.proj(merged))


class RRT(nn.Module):
    """One attention inside regions, one between three representatives of each, ABMIL's pooling."""

    def __init__(self, classes: int, width: int = 512, slots: int = 3) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(WIDTH, width), nn.ReLU(), nn.Dropout(0.25))
        self.norm1, self.inside = nn.LayerNorm(width), _Inner(width, kernel=15)
        self.norm2, self.between = nn.LayerNorm(width), _Inner(width)
        self.phi = nn.Parameter(torch.empty(width, slots).uniform_(-(slots**-0.5), slots**-0.5))
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Sequential(
            nn.Linear(width, 128, bias=False), nn.ReLU(), nn.Linear(128, 1, bias=False)
        )
        self.fc = nn.Linear(width, classes)

    def cross(self, x: Tensor) -> Tensor:
        """What the regions' representatives give back ``[64, places, E]``."""
        logits = x @ self.phi  # [64, places, K]
        representatives = F.softmax(logits, dim=1).transpose(1, 2) @ x  # [64, K, E]
        attended = self.between(representatives.transpose(0, 1)).transpose(0, 1)
        low, high = logits.amin(dim=1, keepdim=True), logits.amax(dim=1, keepdim=True)
        share = (logits - low) / (high - low + 1e-8) * F.softmax(logits, dim=2)
        return share @ attended

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy of the bag."""
        h, square = self.embed(x), _Regions(len(x))
        h = h + square.join(self.inside(square.part(self.norm1(h))))
        h = h + square.join(self.cross(square.part(self.norm2(h))))
        h = self.norm(h)
        a = F.softmax(self.pool(h).transpose(1, 0), dim=1)
        return F.cross_entropy(self.fc(torch.mm(a, h)), label)


class _Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 8, dropout=0.25, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(width, width),
            nn.Dropout(0.5),
        )

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        h = self.norm(x)
        x = x + self.attention(h, h, h, key_padding_mask=padding, need_weights=False)[0]
        return x + self.feed_forward(x)


class Transformer(nn.Module):
    """STAMP's: two layers on a class token and at most 512 random rows of each bag.

    The bags of a batch are padded to the longest of them, and the padding is masked.
    """

    def __init__(self, classes: int, width: int = 512) -> None:
        super().__init__()
        self.rows = 512
        self.class_token = nn.Parameter(torch.randn(width))
        self.embed = nn.Sequential(nn.Linear(WIDTH, width), nn.GELU(), nn.Dropout(0.25))
        self.layers = nn.ModuleList(_Encoder(width) for _ in range(2))
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, classes)

    def drawn(self, x: Tensor) -> Tensor:
        """In training, 512 random rows of a longer bag."""
        if not self.training or len(x) <= self.rows:
            return x
        return x.index_select(0, torch.randperm(len(x))[: self.rows].to(x.device))

    def batch_loss(self, bags: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean cross-entropy of the bags."""
        parts = [self.drawn(x) for x in bags]
        x = pad_sequence(parts, batch_first=True)  # [B, rows, D]
        sizes = torch.tensor([len(part) for part in parts], device=x.device)
        padding = torch.arange(x.shape[1] + 1, device=x.device) > sizes[:, None]
        h = torch.cat([self.class_token.expand(len(parts), 1, -1), self.embed(x)], dim=1)
        for layer in self.layers:
            h = layer(h, padding)
        return F.cross_entropy(self.fc(self.norm(h[:, 0])), labels)
