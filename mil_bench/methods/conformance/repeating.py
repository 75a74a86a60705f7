"""Whether a step of training can be repeated, which most comparisons of two steps rely on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from mil_bench import seeds
from mil_bench.methods.conformance.bags import TRAINING_SIZES, build, random_bags
from mil_bench.methods.conformance.comparing import assert_same_gradients, loss_and_gradients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods.method import Method


def training_step(
    method: type[Method], bags: BagBatch, weight: Tensor, progress: float
) -> dict[str, Tensor]:
    """Loss and gradients of a new method in training mode, always with the same random numbers."""
    built = build(method).train()
    with seeds.torch_seeded("conformance", "dropout"):
        return loss_and_gradients(built, bags, weight, progress)


def assert_repeatable(method: type[Method]) -> None:
    """The same step, made twice under one seed, is the same."""
    bags, weight = random_bags(method, TRAINING_SIZES), torch.ones(8, dtype=torch.float64)
    first, second = (training_step(method, bags, weight, 0.5) for _ in range(2))
    what = "in training mode, a step differs under one seed"
    assert_same_gradients(first, second, what, "Draw random numbers from torch alone")


@contextmanager
def unless_fails(method: type[Method], *checks: Callable[[type[Method]], None]) -> Iterator[None]:
    """Inside the block, a failure counts only if the method passes other checks.

    If it does not, theirs is the fault, and theirs is the reason that its author reads.
    """
    try:
        yield
    except AssertionError:
        for check in checks:
            try:
                check(method)
            except AssertionError:
                return
        raise
