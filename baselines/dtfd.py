"""DTFD-MIL: a bag is cut into pseudo-bags, and what is distilled from them is classified again.

H. Zhang et al., DTFD-MIL: Double-Tier Feature Distillation Multiple Instance Learning for
Histopathology Whole Slide Image Classification, CVPR 2022; released code hrzhang1123/DTFD-MIL
(``Main_DTFD_MIL.py``). Four things about the release may surprise:

- The first tier never learns from the second: that gradient is computed and thrown away.
- The score that chooses instances is the probability of the **last** class, for every bag, and
  lacks the factor of the paper (the size of the bag), which for more than two classes can change
  the order.
- A bag of fewer instances than pseudo-bags leaves some of these empty. They have an embedding of 0
  and count all the same.
- Bags are cut at random in evaluation as well. Here row n goes to pseudo-bag ``n mod G`` then,
  which gives pseudo-bags of the same sizes and the same result every time.

Distillation by attention (``mas``) is in the paper only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, extreme_rows, segment_softmax
from mil_bench.errors import InputError
from mil_bench.methods import Choice, Float, Int, Method, Output, Recipe, weighted_mean
from mil_bench.methods.fused.gated_attention import gated_scores
from mil_bench.methods.fused.linear import affine

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

DISTILLATIONS = ("afs", "maxs", "maxmins", "mas")
_LOWEST = -1e30  # of a score before the softmax: gives an attention of exactly 0


class _Gate(nn.Module):
    """Scores of gated attention: ``[N, M]`` -> ``[N, 1]``."""

    def __init__(self, width: int, attention_dim: int) -> None:
        super().__init__()
        self.v = nn.Linear(width, attention_dim)
        self.u = nn.Linear(width, attention_dim)
        self.w = nn.Linear(attention_dim, 1)

    def forward(self, rows: Tensor) -> Tensor:
        v, u, w = map(affine, (self.v, self.u, self.w))
        return gated_scores(rows, tanh=v, sigmoid=u, scores=w, dropout=0.0)


class _Residual(nn.Module):
    """Two linear maps that add to what they are given: ``[N, M]`` -> ``[N, M]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        return rows + self.second(self.first(rows).relu()).relu()


class _Embedding(nn.Module):
    """``[N, D]`` -> ``[N, M]``."""

    def __init__(self, in_dim: int, width: int, residual_blocks: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_dim, width, bias=False)
        self.residual = nn.ModuleList(_Residual(width) for _ in range(residual_blocks))

    def forward(self, rows: Tensor) -> Tensor:
        rows = self.fc1(rows).relu_()
        for block in self.residual:
            rows = block(rows)
        return rows


class _SecondTier(nn.Module):
    """Gate and head of the second tier."""

    def __init__(self, width: int, attention_dim: int, classes: int) -> None:
        super().__init__()
        self.attention = _Gate(width, attention_dim)
        self.classifier = nn.Linear(width, classes)


class DTFD(Method):
    """DTFD-MIL: gated attention on pseudo-bags, then on what is distilled from them.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        distillation: what the second tier gets of each pseudo-bag: "afs", its embedding; "maxs",
            its best instances; "maxmins", its best and its worst; "mas", those of the highest
            attention.
        pseudo_bags: G; the paper has 5 for CAMELYON16 and 8 for TCGA lung.
        total_instances: best instances of all pseudo-bags together; each gives
            ``total_instances // pseudo_bags``. Not used by "afs".
        residual_blocks: of two linear maps each, after the embedding.
        embed_dim: width of the embedding.
        attention_dim: width of the gates.
    """

    # Main_DTFD_MIL.py. It chooses among the last 39 epochs.
    paper = "Zhang et al., CVPR 2022"
    link = "https://arxiv.org/abs/2203.12081"
    recipe = Recipe(
        learning_rate=1e-4,
        epochs=200,
        weight_decay=1e-4,
        schedule="step",
        milestones=(0.5,),
        step_factor=0.2,
        clip_norm=5.0,
        clip_modules=("dim_reduction", "attention", "classifier", "att_classifier"),
    )
    search_space = {
        "learning_rate": Float(1e-5, 1e-3, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "distillation": Choice(DISTILLATIONS),
        "pseudo_bags": Int(2, 4),  # total_instances is 4, and each gives one at least
    }
    map_meaning = "attention of the first tier: the weight of the instance among all of its slide"
    official_names = {
        "classifier.fc.": "classifier.",
        "attention.attention_V.0.": "attention.v.",
        "attention.attention_U.0.": "attention.u.",
        "attention.attention_weights.": "attention.w.",
        "att_classifier.attention.attention_V.0.": "att_classifier.attention.v.",
        "att_classifier.attention.attention_U.0.": "att_classifier.attention.u.",
        "att_classifier.attention.attention_weights.": "att_classifier.attention.w.",
        "att_classifier.classifier.fc.": "att_classifier.classifier.",
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        distillation: str = "afs",
        pseudo_bags: int = 4,
        total_instances: int = 4,
        residual_blocks: int = 0,
        embed_dim: int = 512,
        attention_dim: int = 128,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        problems = []
        if distillation not in DISTILLATIONS:
            problems.append(f"distillation='{distillation}' is none of {', '.join(DISTILLATIONS)}")
        if pseudo_bags < 1:
            problems.append(f"pseudo_bags={pseudo_bags} is not 1 or more")
        elif distillation != "afs" and total_instances < pseudo_bags:
            problems.append(
                f"total_instances={total_instances} is less than pseudo_bags={pseudo_bags}, so "
                "nothing would be distilled"
            )
        if problems:
            raise InputError(
                "dtfd", problems, "The docstring of the method says what each setting means."
            )
        self.distillation, self.pseudo_bags = distillation, pseudo_bags
        self.taken = total_instances // pseudo_bags
        self.dim_reduction = _Embedding(in_dim, embed_dim, residual_blocks)
        self.attention = _Gate(embed_dim, attention_dim)
        self.classifier = nn.Linear(embed_dim, hierarchy.n_fine)
        self.att_classifier = _SecondTier(embed_dim, attention_dim, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        """Logits of the second tier, and the softmax of the first tier's scores ``[N, 1]``.

        Extras: ``pseudo_logits`` ``[B, G, C]``, ``pseudo_embeddings`` ``[B, G, M]``,
        ``pseudo_attention`` ``[N, G]`` (0 in other pseudo-bags), ``scores`` ``[N, 1]``,
        ``attention2`` ``[B, L]`` and ``embedding`` ``[B, M]`` of the second tier.
        """
        embedded = self.dim_reduction(bags.features)  # [N, M]
        scores = self.attention(embedded)
        pieces = torch.arange(self.pseudo_bags, device=scores.device)
        members = (self._pieces(bags)[:, None] == pieces).to(scores.dtype)  # [N, G]
        masked = torch.where(members > 0, scores, _LOWEST)
        attention = segment_softmax(masked, bags) * members  # of an empty pseudo-bag: 0
        pooled = attention_pool(attention, embedded, bags)  # [B, G, M]
        distilled, counts = self._distil(embedded, attention, members, pooled, bags)
        again = self.att_classifier.attention(distilled.flatten(0, 1)).unflatten(
            0, distilled.shape[:2]
        )
        weights = torch.where(counts, again[..., 0], -torch.inf).softmax(1)  # [B, L]
        embedding = (weights[:, None] @ distilled)[:, 0]
        return Output(
            fine=self.att_classifier.classifier(embedding),
            attention=segment_softmax(scores, bags),
            extras={
                "pseudo_logits": self.classifier(pooled),
                "pseudo_embeddings": pooled,
                "pseudo_attention": attention,
                "scores": scores,
                "attention2": weights,
                "embedding": embedding,
            },
        )

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:  # noqa: ARG002  # of the contract
        """Cross-entropy of the bag, plus the mean cross-entropy of its pseudo-bags."""
        return weighted_mean(torch.stack([*self.terms(out, bags).values()]).sum(0), weight)

    def terms(self, out: Output, bags: BagBatch) -> dict[str, Tensor]:
        """The terms of the loss, each ``[B]``."""
        logits = out.extras["pseudo_logits"]
        targets = bags.labels[:, None].expand(logits.shape[:2])
        return {
            "tier1": F.cross_entropy(logits.mT, targets, reduction="none").mean(1),
            "tier2": F.cross_entropy(out.fine, bags.labels, reduction="none"),
        }

    def _pieces(self, bags: BagBatch) -> Tensor:
        """Number of the pseudo-bag of each row ``[N]``; random in training."""
        place = torch.arange(len(bags.features), device=bags.features.device)
        if self.training:
            order = torch.rand(len(bags.features), device=bags.features.device).argsort()
            order = order[bags.bag_of[order].argsort(stable=True)]  # bag after bag
            place = torch.empty_like(order).scatter(0, order, place)
        return (place - bags.offsets[bags.bag_of]) % self.pseudo_bags

    def _distil(
        self, embedded: Tensor, attention: Tensor, members: Tensor, pooled: Tensor, bags: BagBatch
    ) -> tuple[Tensor, Tensor]:
        """What the second tier gets ``[B, L, M]``, without gradient; and what counts ``[B, L]``."""
        if self.distillation == "afs":
            rows = pooled.detach()
            return rows, torch.ones_like(rows[..., 0], dtype=torch.bool)
        chosen, counts = self.selected(embedded.detach(), attention.detach(), members, bags)
        return embedded.detach()[chosen.flatten(1)], counts.flatten(1)

    def selected(
        self, embedded: Tensor, attention: Tensor, members: Tensor, bags: BagBatch
    ) -> tuple[Tensor, Tensor]:
        """The rows that each pseudo-bag gives, best first, then the worst by rising score.

        Args:
            embedded: ``[N, M]``.
            attention: ``[N, G]``.
            members: ``[N, G]``, 1 where a row is in a pseudo-bag.
            bags: the batch.

        Returns:
            Row numbers ``[B, L, G]``, and which of them count (a small pseudo-bag has fewer).
        """
        own = attention.sum(1, keepdim=True)  # each row's attention in its pseudo-bag
        if self.distillation == "mas":
            score = own
        else:
            score = (own * (embedded @ self.classifier.weight.detach().T)).softmax(1)[:, -1:]
        ends = [score, -score] if self.distillation == "maxmins" else [score]
        chosen, counts = [], []
        for values in ends:
            rows, filled = extreme_rows(
                torch.where(members > 0, values, -torch.inf), bags, self.taken
            )
            rows, filled = rows[:, : self.taken], filled[:, : self.taken, None]
            inside = members.gather(0, rows.flatten(0, 1)).unflatten(0, rows.shape[:2]) > 0
            chosen.append(rows)
            counts.append(inside & filled)
        return torch.cat(chosen, 1), torch.cat(counts, 1)

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A release's file holds four state dicts, whose names are joined with a dot here."""
        flat = {}
        for name, value in state.items():
            if isinstance(value, dict):
                flat |= {f"{name}.{inner}": part for inner, part in value.items()}
            else:
                flat[name] = value
        for block in range(len(self.dim_reduction.residual)):
            for ours, theirs in (("first", 0), ("second", 2)):
                official = f"dim_reduction.resBlocks.{block}.block.{theirs}.weight"
                flat[f"dim_reduction.residual.{block}.{ours}.weight"] = flat.pop(official)
        return super().from_official(flat)
