"""ILRA-MIL: low-rank attention between a bag and a few learned vectors, in both directions.

J. Xiang, J. Zhang, Exploring Low-Rank Property in Multiple Instance Learning for Whole Slide Image
Classification, ICLR 2023; released code jinxixiang/low_rank_wsi (``models/ilra.py``, without a
licence: written from a description). The release contradicts itself and the paper:

- Rank and normalisation: constructor 2 without, configuration 1 with, paper 64. The defaults here
  are the configuration's. **At rank 1 a softmax over one key is 1, so the attention of rows to the
  learned vectors does nothing.**
- Queries, keys and values are projected twice in a row.
- Every block has its own learned vectors, the gate follows the output's residual, and one learned
  query pools the bag; the paper shares the vectors, gates before the projection and pools with the
  maximum of the bag.

Attention is linear in what it is given, so keys and values of a bag are never computed: the few
queries are taken back through the projections of the keys, and the weighted means of the rows
through those of the values. Results equal those of the release up to rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_softmax
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, Int, Method, Output, Recipe
from mil_bench.methods.fused.no_effect import no_effect

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy


class _CrossAttention(nn.Module):
    """Attention of queries to keys with residuals, and a gate if asked for.

    Args:
        query_dim: width of the queries.
        key_dim: width of the keys.
        width: E.
        heads: number of heads, which divides E.
        norm: whether layers are normalised.
        gated: whether the result is gated by the queries.
    """

    def __init__(
        self, query_dim: int, key_dim: int, width: int, heads: int, norm: bool, gated: bool = True
    ) -> None:
        super().__init__()
        self.heads = heads
        self.fc_q = nn.Linear(query_dim, width)
        self.fc_k = nn.Linear(key_dim, width)
        self.fc_v = nn.Linear(key_dim, width)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.ln0 = nn.LayerNorm(width) if norm else nn.Identity()
        self.ln1 = nn.LayerNorm(width) if norm else nn.Identity()
        self.fc_o = nn.Linear(width, width)
        self.gate = nn.Linear(query_dim, width) if gated else None
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def of_bags(self, queries: Tensor, rows: Tensor, bags: BagBatch) -> tuple[Tensor, Tensor]:
        """The same few queries ``[r, Q]`` attend to the rows ``[N, K]`` of each bag.

        Returns:
            ``[B, r, E]``, and the attention ``[N, heads * r]``.
        """
        q = self.fc_q(queries)  # [r, E]
        weights, biases = self._parts()
        inner = self._split(q @ weights[0].T + biases[0])  # [h, r, c]
        # A constant that the keys' biases add to all scores of a query does not matter.
        back = inner @ self._by_head(weights[1]) @ self.fc_k.weight  # [h, r, K]
        attention = segment_softmax(rows @ back.flatten(0, 1).T * self._scale, bags)
        pooled = attention_pool(attention, rows, bags).unflatten(1, (self.heads, -1))
        values = self.fc_v(pooled) @ self._by_head(weights[2]).mT  # [B, h, r, c]
        values = values.transpose(1, 2).flatten(2) + biases[2]
        return self._finish(queries, q, self.out_proj(values)), attention

    def of_rows(self, rows: Tensor, keys: Tensor, bags: BagBatch) -> tuple[Tensor, Tensor]:
        """The rows ``[N, Q]`` attend to the few keys ``[B, r, K]`` of their bag.

        Returns:
            ``[N, E]``, and the attention ``[N, heads * r]``.
        """
        q = self.fc_q(rows)
        if keys.shape[1] == 1:
            attended, attention = self._of_only_key(keys, bags)
            return self._finish(rows, q, attended), attention
        weights, biases = self._parts()
        inner = self._split(self.fc_k(keys) @ weights[1].T + biases[1])  # [B, h, r, c]
        values = self._split(self.fc_v(keys) @ weights[2].T + biases[2])
        back = inner @ self._by_head(weights[0])  # [B, h, r, E]
        constant = (inner * biases[0].unflatten(0, (self.heads, 1, -1))).sum(-1)  # [B, h, r]
        outward = values @ self.out_proj.weight.T.unflatten(0, (self.heads, -1))  # [B, h, r, E]
        results, attentions = [], []
        for b, part in enumerate(q.split(bags.lengths)):
            scores = (part @ back[b].flatten(0, 1).T + constant[b].flatten()) * self._scale
            attention = scores.unflatten(1, (self.heads, -1)).softmax(-1).flatten(1)
            results.append(attention @ outward[b].flatten(0, 1) + self.out_proj.bias)
            attentions.append(attention)
        return self._finish(rows, q, torch.cat(results)), torch.cat(attentions)

    def _of_only_key(self, keys: Tensor, bags: BagBatch) -> tuple[Tensor, Tensor]:
        """What the rows receive from the only key ``[B, 1, K]``, with an attention of 1."""
        width = self.out_proj.in_features
        values = F.linear(
            self.fc_v(keys[:, 0]), self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :]
        )
        of_bags = self.out_proj(values) + no_effect(self.fc_k)  # [B, E]
        attention = keys.new_ones(len(bags.features), self.heads)
        return of_bags[bags.bag_of] if bags.n_bags > 1 else of_bags, attention

    def _finish(self, queries: Tensor, q: Tensor, attended: Tensor) -> Tensor:
        """Residuals, normalisation and gate: what the block returns for its queries."""
        out = self.ln0(q + attended)
        out = self.ln1(out + self.fc_o(out).relu())
        return out if self.gate is None else out * F.silu(self.gate(queries))

    @property
    def _scale(self) -> float:
        return (len(self.in_proj_bias) // 3 // self.heads) ** -0.5

    def _parts(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The second projections of queries, keys and values: weights and biases."""
        return self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)

    def _split(self, values: Tensor) -> Tensor:
        """``[..., r, E]`` -> ``[..., h, r, c]``."""
        return values.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

    def _by_head(self, weight: Tensor) -> Tensor:
        """``[E, E]`` -> ``[h, c, E]``."""
        return weight.unflatten(0, (self.heads, -1))


class _Block(nn.Module):
    """Learned vectors attend to the rows, then the rows to what these have become."""

    def __init__(self, in_dim: int, width: int, heads: int, rank: int, norm: bool) -> None:
        super().__init__()
        limit = math.sqrt(6 / (rank * width + width))
        self.latent = nn.Parameter(torch.empty(1, rank, width).uniform_(-limit, limit))
        self.project_forward = _CrossAttention(width, in_dim, width, heads, norm)
        self.project_backward = _CrossAttention(in_dim, width, width, heads, norm)

    def forward(self, rows: Tensor, bags: BagBatch) -> dict[str, Tensor]:
        """``output`` ``[N, E]``, and ``latent``, ``forward`` and ``backward`` on the way."""
        latent, forward = self.project_forward.of_bags(self.latent[0], rows, bags)
        output, backward = self.project_backward.of_rows(rows, latent, bags)
        return {"output": output, "latent": latent, "forward": forward, "backward": backward}


class _Pooling(nn.Module):
    """One learned query attends to the rows."""

    def __init__(self, width: int, heads: int, norm: bool) -> None:
        super().__init__()
        self.S = nn.Parameter(torch.empty(1, 1, width))
        nn.init.xavier_uniform_(self.S)
        self.mha = _CrossAttention(width, width, width, heads, norm, gated=False)


class ILRA(Method):
    """ILRA-MIL: rows and a few learned vectors attend to each other in turn.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        rank: number of learned vectors per block; 1 in the configuration (see the module), 2 in the
            constructor of the release, 64 in the paper.
        blocks: number of blocks; 4 in the paper.
        norm: whether layers are normalised.
        embed_dim: width E.
        heads: number of heads, which divides E.
    """

    # train_mil.py with the configuration for CAMELYON16, which tests the last epoch. The release
    # leaves shuffling to a library; bags are shuffled here.
    paper = "Xiang and Zhang, ICLR 2023"
    link = "https://openreview.net/forum?id=01KmhBsEPFO"
    recipe = Recipe(learning_rate=1e-4, epochs=100, schedule="cosine")
    search_space = {
        "learning_rate": Float(1e-5, 1e-3, log=True),
        "rank": Choice((1, 2, 4, 16, 64)),
        "blocks": Int(1, 4),
        "norm": Choice((True, False)),
    }
    map_meaning = "attention of the pooling: the weight of the instance, averaged over heads"

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        rank: int = 1,
        blocks: int = 2,
        norm: bool = True,
        embed_dim: int = 256,
        heads: int = 8,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        values = {"rank": rank, "blocks": blocks, "embed_dim": embed_dim, "heads": heads}
        problems = [
            f"{name}={value} is not 1 or more" for name, value in values.items() if value < 1
        ]
        if not problems and embed_dim % heads:
            problems.append(f"heads={heads} does not divide embed_dim={embed_dim}")
        if problems:
            raise InputError(
                "ilra", problems, "The docstring of the method says what each setting means."
            )
        widths = [in_dim, *[embed_dim] * (blocks - 1)]
        self.gab_blocks = nn.ModuleList(
            _Block(width, embed_dim, heads, rank, norm) for width in widths
        )
        self.pooling = _Pooling(embed_dim, heads, norm)
        self.classifier = nn.Linear(embed_dim, hierarchy.n_fine)
        nn.init.xavier_normal_(self.classifier.weight)

    def forward(self, bags: BagBatch) -> Output:
        """Logits, and the attention of the pooling averaged over its heads ``[N, 1]``.

        Extras: ``embedding`` ``[B, E]``.
        """
        rows = bags.features
        for block in self.gab_blocks:
            rows = block(rows, bags)["output"]
        pooled, attention = self.pooling.mha.of_bags(self.pooling.S[0], rows, bags)
        return Output(
            fine=self.classifier(pooled[:, 0]),
            attention=attention.mean(1, keepdim=True),
            extras={"embedding": pooled[:, 0]},
        )

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gate and the attention module lie one level deeper in the release."""
        return {
            name.replace(".multihead_attn.", ".").replace(".gate.0.", ".gate."): value
            for name, value in state.items()
        }
