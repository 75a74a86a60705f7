"""Every method passes every check, and each check finds the one fault it is there for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench import registry
from mil_bench.bags.segments import segment_mean, segment_softmax
from mil_bench.methods import Float, Method, Output, Recipe, weighted_mean
from mil_bench.methods.conformance import CHECKS, Check, check_method

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy


SLOW = {
    "transmil": ("weight-zero", "gradients", "bag-sizes", "stacks", "learns"),
    "hmil": ("gradients", "learns"),
    "clam-sb": ("learns",),
    "clam-mb": ("learns",),
}
"""Checks that take longer than about 1.5 s, by method."""
CASES = [
    pytest.param(
        check,
        name,
        id=f"{check}-{name}",
        marks=[pytest.mark.slow] * (check.name in SLOW.get(name, ())),
    )
    for check in CHECKS
    for name in registry.methods.names()
]


@pytest.mark.parametrize(("check", "name"), CASES)
def test_every_method_keeps_the_contract(check: Check, name: str) -> None:
    check(registry.methods.load(name))


class Sound(Method):
    """A small method without a fault."""

    recipe = Recipe(learning_rate=1e-3, epochs=1)
    search_space = {"dropout": Float(0.0, 0.5)}

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, dropout: float = 0.0):
        super().__init__(in_dim, hierarchy)
        self.embed = nn.Sequential(nn.Linear(in_dim, 16), nn.Tanh(), nn.Dropout(dropout))
        self.score = nn.Linear(16, 1)
        self.classifier = nn.Linear(16, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        embedded = self.embed(self.seen(bags))
        attention = segment_softmax(self.score(embedded), bags)
        return Output(self.classifier(segment_mean(embedded, bags)), attention=attention)

    def seen(self, bags: BagBatch) -> Tensor:
        return bags.features


class NotPicklable(Sound):
    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, dropout: float = 0.0):
        super().__init__(in_dim, hierarchy, dropout)
        self.hook = lambda value: value


class RangeWithoutItsDefault(Sound):
    search_space = {"dropout": Float(0.1, 0.5)}


class ScoresForAttention(Sound):
    def forward(self, bags: BagBatch) -> Output:
        out = super().forward(bags)
        return out._replace(attention=2 * out.attention)


class LooksAtItsNeighbours(Sound):
    """Predicts relative to the batch, like batch normalisation, but trains on plain logits."""

    def forward(self, bags: BagBatch) -> Output:
        out = super().forward(bags)
        return out._replace(fine=out.fine - out.fine.mean(), extras={"plain": out.fine})

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        return super().loss(out._replace(fine=out.extras["plain"]), bags, weight, progress)


class FirstBagsCountMore(Sound):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        place = (weight > 0).to(weight.dtype).cumsum(0)
        return super().loss(out, bags, weight / place.clamp(min=1), progress)


class FirstInstanceCountsMore(Sound):
    def forward(self, bags: BagBatch) -> Output:
        out = super().forward(bags)
        return out._replace(
            fine=out.fine + self.classifier(self.embed(bags.features[bags.offsets[:-1]]))
        )


class ForgetsWeights(Sound):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        return super().loss(out, bags, torch.ones_like(weight), progress) * (weight.sum() > 0)


class DividesByNothing(Sound):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        return (
            weight * F.cross_entropy(out.fine, bags.labels, reduction="none")
        ).sum() / weight.sum()


class GradientsByHand(Sound):
    """Forgets that gradients are those of the weighted loss."""

    def backward(self, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        return super().backward(bags, torch.ones_like(weight), progress)


class TableOfPlaces(Sound):
    """Has positions for 10,000 instances and no more."""

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, dropout: float = 0.0):
        super().__init__(in_dim, hierarchy, dropout)
        self.register_buffer("places", torch.zeros(10_000))

    def seen(self, bags: BagBatch) -> Tensor:
        place = torch.arange(len(bags.features)) - bags.offsets[bags.bag_of]
        return bags.features + self.places[place][:, None]


class FixedWidth(Sound):
    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, dropout: float = 0.0):
        super().__init__(12, hierarchy, dropout)


class Overflows(Sound):
    def seen(self, bags: BagBatch) -> Tensor:
        return bags.features.exp()


class SeedsItself(Sound):
    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, dropout: float = 0.0):
        super().__init__(in_dim, hierarchy, dropout)
        nn.init.constant_(self.score.bias, np.random.default_rng().random())


class AsksTensors(Sound):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        total = super().loss(out, bags, weight, progress)
        return total if weight.max().item() > 0 else 0 * total


class LearnsNothing(Sound):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        return weighted_mean(out.fine.square().sum(1), weight)


BROKEN = {
    "builds": NotPicklable,
    "search-ranges": RangeWithoutItsDefault,
    "output": ScoresForAttention,
    "bag-alone": LooksAtItsNeighbours,
    "bag-order": FirstBagsCountMore,
    "instance-order": FirstInstanceCountsMore,
    "weight-zero": ForgetsWeights,
    "all-weights-zero": DividesByNothing,
    "gradients": GradientsByHand,
    "bag-sizes": TableOfPlaces,
    "widths-and-classes": FixedWidth,
    "half-precision": Overflows,
    "same-seed": SeedsItself,
    "stacks": AsksTensors,
    "learns": LearnsNothing,
}


def test_every_check_has_a_broken_method() -> None:
    assert list(BROKEN) == [check.name for check in CHECKS]


def test_a_sound_method_passes() -> None:
    assert [o.reason for o in check_method(Sound) if o.reason] == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_method_fails_exactly_its_check(name: str) -> None:
    failed = {o.check.name: o.reason for o in check_method(BROKEN[name]) if o.reason}
    assert list(failed) == [name], failed


def test_a_method_that_says_so_may_depend_on_the_order_and_need_not_stack() -> None:
    class Honest(FirstInstanceCountsMore, AsksTensors):
        order_matters = True
        stackable = False

    Honest.__qualname__ = "Honest"
    globals()["Honest"] = Honest  # pickle looks it up by name
    assert [o.check.name for o in check_method(Honest) if o.reason] == []


def test_gradients_by_hand_are_not_inherited() -> None:
    class Child(GradientsByHand):
        search_space = {}

    class Insists(GradientsByHand):
        backward = GradientsByHand.backward

    assert Child.backward is Method.backward
    assert Insists.backward is GradientsByHand.backward


def test_a_class_that_is_no_method_fails_with_that_reason() -> None:
    failed = {o.check.name: o.reason for o in check_method(int)}
    assert failed["builds"] == "it is not a subclass of mil_bench.methods.Method"
    assert all(failed.values())
