"""How bags have to count in the loss and its gradients.

All folds of a cross-validation see the same batches, each with its own weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mil_bench.methods.conformance.bags import (
    APART,
    TRAINING_SIZES,
    build,
    others_changed,
    random_bags,
)
from mil_bench.methods.conformance.building import same_seed
from mil_bench.methods.conformance.comparing import assert_same_gradients, loss_and_gradients
from mil_bench.methods.conformance.repeating import training_step, unless_fails

if TYPE_CHECKING:
    from torch import Tensor

    from mil_bench.methods.method import Method


def bag_order(method: type[Method]) -> None:
    """Where a bag is in its batch depends on the other folds."""
    built, bags = build(method), random_bags(method)
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    weight = torch.linspace(0.1, 1.0, 8, dtype=torch.float64)
    reordered = loss_and_gradients(built, bags.select(order), weight[order], 0.5)
    expected = loss_and_gradients(built, bags, weight, 0.5)
    assert_same_gradients(reordered, expected, "bags in another order")


def weight_zero(method: type[Method]) -> None:
    """A bag of weight 0 belongs to another fold's training, or to this one's test."""
    built, bags = build(method), random_bags(method)
    weight = torch.tensor([1, 0, 1, 0.5, 0, 0, 1, 1], dtype=torch.float64)
    kept = weight.nonzero()[:, 0]
    for progress in (0.0, 0.5, 1.0):
        with_others = loss_and_gradients(built, bags, weight, progress)
        without = loss_and_gradients(built, bags.select(kept), weight[kept], progress)
        what = f"bags of weight 0 have influence at progress {progress}"
        assert_same_gradients(with_others, without, what)
    if method.stackable:  # otherwise a fold is handed no bag of weight 0 in training
        _weight_zero_in_training(method, weight)


def _weight_zero_in_training(method: type[Method], weight: Tensor) -> None:
    """Bags of the same sizes, so that dropout and other randomness draw the same numbers."""
    bags = random_bags(method, TRAINING_SIZES)
    changed = others_changed(bags, weight)
    with unless_fails(method, same_seed):
        for progress in (0.0, 0.5, 1.0):
            found, expected = (
                training_step(method, batch, weight, progress) for batch in (changed, bags)
            )
            what = (
                f"in training mode, at progress {progress}, features and labels of bags of weight "
                "0 have influence"
            )
            assert_same_gradients(found, expected, what, APART)


def all_weights_zero(method: type[Method]) -> None:
    """A fold may have no bag in a batch."""
    weight = torch.zeros(8, dtype=torch.float64)
    gradients = loss_and_gradients(build(method), random_bags(method), weight, 0.5)
    assert gradients.pop("loss").isfinite(), "the loss is not finite"
    nonzero = [name for name, gradient in gradients.items() if gradient.any()]
    assert not nonzero, f"gradients are not 0: {', '.join(nonzero[:3])}"
