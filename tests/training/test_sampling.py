"""Balanced draws are those of torch's sampler, and each fold's are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from mil_bench.baselines.abmil import ABMIL
from torch.utils.data import WeightedRandomSampler

from mil_bench import seeds
from mil_bench.bags.feed import Feed
from mil_bench.methods import Recipe
from mil_bench.training.fold_stack import FoldStack
from mil_bench.training.sampling import BalancedDraws, drawn_batches
from mil_bench.training.stack import LoopedStack, Stack
from mil_bench.training.trainer import FoldRoles, Schedule, fit

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore

LABELS = np.array([0] * 30 + [1] * 8 + [2] * 2)
BAGS = 3 + 2 * np.arange(40)


def draws(fold: int = 0, worth: np.ndarray | None = None) -> BalancedDraws:
    return BalancedDraws(BAGS, LABELS, worth, ("sampling", fold))


def test_an_epoch_is_that_of_torchs_weighted_sampler() -> None:
    weights = (1 / np.bincount(LABELS))[LABELS]
    for epoch in (0, 1):
        generator = seeds.torch_generator("sampling", 0, "draws", epoch)
        theirs = list(WeightedRandomSampler(weights.tolist(), 40, generator=generator))
        assert draws().epoch(epoch)[0].tolist() == BAGS[theirs].tolist()
    assert draws().epoch(0)[0].tolist() != draws().epoch(1)[0].tolist()
    assert draws(0).epoch(0)[0].tolist() != draws(1).epoch(0)[0].tolist()


def test_classes_come_equally_often_and_so_do_the_bags_of_a_class() -> None:
    drawn = np.concatenate([draws().epoch(epoch)[0] for epoch in range(500)])
    counts = np.bincount((drawn - 3) // 2, minlength=40)
    by_class = np.array([counts[c == LABELS].sum() for c in range(3)])
    expected = len(drawn) / 3
    assert np.abs(by_class - expected).max() < 4 * np.sqrt(expected * 2 / 3)
    for c in range(3):
        share = expected / (c == LABELS).sum()
        assert np.abs(counts[c == LABELS] - share).max() < 4.5 * np.sqrt(share)


@pytest.mark.parametrize("size", [1, 7])
def test_every_draw_is_a_bag_of_a_batch_also_if_it_is_drawn_twice(size: int) -> None:
    worth = np.linspace(1, 2, 40)
    folds = [draws(0, worth), None, draws(2)]
    batches = list(drawn_batches(folds, size, 5))
    assert len(batches) == -(-40 // size)
    assert size == 1 or any(len(set(bags.tolist())) < len(bags) for bags, _ in batches)
    for k, fold in enumerate(folds):
        found = [
            (bag, w)
            for bags, weight in batches
            for bag, w in zip(bags, weight[k], strict=True)
            if w
        ]
        if fold is None:
            assert not found
            continue
        bags, counted = fold.epoch(5)
        for i in range(0, 40, size):
            own, expected = found[i : i + size], [*zip(bags, counted, strict=True)][i : i + size]
            np.testing.assert_allclose(sorted(own), sorted(expected), rtol=1e-6)


def trained(
    kind: type, store: BagStore, folds: list[int], batch_size: int
) -> tuple[Stack, list[float]]:
    recipe = Recipe(1e-3, epochs=3, batch_size=batch_size, sampler="balanced")
    bags, roles, methods = np.arange(len(store)), [], []
    for k in folds:
        train = np.flatnonzero(bags % 3 != k)
        own = BalancedDraws(train, store.labels[train], None, ("draws", k))
        roles.append(FoldRoles(train, np.flatnonzero(bags % 3 == k), draws=own))
        with seeds.torch_seeded("sampling", k):
            methods.append(ABMIL(store.width, store.hierarchy, dropout=0.0))
    stack = kind(methods, recipe, [("fold", k) for k in folds])
    everyone = [np.flatnonzero(bags % 3 != k) for k in range(3)]
    schedule = Schedule.of(everyone, recipe, ("order",))
    histories = fit(
        stack, Feed(store, torch.device("cpu")), roles, schedule, recipe, lambda *_: None
    )
    return stack, [loss for history in histories for loss in history.train_loss]


@pytest.mark.parametrize("batch_size", [1, 8])
def test_stacked_looped_and_single_folds_train_on_the_same_draws(
    small_store: BagStore, batch_size: int
) -> None:
    looped, losses = trained(LoopedStack, small_store, [0, 1], batch_size)
    stacked, others = trained(FoldStack, small_store, [0, 1], batch_size)
    assert others == pytest.approx(losses, rel=1e-4)
    for k in range(2):
        alone, _ = trained(LoopedStack, small_store, [k], batch_size)
        for name, value in looped.state(k).items():
            if name != "attention_w.bias":  # softmax cancels it: Adam makes steps of its rounding
                torch.testing.assert_close(stacked.state(k)[name], value, rtol=1e-3, atol=1e-4)
            assert torch.equal(alone.state(0)[name], value), name
