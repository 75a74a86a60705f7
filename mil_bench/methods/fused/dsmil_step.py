"""A training step of DSMIL on one bag, with its gradients written by hand.

Steps of this method are small: at 120 rows, autograd's calls took a sixth of one (measured).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mil_bench.methods import add_gradients, weighted_mean
from mil_bench.methods.fused.linear import blocks, tanh_

if TYPE_CHECKING:
    from mil_bench.methods.fused.linear import Affine


class DualStreamLayers(NamedTuple):
    """The maps of dual-stream MIL with two layers of queries that pools the features themselves.

    Args:
        instances: instance classifier C x D.
        first: first layer of the queries Q x D, a ReLU behind it.
        second: second layer of the queries Q x Q, a tanh behind it.
        last: classifier of the bag's embeddings, weight ``[C, C, D]``.
    """

    instances: Affine
    first: Affine
    second: Affine
    last: Affine


@torch.no_grad()
def dual_stream_step(
    layers: DualStreamLayers,
    features: Tensor,
    labels: Tensor,
    weight: Tensor,
    positive_weight: float,
) -> Tensor:
    """Loss of a batch of one bag; the gradients of the layers are added to what they hold.

    Args:
        layers: the method's maps.
        features: of the bag ``[N, D]``.
        labels: whether each of the C outputs is the bag's class ``[1, C]``.
        weight: ``[1]``.
        positive_weight: how much a present class counts against an absent one.
    """
    last_weight, last_bias = layers.last
    last, scale = last_weight.flatten(1), 1 / math.sqrt(len(layers.second[0]))
    instance_logits, hidden, queries = _rows(layers, features)  # [C, N], [N, Q], [N, Q]
    critical = instance_logits.argmax(1)
    keys = queries[critical]
    attention = (keys @ queries.T).mul_(scale).softmax(1)  # [C, N]
    embeddings = attention @ features  # [C, D]
    max_logits = instance_logits.gather(1, critical[:, None])[:, 0]
    bag_logits = torch.addmv(last_bias, last, embeddings.flatten())
    loss, (to_bag, to_max) = _loss(bag_logits, max_logits, labels, weight, positive_weight)

    to_attention = (to_bag @ last).view_as(embeddings) @ features.T  # [C, N]
    to_scores = torch.ops.aten._softmax_backward_data(
        to_attention, attention, 1, attention.dtype
    ).mul_(scale)
    # Critical instances take part twice: as rows of the bag, and as what the rows are compared
    # with.
    to_queries = (to_scores.T @ keys).index_add_(0, critical, to_scores @ queries)
    to_queries = torch.ops.aten.tanh_backward(to_queries, queries)
    to_hidden = torch.ops.aten.threshold_backward(to_queries @ layers.second[0], hidden, 0)
    gradients = (
        (to_max[:, None] * features[critical], to_max),
        (to_hidden.T @ features, to_hidden.sum(0)),
        (to_queries.T @ hidden, to_queries.sum(0)),
        (torch.outer(to_bag, embeddings.flatten()).view_as(last_weight), to_bag),
    )
    for layer, gradient in zip(layers, gradients, strict=True):
        add_gradients(zip(layer, gradient, strict=True))
    return loss


def _loss(
    bag_logits: Tensor, max_logits: Tensor, labels: Tensor, weight: Tensor, positive_weight: float
) -> tuple[Tensor, Tensor]:
    """The loss of both streams, and its gradient by their logits ``[2, C]``."""
    both = torch.stack([bag_logits, max_logits])[None]  # [1, 2, C]
    present = labels[:, None].to(both.dtype).expand_as(both)
    entropies = F.binary_cross_entropy_with_logits(both, present, reduction="none")
    to_both = both.sigmoid().sub_(present).div_(both.numel())
    if positive_weight != 1:
        importance = 1 + (positive_weight - 1) * present
        entropies, to_both = entropies * importance, to_both * importance
    loss = weighted_mean(entropies.mean((1, 2)), weight)
    return loss, torch.where(weight > 0, to_both, 0.0)[0]


def _rows(layers: DualStreamLayers, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Instance logits ``[C, N]``, and both layers of the queries ``[N, Q]`` each."""
    (instances, instances_bias), (first, first_bias), (second, second_bias), _ = layers
    logits = features.new_empty(len(instances), len(features))
    hidden, queries = (features.new_empty(len(features), len(of)) for of in (first, second))
    for rows in blocks(features):
        block = features[rows]
        # A thin product is faster with the rows of the bag as its columns.
        torch.addmm(instances_bias[:, None], instances, block.T, out=logits[:, rows])
        torch.addmm(first_bias, block, first.T, out=hidden[rows]).relu_()
        tanh_(torch.addmm(second_bias, hidden[rows], second.T, out=queries[rows]))
    return logits, hidden, queries
