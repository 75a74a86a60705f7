"""Averages of weights and gradients over several batches are those of torch's usual loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conftest import random_batch
from mil_bench.baselines.abmil import ABMIL
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mil_bench import seeds
from mil_bench.bags.feed import Feed
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Recipe
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.stack import LoopedStack, Stack, Step
from mil_bench.training.trainer import FoldRoles, Schedule, fit, predict

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore

HIERARCHY = LabelHierarchy.from_groups({"a": ["a0", "a1", "a2"], "b": ["b0", "b1"]})
FOLDS, STEPS, RATE = 3, 17, 0.5
KINDS = pytest.mark.parametrize("kind", [FoldStack, LoopedStack])
CLASSES = torch.tensor([0.5, 2.0, 1.5, 0.25, 3.0], dtype=torch.float64)


def new(fold: int) -> ABMIL:
    with seeds.torch_seeded("averages", fold):
        return ABMIL(10, HIERARCHY, dropout=0.0).double()


def steps() -> list[Step]:
    """Bags of classes 0, 1 and 2; every fold misses some, and fold 2 misses whole steps."""
    present = torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=torch.float64)
    made = []
    for i in range(STEPS):
        weight = present.clone()
        weight[2] *= i % 3 > 0
        made.append(Step(random_batch([4, 7, 2], 10, 5, i, torch.float64), weight, i))
    return made


def trained(kind: type, recipe: Recipe, made: list[Step]) -> Stack:
    stack = kind([new(k) for k in range(FOLDS)], recipe, [("fold", k) for k in range(FOLDS)])
    for step in made:
        stack.train([step], step.number / STEPS)
    assert kind is LoopedStack or not stack.why_looped
    return stack


def assert_state(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-10, msg=name)


@KINDS
def test_the_average_is_that_of_torch_and_is_what_is_evaluated(kind: type) -> None:
    stack = trained(kind, Recipe(RATE, STEPS, optimizer="sgd", ema=0.8), steps())
    bags = random_batch([3, 5], 10, 5, 99, torch.float64)
    for k in range(FOLDS):
        method = new(k)
        average = AveragedModel(method, multi_avg_fn=get_ema_multi_avg_fn(0.8))
        optimizer = SGD(method.parameters(), RATE)
        for step in steps():
            if not step.weight[k].any():
                continue
            optimizer.zero_grad()
            method.loss(method(step.bags), step.bags, step.weight[k], 0.0).backward()
            optimizer.step()
            average.update_parameters(method)
        assert_state(stack.state(k), average.module.state_dict())
        with torch.no_grad():
            expected, raw = average.module.eval()(bags).fine, method.eval()(bags).fine
        torch.testing.assert_close(stack.forward(k, bags).fine, expected, rtol=1e-9, atol=1e-10)
        assert (expected - raw).abs().max() > 1e-4


@KINDS
def test_training_goes_on_from_the_weights_and_the_best_average_is_restored(kind: type) -> None:
    recipe, made = Recipe(RATE, STEPS, optimizer="sgd", ema=0.8), steps()
    stack, other = trained(kind, recipe, made[:9]), trained(kind, recipe, made[:9])
    for k in range(FOLDS):
        stack.keep(k)
        stack.forward(k, made[0].bags)
    kept = [stack.state(k) for k in range(FOLDS)]
    for step in made[9:]:
        stack.train([step], 0.5)
        other.train([step], 0.5)
    for k in range(FOLDS):
        assert_state(stack.state(k), other.state(k))
        assert any(not torch.equal(stack.state(k)[name], value) for name, value in kept[k].items())
    stack.restore()
    for k in range(FOLDS):
        assert_state(stack.state(k), kept[k])
        theirs = new(k)
        theirs.load_state_dict(kept[k])
        with torch.no_grad():
            expected = theirs.eval()(made[0].bags).fine
        torch.testing.assert_close(stack.forward(k, made[0].bags).fine, expected)


@KINDS
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_several_batches_are_those_of_torchs_usual_loop(
    kind: type, weighted: bool
) -> None:
    recipe = Recipe(
        RATE,
        STEPS,
        optimizer="sgd",
        momentum=0.9,
        accumulate=4,
        clip_norm=0.1,
        class_weights="balanced" if weighted else "none",
    )
    made = steps()
    if weighted:
        made = [s._replace(weight=s.weight * CLASSES[s.bags.labels]) for s in made]
    stack = trained(kind, recipe, made)
    for k in range(FOLDS):
        method = new(k)
        optimizer = SGD(method.parameters(), RATE, momentum=0.9)
        count = 0
        for step in made:
            own = step.weight[k] > 0
            if not own.any():
                continue
            every = torch.nn.functional.cross_entropy(
                method(step.bags).fine, step.bags.labels, reduction="none"
            )
            ((every * step.weight[k])[own].mean() / 4).backward()
            count += 1
            if count % 4 == 0:
                clip_grad_norm_(method.parameters(), 0.1)
                optimizer.step()
                optimizer.zero_grad()
        assert count % 4 or k == 2
        assert_state(stack.state(k), method.state_dict())


@KINDS
def test_the_selected_epoch_and_its_weights_are_those_of_the_average(
    small_store: BagStore, kind: type
) -> None:
    recipe = Recipe(5e-3, epochs=5, ema=0.98, accumulate=3)
    bags = np.arange(len(small_store))
    roles = FoldRoles(bags[::2], bags[1::4])
    with seeds.torch_seeded("averages"):
        method = ABMIL(small_store.width, small_store.hierarchy, dropout=0.0)
    stack, feed = kind([method], recipe, [("fold", 0)]), Feed(small_store, torch.device("cpu"))
    schedule = Schedule.of([roles.train], recipe, ("order",))
    (history,) = fit(stack, feed, [roles], schedule, recipe, lambda *_: None)
    out = predict(stack, feed, roles.val, 0)
    loss = torch.nn.functional.cross_entropy(out.fine_logits, out.labels).item()
    assert loss == pytest.approx(min(history.val_loss), rel=1e-5)
