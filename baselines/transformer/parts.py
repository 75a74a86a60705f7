"""The layers of the plain Transformer: attention of two kinds, and a block of a layer.

Large bags in evaluation go through in blocks of tokens, see
``mil_bench.methods.fused.large_bags``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_softmax
from mil_bench.methods.fused import large_bags
from mil_bench.methods.fused.dropout import Dropout

if TYPE_CHECKING:
    from collections.abc import Callable

    from mil_bench.bags.batch import BagBatch

FEED_FORWARD_DROPOUT = 0.5
_PAIRS = 2**24  # of tokens, in a large bag with ALiBi, that are held at a time


class Attention(nn.Module):
    """Self-attention within each bag: tokens ``[T, E]`` -> ``[T, E]``."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, bags: BagBatch, seen: Tensor | None = None) -> Tensor:
        """What every token receives; ``seen`` ``[T, T]`` says which pairs of one bag may meet."""
        projected = F.linear(bags.features, self.in_proj_weight, self.in_proj_bias)
        rate = self.dropout if self.training else 0.0
        parts = []
        for part in projected.split(bags.lengths):
            q, k, v = part.unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3)[:, None]
            mixed = F.scaled_dot_product_attention(q, k, v, seen, rate)[0]
            parts.append(mixed.transpose(0, 1).flatten(1))
        return self.out_proj(torch.cat(parts))

    def receiver(
        self,
        tokens: Tensor,
        norm: nn.Module,
        at: Tensor | None,  # noqa: ARG002  # for attention with distances
    ) -> Callable[[slice], Tensor]:
        """For a large bag in evaluation: a function of what some of its tokens receive ``[n, E]``.

        It holds the keys and values of all tokens, but not their queries.

        Args:
            tokens: before ``norm`` ``[T, E]``.
            norm: the normalisation.
            at: coordinates of the tokens ``[T, 2]``.
        """
        width = tokens.shape[1]
        to_query, to_others = self.in_proj_weight.split([width, 2 * width])
        query_bias, bias = self.in_proj_bias.split([width, 2 * width])
        both = large_bags.in_blocks(lambda part: F.linear(norm(part), to_others, bias), tokens)
        k, v = both.unflatten(1, (2, self.heads, -1)).permute(1, 2, 0, 3)[:, None]

        def received(rows: slice) -> Tensor:
            queries = F.linear(norm(tokens[rows]), to_query, query_bias)
            q = queries.unflatten(1, (self.heads, -1)).transpose(0, 1)[None]
            mixed = F.scaled_dot_product_attention(q, k, v)[0]
            return self.out_proj(mixed.transpose(0, 1).flatten(1))

        return received

    def class_weights(self, bags: BagBatch) -> Tensor:
        """Attention of each bag's class token to the bag's tokens ``[T, heads]``."""
        width = bags.features.shape[1]
        to_query, to_key, _ = self.in_proj_weight.chunk(3)
        first = bags.features[bags.offsets[:-1]]
        queries = F.linear(first, to_query, self.in_proj_bias[:width])
        queries = queries.unflatten(1, (self.heads, -1)) * (width // self.heads) ** -0.5
        # A key's bias adds the same to all scores of a query, which the softmax ignores.
        through = torch.einsum("bhc,hce->bhe", queries, to_key.unflatten(0, (self.heads, -1)))
        scores = [
            rows @ of_bag.T
            for rows, of_bag in zip(bags.features.split(bags.lengths), through, strict=True)
        ]
        return segment_softmax(torch.cat(scores), bags)

    def class_rows(self, bags: BagBatch) -> Tensor:
        """What the class tokens receive ``[B, E]``."""
        weights = self.class_weights(bags)
        if self.training and self.dropout:
            weights = F.dropout(weights, self.dropout)
        to_value = self.in_proj_weight.chunk(3)[2].unflatten(0, (self.heads, -1))
        bias = self.in_proj_bias.chunk(3)[2].unflatten(0, (self.heads, -1))
        ones = weights.new_ones(len(weights), 1)
        total = attention_pool(weights, ones, bags)  # [B, heads, 1]; not 1 after dropout
        pooled = attention_pool(weights, bags.features, bags)  # [B, heads, E]
        mixed = torch.einsum("bhe,hce->bhc", pooled, to_value) + total * bias
        return self.out_proj(mixed.flatten(1))


class RunningMean(nn.Module):
    """A mean over training steps, which starts as 1 counted once."""

    running_mean: Tensor
    items_so_far: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.ones(1))
        self.register_buffer("items_so_far", torch.ones(1))

    @torch.no_grad()
    def add(self, value: Tensor, counts: Tensor) -> None:
        """Count a step's value ``[]`` if ``counts`` ``[]`` is true."""
        change = (value - self.running_mean) / self.items_so_far
        self.running_mean += torch.where(counts, change, 0.0)
        self.items_so_far += counts


class _DistanceBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias_scale = nn.Parameter(torch.rand(1))
        self.scale_distance = RunningMean()

    def forward(self, distance: Tensor) -> Tensor:
        return self.bias_scale * distance / self.scale_distance.running_mean


class DistanceAttention(nn.Module):
    """Self-attention from which a multiple of the distance is subtracted (ALiBi)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        for name in ("query", "key", "value"):
            layers = nn.ModuleList(nn.Linear(width, width // heads) for _ in range(heads))
            self.add_module(f"{name}_encoders", layers)
        self.attentions = nn.ModuleList(_DistanceBias() for _ in range(heads))
        self.fc = nn.Linear(width, width)

    def forward(self, bags: BagBatch, seen: Tensor | None = None) -> Tensor:
        """As that of the plain attention; ``bags`` has the coordinates of the tokens."""
        assert bags.coords is not None
        rate = self.dropout if self.training else 0.0
        parts = []
        for tokens, at in zip(
            bags.features.split(bags.lengths), bags.coords.split(bags.lengths), strict=True
        ):
            distance = _distances(at, seen is not None)
            heads = [self._head(j, tokens, distance, seen) for j in range(len(self.attentions))]
            parts.append(F.dropout(torch.cat(heads, dim=1), rate))
        return self.fc(torch.cat(parts))

    def receiver(
        self, tokens: Tensor, norm: nn.Module, at: Tensor | None
    ) -> Callable[[slice], Tensor]:
        """As that of the plain attention; pairs of tokens go through in blocks."""
        assert at is not None
        heads, places = len(self.attentions), at

        def projected(name: str, rows: Tensor) -> list[Tensor]:
            return [self.get_submodule(f"{name}_encoders.{j}")(rows) for j in range(heads)]

        def keys_and_values(part: Tensor) -> Tensor:
            normed = norm(part)
            return torch.cat([*projected("key", normed), *projected("value", normed)], dim=1)

        columns = large_bags.in_blocks(keys_and_values, tokens).chunk(2 * heads, dim=1)

        def received(rows: slice) -> Tensor:
            queries = projected("query", norm(tokens[rows]))
            parts, step = [], max(1, _PAIRS // len(tokens))
            for *own, near in zip(*(x.split(step) for x in (*queries, places[rows])), strict=True):
                distance = distances_between(near, places)
                mixed = []
                for j, q in enumerate(own):
                    weights = (q @ columns[j].T * q.shape[1] ** -0.5).softmax(-1)
                    mixed.append((weights - self.attentions[j](distance)) @ columns[heads + j])
                parts.append(torch.cat(mixed, dim=1))
            return self.fc(torch.cat(parts))

        return received

    def _head(self, j: int, tokens: Tensor, distance: Tensor, seen: Tensor | None) -> Tensor:
        q, k, v = (
            self.get_submodule(f"{name}_encoders.{j}")(tokens) for name in ("query", "key", "value")
        )
        # The release masks the weights alone, after a softmax over all tokens.
        weights = (q @ k.T * q.shape[1] ** -0.5).softmax(-1) - self.attentions[j](distance)
        return (weights if seen is None else weights.masked_fill(~seen, 0.0)) @ v


def _distances(at: Tensor, masked: bool) -> Tensor:
    """Distances of the tokens of a bag ``[T, T]``."""
    distance = distances_between(at, at)
    if masked:
        distance[0], distance[:, 0] = 0, 0
    return distance


class Block(nn.ModuleList):
    """Attention and feed-forward part of a layer, each added to its input."""

    def __init__(self, attention: nn.Module, width: int, inner: int) -> None:
        first = nn.Module()
        first.norm, first.mhsa = nn.LayerNorm(width), attention
        second = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, inner),
            nn.GELU(),
            Dropout(FEED_FORWARD_DROPOUT),
            nn.Linear(inner, width),
            Dropout(FEED_FORWARD_DROPOUT),
        )
        super().__init__([first, second])

    def forward(self, bags: BagBatch, seen: Tensor | None, last: bool) -> Tensor:
        """Tokens ``[T, E]``; those of the classes ``[B, E]`` from the last layer.

        It changes the tokens of large bags in evaluation.
        """
        tokens, firsts = bags.features, bags.offsets[:-1]
        attention = self[0].get_submodule("mhsa")
        norm = self[0].get_submodule("norm")
        if last and seen is None and isinstance(attention, Attention):
            tokens = tokens[firsts] + attention.class_rows(replace(bags, features=norm(tokens)))
        elif seen is None and large_bags.has_large_bag(bags, self):
            return self._in_blocks(bags, last)
        else:
            tokens = tokens + attention(replace(bags, features=norm(tokens)), seen)
            tokens = tokens[firsts] if last else tokens
        return tokens + self[1](tokens)

    def _in_blocks(self, bags: BagBatch, last: bool) -> Tensor:
        norm = self[0].get_submodule("norm")
        attention = cast("Attention | DistanceAttention", self[0].get_submodule("mhsa"))
        positions = [None] * bags.n_bags if bags.coords is None else bags.coords.split(bags.lengths)
        for tokens, at in zip(bags.features.split(bags.lengths), positions, strict=True):
            received = attention.receiver(tokens, norm, at)
            stop = 1 if last else len(tokens)
            for start in range(0, stop, large_bags.ROWS):
                rows = slice(start, min(start + large_bags.ROWS, stop))
                tokens[rows] += received(rows)
                tokens[rows] += self[1](tokens[rows])
        return bags.features[bags.offsets[:-1]] if last else bags.features


def distances_between(some: Tensor, others: Tensor) -> Tensor:
    """Distances ``[n, m]`` of places ``[n, 2]`` and ``[m, 2]``.

    They come without the matrix product that would round them.
    """
    return torch.cdist(some, others, compute_mode="donot_use_mm_for_euclid_dist")
