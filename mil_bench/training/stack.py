"""K fold models behind one interface.

A step is one batch for the whole stack, with a weight for every fold and bag. Fold k is trained on
the bags it gives weight to; a fold that gives weight to none of them does not move at all: neither
parameters nor moments nor step count. ``LoopedStack`` walks over the folds one after another and is
what all others must equal; ``mil_bench.training.fold_stack.FoldStack`` computes them as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from mil_bench import seeds
from mil_bench.bags.feed import BYTES_TOGETHER
from mil_bench.methods import Method, Output, Recipe
from mil_bench.training.optim import MAKERS, set_learning_rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mil_bench.bags.batch import BagBatch

Identity = tuple[str | int, ...]


class Step(NamedTuple):
    """What all folds do next.

    Args:
        bags: the batch.
        weight: ``[K, B]`` on the CPU, 0 for bags a fold does not train on.
        number: of the step, the same for all folds; seeds dropout.
    """

    bags: BagBatch
    weight: Tensor
    number: int


def grouped(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Consecutive steps whose features fit into a processor's cache together; a single one may be larger.

    Folds that are looped make the steps of a group one fold after another, so that a fold's weights
    and moments, often several times as large as a bag, are fetched into the cache once a group
    instead of once a step.
    """
    group, held = [], 0
    for step in steps:
        if group and held + step.bags.features.nbytes > BYTES_TOGETHER:
            yield group
            group, held = [], 0
        group.append(step)
        held += step.bags.features.nbytes
    if group:
        yield group


class Stack(Protocol):
    """What the trainer knows of K folds."""

    def __len__(self) -> int:
        """K."""
        ...

    def train(self, steps: Sequence[Step], progress: float) -> Tensor:
        """Steps, one after another: each is one optimizer step for every fold that has a bag in its batch.

        Args:
            steps: some of them, at least one; how many come in one call does not matter to a fold.
            progress: share of the training that is over; sets the step size.

        Returns:
            Losses ``[steps, K]`` on the batches' device, not a number where a fold has no bag in a
            batch.
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
        ValueError: recipes that differ in more than learning rate and weight decay cannot share a
            loop.
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
        identities: one identity a fold; dropout of a fold depends on it and on the step, never on
            the other folds.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        recipe: Recipe | Sequence[Recipe],
        identities: Sequence[Identity],
    ) -> None:
        self._methods = list(methods)
        self._seeds = [seeds.derive(*identity, "steps") for identity in identities]
        self._recipes = one_a_fold(recipe, len(self._methods))
        self._optimizers = [
            MAKERS[r.optimizer](m, r) for m, r in zip(self._methods, self._recipes, strict=True)
        ]
        self._best = [self.state(k) for k in range(len(self))]

    def __len__(self) -> int:
        return len(self._methods)

    def train(self, steps: Sequence[Step], progress: float) -> Tensor:
        """Fold after fold, and a fold's steps one after another; see ``Stack``."""
        features = steps[0].bags.features
        losses = features.new_full((len(steps), len(self)), torch.nan)
        weights = [step.weight.to(features.dtype) for step in steps]
        with seeds.torch_kept() as seed:
            for k in range(len(self)):
                for row, (step, weight) in enumerate(zip(steps, weights, strict=True)):
                    own = weight[k].nonzero()[:, 0]
                    if len(own):
                        seed(seeds.of_step(self._seeds[k], step.number))
                        losses[row, k] = self._step(
                            k, *_own_part(step.bags, weight[k], own), progress
                        )
        return losses

    def _step(self, k: int, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """Move fold k; its loss."""
        method, optimizer = self._methods[k], self._optimizers[k]
        weight = weight.to(bags.features.device)
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


def _own_part(bags: BagBatch, weight: Tensor, own: Tensor) -> tuple[BagBatch, Tensor]:
    """The bags with a weight: the contract makes others irrelevant, so a loop need not compute them."""
    return (bags, weight) if len(own) == bags.n_bags else (bags.select(own), weight[own])
