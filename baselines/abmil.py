"""Attention-based deep MIL, plain and gated.

M. Ilse, J. Tomczak, M. Welling, Attention-based Deep Multiple Instance Learning, ICML 2018
(equations 7 to 9); released code AMLab-Amsterdam/AttentionDeepMIL. The release is for 28 x 28
images: its convolutions are replaced here by the frozen encoder that made the features, its last
layer ``Linear(., 500)`` + ReLU stays, and its sigmoid output becomes a linear layer with one logit
a class. Two classes with logits (0, z) are that sigmoid output, and so are loaded from a
checkpoint; their cross-entropy is the released loss wherever the probability lies in [1e-5, 1 -
1e-5]. Outside the release clamps it, which stops all gradients of a bag that is wrong beyond doubt;
here it keeps learning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.bags.segments import attention_pool, segment_softmax
from mil_bench.methods import Float, Int, Method, Output, Recipe, add_gradients
from mil_bench.methods.layers import AffineGradient, Dropout, blocks, gated_scores, tanh_

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy

_CONVOLUTIONS = "feature_extractor_part1."


class ABMIL(Method):
    """Attention MIL: one learned weight an instance, a weighted mean, a linear classifier.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        embed_dim: width M of the embedding, 500 in the released code; 0 pools the features
            themselves.
        attention_dim: hidden width of the attention, 128 in the released code.
        dropout: on the embedding; none in the released code.
        gated: multiply the tanh branch by a sigmoid branch (equation 9).
    """

    recipe = Recipe(
        learning_rate=5e-4, weight_decay=1e-4, epochs=20
    )  # main.py of the released code
    search_space = {
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "embed_dim": Int(64, 1024),
        "attention_dim": Int(32, 512),
        "dropout": Float(0.0, 0.5),
    }
    official_names = {
        "feature_extractor_part2.": "embed.",
        "attention.0.": "attention_v.0.",
        "attention.2.": "attention_w.",
        "attention_V.": "attention_v.",
        "attention_U.": "attention_u.",
        "head_ext.": "classifier.",  # not of the release: the multi-class head that our measurements give it
    }

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        embed_dim: int = 500,
        attention_dim: int = 128,
        dropout: float = 0.0,
        gated: bool = False,
    ) -> None:
        super().__init__(in_dim, hierarchy)
        layers = (
            [nn.Linear(in_dim, embed_dim), nn.ReLU(inplace=True), Dropout(dropout)]
            if embed_dim
            else []
        )
        self.embed = nn.Sequential(*layers)
        width = embed_dim or in_dim
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

    def _scores(self, embedded: Tensor) -> Tensor:
        """``[N, M]`` -> ``[N, 1]``, before the softmax."""
        if self.attention_u is None:
            return self.attention_w(self.attention_v(embedded))
        maps = (self.attention_v[0], self.attention_u[0], self.attention_w)
        return gated_scores(embedded, *((of.weight, of.bias) for of in maps), 0.0)

    def backward(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """Of one bag, the recipe's batch, without gate and dropout: written by hand, else autograd's.

        A block of rows passes through all layers at once, forward and back, while it is in the
        processor's cache; autograd passes over the embedding of the whole bag for each bias, each
        ReLU and each sum of two gradients.
        """
        if bags.n_bags > 1 or self.attention_u is not None or not self.embed or self.embed[2].p:
            return super().backward(bags, weight, progress)
        with torch.no_grad():
            return self._one_bag(bags, weight, progress)

    def _one_bag(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """Loss and gradients of a bag by itself."""
        embedded, hidden, scores = self._rows(bags.features)
        attention = scores.softmax(0)  # [N, 1]
        pooled = attention.T @ embedded  # [1, M]
        logits = self.classifier(pooled)
        loss = self.loss(Output(fine=logits, attention=attention), bags, weight, progress)
        to_logits = logits.softmax(1) - F.one_hot(bags.labels, self.hierarchy.n_fine)
        to_logits = torch.where(weight[:, None] > 0, to_logits, 0.0)
        head = AffineGradient(self.classifier)
        head.add(to_logits, pooled)
        add_gradients(head.pairs())
        self._rows_backward(
            bags.features, embedded, hidden, attention, to_logits @ self.classifier.weight
        )
        return loss

    def _rows(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embedding ``[N, M]``, hidden layer of the attention ``[N, L]`` and scores ``[N, 1]``."""
        embed, hide, score = self.embed[0], self.attention_v[0], self.attention_w
        embedded, hidden = (
            features.new_empty(len(features), of.out_features) for of in (embed, hide)
        )
        for rows in blocks(features):
            torch.addmm(embed.bias, features[rows], embed.weight.T, out=embedded[rows]).relu_()
            tanh_(torch.addmm(hide.bias, embedded[rows], hide.weight.T, out=hidden[rows]))
        return embedded, hidden, score(hidden)

    def _rows_backward(
        self,
        features: Tensor,
        embedded: Tensor,
        hidden: Tensor,
        attention: Tensor,
        to_pooled: Tensor,
    ) -> None:
        """From the gradient of the mean ``[1, M]`` to those of all layers before it."""
        embed, hide, score = (
            AffineGradient(of) for of in (self.embed[0], self.attention_v[0], self.attention_w)
        )
        to_mean = attention.T @ (embedded @ to_pooled.T)  # [1, 1], what the softmax subtracts
        for rows in blocks(features):
            own, a, h = embedded[rows], attention[rows], hidden[rows]
            to_score = a * (own @ to_pooled.T - to_mean)
            to_hidden = torch.ops.aten.tanh_backward(to_score @ self.attention_w.weight, h)
            to_own = torch.addmm(a @ to_pooled, to_hidden, self.attention_v[0].weight)
            torch.ops.aten.threshold_backward.grad_input(to_own, own, 0, grad_input=to_own)
            embed.add(to_own, features[rows])
            hide.add(to_hidden, own)
            score.add(to_score, h)
        add_gradients([*embed.pairs(), *hide.pairs(), *score.pairs()])

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The names; without the convolutions, which belong to the encoder; a sigmoid head as two classes (0, z)."""
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
    """

    def __init__(
        self,
        in_dim: int,
        hierarchy: LabelHierarchy,
        embed_dim: int = 500,
        attention_dim: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_dim, hierarchy, embed_dim, attention_dim, dropout, gated=True)
