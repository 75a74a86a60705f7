"""Attention-based deep MIL, plain and gated.

M. Ilse, J. Tomczak, M. Welling, Attention-based Deep Multiple Instance Learning, ICML 2018 (equations 7 to 9);
released code AMLab-Amsterdam/AttentionDeepMIL. The release is for 28 x 28 images: its convolutions are replaced here
by the frozen encoder that made the features, its last layer ``Linear(., 500)`` + ReLU stays, and its sigmoid output
becomes a linear layer with one logit a class. Two classes with logits (0, z) are that sigmoid output, and so are loaded
from a checkpoint; their cross-entropy is the released loss wherever the probability lies in [1e-5, 1 - 1e-5]. Outside
the release clamps it, which stops all gradients of a bag that is wrong beyond doubt; here it keeps learning.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.data.batch import BagBatch
from mil_bench.data.hierarchy import LabelHierarchy
from mil_bench.data.segments import attention_pool, segment_softmax
from mil_bench.methods import Float, Int, Method, Output, Recipe
from mil_bench.methods.layers import Dropout, gated_scores, tanh_

_CONVOLUTIONS = "feature_extractor_part1."


class ABMIL(Method):
    """Attention MIL: one learned weight an instance, a weighted mean, a linear classifier.

    Args:
        in_dim: feature width D.
        hierarchy: the classes.
        embed_dim: width M of the embedding, 500 in the released code; 0 pools the features themselves.
        attention_dim: hidden width of the attention, 128 in the released code.
        dropout: on the embedding; none in the released code.
        gated: multiply the tanh branch by a sigmoid branch (equation 9).
    """

    recipe = Recipe(learning_rate=5e-4, weight_decay=1e-4, epochs=20)  # main.py of the released code
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
    ):
        super().__init__(in_dim, hierarchy)
        layers = [nn.Linear(in_dim, embed_dim), nn.ReLU(inplace=True), Dropout(dropout)] if embed_dim else []
        self.embed = nn.Sequential(*layers)
        width = embed_dim or in_dim
        self.attention_v = nn.Sequential(nn.Linear(width, attention_dim), nn.Tanh())
        self.attention_u = nn.Sequential(nn.Linear(width, attention_dim), nn.Sigmoid()) if gated else None
        self.attention_w = nn.Linear(attention_dim, 1)
        self.classifier = nn.Linear(width, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        """Logits and the attention ``[N, 1]``."""
        embedded = self.embed(bags.features)  # [N, M]
        if bags.n_bags == 1 and self.attention_u is None:
            layers = (self.attention_v[0], self.attention_w)
            pooled, attention, _ = _OneBag.apply(embedded, *(each for of in layers for each in (of.weight, of.bias)))
        else:
            attention = segment_softmax(self._scores(embedded), bags)  # [N, 1]
            pooled = attention_pool(attention, embedded, bags)[:, 0]  # [B, M]
        return Output(fine=self.classifier(pooled), attention=attention)

    def _scores(self, embedded: Tensor) -> Tensor:
        """``[N, M]`` -> ``[N, 1]``, before the softmax."""
        if self.attention_u is None:
            return self.attention_w(self.attention_v(embedded))
        maps = (self.attention_v[0], self.attention_u[0], self.attention_w)
        return gated_scores(embedded, *((of.weight, of.bias) for of in maps), 0.0)

    def from_official(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The names; without the convolutions, which belong to the encoder; a sigmoid head as two classes (0, z)."""
        translated = super().from_official({n: v for n, v in state.items() if not n.startswith(_CONVOLUTIONS)})
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
    ):
        super().__init__(in_dim, hierarchy, embed_dim, attention_dim, dropout, gated=True)


class _OneBag(torch.autograd.Function):
    """Plain attention and the mean by it for a bag by itself, with a gradient written by hand.

    The embedding is used twice; autograd writes a gradient of its size for either use and adds them, here the second
    product adds to the first's. Arguments are the embedding ``[N, M]``, then weight and bias of both layers of the
    attention; results the mean ``[1, M]``, the attention ``[N, 1]`` and, without gradient, the hidden layer ``[N, L]``.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        embedded: Tensor, v_weight: Tensor, v_bias: Tensor, w_weight: Tensor, w_bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden = tanh_(F.linear(embedded, v_weight, v_bias))
        attention = F.linear(hidden, w_weight, w_bias).softmax(0)
        return attention.T @ embedded, attention, hidden

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        embedded, v_weight, _, w_weight, _ = inputs
        _, attention, hidden = output
        ctx.mark_non_differentiable(hidden)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(embedded, v_weight, w_weight, attention, hidden)

    @staticmethod
    def backward(ctx: Any, to_mean: Tensor | None, to_attention: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        embedded, v_weight, w_weight, attention, hidden = ctx.saved_tensors
        to_mean = torch.zeros_like(embedded[:1]) if to_mean is None else to_mean
        to_all = embedded @ to_mean.T  # [N, 1]
        to_all = to_all if to_attention is None else to_all + to_attention
        to_scores = attention * (to_all - (attention * to_all).sum(0))
        to_hidden = torch.ops.aten.tanh_backward(to_scores @ w_weight, hidden)
        to_embedded = torch.addmm(attention @ to_mean, to_hidden, v_weight) if ctx.needs_input_grad[0] else None
        return (
            to_embedded,
            to_hidden.T @ embedded,
            to_hidden.sum(0),
            to_scores.T @ hidden,
            to_scores.sum(0),
        )
