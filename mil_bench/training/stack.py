"""K fold models behind one interface.

A step hands the whole stack one batch and a weight for every fold and bag. Fold k is trained on the bags it gives
weight to; a fold that gives weight to none of them does not move at all: neither parameters nor moments nor step
count. ``LoopedStack`` walks over the folds one after another and is what all others must equal;
``mil_bench.training.fold_stack.FoldStack`` computes them as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mil_bench import seeds
from mil_bench.data.batch import BagBatch
from mil_bench.methods import Method, Output, Recipe
from mil_bench.training.optim import MAKERS, set_learning_rate

Identity = tuple[str | int, ...]


class Stack(Protocol):
    """What the trainer knows of K folds."""

    def __len__(self) -> int:
        """K."""
        ...

    def train_step(self, bags: BagBatch, weight: Tensor, progress: float, step: int) -> Tensor:
        """One optimizer step for every fold that has a bag in the batch.

        Args:
            bags: the batch.
            weight: ``[K, B]`` on the CPU, 0 for bags a fold does not train on.
            progress: share of the training that is over; sets the step size.
            step: number of the step, the same for all folds; seeds dropout.

        Returns:
            The folds' losses ``[K]`` on the batch's device, not a number where a fold has no bag here.
        """
        ...

    def forward(self, k: int, bags: BagBatch) -> Output:
        """Fold k's output in evaluation mode, without gradients."""
        ...

    def state(self, k: int) -> dict[str, Tensor]:
        """A copy of fold k's weights, named as in ``Method.state_dict()``."""
        ...

    def keep(self, k: int) -> None:
        """Remember fold k's weights as its best."""
        ...

    def restore(self) -> None:
        """Put every fold back to its best weights."""
        ...


def one_a_fold(recipe: Recipe | Sequence[Recipe], folds: int) -> list[Recipe]:
    """A recipe for each of K folds, from one for all or from K of them.

    Raises:
        ValueError: recipes that differ in more than learning rate and weight decay cannot share a loop.
    """
    recipes = [recipe] * folds if isinstance(recipe, Recipe) else list(recipe)
    shared = {(r.epochs, r.batch_size, r.optimizer, r.betas, r.patience) for r in recipes}
    if len(recipes) != folds or len(shared) != 1:
        raise ValueError(
            f"{len(recipes)} recipes for {folds} folds; they may differ in step size and weight decay only"
        )
    return recipes


class LoopedStack:
    """K modules, each with its own optimizer and its own randomness.

    Args:
        methods: one freshly built method a fold; they may have different parameters.
        recipe: how to train them; one a fold where settings differ.
        identities: one identity a fold; dropout of a fold depends on it and on the step, never on the other folds.
    """

    def __init__(self, methods: Sequence[Method], recipe: Recipe | Sequence[Recipe], identities: Sequence[Identity]):
        self._methods = list(methods)
        self._seeds = [seeds.derive(*identity, "steps") for identity in identities]
        self._recipes = one_a_fold(recipe, len(self._methods))
        self._optimizers = [MAKERS[r.optimizer](m, r) for m, r in zip(self._methods, self._recipes, strict=True)]
        self._best = [self.state(k) for k in range(len(self))]

    def __len__(self) -> int:
        return len(self._methods)

    def train_step(self, bags: BagBatch, weight: Tensor, progress: float, step: int) -> Tensor:
        """One optimizer step for every fold that has a bag in the batch; see ``Stack``."""
        losses = bags.features.new_full((len(self),), torch.nan)
        weight = weight.to(bags.features.dtype)
        own_bags = [row.nonzero()[:, 0] for row in weight]
        with seeds.torch_kept() as seed:
            for k, own in enumerate(own_bags):
                if len(own):
                    seed(seeds.of_step(self._seeds[k], step))
                    # The contract makes bags of weight 0 irrelevant, so a loop need not compute them.
                    part, counts = (bags, weight[k]) if len(own) == bags.n_bags else (bags.select(own), weight[k, own])
                    losses[k] = self._step(k, part, counts.to(losses.device), progress)
        return losses

    def _step(self, k: int, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """Move fold k; its loss."""
        method, optimizer = self._methods[k], self._optimizers[k]
        if not method.training:
            method.train()
        loss = method.backward(bags, weight, progress)
        set_learning_rate(optimizer, self._recipes[k].learning_rate_at(progress))
        optimizer.step()
        optimizer.zero_grad()  # at once: the next fold's gradients take the same memory
        return loss

    @torch.no_grad()
    def forward(self, k: int, bags: BagBatch) -> Output:
        """Fold k's output in evaluation mode, without gradients."""
        return self._methods[k].eval()(bags)

    def state(self, k: int) -> dict[str, Tensor]:
        """A copy of fold k's weights."""
        return {name: value.clone() for name, value in self._methods[k].state_dict().items()}

    def keep(self, k: int) -> None:
        """Remember fold k's weights as its best."""
        self._best[k] = self.state(k)

    def restore(self) -> None:
        """Put every fold back to its best weights."""
        for method, state in zip(self._methods, self._best, strict=True):
            method.load_state_dict(state)
