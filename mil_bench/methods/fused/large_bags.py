"""Bags that are too large for whole copies of their rows: evaluation goes through them in blocks.

A copy of 200,000 rows of 512 numbers takes 0.4 GB. Methods that need several of them at once have a
second way for large bags, which holds as few as possible and changes rows in place. It gives the
same results up to rounding; smaller bags, and all bags in training, do not take it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from mil_bench.bags.batch import BagBatch

ROWS = 2**14  # of a bag that are computed at a time; a bag with more is large


def has_large_bag(bags: BagBatch, method: nn.Module) -> bool:
    """Whether the batch has a large bag, and nothing of it is needed for training."""
    return max(bags.lengths) > ROWS and not (method.training or torch.is_grad_enabled())


def in_blocks(layer: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """What a layer makes of every row, block by block: ``[N, ...]`` -> ``[N, M]``.

    Args:
        layer: ``[n, ...]`` -> ``[n, M]``; each row's result depends on this row alone.
        rows: at least one.
    """
    results: Tensor | None = None
    for start in range(0, len(rows), ROWS):
        block = layer(rows[start : start + ROWS])
        if results is None:
            results = block.new_empty(len(rows), block.shape[1])
        results[start : start + ROWS] = block
    assert results is not None
    return results
