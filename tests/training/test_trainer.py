"""The training loop: folds do not touch each other, validation decides, test bags stay out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conftest import slow, train_step
from mil_bench.baselines.abmil import ABMIL
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mil_bench import registry, seeds
from mil_bench.bags.feed import Feed
from mil_bench.errors import TrainingError
from mil_bench.methods import Recipe
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.stack import LoopedStack
from mil_bench.training.trainer import FoldHistory, FoldRoles, Schedule, fit, predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.bags.store import BagStore
    from mil_bench.training.stack import Stack

CPU = torch.device("cpu")


def stack_of(
    store: BagStore, folds: Sequence[int], recipe: Recipe, method: type = ABMIL, **params: float
) -> LoopedStack:
    methods = []
    for k in folds:
        with seeds.torch_seeded("weights", k):
            methods.append(method(store.width, store.hierarchy, **params))
    return LoopedStack(methods, recipe, [("fold", k) for k in folds])


def roles_of(store: BagStore, folds: int = 3) -> list[FoldRoles]:
    part = np.arange(len(store)) % (folds + 1)
    return [
        FoldRoles(np.flatnonzero((part != k) & (part != folds)), np.flatnonzero(part == k))
        for k in range(folds)
    ]


def train(
    store: BagStore,
    folds: Sequence[int],
    recipe: Recipe,
    roles: Sequence[FoldRoles],
    **params: float,
) -> tuple[LoopedStack, list[FoldHistory]]:
    stack = stack_of(store, folds, recipe, **params)
    schedule = Schedule.of([r.train for r in roles], recipe, ("order",))
    own = [roles[k] for k in folds]
    return stack, fit(stack, Feed(store, CPU), own, schedule, recipe, lambda epoch, histories: None)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_fold_in_a_stack_equals_the_fold_alone(small_store: BagStore, batch_size: int) -> None:
    recipe, roles = Recipe(1e-3, epochs=3, batch_size=batch_size), roles_of(small_store)
    together, histories = train(small_store, [0, 1, 2], recipe, roles, dropout=0.3)
    feed, test = Feed(small_store, CPU), np.arange(3, len(small_store), 4)
    for k in range(3):
        alone, history = train(small_store, [k], recipe, roles, dropout=0.3)
        assert history[0].val_loss == histories[k].val_loss
        assert torch.equal(
            predict(alone, feed, test, 0).fine_logits, predict(together, feed, test, k).fine_logits
        )


def test_a_fold_without_a_bag_in_the_batch_does_not_move(small_store: BagStore) -> None:
    recipe = Recipe(1e-2, epochs=1, weight_decay=0.1)
    stack = stack_of(small_store, [0, 1], recipe)
    bags = Feed(small_store, CPU).batch(np.arange(4))
    train_step(stack, bags, torch.ones(2, 4), 0.0, 0)  # both have moments now
    before = [p.clone() for p in stack._methods[1].parameters()]
    losses = train_step(stack, bags, torch.tensor([[1.0] * 4, [0.0] * 4]), 0.0, 1)
    assert all(
        torch.equal(a, b) for a, b in zip(before, stack._methods[1].parameters(), strict=True)
    )
    assert losses[0].isfinite()
    assert losses[1].isnan()


def test_dropout_of_a_fold_does_not_depend_on_earlier_draws(small_store: BagStore) -> None:
    recipe, roles = Recipe(1e-3, epochs=2), roles_of(small_store)
    _, first = train(small_store, [1], recipe, roles, dropout=0.5)
    torch.rand(1000)
    np.random.default_rng(0).random(10)
    _, second = train(small_store, [1], recipe, roles, dropout=0.5)
    assert first[0].train_loss == second[0].train_loss


def test_training_leaves_the_global_generator_alone(small_store: BagStore) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(small_store, [0], Recipe(1e-3, epochs=1), roles_of(small_store), dropout=0.5)
    assert torch.equal(torch.rand(3), expected)


class Watched(ABMIL):
    """Notes in which mode each bag passes through, by the bag's first feature."""

    seen: list[tuple[bool, bool, float]] = []

    def forward(self, bags):
        first_rows = bags.features[bags.offsets[:-1], 0].tolist()
        Watched.seen += [(self.training, torch.is_grad_enabled(), value) for value in first_rows]
        return super().forward(bags)


def test_validation_is_in_eval_mode_without_gradients_and_test_bags_never_pass(
    small_store: BagStore,
) -> None:
    Watched.seen = []
    roles = roles_of(small_store)
    recipe = Recipe(1e-3, epochs=2)
    stack = stack_of(small_store, [0], recipe, Watched)
    schedule = Schedule.of([r.train for r in roles], recipe, ("order",))
    fit(stack, Feed(small_store, CPU), [roles[0]], schedule, recipe, lambda epoch, histories: None)
    first_rows = small_store.features[[rows.start for (rows,) in small_store.ranges], 0].tolist()
    trained = {value for training, _, value in Watched.seen if training}
    validated = {value for training, _, value in Watched.seen if not training}
    assert {(training, gradients) for training, gradients, _ in Watched.seen} == {
        (True, True),
        (False, False),
    }
    assert trained == {first_rows[i] for i in roles[0].train}
    assert validated == {first_rows[i] for i in roles[0].val}


def test_the_epoch_with_the_lowest_validation_loss_is_kept(small_store: BagStore) -> None:
    recipe, roles = Recipe(2e-2, epochs=8), roles_of(small_store)
    stack, histories = train(small_store, [0], recipe, roles)
    history = histories[0]
    assert history.best_epoch == int(np.argmin(history.val_loss))
    assert history.best_epoch < 7  # or the test would not tell the kept epoch from the last
    out = predict(stack, Feed(small_store, CPU), roles[0].val, 0)
    loss = torch.nn.functional.cross_entropy(out.fine_logits, out.labels).item()
    assert loss == pytest.approx(min(history.val_loss), rel=1e-6)


@pytest.mark.slow
def test_patience_stops_a_fold_without_stopping_the_others(small_store: BagStore) -> None:
    roles = roles_of(small_store)
    _, patient = train(small_store, [0, 1, 2], Recipe(2e-2, epochs=12), roles)
    _, hasty = train(small_store, [0, 1, 2], Recipe(2e-2, epochs=12, patience=2), roles)
    assert min(h.epochs for h in hasty) < 12
    for long, short in zip(patient, hasty, strict=True):
        assert short.val_loss == long.val_loss[: short.epochs]
        assert short.epochs == 12 or short.epochs - 1 - short.best_epoch == 2


def test_a_loss_that_is_not_finite_is_refused(small_store: BagStore) -> None:
    with pytest.raises(
        TrainingError, match=r"not finite after epoch \d+ .* lower the learning rate"
    ):
        train(small_store, [0], Recipe(1e30, epochs=5), roles_of(small_store))


@pytest.mark.parametrize(("batch_size", "expected"), [(1, 1), (16, 24)])
def test_a_folds_share_of_a_batch_is_the_recipes_batch_size(batch_size: int, expected: int) -> None:
    parts = [np.flatnonzero(np.arange(90) % 3 != k) for k in range(3)]
    schedule = Schedule.of(parts, Recipe(1e-3, epochs=1, batch_size=batch_size), ("order",))
    assert schedule.batch == expected
    batches = schedule.epoch(0)
    assert sorted(np.concatenate(batches)) == list(range(90))
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    assert not np.array_equal(np.concatenate(schedule.epoch(1)), np.concatenate(batches))


TAKES_STEPS = [
    name
    for name in registry.methods.names()
    if isinstance(registry.methods.load(name).recipe, Recipe)
]


@pytest.mark.parametrize("name", slow(TAKES_STEPS, "transmil"))
def test_every_method_goes_through_the_loop(small_store: BagStore, name: str) -> None:
    # That a method beats chance is a check of its contract; here it meets the real loop, its
    # optimizer and schedule.
    method = registry.methods.load(name)
    keep = np.flatnonzero(np.isin(small_store.labels, [0, 6]))[:24]
    recipe = dataclasses.replace(method.recipe, learning_rate=1e-3, epochs=4)
    stack = stack_of(small_store, [0], recipe, method)
    roles = FoldRoles(keep[::2], keep[1::2])
    schedule = Schedule.of([roles.train], recipe, ("order",))
    history = fit(
        stack, Feed(small_store, CPU), [roles], schedule, recipe, lambda epoch, histories: None
    )[0]
    assert np.isfinite(history.val_loss).all()
    assert len(set(history.val_loss)) == history.epochs == 4  # the weights move in every epoch


@pytest.mark.parametrize("kind", [LoopedStack, FoldStack])
def test_a_plateau_of_the_validation_loss_lowers_the_rate_of_its_fold(
    small_store: BagStore, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    scaled: dict[int, list[float]] = {0: [], 1: []}
    lower = kind.scale_rate

    def scale_rate(stack: Stack, k: int, scale: float) -> None:
        scaled[k].append(scale)
        lower(stack, k, scale)

    monkeypatch.setattr(kind, "scale_rate", scale_rate)
    recipe = Recipe(5e-3, epochs=10, schedule="plateau", plateau_patience=0, step_factor=0.5)
    roles = roles_of(small_store)[:2]
    methods = []
    for k in range(2):
        with seeds.torch_seeded("plateau", k):
            methods.append(ABMIL(small_store.width, small_store.hierarchy))
    stack = kind(methods, recipe, [("plateau", k) for k in range(2)])
    schedule = Schedule.of([r.train for r in roles], recipe, ("order",))
    histories = fit(stack, Feed(small_store, CPU), roles, schedule, recipe, lambda *_: None)
    for k, history in enumerate(histories):
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], 5e-3)
        theirs = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        expected = []
        for loss in history.val_loss:
            theirs.step(loss)
            expected.append(optimizer.param_groups[0]["lr"] / 5e-3)
        assert scaled[k] == pytest.approx(expected)
    assert scaled[0] != scaled[1]
    assert scaled[0][-1] < 1
