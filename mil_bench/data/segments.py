"""Reductions over the rows of each bag of a packed batch.

The result for a bag does not depend on its neighbours, and every one runs under ``torch.func.vmap``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mil_bench.data.batch import BagBatch


def segment_sum(values: Tensor, bags: BagBatch) -> Tensor:
    """Sum of each bag's rows: ``[N, ...]`` -> ``[B, ...]``."""
    zeros = values.new_zeros((bags.n_bags, *values.shape[1:]))
    return zeros.index_add(0, bags.bag_of, values)


def segment_mean(values: Tensor, bags: BagBatch) -> Tensor:
    """Mean of each bag's rows: ``[N, ...]`` -> ``[B, ...]``."""
    sizes = bags.sizes.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return segment_sum(values, bags) / sizes


def segment_max(values: Tensor, bags: BagBatch) -> Tensor:
    """Largest value of each bag, column by column: ``[N, K]`` -> ``[B, K]``."""
    lowest = values.new_full((bags.n_bags, values.shape[1]), -torch.inf)
    index = bags.bag_of[:, None].expand_as(values)
    return lowest.scatter_reduce(0, index, values, "amax", include_self=False)


def segment_softmax(scores: Tensor, bags: BagBatch) -> Tensor:
    """Softmax over each bag's rows, column by column: ``[N, K]`` -> ``[N, K]``; columns of a bag sum to 1."""
    peak = segment_max(scores.detach(), bags)
    exponentials = (scores - peak[bags.bag_of]).exp()
    return exponentials / segment_sum(exponentials, bags)[bags.bag_of]


def attention_pool(attention: Tensor, embeddings: Tensor, bags: BagBatch) -> Tensor:
    """One attention-weighted mean a bag and attention column: ``[N, K]``, ``[N, M]`` -> ``[B, K, M]``.

    A small matrix product a bag: columns times rows need no ``[N, K, M]`` in between.
    """
    sizes = bags.sizes.tolist()
    pairs = zip(attention.split(sizes), embeddings.split(sizes), strict=True)
    return torch.stack([own.T @ rows for own, rows in pairs])
