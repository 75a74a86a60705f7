"""Reductions over the rows of each bag of a packed batch.

The result for a bag does not depend on its neighbours, and every one runs under
``torch.func.vmap``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mil_bench.devices import is_cpu

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch


def segment_sum(values: Tensor, bags: BagBatch) -> Tensor:
    """Sum of each bag's rows: ``[N, ...]`` -> ``[B, ...]``."""
    if bags.n_bags == 1:
        return values.sum(0, keepdim=True)
    zeros = values.new_zeros((bags.n_bags, *values.shape[1:]))
    return zeros.index_add(0, bags.bag_of, values)


def segment_mean(values: Tensor, bags: BagBatch) -> Tensor:
    """Mean of each bag's rows: ``[N, ...]`` -> ``[B, ...]``."""
    sizes = bags.sizes.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return segment_sum(values, bags) / sizes


def segment_max(values: Tensor, bags: BagBatch) -> Tensor:
    """Largest value of each bag, column by column: ``[N, K]`` -> ``[B, K]``."""
    if bags.n_bags == 1:
        return values.amax(0, keepdim=True)
    lowest = values.new_full((bags.n_bags, values.shape[1]), -torch.inf)
    index = bags.bag_of[:, None].expand_as(values)
    return lowest.scatter_reduce(0, index, values, "amax", include_self=False)


def segment_softmax(scores: Tensor, bags: BagBatch) -> Tensor:
    """Softmax over each bag's rows, column by column: ``[N, K]`` -> ``[N, K]``."""
    if bags.n_bags == 1:
        return scores.softmax(0)
    return _SegmentSoftmax.apply(scores, bags)


class _SegmentSoftmax(torch.autograd.Function):
    """A softmax whose gradient takes two passes; that of its single steps takes six.

    The gradient is exactly 0 in a bag of one row. That of the steps differs from 0 by rounding,
    which Adam would amplify to steps of full size.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, bags: BagBatch) -> Tensor:
        peak = segment_max(scores, bags)
        exponentials = (scores - peak[bags.bag_of]).exp()
        return exponentials / segment_sum(exponentials, bags)[bags.bag_of]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, BagBatch], output: Tensor) -> None:
        ctx.bags = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (attention,) = ctx.saved_tensors
        mean = segment_sum(attention * gradient, ctx.bags)  # [B, K]
        return attention * (gradient - mean[ctx.bags.bag_of]), None


def attention_pool(attention: Tensor, embeddings: Tensor, bags: BagBatch) -> Tensor:
    """Attention-weighted means of each bag: ``[N, K]``, ``[N, M]`` -> ``[B, K, M]``.

    On a CPU this is a small matrix product per bag, without an ``[N, K, M]`` in between. A GPU
    computes all bags in one product, with zeros for rows of other bags: a launch per bag would take
    longer.
    """
    if bags.n_bags == 1:
        return (attention.T @ embeddings)[None]
    if not is_cpu(embeddings):
        members = F.one_hot(bags.bag_of, bags.n_bags).to(attention.dtype)  # [N, B]
        blocks = (members[:, :, None] * attention[:, None]).flatten(1)  # [N, B * K]
        return (blocks.T @ embeddings).unflatten(0, (bags.n_bags, -1))
    pairs = zip(attention.split(bags.lengths), embeddings.split(bags.lengths), strict=True)
    return torch.stack([weights.T @ rows for weights, rows in pairs])


def extreme_rows(scores: Tensor, bags: BagBatch, k: int) -> tuple[Tensor, Tensor]:
    """Rows of the k highest and the k lowest scores of each bag, for every column of scores.

    A bag of n < k rows gives all n of them, as highest and as lowest; the remaining places repeat a
    row. Rows of equal score are in the order of the bag, so that the first of them are highest and
    the last are lowest.

    Args:
        scores: ``[N, P]``.
        bags: the batch.
        k: how many.

    Returns:
        Row numbers ``[B, 2k, P]``, the highest by falling score, then the lowest by rising score;
        and which of the 2k places are filled ``[B, 2k]``.
    """
    order = scores.argsort(dim=0, descending=True, stable=True)
    if bags.n_bags > 1:
        # Bag after bag, by falling score.
        order = order.gather(0, bags.bag_of[order].argsort(dim=0, stable=True))
    place = torch.arange(k, device=order.device)
    inside = torch.minimum(place, bags.sizes[:, None] - 1)  # [B, k]
    positions = torch.cat(
        [bags.offsets[:-1, None] + inside, bags.offsets[1:, None] - 1 - inside], dim=1
    )
    return order[positions], (place < bags.sizes[:, None]).repeat(1, 2)
