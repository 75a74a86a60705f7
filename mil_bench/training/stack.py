"""The models of K folds behind one interface.

A step is one batch for the whole stack, with a weight per fold and bag. Fold k is trained on the
bags to which it gives weight, and the optimizer moves it after as many batches as the recipe
accumulates. If it gives weight to none of them, neither its parameters nor its
moments nor its step count change. ``LoopedStack`` goes through the folds one by one and is the
reference for other stacks; ``mil_bench.training.fold_stack.FoldStack`` computes all folds as one.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from mil_bench import devices, seeds
from mil_bench.bags.feed import BYTES_TOGETHER
from mil_bench.methods import Method, Output, Recipe
from mil_bench.methods.recipe import ORDINAL_LOSS, OWN_LOSS
from mil_bench.training.averages import WeightAverage
from mil_bench.training.optim import MAKERS, set_learning_rate
from mil_bench.training.parameter_groups import clipped_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mil_bench.bags.batch import BagBatch

Identity = tuple[str | int, ...]


class Step(NamedTuple):
    """The next step of all folds.

    Args:
        bags: the batch.
        weight: ``[K, B]`` on the CPU, 0 for bags on which a fold does not train.
        number: number of the step, the same for all folds; seeds dropout.
        sent: the weight on the device of the batch; None if it has not been sent there yet.
    """

    bags: BagBatch
    weight: Tensor
    number: int
    sent: Tensor | None = None

    def weight_on_device(self) -> Tensor:
        """The weight ``[K, B]`` on the device of the batch."""
        if self.sent is not None:
            return self.sent
        return devices.send(self.weight, self.bags.features.device)


def grouped(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Groups of consecutive steps whose features fit into a processor's cache together.

    A ``LoopedStack`` makes all steps of a group for one fold before the next fold. So a fold's
    weights and moments, often several times as large as a bag, are fetched into the cache once per
    group instead of once per step. A step that does not fit is a group of its own.
    """
    group: list[Step] = []
    size = 0  # bytes
    for step in steps:
        if group and size + step.bags.features.nbytes > BYTES_TOGETHER:
            yield group
            group, size = [], 0
        group.append(step)
        size += step.bags.features.nbytes
    if group:
        yield group


class Models(Protocol):
    """K models that predict."""

    def forward(self, k: int, bags: BagBatch) -> Output:
        """Fold k's output in evaluation mode, without gradients."""
        ...

    def state(self, k: int) -> dict[str, Tensor]:
        """A copy of fold k's weights, named as in ``Method.state_dict()``."""
        ...


class Stack(Models, Protocol):
    """What the trainer uses of K folds."""

    def __len__(self) -> int:
        """K."""
        ...

    def train(self, steps: Sequence[Step], progress: float) -> Tensor:
        """Steps in order, each one optimizer step for every fold that has a bag in the batch.

        Args:
            steps: at least one; how many come in one call does not change results.
            progress: share of the training that is over; sets the learning rate.

        Returns:
            Losses ``[steps, K]`` on the batches' device, NaN if a fold has no bag in a batch.
        """
        ...

    def scale_rate(self, k: int, scale: float) -> None:
        """From now on, fold k's learning rate is the recipe's times ``scale``."""
        ...

    def keep(self, k: int) -> None:
        """Store fold k's weights as its best."""
        ...

    def restore(self) -> None:
        """Load every fold's best weights."""
        ...


def one_a_fold(recipe: Recipe | Sequence[Recipe], folds: int) -> list[Recipe]:
    """A recipe for each of K folds, from one for all or from K recipes.

    Raises:
        ValueError: recipes differ in more than learning rate and weight decay, so they cannot share
            a loop.
    """
    recipes = [recipe] * folds if isinstance(recipe, Recipe) else list(recipe)
    shared = {
        replace(r, learning_rate=1, weight_decay=0, schedule="constant", final_learning_rate=0)
        for r in recipes
    }
    if len(recipes) != folds or len(shared) != 1:
        raise ValueError(
            f"{len(recipes)} recipes for {folds} folds; they may differ in learning rate and "
            "weight decay only"
        )
    return recipes


def take_losses(methods: Sequence[Method], recipes: Sequence[Recipe]) -> None:
    """Every method trains with the loss of its recipe."""
    for method, recipe in zip(methods, recipes, strict=True):
        if recipe.loss != OWN_LOSS:
            method.take_loss(recipe.loss)


def mean_weight(recipe: Recipe, weight: Tensor) -> Tensor | None:
    """What multiplies the loss of each fold's step, ``[K, 1]``; None for 1.

    Methods average over bags by weight, so of a single bag, or of bags of one class, its class's
    weight would cancel out. With this factor a step's loss is the sum of weighted losses over the
    number of bags.

    Args:
        recipe: its class weights.
        weight: ``[K, B]``; every fold has a bag.
    """
    if recipe.class_weights == "none":
        return None
    return weight.sum(1, keepdim=True) / (weight > 0).sum(1, keepdim=True)


class LoopedStack:
    """K modules, each with its own optimizer and its own randomness.

    Args:
        methods: a newly built method per fold; they may have different parameters.
        recipe: how to train them; one per fold if settings differ.
        identities: one per fold; a fold's dropout depends on it and on the step, never on the other
            folds.
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
        take_losses(self._methods, self._recipes)
        self._optimizers = [
            MAKERS[r.optimizer](m, r) for m, r in zip(self._methods, self._recipes, strict=True)
        ]
        self._clipped = [
            [
                [m.get_parameter(name) for name in group]
                for group in clipped_groups([name for name, _ in m.named_parameters()], r)
            ]
            for m, r in zip(self._methods, self._recipes, strict=True)
        ]
        self._scales = [1.0] * len(self)
        self._gathered = [
            _Gradients(m, r.accumulate) for m, r in zip(self._methods, self._recipes, strict=True)
        ]
        self._averages = [
            WeightAverage(list(m.parameters()), r.ema) if r.ema else None
            for m, r in zip(self._methods, self._recipes, strict=True)
        ]
        self._best = [self.state(k) for k in range(len(self))]

    def __len__(self) -> int:
        return len(self._methods)

    def train(self, steps: Sequence[Step], progress: float) -> Tensor:
        """All steps of a fold, then those of the next fold; see ``Stack``."""
        features = steps[0].bags.features
        losses = features.new_full((len(steps), len(self)), torch.nan)
        counts = [step.weight.count_nonzero(1).tolist() for step in steps]
        weights = [step.weight_on_device().to(features.dtype) for step in steps]
        with seeds.torch_kept() as seed:
            for k in range(len(self)):
                for row, step in enumerate(steps):
                    if not counts[row][k]:
                        continue
                    bags, weight = step.bags, weights[row][k]
                    if counts[row][k] < bags.n_bags:  # by the contract, the others change nothing
                        used = step.weight[k].nonzero()[:, 0]
                        bags, weight = bags.select(used), weight[devices.send(used, weight.device)]
                    seed(seeds.of_step(self._seeds[k], step.number))
                    losses[row, k] = self._step(k, bags, weight, progress)
        return losses

    def _step(self, k: int, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        """One batch of fold k, and a step of its optimizer if it is due; the loss."""
        method, optimizer = self._methods[k], self._optimizers[k]
        share = mean_weight(self._recipes[k], weight[None])
        if not method.training:
            method.train()
        if self._recipes[k].loss == ORDINAL_LOSS:  # gradients by hand are those of labels
            loss = Method.backward(method, bags, weight, progress)
        else:
            loss = method.backward(bags, weight, progress)
        if share is not None:
            loss = loss * share[0, 0]
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter.grad *= share[0, 0]
        if not self._gathered[k].is_due():
            return loss
        largest = self._recipes[k].clip_norm
        if largest is not None:
            for group in self._clipped[k]:
                clip_grad_norm_(group, largest)
        rate = self._scales[k] * self._recipes[k].learning_rate_at(progress)
        set_learning_rate(optimizer, rate)
        optimizer.step()
        optimizer.zero_grad()  # now, so that the next fold's gradients use the same memory
        if average := self._averages[k]:
            average.update()
        return loss

    @torch.no_grad()
    def forward(self, k: int, bags: BagBatch) -> Output:
        """Fold k's output in evaluation mode, without gradients."""
        with self._averaged(k) as method:
            return method.eval()(bags)

    def state(self, k: int) -> dict[str, Tensor]:
        """A copy of fold k's weights."""
        with self._averaged(k) as method:
            return {name: value.clone() for name, value in method.state_dict().items()}

    @contextmanager
    def _averaged(self, k: int) -> Iterator[Method]:
        """Fold k's method, inside the block with the average of its weights if the recipe asks."""
        average = self._averages[k]
        with average.shown() if average else nullcontext():
            yield self._methods[k]

    def scale_rate(self, k: int, scale: float) -> None:
        """From now on, fold k's learning rate is the recipe's times ``scale``."""
        self._scales[k] = scale

    def keep(self, k: int) -> None:
        """Store fold k's weights as its best."""
        self._best[k] = self.state(k)

    def restore(self) -> None:
        """Load every fold's best weights."""
        for method, state, average in zip(self._methods, self._best, self._averages, strict=True):
            method.load_state_dict(state)
            if average:
                average.restart()


class _Gradients:
    """Averages a method's gradients over batches.

    Each batch's gradients are put aside, since class weights scale those of one batch only.

    Args:
        method: whose gradients.
        batches: their number, 1 to leave the gradients as they are.
    """

    def __init__(self, method: Method, batches: int) -> None:
        self._parameters, self._batches = list(method.parameters()), batches
        self._sums: list[Tensor | None] = [None] * len(self._parameters)
        self._count = 0

    def is_due(self) -> bool:
        """Add a batch's gradients; if they are all there, the parameters hold their average."""
        if self._batches == 1:
            return True
        for i, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                part, before = parameter.grad / self._batches, self._sums[i]
                self._sums[i] = part if before is None else before + part
                parameter.grad = None
        self._count += 1
        if self._count < self._batches:
            return False
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            parameter.grad = total
        self._sums, self._count = [None] * len(self._parameters), 0
        return True
