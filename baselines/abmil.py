"""Attention-based deep MIL, plain and gated.

M. Ilse, J. Tomczak, M. Welling, Attention-based Deep Multiple Instance Learning, ICML 2018
(equations 7 to 9); released code AMLab-Amsterdam/AttentionDeepMIL. The release is for 28 x 28
images. Here the frozen encoder that made the features replaces its convolutions, its last layer
``Linear(., 500)`` + ReLU stays, and a linear layer with one logit per class replaces its sigmoid
output. Two classes with logits (0, z) give that sigmoid output, so a released checkpoint is loaded
in this form. Their cross-entropy is the released loss as long as the probability lies in [1e-5, 1 -
1e-5]. Outside that interval the release clamps the probability, which stops all gradients of a bag
that is clearly wrong; here such a bag keeps learning.

The entropy term is from Y. Zhang et al., AEM: Attention Entropy Maximization for Multiple Instance
Learning based Whole Slide Image Classification, 2024: the loss is the cross-entropy minus a weight
times the entropy of the attention, so that attention spreads over more instances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_softmax, segment_sum
from mil_bench.errors import InputError
from mil_bench.methods import Float, Int, Method, Output, Recipe, weighted_mean
from mil_bench.methods.fused.abmil_step import AttentionLayers, attention_step
from mil_bench.methods.fused.dropout import Dropout
from mil_bench.methods.fused.gated_attention import gated_scores
from mil_bench.methods.fused.linear import affine

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

_CONVOLUTIONS = "feature_extractor_part1."


class ABMIL(Method):
    """Attention MIL: a learned weight per instance, a weighted mean, a linear classifier.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        embed_dim: width M of the embedding, 500 in the released code; 0, in Python alone, pools the
            features themselves.
        attention_dim: hidden width of the attention, 128 in the released code.
        dropout: on the embedding; none in the released code.
        gated: multiply the tanh branch by a sigmoid branch (equation 9).
        entropy_weight: weight of the entropy of the attention (in nats) in the loss, as in the AEM
            paper; 0 is ABMIL.

    Raises:
        InputError: the entropy's weight is negative.
    """

    # main.py of the released code
    paper = "Ilse et al., ICML 2018"
    link = "https://arxiv.org/abs/1802.04712"
    recipe = Recipe(learning_rate=5e-4, weight_decay=1e-4, epochs=20)
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "embed_dim": Int(64, 1024),
        "attention_dim": Int(32, 512),
        "dropout": Float(0.0, 0.5),
    }
    newer_settings = frozenset({"entropy_weight"})
    map_meaning = "attention: the weight of the instance in the mean that is classified"
    has_own_loss = False  # the entropy is added to the cross-entropy
    official_names = {
        "feature_extractor_part2.": "embed.",
        "attention.0.": "attention_v.0.",
        "attention.2.": "attention_w.",
        "attention_V.": "attention_v.",
        "attention_U.": "attention_u.",
        # Not in the release: the multi-class head that it was given for our reference values.
        "head_ext.": "classifier.",
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        embed_dim: int = 500,
        attention_dim: int = 128,
        dropout: float = 0.0,
        gated: bool = False,
        entropy_weight: float = 0.0,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        if entropy_weight < 0:
            problem = f"entropy_weight={entropy_weight} is negative"
            raise InputError("abmil", [problem], "Give a number from 0 on; 0 is ABMIL.")
        self.entropy_weight = entropy_weight
        layers = (
            [nn.Linear(in_dim, embed_dim), nn.ReLU(inplace=True), Dropout(dropout)]
            if embed_dim
            else []
        )
        self.embed = nn.Sequential(*layers)
        width = embed_dim or in_dim
        self._drops = dropout > 0
        self.attention_v = nn.Sequential(nn.Linear(width, attention_dim), nn.Tanh())
        self.attention_u = (
            nn.Sequential(nn.Linear(width, attention_dim), nn.Sigmoid()) if gated else None
        )
        self.attention_w = nn.Linear(attention_dim, 1)
        self.classifier = nn.Linear(width, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        """Logits and the attention ``[N, 1]``."""
        embedded = self.embed(bags.features)  # [N, M]
        attention = segment_softmax(self._scores(embedded), bags)  # [N, 1]
        pooled = attention_pool(attention, embedded, bags)[:, 0]  # [B, M]
        return Output(fine=self.classifier(pooled), attention=attention)

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """Cross-entropy, minus the weighted entropy of the attention if it has a weight."""
        if not self.entropy_weight:
            return super().loss(out, bags, weight, progress)
        assert out.attention is not None
        attention = out.attention[:, 0]
        smallest = torch.finfo(attention.dtype).tiny  # the logarithm of 0 has no gradient
        entropy = -segment_sum(attention * attention.clamp(min=smallest).log(), bags)  # [B]
        per_bag = self.cross_entropy(out, bags) - self.entropy_weight * entropy
        return weighted_mean(per_bag, weight)

    def _scores(self, embedded: Tensor) -> Tensor:
        """``[N, M]`` -> ``[N, 1]``, before the softmax."""
        if self.attention_u is None:
            return self.attention_w(self.attention_v(embedded))
        v, u, w = affine(self.attention_v), affine(self.attention_u), affine(self.attention_w)
        return gated_scores(embedded, tanh=v, sigmoid=u, scores=w, dropout=0.0)

    def backward(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """The loss and its gradients; by hand for one bag without gate, dropout and entropy."""
        has_more = self.attention_u is not None or self._drops or self.entropy_weight
        if bags.n_bags > 1 or not self.embed or has_more:
            return super().backward(bags, weight, progress)
        maps = (self.embed, self.attention_v, self.attention_w, self.classifier)
        return attention_step(AttentionLayers(*map(affine, maps)), bags, weight)

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Drops the convolutions, which belong to the encoder; a sigmoid head becomes (0, z)."""
        translated = super().from_official(
            {n: v for n, v in state.items() if not n.startswith(_CONVOLUTIONS)}
        )
        for name in ("weight", "bias"):
            released = translated.pop(f"classifier.0.{name}", None)
            if released is not None:
                translated[f"classifier.{name}"] = torch.cat([torch.zeros_like(released), released])
        return translated


class GatedABMIL(ABMIL):
    """Gated attention MIL: ABMIL whose attention multiplies a tanh branch by a sigmoid branch.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        embed_dim: as in ABMIL.
        attention_dim: as in ABMIL.
        dropout: as in ABMIL.
        entropy_weight: as in ABMIL.
    """

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        embed_dim: int = 500,
        attention_dim: int = 128,
        dropout: float = 0.0,
        entropy_weight: float = 0.0,
    ) -> None:
        super().__init__(in_dim, hierarchy, embed_dim, attention_dim, dropout, True, entropy_weight)
