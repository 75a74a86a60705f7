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
from mil_bench.methods import Fit, Float, Method, Output, Recipe, weighted_mean
from mil_bench.methods.conformance import CHECKS, Check, check_method

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy


SLOW = {
    "transmil": ("weight-zero", "bag-sizes", "stacks", "learns"),
    "hmil": ("stacks", "learns"),
    "clam-sb": ("learns",),
    "clam-mb": ("learns",),
    "dtfd": ("bag-sizes", "stacks", "learns"),
    "acmil": ("bag-sizes", "stacks", "learns"),
    "ilra": ("bag-sizes", "stacks", "learns"),
    "rrt": ("weight-zero", "bag-sizes", "stacks", "learns"),
    "transformer": ("weight-zero", "bag-sizes", "stacks", "learns"),
    "wikg": ("weight-zero", "bag-sizes", "stacks", "learns"),
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


class NeedsRows(Sound):
    """Sound on bags of the sizes that it declares, and on no others."""

    min_rows, max_rows = 4, 20

    def forward(self, bags: BagBatch) -> Output:
        if min(bags.lengths) < self.min_rows or max(bags.lengths) > self.max_rows:
            raise ValueError(f"bags of {bags.lengths}")
        return super().forward(bags)


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


class MixesInTraining(Sound):
    """Mixes the logits of bags at random, whatever their weights, and only in training."""

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        if self.training:
            partner = torch.randperm(bags.n_bags)
            mixed = F.cross_entropy(out.fine + out.fine[partner], bags.labels[partner])
            return super().loss(out, bags, weight, progress) + mixed * weight.sum()
        return super().loss(out, bags, weight, progress)


class NormalisesTheBatch(Sound):
    """BatchNorm without its running means, over the rows of all bags."""

    def seen(self, bags: BagBatch) -> Tensor:
        rows = bags.features
        return (rows - rows.mean(0)) / (rows.std(0, correction=0) + 1) if self.training else rows


class RemembersTheBatch(Sound):
    """Uses what the batch before it had, of whichever fold."""

    def seen(self, bags: BagBatch) -> Tensor:
        before = getattr(self, "before", torch.zeros(1))
        if self.training:
            self.before = bags.features.mean(0)
            return bags.features - before
        return bags.features


class SharesWithAllFolds(Sound):
    """A memory of the class, which the folds of a loop share too."""

    memory: dict[int, Tensor] = {}

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, dropout: float = 0.0):
        super().__init__(in_dim, hierarchy, dropout)
        self.memory[len(self.memory)] = torch.zeros(in_dim)

    def seen(self, bags: BagBatch) -> Tensor:
        if self.training:
            last = len(self.memory) - 1
            before, self.memory[last] = self.memory[last], bags.features.mean(0)
            return bags.features - before
        return bags.features


class BreaksOnOneRow(Sound):
    def seen(self, bags: BagBatch) -> Tensor:
        if not self.training:
            return bags.features
        spread = torch.stack([part.std(0) for part in bags.features.split(bags.lengths)])
        return bags.features * spread[bags.bag_of]


class DrawsFromNumpy(Sound):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        total = super().loss(out, bags, weight, progress)
        return total * (np.random.default_rng().random() if self.training else 1.0)


class AsksTensorsInTraining(Sound):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        total = super().loss(out, bags, weight, progress)
        return total if not self.training or total.item() > 0 else 0 * total


class FitsItself(Method):
    """Classifies the mean by its nearest class mean, which it learns without steps."""

    recipe = Fit()

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy):
        super().__init__(in_dim, hierarchy)
        self.register_buffer("means", torch.zeros(hierarchy.n_fine, in_dim))

    def forward(self, bags: BagBatch) -> Output:
        return Output(-torch.cdist(segment_mean(bags.features, bags), self.means))

    def fit(self, train, validation) -> float:
        bags = next(iter(train))[0]
        vectors = segment_mean(bags.features, bags)
        for c in bags.labels.unique():
            self.means[c] = vectors[bags.labels == c].mean(0)
        return F.cross_entropy(self(bags).fine, bags.labels).item()


class FitsAnything(FitsItself):
    def fit(self, train, validation) -> float:
        self.means[0] = 1
        return 0.0


class FitsByChance(FitsItself):
    def fit(self, train, validation) -> float:
        loss = super().fit(train, validation)
        self.means += 1e-3 * np.random.default_rng().random()
        return loss


class FitsAllClasses(FitsItself):
    def fit(self, train, validation) -> float:
        bags, _ = next(iter(train))
        loss = super().fit([(bags, None)], validation)
        counts = torch.bincount(bags.labels, minlength=len(self.means))
        self.means += 0.0 / counts[:2, None].min()
        return loss


BROKEN_FITS = {"learns": FitsAnything, "same-seed": FitsByChance, "bag-sizes": FitsAllClasses}
WITHOUT_STEPS = ("bag-order", "weight-zero", "all-weights-zero", "gradients", "stacks")


@pytest.mark.parametrize("name", ["", *BROKEN_FITS])
def test_a_method_that_fits_itself_fails_exactly_its_check(name: str) -> None:
    results = check_method(BROKEN_FITS.get(name, FitsItself))
    assert [r.check.name for r in results if r.reason] == [name] * bool(name)
    assert tuple(r.check.name for r in results if r.skipped) == WITHOUT_STEPS
    assert all(r.skipped.startswith("the method fits itself") for r in results if r.skipped)


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


@pytest.mark.parametrize("method", [Sound, NeedsRows])
def test_a_sound_method_passes(method: type[Method]) -> None:
    assert [o.reason for o in check_method(method) if o.reason] == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_method_fails_exactly_its_check(name: str) -> None:
    failed = {o.check.name: o.reason for o in check_method(BROKEN[name]) if o.reason}
    assert list(failed) == [name], failed


BROKEN_IN_TRAINING = {
    MixesInTraining: ("weight-zero",),
    NormalisesTheBatch: ("bag-alone", "weight-zero"),
    RemembersTheBatch: ("stacks",),
    SharesWithAllFolds: ("stacks",),
    BreaksOnOneRow: ("bag-sizes",),
    DrawsFromNumpy: ("same-seed",),
    AsksTensorsInTraining: ("stacks",),
}


@pytest.mark.parametrize("method", BROKEN_IN_TRAINING)
def test_a_fault_that_shows_in_training_only_is_found(method: type[Method]) -> None:
    failed = {o.check.name: o.reason for o in check_method(method) if o.reason}
    assert tuple(failed) == BROKEN_IN_TRAINING[method], failed


def test_mixed_bags_are_explained_to_the_author() -> None:
    reasons = {o.check.name: o.reason for o in check_method(MixesInTraining)}
    start = "in training mode, at progress 0.0, features and labels of bags of weight 0 have infl"
    assert reasons["weight-zero"].startswith(start)
    assert "Those bags may be test slides." in reasons["weight-zero"]
    assert "set stackable = False" in reasons["weight-zero"]


def test_a_method_that_is_not_stacked_may_mix_the_bags_it_trains_on() -> None:
    class Alone(MixesInTraining):
        stackable = False

    Alone.__qualname__ = "Alone"
    globals()["Alone"] = Alone  # pickle looks it up by name
    assert [o.check.name for o in check_method(Alone) if o.reason] == []


class MixesFairly(Sound):
    """Mixes only bags that have a weight."""

    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        total = super().loss(out, bags, weight, progress)
        if not self.training:
            return total
        order = torch.rand(bags.n_bags).masked_fill(weight == 0, 2.0).argsort()  # others last
        partner = torch.empty_like(order).scatter(0, order, order.roll(1))
        fair = (weight > 0) & (weight[partner] > 0)
        mixed = F.cross_entropy(out.fine + out.fine[partner], bags.labels, reduction="none")
        return total + weighted_mean(mixed, weight * fair)


def test_bags_with_weights_may_be_mixed_in_a_stack() -> None:
    assert [(o.check.name, o.reason) for o in check_method(MixesFairly) if o.reason] == []


class ReturnsADict(Sound):
    def forward(self, bags: BagBatch) -> Output:
        return {"logits": super().forward(bags).fine}


class ReturnsATuple(Sound):
    def forward(self, bags: BagBatch) -> Output:
        return tuple(super().forward(bags))


class ReturnsATensor(Sound):
    def forward(self, bags: BagBatch) -> Output:
        return super().forward(bags).fine


class ReturnsNothing(Sound):
    def forward(self, bags: BagBatch) -> Output:
        super().forward(bags)


class ReturnsOneLogitPerRow(Sound):
    def forward(self, bags: BagBatch) -> Output:
        return Output(self.classifier(self.embed(bags.features)))


class ReturnsWholeNumbers(Sound):
    def forward(self, bags: BagBatch) -> Output:
        return Output(super().forward(bags).fine.long())


class ReturnsCoarseFromFine(Sound):
    def forward(self, bags: BagBatch) -> Output:
        out = super().forward(bags)
        return out._replace(coarse=out.fine)


class ReturnsFlatAttention(Sound):
    def forward(self, bags: BagBatch) -> Output:
        out = super().forward(bags)
        return out._replace(attention=out.attention[:, 0])


class ReturnsALossPerBag(Sound):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        return weight * F.cross_entropy(out.fine, bags.labels, reduction="none")


class ReturnsNoLoss(Sound):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        super().loss(out, bags, weight, progress)


FORMS = {
    ReturnsADict: "forward returned a dict; return mil_bench.methods.Output(fine=logits)",
    ReturnsATuple: "forward returned a tuple; return mil_bench.methods.Output(fine=logits)",
    ReturnsATensor: "forward returned a tensor of the shape (8, 7); return mil_bench.methods."
    "Output(fine=logits)",
    ReturnsNothing: "forward returned None; return mil_bench.methods.Output(fine=logits)",
    ReturnsOneLogitPerRow: "forward returned a tensor of the shape (73, 7) as Output.fine; it has "
    "to be the logits [bags, classes], here (8, 7)",
    ReturnsWholeNumbers: "Output.fine has the type torch.int64; logits are real numbers",
    ReturnsCoarseFromFine: "forward returned a tensor of the shape (8, 7) as Output.coarse; it has "
    "to be the logits [bags, coarse classes], here (8, 3), or None",
    ReturnsFlatAttention: "forward returned a tensor of the shape (73,) as Output.attention; it "
    "has to be weights [rows, A], here (73, A), or None",
    ReturnsALossPerBag: "loss returned a tensor of the shape (8,); return a tensor with one number",
    ReturnsNoLoss: "loss returned None; return a tensor with one number",
}


@pytest.mark.parametrize("method", FORMS)
def test_what_has_another_form_is_said_once_by_the_check_of_outputs(method: type[Method]) -> None:
    results = check_method(method)
    assert {r.check.name: r.reason for r in results if r.reason} == {"output": FORMS[method]}
    assert sum(bool(r.skipped) for r in results) >= 5


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
