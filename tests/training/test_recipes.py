"""What a recipe says is what torch does, fold after fold and in a stack."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from conftest import random_batch
from mil_bench.baselines.abmil import ABMIL
from torch import nn
from torch.optim import SGD, Adam, AdamW, RAdam
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from mil_bench import seeds
from mil_bench.errors import InputError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Recipe
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.optim import Plateau
from mil_bench.training.sampling import balanced
from mil_bench.training.stack import LoopedStack, Step

HIERARCHY = LabelHierarchy.from_groups({"a": ["a0", "a1", "a2"], "b": ["b0", "b1"]})
FOLDS, STEPS = 2, 12
KINDS = pytest.mark.parametrize("kind", [FoldStack, LoopedStack])


def new(fold: int) -> ABMIL:
    with seeds.torch_seeded("recipes", fold):
        return ABMIL(10, HIERARCHY, dropout=0.0).double()


def steps() -> list[Step]:
    weight = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    return [Step(random_batch([4, 7, 2], 10, 5, i, torch.float64), weight, i) for i in range(STEPS)]


def trained(kind: type, recipe: Recipe) -> list[dict[str, torch.Tensor]]:
    stack = kind([new(k) for k in range(FOLDS)], recipe, [("fold", k) for k in range(FOLDS)])
    for step in steps():
        stack.train([step], step.number / STEPS)
    if kind is FoldStack:
        assert not stack.why_looped
    return [stack.state(k) for k in range(FOLDS)]


def backward(method: ABMIL, step: Step, fold: int) -> None:
    method.zero_grad()
    method.loss(method(step.bags), step.bags, step.weight[fold], 0.0).backward()


def assert_equal(found: dict[str, torch.Tensor], method: nn.Module) -> None:
    for name, value in method.state_dict().items():
        if name == "attention_w.bias":
            continue  # softmax cancels it: Adam makes steps of full size of its rounding
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)


@KINDS
@pytest.mark.parametrize("modules", [(), ("attention", "head")])
def test_clipping_is_that_of_torch(kind: type, modules: tuple[str, ...]) -> None:
    names = {name.partition(".")[0] for name, _ in new(0).named_parameters()}
    assert len(names) > 2
    modules = tuple(sorted(names)[:2]) if modules else ()
    recipe = Recipe(0.05, STEPS, clip_norm=0.01, clip_modules=modules)
    found = trained(kind, recipe)
    bitten = 0
    for k in range(FOLDS):
        method = new(k)
        optimizer = Adam(method.parameters(), 0.05)
        for step in steps():
            backward(method, step, k)
            parts = [getattr(method, name) for name in modules] or [method]
            for part in parts:
                norm = nn.utils.clip_grad_norm_(part.parameters(), 0.01)
                bitten += int(norm > 0.01)
            optimizer.step()
        assert_equal(found[k], method)
    assert bitten > STEPS
    free = trained(kind, dataclasses.replace(recipe, clip_norm=None))
    assert any(not torch.equal(free[0][name], value) for name, value in found[0].items())


@KINDS
@pytest.mark.parametrize("modules", [("nothing",), ("classifier", "classifier")])
def test_clipped_modules_that_do_not_exist_or_share_parameters_are_refused(
    kind: type, modules: tuple[str, ...]
) -> None:
    first = next(name for name, _ in new(0).named_parameters()).partition(".")[0]
    modules = tuple(first if name == "classifier" else name for name in modules)
    with pytest.raises(InputError, match=r"nothing|in two of them"):
        trained(kind, Recipe(0.1, 1, clip_norm=1.0, clip_modules=modules))


def _cosine_after(optimizer: SGD, rising: int, epochs: int, last: float) -> LRScheduler:
    parts: list[LRScheduler] = [
        LinearLR(optimizer, 1 / (rising + 1), 1.0, rising),
        CosineAnnealingLR(optimizer, epochs - rising, last),
    ]
    return SequentialLR(optimizer, parts, [rising])


@pytest.mark.parametrize("rising", [0, 4])
def test_the_steps_are_those_of_torch(rising: int) -> None:
    epochs = 20
    recipe = Recipe(
        0.3, epochs, schedule="step", milestones=(0.5, 0.75), step_factor=0.2, warm_up=rising / 20
    )
    optimizer = SGD([nn.Parameter(torch.zeros(1))], 0.3)
    parts: list[Any] = [MultiStepLR(optimizer, [10, 15], 0.2)]
    if rising:
        parts.append(LinearLR(optimizer, 1 / (rising + 1), 1.0, rising))
    assert rates(recipe) == pytest.approx(rates_of(optimizer, ChainedScheduler(parts), epochs))


@pytest.mark.parametrize(("schedule", "rising"), [("constant", 4), ("cosine", 0), ("cosine", 5)])
def test_warm_up_and_cosine_are_those_of_torch(schedule: str, rising: int) -> None:
    epochs = 20
    recipe = Recipe(0.3, epochs, schedule=schedule, warm_up=rising / 20)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], 0.3)
    theirs: LRScheduler
    if schedule == "constant":
        theirs = LinearLR(optimizer, 1 / (rising + 1), 1.0, rising)
    elif rising:
        theirs = _cosine_after(optimizer, rising, epochs, 0.0)
    else:
        theirs = CosineAnnealingLR(optimizer, epochs)
    expected = rates_of(optimizer, theirs, epochs)
    found = rates(recipe)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("patience", "lowest"), [(0, 0.0), (2, 0.0), (2, 0.01), (3, 0.3)])
def test_a_plateau_is_that_of_torch(patience: int, lowest: float) -> None:
    recipe = Recipe(
        0.3,
        60,
        schedule="plateau",
        step_factor=0.5,
        plateau_patience=patience,
        final_learning_rate=lowest,
    )
    optimizer = SGD([nn.Parameter(torch.zeros(1))], 0.3)
    theirs = ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, min_lr=lowest)
    rng = np.random.default_rng(patience)
    losses = (np.maximum(2 - np.arange(60) / 20, 1) * rng.uniform(0.99995, 1.05, 60)).tolist()
    ours, found, expected = Plateau(recipe), [], []
    for loss in losses:
        theirs.step(loss)
        expected.append(optimizer.param_groups[0]["lr"])
        found.append(0.3 * ours.after(loss))
    assert found == pytest.approx(expected)
    assert lowest == 0.3 or len(set(expected)) > 3


@KINDS
def test_each_fold_has_the_rate_of_its_own_plateau(kind: type) -> None:
    recipe = Recipe(0.05, STEPS, schedule="plateau", weight_decay=0.1, optimizer="adamw")
    scales = {4: (0.1, 1.0), 8: (0.1, 0.5)}
    stack = kind([new(k) for k in range(FOLDS)], recipe, [("fold", k) for k in range(FOLDS)])
    for step in steps():
        for k, scale in enumerate(scales.get(step.number, ())):
            stack.scale_rate(k, scale)
        stack.train([step], 0.25)
    for k in range(FOLDS):
        method = new(k)
        optimizer = AdamW(method.parameters(), 0.05, weight_decay=0.1)
        for step in steps():
            if step.number in scales:
                optimizer.param_groups[0]["lr"] = 0.05 * scales[step.number][k]
            backward(method, step, k)
            optimizer.step()
        assert_equal(stack.state(k), method)


def rates(recipe: Recipe) -> list[float]:
    return [recipe.learning_rate_at(epoch / recipe.epochs) for epoch in range(recipe.epochs)]


def rates_of(optimizer: SGD, scheduler: Any, epochs: int) -> list[float]:
    found = []
    for _ in range(epochs):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


@KINDS
def test_a_schedule_reaches_the_optimizer(kind: type) -> None:
    recipe = Recipe(0.05, STEPS, schedule="step", milestones=(0.5,), step_factor=0.1, warm_up=0.25)
    found = trained(kind, recipe)
    for k in range(FOLDS):
        method = new(k)
        optimizer = Adam(method.parameters(), 0.05)
        scheduler = ChainedScheduler(
            [MultiStepLR(optimizer, [6], 0.1), LinearLR(optimizer, 1 / 4, 1.0, 3)]
        )
        for step in steps():
            backward(method, step, k)
            optimizer.step()
            scheduler.step()
        assert_equal(found[k], method)


RATED = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "lookahead-radam": lambda groups, lr, weight_decay: RAdam(
        groups, lr, weight_decay=weight_decay, decoupled_weight_decay=True
    ),
}


@KINDS
@pytest.mark.parametrize("optimizer", RATED)
def test_modules_have_rates_of_their_own_as_torchs_parameter_groups(
    kind: type, optimizer: str
) -> None:
    first, second = sorted({name.partition(".")[0] for name, _ in new(0).named_parameters()})[:2]
    decay = 0.0 if optimizer == "lookahead-radam" else 0.1  # it does not decay all parameters
    rates = {first: 0.1, second: 3.0}
    recipe = Recipe(
        0.02, 5, optimizer=optimizer, weight_decay=decay, rates=rates, schedule="cosine"
    )
    stack = kind([new(k) for k in range(FOLDS)], recipe, [("fold", k) for k in range(FOLDS)])
    for step in steps()[:5]:  # before Lookahead's first synchronisation
        stack.train([step], step.number / 5)
    for k in range(FOLDS):
        method = new(k)
        groups = [
            {"params": list(getattr(method, name).parameters()), "lr": 0.02 * factor}
            for name, factor in rates.items()
        ]
        rest = [p for n, p in method.named_parameters() if n.partition(".")[0] not in rates]
        theirs = RATED[optimizer]([*groups, {"params": rest}], lr=0.02, weight_decay=decay)
        scheduler = CosineAnnealingLR(theirs, 5)
        for step in steps()[:5]:
            backward(method, step, k)
            theirs.step()
            scheduler.step()
        assert_equal(stack.state(k), method)


@KINDS
def test_rates_of_modules_that_do_not_exist_are_refused(kind: type) -> None:
    with pytest.raises(InputError, match=r"rates of the recipe(.|\n)*'nothing' is the start of no"):
        trained(kind, Recipe(0.1, 1, rates={"nothing": 0.5}))


@KINDS
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_torch(kind: type, momentum: float) -> None:
    recipe = Recipe(
        0.05, STEPS, optimizer="sgd", momentum=momentum, weight_decay=0.1, schedule="cosine"
    )
    found = trained(kind, recipe)
    for k in range(FOLDS):
        method = new(k)
        optimizer = SGD(method.parameters(), 0.05, momentum, weight_decay=0.1)
        scheduler = CosineAnnealingLR(optimizer, STEPS)
        for step in steps():
            backward(method, step, k)
            optimizer.step()
            scheduler.step()
        assert_equal(found[k], method)


@KINDS
def test_class_weights_are_those_of_torchs_loss_also_for_single_bags(kind: type) -> None:
    recipe = Recipe(0.05, STEPS, class_weights="balanced")
    classes = torch.tensor([0.5, 2.0, 1.5, 0.25, 3.0], dtype=torch.float64)
    stack = kind([new(k) for k in range(FOLDS)], recipe, [("fold", k) for k in range(FOLDS)])
    weighted = []
    for step in steps():
        present = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        weighted.append(step._replace(weight=present * classes[step.bags.labels]))
    losses = torch.cat([stack.train([step], step.number / STEPS) for step in weighted])
    for k in range(FOLDS):
        method = new(k)
        optimizer = Adam(method.parameters(), 0.05)
        for step in weighted:
            own = step.weight[k] > 0
            every = nn.functional.cross_entropy(
                method(step.bags).fine, step.bags.labels, classes, reduction="none"
            )
            loss = every[own].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            torch.testing.assert_close(losses[step.number, k], loss.detach())
        assert_equal(stack.state(k), method)


@KINDS
def test_the_ordinal_loss_is_torchs_cross_entropy_with_soft_targets_also_for_single_bags(
    kind: type,
) -> None:
    recipe = Recipe(0.05, STEPS, loss="ordinal")
    stack = kind([new(k) for k in range(FOLDS)], recipe, [("fold", k) for k in range(FOLDS)])
    # The second fold has one bag, whose gradients the method could compute by hand.
    present = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    given = [step._replace(weight=present) for step in steps()]
    losses = torch.cat([stack.train([step], step.number / STEPS) for step in given])
    distance = torch.arange(5)[:, None] - torch.arange(5)
    targets = torch.exp(-(distance.double() ** 2))
    targets /= targets.sum(1, keepdim=True)
    for k in range(FOLDS):
        method = new(k)
        optimizer = Adam(method.parameters(), 0.05)
        for step in given:
            fine, soft = method(step.bags).fine, targets[step.bags.labels]
            every = nn.functional.cross_entropy(fine, soft, reduction="none")
            loss = every[step.weight[k] > 0].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            torch.testing.assert_close(losses[step.number, k], loss.detach())
        assert_equal(stack.state(k), method)


def test_balanced_weights_give_every_class_the_same_sum_and_a_mean_of_one() -> None:
    labels = np.array([3, 0, 3, 3, 0, 5])
    found = balanced(labels)
    assert found.mean() == pytest.approx(1)
    assert [found[labels == c].sum() for c in (0, 3, 5)] == pytest.approx([2, 2, 2])
