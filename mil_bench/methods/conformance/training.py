"""What training needs: true gradients, and progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mil_bench import seeds
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods.conformance.bags import build, fit, learnable_bags, random_bags
from mil_bench.methods.conformance.comparing import (
    assert_same_gradients,
    loss_and_gradients,
    stored_gradients,
)
from mil_bench.methods.method import Method
from mil_bench.methods.recipe import Fit

if TYPE_CHECKING:
    import numpy as np

_STEPS = 120  # of training; methods that start slowly, such as DSMIL, need more than forty
_FITTED = 120  # bags of a fit
_LEARNING_RATES = (2e-3, 5e-4)


def gradients(method: type[Method]) -> None:
    """Gradients written by hand are those of the loss, with the same dropout."""
    if method.backward is Method.backward:
        return
    built, bags = build(method).train(), random_bags(method)
    one = torch.ones(1, dtype=torch.float64)
    alone = [(bags.select(torch.tensor([b])), one) for b in range(bags.n_bags)]
    for part, weight in (
        (bags, torch.linspace(0.0, 1.0, 8, dtype=torch.float64)),
        *alone,
        (alone[0][0], 0 * one),
    ):
        with seeds.torch_seeded("conformance", "dropout"):
            expected = loss_and_gradients(built, part, weight, 0.5)
        built.zero_grad()
        for times in (1, 2):  # gradients add to those that are there
            with seeds.torch_seeded("conformance", "dropout"):
                loss = built.backward(part, weight, 0.5)
            actual = stored_gradients(built) | {"loss": times * loss}
            multiple = {name: times * value for name, value in expected.items()}
            what = f"backward of {part.n_bags} bags, compared with autograd"
            assert_same_gradients(actual, multiple, what)


def learns(method: type[Method]) -> None:
    """Some steps on bags of which half have two clear witnesses, then a test on other bags.

    A smaller learning rate is tried as well: RRT-MIL, whose recipe has a tenth of the larger one,
    does not learn with it.
    """
    accuracy = 0.0
    for rate in _LEARNING_RATES:
        accuracy = max(accuracy, _accuracy(method, rate))
        if accuracy > 0.7:
            return
    raise AssertionError(
        f"accuracy {accuracy:.0%} on simple bags with two clear witnesses; chance is 50 %"
    )


def _accuracy(method: type[Method], learning_rate: float) -> float:
    """On new bags, after training with Adam or, for a method that fits itself, a fit."""
    rng = seeds.generator("conformance", "toy")
    built = build(method, LabelHierarchy.flat(["without", "with"])).float().train()
    if isinstance(method.recipe, Fit):
        fit(built, learnable_bags(method, _FITTED, rng), learnable_bags(method, 60, rng))
    else:
        _steps(built, learning_rate, rng)
    bags = learnable_bags(method, 60, rng)
    with torch.no_grad():
        hits = built.eval()(bags).fine.argmax(1) == bags.labels
    return hits.float().mean().item()


def _steps(built: Method, learning_rate: float, rng: np.random.Generator) -> None:
    optimizer = torch.optim.Adam(built.parameters(), learning_rate)
    with seeds.torch_seeded("conformance", "dropout"):
        for step in range(_STEPS):
            bags = learnable_bags(type(built), 8, rng)
            optimizer.zero_grad()
            built.training_loss(bags, torch.ones(8), step / _STEPS).backward()
            optimizer.step()
