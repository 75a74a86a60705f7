"""HMIL: two branches over one embedding, aligned with each other.

C. Jin, L. Luo, H. Lin, J. Hou, H. Chen, HMIL: Hierarchical Multi-Instance Learning for Fine-Grained
Whole Slide Image Classification, IEEE Transactions on Medical Imaging 2025, doi
10.1109/TMI.2024.3520602; released code ChengJin-git/HMIL. Architecture and constants are those of
the release. The loss is the paper's, with beta = 1 - progress:

    beta (CE_coarse + instance alignment + bag alignment) + (1 - beta) contrastive + CE_fine

The release differs in four ways, and ``released=True`` restores all of them: it has no instance
alignment; its bag alignment takes probabilities for logits and is not weighted by the schedule; its
schedule is quadratic; its contrastive term is divided by the number of bags once more. The
temperature then runs from 1 to 0.1 and back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mil_bench.hmil.losses import (
    bag_alignment,
    bag_alignment_released,
    instance_alignment,
    supervised_contrastive,
)
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_softmax
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, Method, Output, Recipe, weighted_mean
from mil_bench.methods.fused.gated_attention import gated_scores
from mil_bench.methods.fused.linear import Affine, affine

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy


class _GatedAttention(nn.Module):
    """Gated attention with one score per class, before the softmax."""

    def __init__(self, width: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(width, hidden), nn.Tanh())
        self.attention_b = nn.Sequential(nn.Linear(width, hidden), nn.Sigmoid())
        self.attention_c = nn.Linear(hidden, classes)
        self.dropout = dropout

    def forward(self, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Scores ``[N, K]`` of ``rows @ weight.T + bias``, which itself is never computed."""
        a = _after(affine(self.attention_a), weight, bias)
        b = _after(affine(self.attention_b), weight, bias)
        c, dropout = affine(self.attention_c), self.dropout if self.training else 0.0
        return gated_scores(rows, tanh=a, sigmoid=b, scores=c, dropout=dropout)


def _after(layer: Affine, weight: Tensor, bias: Tensor) -> Affine:
    """A linear map and one before it, as one map."""
    return layer[0] @ weight, F.linear(bias, *layer)


class HMIL(Method):
    """Hierarchical MIL: coarse and fine attention, aligned per instance and bag, contrastive loss.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        temperature: of the contrastive loss; 0.1 is the paper's best (its table 6).
        dropout: in both attentions; off in the release, where 0.25 is the alternative.
        coarse_branch: have a coarse branch; without it there is no instance alignment either.
        align_instances: align the attention of the two branches.
        align_bags: align the fine head's lifted probabilities with the coarse label.
        contrastive: have the contrastive term.
        weighting: "dynamic", or "fixed": a (CE_fine + instance alignment + bag alignment) + b
            contrastive + CE_coarse.
        a: see ``weighting``.
        b: see ``weighting``.
        scheduled_temperature: 0.1 + 0.45 (1 + cos(2 pi progress)), as released, instead of
            ``temperature``.
        released: the loss exactly as in the released code; the five settings above then have no
            effect.
    """

    # Adam, learning rate, epochs and batch size of the released configuration. Its plateau schedule
    # is in code that never runs, and it selects no epoch.
    paper = "Jin et al., IEEE Transactions on Medical Imaging 2025"
    link = "https://doi.org/10.1109/TMI.2024.3520602"
    recipe = Recipe(learning_rate=1e-4, epochs=200, batch_size=64)
    without_hierarchy = (
        "this dataset has no coarse classes, so its coarse branch learns the fine classes a second "
        "time, its attention is aligned class by class, and its bag alignment repeats the fine "
        "cross-entropy"
    )
    map_meaning = "fine attention: the weight of the instance in the class's mean"
    _lift: Tensor
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(0.0, 1e-2),
        "temperature": Choice((0.05, 0.07, 0.1, 0.2, 0.5, 1.0)),
        "dropout": Float(0.0, 0.5),
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        temperature: float = 0.1,
        dropout: float = 0.0,
        coarse_branch: bool = True,
        align_instances: bool = True,
        align_bags: bool = True,
        contrastive: bool = True,
        weighting: str = "dynamic",
        a: float = 1.0,
        b: float = 1.0,
        scheduled_temperature: bool = False,
        released: bool = False,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        if weighting not in ("dynamic", "fixed") or (released and not coarse_branch):
            problem = f"weighting={weighting!r}, released={released}, coarse_branch={coarse_branch}"
            remedy = "weighting is dynamic or fixed; the released loss needs the coarse branch."
            raise InputError("parameters of HMIL", [problem], remedy)
        self.temperature, self.scheduled_temperature = temperature, scheduled_temperature
        self.coarse_branch, self.contrastive, self.released = coarse_branch, contrastive, released
        self.align_instances, self.align_bags = align_instances and coarse_branch, align_bags
        self.fixed_weights = (a, b) if weighting == "fixed" else None
        # Widths 256, 1024, 256 and attention widths 256 (coarse) and 64 (fine): the released model.
        self.feature_extractor = nn.Sequential(
            nn.Linear(in_dim, 256), nn.ReLU(inplace=True), nn.Linear(256, 1024)
        )
        self.feature_reducer = nn.Sequential(nn.Linear(1024, 256))
        self.fine_attention = nn.Sequential(_GatedAttention(256, 64, hierarchy.n_fine, dropout))
        self.fine_classifier = nn.Linear(256, 1)
        if coarse_branch:
            self.coarse_attention = nn.Sequential(
                _GatedAttention(1024, 256, hierarchy.n_coarse, dropout)
            )
            self.coarse_classifier = nn.Linear(1024, 1)
        self.register_buffer(
            "_lift", torch.tensor(hierarchy.lift_matrix, dtype=torch.float32), persistent=False
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, bags: BagBatch) -> Output:
        """Logits of both heads, the fine attention ``[N, C]`` and what the loss needs.

        No activation follows the first 256 units of a row: the embeddings of 1,024 and 256 are
        linear in them, and so are the means weighted by attention. So the maps are multiplied with
        each other first, and embeddings are computed for pooled units only: the same function with
        a third of the products.
        """
        units = self.feature_extractor[:2](bags.features)  # [N, 256]
        widen = affine(self.feature_extractor[2])  # to 1,024
        weight, bias = _after(affine(self.feature_reducer), *widen)  # to 256
        scores = self.fine_attention[0](units, weight, bias)  # [N, C]
        if self.coarse_branch:
            # One softmax and one pooling for both branches take fewer passes over the rows.
            coarse_scores = self.coarse_attention[0](units, *widen)
            scores = torch.cat([scores, coarse_scores], 1)  # [N, C + G]
        attention = segment_softmax(scores, bags)
        pooled = attention_pool(attention, units, bags)  # [B, C + G, 256]
        classes = self.hierarchy.n_fine
        fine_embeddings = F.linear(pooled[:, :classes], weight, bias)  # [B, C, 256]
        fine = self.fine_classifier(fine_embeddings)[..., 0]
        fine_attention = attention[:, :classes]
        extras = {"embeddings": F.normalize(fine_embeddings, dim=2, eps=1e-12)}
        if not self.coarse_branch:
            return Output(fine, None, fine_attention, extras)
        coarse_embeddings = F.linear(pooled[:, classes:], *widen)  # [B, G, 1024]
        coarse = self.coarse_classifier(coarse_embeddings)[..., 0]  # [B, G]
        return Output(
            fine, coarse, fine_attention, extras | {"coarse_attention": attention[:, classes:]}
        )

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """The loss in the form that the parameters choose; terms that are switched off are 0."""
        terms = self.loss_terms(out, bags, weight, progress)
        if self.released:
            alpha = 1 - progress**2
            repeated = terms["contrastive"] / weight.sum().clamp(min=1)
            return (
                alpha * terms["ce_coarse"]
                + terms["ce_fine"]
                + terms["bag_alignment"]
                + (1 - alpha) * repeated
            )
        alignment = terms["instance_alignment"] + terms["bag_alignment"]
        if self.fixed_weights is not None:
            a, b = self.fixed_weights
            return (
                a * (terms["ce_fine"] + alignment) + b * terms["contrastive"] + terms["ce_coarse"]
            )
        beta = 1 - progress
        return (
            beta * (terms["ce_coarse"] + alignment)
            + (1 - beta) * terms["contrastive"]
            + terms["ce_fine"]
        )

    def loss_terms(
        self, out: Output, bags: BagBatch, weight: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Every term by name, not yet weighted by the schedule; 0 if it is switched off."""
        coarse_labels = self.coarse_labels(bags)
        lift = self._lift.to(out.fine.dtype)
        align_bags = bag_alignment_released if self.released else bag_alignment
        terms = dict.fromkeys(
            ("ce_coarse", "instance_alignment", "bag_alignment", "contrastive"),
            out.fine.new_zeros(()),
        )
        terms["ce_fine"] = weighted_mean(
            F.cross_entropy(out.fine, bags.labels, reduction="none"), weight
        )
        if out.coarse is not None:
            terms["ce_coarse"] = weighted_mean(
                F.cross_entropy(out.coarse, coarse_labels, reduction="none"), weight
            )
        if self.align_instances and not self.released:
            assert out.attention is not None
            per_bag = instance_alignment(out.extras["coarse_attention"], out.attention, lift, bags)
            terms["instance_alignment"] = weighted_mean(per_bag, weight)
        if self.align_bags or self.released:
            terms["bag_alignment"] = weighted_mean(
                align_bags(out.fine, coarse_labels, lift), weight
            )
        if self.contrastive or self.released:
            temperature = self._temperature(progress)
            terms["contrastive"] = supervised_contrastive(
                out.extras["embeddings"], bags.labels, weight, temperature
            )
        return terms

    def _temperature(self, progress: float) -> float:
        if self.released or self.scheduled_temperature:
            return 0.1 + 0.45 * (1 + math.cos(2 * math.pi * progress))
        return self.temperature
