"""Buffers that a method reads are each fold's own; a method that changes them trains in a loop."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import random_batch
from torch import nn
from torch.optim import SGD

from mil_bench import seeds
from mil_bench.bags.segments import segment_mean
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Method, Output, Recipe
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.stack import LoopedStack, Step

if TYPE_CHECKING:
    from torch import Tensor

    from mil_bench.bags.batch import BagBatch

HIERARCHY = LabelHierarchy.flat(["a", "b", "c"])
WIDTH, FOLDS, STEPS = 6, 3, 8
KINDS = pytest.mark.parametrize("kind", [FoldStack, LoopedStack])


class Projected(Method):
    """Reads a projection that is drawn at random, and a scale that is not part of its state."""

    recipe = Recipe(0.3, 5, optimizer="sgd")
    projection: Tensor
    scale: Tensor

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy):
        super().__init__(in_dim, hierarchy)
        self.register_buffer("projection", torch.randn(in_dim, 4))
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)
        self.head = nn.Linear(4, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        rows = torch.tanh(self.scale * bags.features @ self.projection.to(bags.features))
        return Output(self.head(segment_mean(rows, bags)))


class Same(Projected):
    """All folds have the same projection."""

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy):
        super().__init__(in_dim, hierarchy)
        with torch.no_grad():
            self.projection.copy_(torch.linspace(-1, 1, in_dim * 4).view(in_dim, 4))


class Updated(Projected):
    """Changes the projection of each fold in training, in place."""

    def forward(self, bags: BagBatch) -> Output:
        out = super().forward(bags)
        if self.training:
            self.projection.mul_(0.9)
        return out


class Counted(Projected):
    """Counts its steps; new tensors take the places of old ones."""

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy):
        super().__init__(in_dim, hierarchy)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, bags: BagBatch) -> Output:
        if self.training:
            self.count = self.count + 1
        return super().forward(bags)


def new(method: type[Method], fold: int) -> Method:
    with seeds.torch_seeded("buffers", fold):
        return method(WIDTH, HIERARCHY).double()


def steps() -> list[Step]:
    weight = torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=torch.float64)
    made = []
    for i in range(STEPS):
        own = weight.clone()
        own[i % FOLDS] = 0  # some folds take no part in a step
        made.append(Step(random_batch([4, 7, 2], WIDTH, 3, i, torch.float64), own, i))
    return made


@KINDS
@pytest.mark.parametrize("method", [Projected, Same, Updated, Counted])
def test_buffers_are_those_of_the_fold_trained_by_torch_alone(
    kind: type, method: type[Method]
) -> None:
    folds = [new(method, k) for k in range(FOLDS)]
    expected = [copy.deepcopy(fold) for fold in folds]
    stack = kind(folds, method.recipe, [("fold", k) for k in range(FOLDS)])
    for step in steps():
        stack.train([step], 0.0)
    changes = method in (Updated, Counted)
    if kind is FoldStack:
        assert bool(stack.why_looped) == changes
        assert not changes or "buffer" in stack.why_looped or "vmap" in stack.why_looped
    bags = random_batch([3, 5], WIDTH, 3, 99, torch.float64)
    for k, alone in enumerate(expected):
        optimizer = SGD(alone.parameters(), 0.3)
        for step in steps():
            used = step.weight[k].nonzero()[:, 0]
            if len(used):
                optimizer.zero_grad()
                alone.train().backward(step.bags.select(used), step.weight[k, used], 0.0)
                optimizer.step()
        state = stack.state(k)
        assert state.keys() == alone.state_dict().keys()
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-10, msg=name)
        with torch.no_grad():
            fine = alone.eval()(bags).fine
        torch.testing.assert_close(stack.forward(k, bags).fine, fine, rtol=1e-9, atol=1e-10)
    if method is not Same:
        assert not torch.equal(stack.state(0)["projection"], stack.state(1)["projection"])
