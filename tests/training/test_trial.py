"""Folds that cannot be computed as one train in a loop; no fold sees the bags of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from conftest import slow
from torch import Tensor, nn

from mil_bench import registry, seeds
from mil_bench.bags.batch import BagBatch
from mil_bench.bags.segments import segment_mean
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Method, Output, Recipe
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.stack import LoopedStack, Stack, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

HIERARCHY = LabelHierarchy.flat(["a", "b", "c"])
WIDTH = 16
WEIGHT = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])


class Pooled(Method):
    """A sound method, from which the others differ by one fault."""

    recipe = Recipe(learning_rate=1e-3, epochs=5)

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy):
        super().__init__(in_dim, hierarchy)
        self.embed = nn.Sequential(nn.Linear(in_dim, 8), nn.ReLU(), nn.Dropout(0.25))
        self.classifier = nn.Linear(8, hierarchy.n_fine)

    def forward(self, bags: BagBatch) -> Output:
        return Output(fine=self.classifier(segment_mean(self.embed(self.seen(bags)), bags)))

    def seen(self, bags: BagBatch) -> Tensor:
        return bags.features


class Mixup(Pooled):
    def loss(self, out: Output, bags: BagBatch, weight: Tensor, progress: float) -> Tensor:
        partner = torch.randperm(bags.n_bags)
        mixed = F.cross_entropy(out.fine + out.fine[partner], bags.labels[partner])
        return super().loss(out, bags, weight, progress) + 0.1 * mixed


class BatchNormed(Pooled):
    def __init__(self, in_dim: int, hierarchy: LabelHierarchy):
        super().__init__(in_dim, hierarchy)
        self.norm = nn.BatchNorm1d(in_dim)

    def seen(self, bags: BagBatch) -> Tensor:
        return self.norm(bags.features)


class Counts(Pooled):
    """Keeps a running mean of what it sees in a buffer of its own."""

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy):
        super().__init__(in_dim, hierarchy)
        self.register_buffer("mean", torch.zeros(in_dim))

    def seen(self, bags: BagBatch) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * bags.features.mean(0)
        return bags.features - self.mean


class Remembers(Pooled):
    """Uses what the batch before it had, of whichever fold."""

    before: Tensor | None = None

    def seen(self, bags: BagBatch) -> Tensor:
        before, self.before = self.before, bags.features.mean(0)
        return bags.features if before is None else bags.features - before


REASONS = {
    Mixup: "bags of weight 0 change its gradients in training",
    BatchNormed: "torch.func.vmap does not run its loss (RuntimeError: ",
    Counts: "training changes its buffer mean, of which a stack has one copy",
    Remembers: "bags of weight 0 change its gradients in training",
}


def bags_of(seed: int, sizes: Sequence[int] = (10, 10, 10, 10)) -> BagBatch:
    rows = torch.randn(sum(sizes), WIDTH, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(len(sizes)) % 3
    return BagBatch.pack(rows, torch.tensor(sizes), labels, instance_labels=labels[0].expand(40))


def others_changed(bags: BagBatch) -> BagBatch:
    rows = torch.cat([bags.features[:20], bags.features[20:] * 5 + 3])
    return BagBatch.pack(rows, torch.tensor(bags.lengths), torch.tensor([0, 1, 0, 2]))


def stack_of(kind: type, method: type[Method]) -> Stack:
    folds = []
    for k in range(2):
        with seeds.torch_seeded("trial test", k):
            folds.append(method(WIDTH, HIERARCHY))
    return kind(folds, method.recipe, [("d", 0), ("d", 1)])


def trained(kind: type, method: type[Method], *, changed: bool) -> Stack:
    stack = stack_of(kind, method)
    for number in range(5):
        bags = bags_of(number)
        stack.train([Step(others_changed(bags) if changed else bags, WEIGHT, number)], 0.1)
    return stack


@pytest.mark.parametrize("kind", [LoopedStack, FoldStack])
@pytest.mark.parametrize("method", REASONS)
def test_a_fold_does_not_move_when_bags_of_other_folds_change(
    method: type[Method], kind: type
) -> None:
    states = [trained(kind, method, changed=changed).state(0) for changed in (False, True)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.parametrize("method", REASONS)
def test_what_cannot_be_stacked_is_trained_in_a_loop_and_says_why(method: type[Method]) -> None:
    stacked, looped = (trained(kind, method, changed=False) for kind in (FoldStack, LoopedStack))
    assert stacked.why_looped.startswith(REASONS[method])
    bags = bags_of(9)
    for k in range(2):
        stacked.keep(k)
        assert torch.equal(stacked.forward(k, bags).fine, looped.forward(k, bags).fine)
        for name, value in looped.state(k).items():
            assert torch.equal(stacked.state(k)[name], value), name
    kept = stacked.state(1)
    stacked.train([Step(bags, WEIGHT, 5)], 0.1)
    assert not torch.equal(stacked.state(1)["classifier.weight"], kept["classifier.weight"])
    stacked.restore()
    assert torch.equal(stacked.state(1)["classifier.weight"], kept["classifier.weight"])


STACKABLE = [name for name in registry.methods.names() if registry.methods.load(name).stackable]


@pytest.mark.parametrize("name", slow(STACKABLE, "transmil", "hmil"))
def test_every_method_that_does_not_declare_otherwise_is_stacked(name: str) -> None:
    stack = stack_of(FoldStack, registry.methods.load(name))
    stack.train([Step(bags_of(0), WEIGHT, 0)], 0.0)
    assert stack.why_looped == ""


def test_a_sound_method_is_stacked_and_the_trial_leaves_no_trace() -> None:
    stacks = [stack_of(FoldStack, Pooled) for _ in range(2)]
    before = torch.get_rng_state()
    stacks[0].train([Step(bags_of(0), torch.zeros(2, 4), 0)], 0.0)  # nothing to try it on yet
    for stack in stacks:
        stack.train([Step(bags_of(1), WEIGHT, 1)], 0.0)
    assert stacks[0].why_looped == ""
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in stacks[0].state(0).items():
        assert torch.equal(value, stacks[1].state(0)[name])


@pytest.mark.parametrize("kind", [LoopedStack, FoldStack])
def test_a_method_never_gets_a_bag_on_which_no_fold_trains(kind: type) -> None:
    seen: list[Tensor] = []

    class Records(Pooled):
        def seen(self, bags: BagBatch) -> Tensor:
            seen.append(bags.features)
            return bags.features

    bags = bags_of(0)
    stack = stack_of(kind, Records)
    stack.train([Step(bags, torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]), 0)], 0.0)
    forbidden = {tuple(row) for row in bags.features[20:].tolist()}
    assert seen
    assert not any(tuple(row) in forbidden for rows in seen for row in rows.tolist())


class NeedsManyRows(Pooled):
    min_rows = 100

    def forward(self, bags: BagBatch) -> Output:
        if min(bags.lengths) < self.min_rows:
            raise ValueError(f"bags of {bags.lengths}")
        return super().forward(bags)


def test_the_trial_shows_a_method_no_bag_that_it_does_not_accept() -> None:
    stack = stack_of(FoldStack, NeedsManyRows)
    rows = torch.randn(480, WIDTH, generator=torch.Generator().manual_seed(0))
    bags = BagBatch.pack(rows, torch.tensor([120] * 4), torch.arange(4) % 3)
    stack.train([Step(bags, WEIGHT, 0)], 0.1)
    assert stack.why_looped == ""
