"""A stack of folds equals a loop over folds, and both equal a fold trained alone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import slow, train_step
from mil_bench.baselines.abmil import ABMIL
from torch import Tensor

from mil_bench import registry, seeds
from mil_bench.bags.batch import BagBatch
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Method, Recipe
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.stack import LoopedStack, Stack, Step, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

HIERARCHY = LabelHierarchy.from_groups({"a": ["a0", "a1", "a2"], "b": ["b0", "b1"]})
WIDTH, FOLDS = 10, 3
STACKABLE = [name for name in registry.methods.names() if registry.methods.load(name).stackable]
WITHOUT_OWN_LOSS = [name for name in STACKABLE if not registry.methods.load(name).has_own_loss]


def bags_of(sizes: Sequence[int], dtype: torch.dtype, identity: int = 0) -> BagBatch:
    rng = seeds.generator("stack test", identity)
    labels = torch.from_numpy(rng.integers(0, 5, len(sizes)))
    shown = torch.from_numpy(rng.integers(-1, 5, sum(sizes)))
    features = torch.from_numpy(rng.standard_normal((sum(sizes), WIDTH))).to(dtype)
    return BagBatch.pack(features, torch.tensor(sizes), labels, instance_labels=shown)


def without_dropout(method: type[Method]) -> dict[str, float]:
    """Settings with which a method draws no random numbers."""
    none = {"dropout": 0.0, "hidden_share": 0.0, "pseudo_bags": 1}
    return {n: value for n, value in none.items() if n in method.__init__.__annotations__}


def folds_of(
    method: type[Method], dtype: torch.dtype, folds: Sequence[int], **params: float
) -> list[Method]:
    built = []
    for k in folds:
        with seeds.torch_seeded("stack test", "weights", k):
            built.append(method(WIDTH, HIERARCHY, **params).to(dtype))
    return built


@pytest.mark.parametrize("name", slow(STACKABLE, "transmil"))
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_and_gradients_of_a_stack_are_those_of_each_fold_alone(name: str, seed: int) -> None:
    method = registry.methods.load(name)
    folds = folds_of(method, torch.float32, range(FOLDS), **without_dropout(method))
    bags = bags_of((5, 1, 40, 17, 2, 9), torch.float32, seed)
    weight = torch.tensor([[1.0] * 6, [1, 0, 1, 0, 0, 1], [0, 0, 1, 0, 0, 0]])
    recipe = Recipe(1.0, epochs=1)
    stack = FoldStack(folds, recipe, [("fold", k) for k in range(FOLDS)])
    seen: list[Tensor] = []
    stack._rule.step = lambda gradients, *_: seen.append(gradients.clone())
    losses = train_step(stack, bags, weight, 0.3, 0)
    for k, fold in enumerate(folds):
        own = weight[k].nonzero()[:, 0]
        part = bags.select(own)
        loss = fold.train().loss(fold(part), part, weight[k, own], 0.3)
        loss.backward()
        assert losses[k].item() == pytest.approx(loss.item(), rel=1e-5)
        alone = torch.cat(
            [
                torch.zeros(p.numel()) if p.grad is None else p.grad.flatten()
                for p in fold.parameters()
            ]
        )
        assert (seen[0][k] - alone).abs().max() < 1e-5 * alone.abs().max()


def train(stack: Stack, folds: Sequence[int], steps: int, dtype: torch.dtype) -> list[list[float]]:
    """Some steps with three bags each, of which a fold misses some, and sometimes all.

    Bags have two rows or more: HMIL's class embeddings of a single row are all the same, so its
    true gradient there is 0, and Adam makes steps of full size of the rounding that is left of it.
    """
    losses = []
    for step in range(steps):
        sizes = seeds.generator("stack test", "sizes", step).integers(2, 24, 3).tolist()
        weight = torch.from_numpy(
            seeds.generator("stack test", "weight", step).integers(0, 2, (FOLDS, 3))
        )
        losses.append(
            train_step(
                stack,
                bags_of(sizes, dtype, step),
                weight[list(folds)].to(dtype),
                step / steps,
                step,
            )
        )
    return torch.stack(losses).tolist()


def assert_same_state(
    found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float
) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("name", slow(STACKABLE, "transmil", "hmil", "clam-sb", "clam-mb"))
def test_a_training_in_a_stack_is_the_training_alone(name: str) -> None:
    method = registry.methods.load(name)
    recipe = dataclasses.replace(method.recipe, learning_rate=1e-3)
    identities = [("fold", k) for k in range(FOLDS)]
    build = lambda folds: folds_of(method, torch.float64, folds, **without_dropout(method))  # noqa: E731
    stacked = FoldStack(build(range(FOLDS)), recipe, identities)
    looped = LoopedStack(build(range(FOLDS)), recipe, identities)
    steps = (
        4 if name == "transmil" else 24
    )  # its float64 convolutions are slow; its optimizer has a test below
    found, expected = (
        train(stack, range(FOLDS), steps, torch.float64) for stack in (stacked, looped)
    )
    assert torch.allclose(
        torch.tensor(found), torch.tensor(expected), rtol=1e-8, atol=1e-8, equal_nan=True
    )
    assert any(loss != loss for row in found for loss in row)  # sometimes a fold had no bag
    for k in range(FOLDS):
        alone = LoopedStack(build([k]), recipe, identities[k : k + 1])
        train(alone, [k], steps, torch.float64)
        assert_same_state(stacked.state(k), looped.state(k), 1e-8)
        assert_same_state(looped.state(k), alone.state(0), 0.0)


@pytest.mark.parametrize("name", slow(WITHOUT_OWN_LOSS, "transmil"))
def test_a_training_with_the_ordinal_loss_in_a_stack_is_the_training_alone(name: str) -> None:
    method = registry.methods.load(name)
    recipe = dataclasses.replace(method.recipe, learning_rate=1e-3, loss="ordinal")
    identities = [("fold", k) for k in range(FOLDS)]
    build = lambda: folds_of(method, torch.float64, range(FOLDS), **without_dropout(method))  # noqa: E731
    stacked = FoldStack(build(), recipe, identities)
    looped = LoopedStack(build(), recipe, identities)
    found, expected = (train(stack, range(FOLDS), 4, torch.float64) for stack in (stacked, looped))
    assert not stacked.why_looped
    assert torch.allclose(
        torch.tensor(found), torch.tensor(expected), rtol=1e-8, atol=1e-8, equal_nan=True
    )
    hard = LoopedStack(build(), dataclasses.replace(recipe, loss="own"), identities)
    assert train(hard, range(FOLDS), 1, torch.float64)[0] != expected[0]
    for k in range(FOLDS):
        assert_same_state(stacked.state(k), looped.state(k), 1e-8)


@pytest.mark.parametrize("kind", [FoldStack, LoopedStack])
def test_a_fold_does_not_notice_how_many_steps_come_in_one_call(kind: type) -> None:
    weight = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    steps = [Step(bags_of((5, 6 + i), torch.float32, i), weight.roll(i, 0), i) for i in range(5)]
    found = []
    for parts in ([steps], [steps[:2], steps[2:]], [[step] for step in steps]):
        folds = folds_of(ABMIL, torch.float32, range(FOLDS), dropout=0.5)
        stack = kind(folds, Recipe(1e-3, 1), [("fold", k) for k in range(FOLDS)])
        losses = torch.cat([stack.train(part, 0.0) for part in parts])
        assert losses.isnan().sum() == 5
        found.append((losses.nan_to_num(-1.0), *(stack.state(k) for k in range(FOLDS))))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=0)


def test_steps_are_grouped_in_order_up_to_eight_megabytes_of_features() -> None:
    rows_of_a_megabyte = 2**20 // (4 * WIDTH)
    sizes = [3, 4, 1, 1, 9, 8, 1]
    features = torch.zeros(9 * rows_of_a_megabyte, WIDTH)
    steps = []
    for number, size in enumerate(sizes):
        rows = size * rows_of_a_megabyte
        bags = BagBatch.pack(features[:rows], torch.tensor([rows]), torch.tensor([0]))
        steps.append(Step(bags, torch.ones(1, 1), number))
    assert [[step.number for step in group] for group in grouped(steps)] == [
        [0, 1, 2],
        [3],
        [4],
        [5],
        [6],
    ]
    assert list(grouped([])) == []


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "lookahead-radam", "sgd"])
def test_seeds_and_settings_share_a_stack(optimizer: str) -> None:
    settings = [(1e-3, 0.0), (1e-2, 0.3), (3e-3, 0.05)]
    recipes = [
        Recipe(rate, 5, 1, optimizer, decay, schedule="cosine", final_learning_rate=1e-4)
        for rate, decay in settings
    ]
    stacked = FoldStack(
        folds_of(ABMIL, torch.float64, range(3)), recipes, [("setting", k) for k in range(3)]
    )
    train(stacked, range(3), 40, torch.float64)
    for k in range(3):
        alone = LoopedStack(folds_of(ABMIL, torch.float64, [k]), recipes[k], [("setting", k)])
        train(alone, [k], 40, torch.float64)
        assert_same_state(stacked.state(k), alone.state(0), 1e-8)


def test_recipes_that_differ_in_more_than_settings_do_not_share_a_stack() -> None:
    recipes = [Recipe(1e-3, 5), Recipe(1e-3, 6)]
    for kind in (FoldStack, LoopedStack):
        with pytest.raises(ValueError, match="may differ in learning rate and weight decay only"):
            kind(folds_of(ABMIL, torch.float32, [0, 1]), recipes, [("a",), ("b",)])


@pytest.mark.parametrize("kind", [FoldStack, LoopedStack])
def test_dropout_is_independent_between_folds_and_repeats_with_the_step(kind: type) -> None:
    def losses(step: int) -> list[float]:
        twice = folds_of(ABMIL, torch.float32, [0, 0], dropout=0.5)
        stack = kind(twice, Recipe(1e-3, 1), [("fold", 0), ("fold", 1)])
        return train_step(
            stack, bags_of((50,), torch.float32), torch.ones(2, 1), 0.0, step
        ).tolist()

    first = losses(0)
    assert first[0] != first[1]
    assert losses(0) == first
    assert set(losses(1)).isdisjoint(first)


def test_a_fold_without_a_bag_in_the_batch_does_not_move() -> None:
    stack = FoldStack(
        folds_of(ABMIL, torch.float32, [0, 1]), Recipe(1e-2, 1, weight_decay=0.1), [("a",), ("b",)]
    )
    bags = bags_of((5, 6), torch.float32)
    train_step(stack, bags, torch.ones(2, 2), 0.0, 0)  # both have moments now
    before = stack.state(1)
    losses = train_step(stack, bags, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 0.0, 1)
    assert_same_state(stack.state(1), before, 0.0)
    assert losses[0].isfinite()
    assert losses[1].isnan()
    assert train_step(stack, bags, torch.zeros(2, 2), 0.0, 2).isnan().all()


@pytest.mark.parametrize("kind", [FoldStack, LoopedStack])
def test_a_stack_keeps_the_best_weights_of_each_fold(kind: type) -> None:
    folds = folds_of(ABMIL, torch.float32, [0, 1])
    names = list(folds[0].state_dict())
    stack: Stack = kind(folds, Recipe(1e-2, 1), [("a",), ("b",)])
    bags = bags_of((5, 6), torch.float32)
    start = stack.state(0)
    assert list(start) == names
    train_step(stack, bags, torch.ones(2, 2), 0.0, 0)
    stack.keep(1)
    best = stack.state(1)
    train_step(stack, bags, torch.ones(2, 2), 0.0, 1)
    stack.restore()
    assert_same_state(stack.state(0), start, 0.0)
    assert_same_state(stack.state(1), best, 0.0)
    fresh = ABMIL(WIDTH, HIERARCHY).eval()
    fresh.load_state_dict(best)
    assert torch.allclose(fresh(bags).fine, stack.forward(1, bags).fine, atol=1e-6)
