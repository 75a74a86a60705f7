"""ACMIL: several attention branches that are kept apart, trained with their best rows hidden.

Y. Zhang et al., Attention-Challenging Multiple Instance Learning for Whole Slide Image
Classification, ECCV 2024; released code dazhangyu123/ACMIL, classes ``ACMIL_GA`` and ``ACMIL_MHA``.
Three things about the release may surprise:

- Of the highest scores of a branch it hides a fixed number, chosen at random; in the paper each of
  them is hidden with a probability.
- Its command line trains one branch without hiding unless told otherwise, which is gated ABMIL.
  The defaults here are those of its documented runs of ACMIL.
- It sets the learning rate before every step; here it changes after every epoch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, extreme_rows, segment_softmax
from mil_bench.errors import InputError
from mil_bench.methods import Float, Int, Method, Output, Recipe, weighted_mean
from mil_bench.methods.fused.dropout import Dropout
from mil_bench.methods.fused.gated_attention import gated_scores
from mil_bench.methods.fused.linear import affine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

_HIDDEN = -1e9  # a score before the softmax, as released
_SMALLEST_NORM = 1e-8
_HEADS = 8  # these four are of ACMIL_MHA, as released
_DROPOUT = 0.1
_NORM_EPSILON = 1e-6
_QUERY_DEVIATION = 1e-6


class _Pooled(nn.Module):
    """The values of attention with several heads, and what follows them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.dropout = Dropout(_DROPOUT)
        self.layer_norm = nn.LayerNorm(width, eps=_NORM_EPSILON)

    def forward(self, attention: Tensor, embedded: Tensor, bags: BagBatch) -> Tensor:
        """``[N, H]``, ``[N, M]`` -> ``[B, M]``."""
        everything = attention_pool(attention, self.v_proj(embedded), bags)  # [B, H, M]
        by_head = everything.unflatten(2, (_HEADS, -1)).diagonal(dim1=1, dim2=2)  # [B, M / H, H]
        return self.layer_norm(self.dropout(self.out_proj(by_head.mT.flatten(1))))


class _Scored(_Pooled):
    """A branch: attention of a learned query to the instances, with several heads."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)

    def scores(self, query: Tensor, embedded: Tensor) -> Tensor:
        """``[M]``, ``[N, M]`` -> ``[N, H]``."""
        queries = self.q_proj(query).unflatten(0, (_HEADS, -1))  # [H, M / H]
        keys = self.k_proj(embedded).unflatten(1, (_HEADS, -1))  # [N, H, M / H]
        return (keys * queries).sum(-1) / math.sqrt(queries.shape[1])


class ACMIL(Method):
    """ACMIL: attention branches that must differ, with some of their best instances hidden.

    The loss of a bag is the cross-entropy of the bag's logits, plus the mean cross-entropy of the
    branches, plus the mean cosine between the attentions of two branches.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        branches: K; with one branch there is only the bag's cross-entropy.
        hidden_top: among so many highest scores of a branch some are hidden in training; 0 hides
            none.
        hidden_share: share of these that is hidden, rounded down; the authors call 0 sometimes
            better.
        embed_dim: width of the embedding; the release has 128, 256, 384, 512 and 768 for features
            of 384, 512, 768, 1024 and 1536 numbers.
        attention_dim: width of the gate.
        variant: "gated", or "multi-head": each branch is a learned query that attends to the
            instances with 8 heads. The scores of each head are hidden separately, and branches
            differ by head. The embedding is then a multiple of 8 wide, and there is no gate.
    """

    # Step3_WSI_classification_ACMIL.py with config/bracs_config.yml; other data sets have 100
    # epochs. It chooses the epoch by accuracy and AUC of the validation part.
    paper = "Zhang et al., ECCV 2024"
    link = "https://arxiv.org/abs/2311.07125"
    recipe = Recipe(
        learning_rate=1e-4,
        epochs=50,
        optimizer="adamw",
        weight_decay=1e-5,
        schedule="cosine",
    )
    search_space = {
        "learning_rate": Float(1e-5, 1e-3, log=True),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "branches": Int(1, 8),
        "hidden_top": Int(0, 20),
        "hidden_share": Float(0.0, 0.9),
    }
    newer_settings = frozenset({"variant"})
    map_meaning = "attention: the weight of the instance, averaged over branches and heads"
    official_names = {
        "dimreduction.fc1.": "embed.",
        "attention.attention_V.0.": "attention_v.",
        "attention.attention_U.0.": "attention_u.",
        "attention.attention_weights.": "attention_w.",
        "Slide_classifier.fc.": "classifier.",
        "q": "queries",
        "sub_attention.": "branch_attention.",
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        branches: int = 5,
        hidden_top: int = 10,
        hidden_share: float = 0.6,
        embed_dim: int = 512,
        attention_dim: int = 128,
        variant: str = "gated",
    ) -> None:
        super().__init__(in_dim, hierarchy)
        self.heads = _HEADS if variant == "multi-head" else 1
        problems = [] if branches >= 1 else [f"branches={branches} is not 1 or more"]
        if hidden_top < 0:
            problems.append(f"hidden_top={hidden_top} is negative")
        if not 0 <= hidden_share <= 1:
            problems.append(f"hidden_share={hidden_share} is not from 0 to 1")
        if variant not in ("gated", "multi-head"):
            problems.append(f"variant={variant} is neither gated nor multi-head")
        if embed_dim % self.heads:
            problems.append(f"embed_dim={embed_dim} is not a multiple of {self.heads}")
        if problems:
            raise InputError(
                "acmil", problems, "The docstring of the method says what each setting means."
            )
        self.branches, self.hidden_top, self.hidden_share = branches, hidden_top, hidden_share
        self.embed = nn.Linear(in_dim, embed_dim, bias=False)
        if variant == "gated":
            self.attention_v = nn.Linear(embed_dim, attention_dim)
            self.attention_u = nn.Linear(embed_dim, attention_dim)
            self.attention_w = nn.Linear(attention_dim, branches)
        else:
            self.queries = nn.Parameter(_QUERY_DEVIATION * torch.randn(1, branches, embed_dim))
            self.branch_attention = nn.ModuleList(_Scored(embed_dim) for _ in range(branches))
            self.bag_attention = _Pooled(embed_dim)
        heads = [nn.Linear(embed_dim, hierarchy.n_fine) for _ in range(branches)]
        self.branch_weight = nn.Parameter(torch.stack([head.weight.detach() for head in heads]))
        self.branch_bias = nn.Parameter(torch.stack([head.bias.detach() for head in heads]))
        self.classifier = nn.Linear(embed_dim, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        """Logits, and the attention averaged over branches and heads ``[N, 1]``.

        Extras, with one column per branch and, if there are H heads, H columns per branch:
        ``branch_logits`` ``[B, K, C]``, ``branch_attention`` ``[N, K * H]``, ``scores`` ``[N, K *
        H]`` (before the softmax, hidden ones at -1e9), ``embeddings`` ``[B, K, M]``, ``embedding``
        of the bag ``[B, M]``.
        """
        embedded = self.embed(bags.features).relu_()  # [N, M]
        scores = self._scores(embedded)
        if self.training and self.hidden_top and self.hidden_share:
            scores = torch.where(self._hidden(scores.detach(), bags), _HIDDEN, scores)
        attention = segment_softmax(scores, bags)
        pooled, embedding = self._pooled(attention, embedded, bags)
        logits = (pooled[:, :, None] * self.branch_weight).sum(-1) + self.branch_bias
        return Output(
            fine=self.classifier(embedding),
            attention=attention.mean(1, keepdim=True),
            extras={
                "branch_logits": logits,
                "branch_attention": attention,
                "scores": scores,
                "embeddings": pooled,
                "embedding": embedding,
            },
        )

    def _scores(self, embedded: Tensor) -> Tensor:
        """``[N, M]`` -> ``[N, K * H]``, before the softmax, the heads of a branch side by side."""
        if self.heads == 1:
            v, u, w = map(affine, (self.attention_v, self.attention_u, self.attention_w))
            return gated_scores(embedded, tanh=v, sigmoid=u, scores=w, dropout=0.0)
        branches = cast("Iterable[_Scored]", self.branch_attention)
        pairs = zip(branches, self.queries[0], strict=True)
        return torch.cat([branch.scores(query, embedded) for branch, query in pairs], dim=1)

    def _pooled(self, attention: Tensor, embedded: Tensor, bags: BagBatch) -> tuple[Tensor, Tensor]:
        """Embeddings of the branches ``[B, K, M]`` and of the bag ``[B, M]``."""
        if self.heads == 1:
            pooled = attention_pool(attention, embedded, bags)
            return pooled, pooled.mean(1)
        parts = attention.split(self.heads, dim=1)  # [N, H] each
        pairs = zip(self.branch_attention, parts, strict=True)
        pooled = torch.stack([branch(part, embedded, bags) for branch, part in pairs], dim=1)
        return pooled, self.bag_attention(torch.stack(parts).mean(0), embedded, bags)

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:  # noqa: ARG002  # of the contract
        """The three terms of each bag, see the class."""
        return weighted_mean(torch.stack([*self.terms(out, bags).values()]).sum(0), weight)

    def terms(self, out: Output, bags: BagBatch) -> dict[str, Tensor]:
        """The terms of the loss by the release's names, each ``[B]``."""
        terms = {"slide": F.cross_entropy(out.fine, bags.labels, reduction="none")}
        if self.branches > 1:
            logits, attention = out.extras["branch_logits"], out.extras["branch_attention"]
            targets = bags.labels[:, None].expand(logits.shape[:2])
            terms["sub"] = F.cross_entropy(logits.mT, targets, reduction="none").mean(1)
            products = attention_pool(attention, attention, bags)  # [B, K * H, K * H]
            norms = products.diagonal(dim1=1, dim2=2).sqrt().clamp(min=_SMALLEST_NORM)
            cosines = products / (norms[:, :, None] * norms[:, None])
            sizes = (self.branches, self.heads)
            by_head = cosines.unflatten(2, sizes).unflatten(1, sizes).diagonal(dim1=2, dim2=4)
            cosines = by_head.mean(-1)  # [B, K, K]
            off = 1 - torch.eye(self.branches, dtype=cosines.dtype, device=cosines.device)
            terms["diff"] = (cosines * off).sum((1, 2)) / (self.branches * (self.branches - 1))
        return terms

    def _hidden(self, scores: Tensor, bags: BagBatch) -> Tensor:
        """Which scores are hidden ``[N, K * H]``."""
        top, k = self.hidden_top, scores.shape[1]
        rows, filled = extreme_rows(scores, bags, top)
        rows, filled = rows[:, :top], filled[:, :top, None]  # [B, top, K], [B, top, 1]
        drawn = torch.where(filled, self._draw(bags), 2.0)
        order = drawn.argsort(1).argsort(1)  # place of each among the numbers drawn
        counts = (bags.sizes.clamp(max=top).double() * self.hidden_share).long()  # [B]
        hit = (order < counts[:, None, None]) & filled
        hits = torch.zeros_like(scores).scatter_add(
            0, rows.reshape(-1, k), hit.to(scores.dtype).reshape(-1, k)
        )
        return hits > 0

    def _draw(self, bags: BagBatch) -> Tensor:
        """Random numbers that choose which of the highest scores are hidden ``[B, top, K * H]``."""
        shape = (bags.n_bags, self.hidden_top, self.branches * self.heads)
        return torch.rand(shape, device=bags.features.device)

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Puts the branches' heads together."""
        for name in ("weight", "bias"):
            heads = [state.pop(f"classifier.{k}.fc.{name}") for k in range(self.branches)]
            state[f"branch_{name}"] = torch.stack(heads)
        return super().from_official(state)
