"""A training step of ABMIL on one bag, with its gradients written by hand.

A block of rows passes through all layers, forward and back, while it is in the processor's cache.
Autograd goes over the embedding of the whole bag once for each bias, each ReLU and each sum of two
gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mil_bench.methods import add_gradients, weighted_mean
from mil_bench.methods.fused.linear import AffineGradient, blocks, tanh_

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods.fused.linear import Affine


class AttentionLayers(NamedTuple):
    """The linear maps of attention MIL without gate and dropout.

    Args:
        embed: M x D, a ReLU behind it.
        hidden: L x M, a tanh behind it.
        score: 1 x L.
        classifier: C x M.
    """

    embed: Affine
    hidden: Affine
    score: Affine
    classifier: Affine


@torch.no_grad()
def attention_step(layers: AttentionLayers, bags: BagBatch, weight: Tensor) -> Tensor:
    """Cross-entropy of a batch of one bag; the gradients of the layers are added to what they hold.

    Args:
        layers: the method's maps.
        bags: one bag.
        weight: ``[1]``.
    """
    embedded, hidden, scores = _rows(layers, bags.features)
    attention = scores.softmax(0)  # [N, 1]
    pooled = attention.T @ embedded  # [1, M]
    logits = F.linear(pooled, *layers.classifier)
    loss = weighted_mean(F.cross_entropy(logits, bags.labels, reduction="none"), weight)
    to_logits = logits.softmax(1) - F.one_hot(bags.labels, logits.shape[1])
    to_logits = torch.where(weight[:, None] > 0, to_logits, 0.0)
    classifier = AffineGradient(layers.classifier)
    classifier.add(to_logits, pooled)
    add_gradients(classifier.pairs())
    to_pooled = to_logits @ layers.classifier[0]
    _rows_backward(layers, bags.features, (embedded, hidden, attention), to_pooled)
    return loss


def _rows(layers: AttentionLayers, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Embedding ``[N, M]``, hidden layer of the attention ``[N, L]`` and scores ``[N, 1]``."""
    (embed, embed_bias), (hide, hide_bias) = layers.embed, layers.hidden
    embedded, hidden = (features.new_empty(len(features), len(of)) for of in (embed, hide))
    for rows in blocks(features):
        torch.addmm(embed_bias, features[rows], embed.T, out=embedded[rows]).relu_()
        tanh_(torch.addmm(hide_bias, embedded[rows], hide.T, out=hidden[rows]))
    return embedded, hidden, F.linear(hidden, *layers.score)


def _rows_backward(
    layers: AttentionLayers,
    features: Tensor,
    rows_forward: tuple[Tensor, Tensor, Tensor],
    to_pooled: Tensor,
) -> None:
    """From the gradient of the weighted mean ``[1, M]`` to those of all layers before it.

    Args:
        layers: the method's maps.
        features: ``[N, D]``.
        rows_forward: embedding, hidden layer and attention of every row.
        to_pooled: gradient of the mean.
    """
    all_embedded, all_hidden, all_attention = rows_forward
    embed, hide, score = (
        AffineGradient(layer) for layer in (layers.embed, layers.hidden, layers.score)
    )
    to_mean = all_attention.T @ (all_embedded @ to_pooled.T)  # [1, 1], what the softmax subtracts
    for rows in blocks(features):
        embedded, attention, hidden = all_embedded[rows], all_attention[rows], all_hidden[rows]
        to_score = attention * (embedded @ to_pooled.T - to_mean)
        to_hidden = torch.ops.aten.tanh_backward(to_score @ layers.score[0], hidden)
        to_embedded = torch.addmm(attention @ to_pooled, to_hidden, layers.hidden[0])
        torch.ops.aten.threshold_backward.grad_input(
            to_embedded, embedded, 0, grad_input=to_embedded
        )
        embed.add(to_embedded, features[rows])
        hide.add(to_hidden, embedded)
        score.add(to_score, hidden)
    add_gradients([*embed.pairs(), *hide.pairs(), *score.pairs()])
