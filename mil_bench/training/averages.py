"""The exponential moving average of weights, as torch's ``AveragedModel`` computes it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn


class WeightAverage:
    """The average of one fold's weights.

    Args:
        parameters: the weights.
        decay: what remains of the average in a step.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew with the weights as they are."""
        self._values = [p.clone() for p in self._parameters]
        self._begun = False

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step; after the first, the average is equal to them."""
        share = 1 - self._decay if self._begun else 1.0
        torch._foreach_lerp_(self._values, list(self._parameters), share)
        self._begun = True

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside the block the parameters hold the average."""
        weights = [p.data for p in self._parameters]
        for parameter, value in zip(self._parameters, self._values, strict=True):
            parameter.data = value
        try:
            yield
        finally:
            for parameter, weight in zip(self._parameters, weights, strict=True):
                parameter.data = weight


class StackedAverage:
    """The averages of K folds.

    Args:
        weights: ``[K, P]``, which steps change in place.
        decay: what remains of an average in a step.
    """

    def __init__(self, weights: Tensor, decay: float) -> None:
        self._weights, self._decay = weights, decay
        self._share = weights.new_ones((len(weights), 1))  # of the new weights, next time
        self.values = weights.clone()

    def update(self, folds: Tensor | None) -> None:
        """Take in the weights of the folds that a step has moved, None for all."""
        rows = slice(None) if folds is None else folds
        self.values[rows] = self.values[rows].lerp(self._weights[rows], self._share[rows])
        if folds is None:
            self._share.fill_(1 - self._decay)
        else:  # a number that is assigned to rows would be copied to a GPU, and waited for
            self._share.index_fill_(0, folds, 1 - self._decay)
