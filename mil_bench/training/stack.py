"""K fold models behind one interface.

A step hands the whole stack one batch and a weight for every fold and bag. Fold k is trained on the bags it gives
weight to; a fold that gives weight to none of them does not move at all: neither parameters nor moments nor step
count. ``LoopedStack`` walks over the folds one after another.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from mil_bench import seeds
from mil_bench.data.batch import BagBatch
from mil_bench.methods import Method, Output, Recipe
from mil_bench.training.optim import MAKERS, set_learning_rate

Identity = tuple[str | int, ...]


class LoopedStack:
    """K modules, each with its own optimizer and its own randomness.

    Args:
        methods: one freshly built method a fold.
        recipe: how to train them.
        identities: one identity a fold; dropout of a fold depends on it and on the step, never on the other folds.
    """

    def __init__(self, methods: Sequence[Method], recipe: Recipe, identities: Sequence[Identity]):
        self._methods, self._identities = list(methods), list(identities)
        self._optimizers = [MAKERS[recipe.optimizer](m, recipe) for m in self._methods]
        self._best = [copy.deepcopy(m.state_dict()) for m in self._methods]

    def __len__(self) -> int:
        return len(self._methods)

    def set_learning_rate(self, learning_rate: float) -> None:
        """The step size of all folds from here on."""
        for optimizer in self._optimizers:
            set_learning_rate(optimizer, learning_rate)

    def train_step(self, bags: BagBatch, weight: Tensor, progress: float, step: int) -> Tensor:
        """One optimizer step for every fold that has a bag in the batch.

        Args:
            bags: the batch.
            weight: ``[K, B]``, 0 for bags a fold does not train on.
            progress: share of the training that is over.
            step: number of the step, the same for all folds; seeds dropout.

        Returns:
            The folds' losses ``[K]``, not a number where a fold has no bag here.
        """
        losses = torch.full((len(self),), torch.nan, device=weight.device)
        for k, (method, optimizer) in enumerate(zip(self._methods, self._optimizers, strict=True)):
            own = weight[k].nonzero()[:, 0]
            if not len(own):
                continue
            # The contract makes bags of weight 0 irrelevant, so a loop need not compute them.
            part = bags if len(own) == bags.n_bags else bags.select(own)
            if not method.training:
                method.train()
            with seeds.torch_seeded(*self._identities[k], "step", step):
                loss = method.loss(method(part), part, weight[k, own], progress)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses[k] = loss.detach()
        return losses

    @torch.no_grad()
    def forward(self, k: int, bags: BagBatch) -> Output:
        """Fold k's output in evaluation mode, without gradients."""
        return self._methods[k].eval()(bags)

    def keep(self, k: int) -> None:
        """Remember fold k's weights as its best."""
        self._best[k] = copy.deepcopy(self._methods[k].state_dict())

    def state(self, k: int) -> dict[str, Tensor]:
        """Fold k's weights and buffers by name, as they are now."""
        return {name: value for name, value in self._methods[k].state_dict().items() if isinstance(value, Tensor)}

    def restore(self) -> None:
        """Put every fold back to its best weights."""
        for method, state in zip(self._methods, self._best, strict=True):
            method.load_state_dict(state)
