"""Folds that are trained together: in one pass, and without seeing each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mil_bench import seeds
from mil_bench.methods.conformance.bags import (
    APART,
    HIERARCHY,
    TRAINING_SIZES,
    WIDTH,
    others_changed,
    random_bags,
)
from mil_bench.methods.conformance.building import same_seed
from mil_bench.methods.conformance.comparing import (
    assert_close,
    loss_and_gradients,
)
from mil_bench.methods.conformance.repeating import unless_fails
from mil_bench.methods.conformance.weights import weight_zero
from mil_bench.methods.recipe import Recipe
from mil_bench.running.faults import place_in_method, reason_of
from mil_bench.training.fold_stack import FoldStack, MappedFolds
from mil_bench.training.stack import LoopedStack, Step

if TYPE_CHECKING:
    from torch import Tensor

    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods.method import Method

_REMEDY = "Set stackable = False if it cannot be stacked"
_STEPS = 2  # a method that remembers something in one step uses it in the next


def stacks(method: type[Method]) -> None:
    """On a GPU, all folds are computed as one, unless the class sets ``stackable = False``."""
    if method.stackable:
        _maps(method)
    _keeps_folds_apart(method)


def _maps(method: type[Method]) -> None:
    """Losses and gradients of a stack are those of its folds alone."""
    bags = random_bags(method, TRAINING_SIZES)
    weights = torch.tensor([[1.0] * 8, [1, 0] * 4], dtype=torch.float64)
    for mode in ("evaluation", "training"):
        folds = _folds(method, training=mode == "training")
        mapped = MappedFolds(folds)
        mapped.set_mode(training=mode == "training")
        try:
            gradients, losses = mapped.step(bags, weights, 0.5, 0)
        except Exception as error:  # a method under test may raise anything
            said = [reason_of(error).partition(". ")[0], place_in_method(error)]
            reason = "; ".join(filter(None, dict.fromkeys(said)))
            raise AssertionError(
                f"in {mode} mode, vmap does not run its loss ({reason}). {_REMEDY}"
            ) from error
        with unless_fails(method, same_seed):
            for k, fold in enumerate(folds):
                what = f"fold {k} in a stack, in {mode} mode"
                _assert_alone(fold, (bags, weights[k]), gradients[k], losses[k], what)


def _assert_alone(
    fold: Method, batch: tuple[BagBatch, Tensor], gradients: Tensor, loss: Tensor, what: str
) -> None:
    """The gradients ``[P]`` and the loss of a fold in a stack are those it has alone."""
    with seeds.torch_kept() as seed:
        seed(0)
        before = torch.get_rng_state()
        alone = loss_and_gradients(fold, *batch, 0.5)
        if not torch.equal(before, torch.get_rng_state()):
            return  # each fold of a stack draws random numbers of its own
    assert_close(loss, alone.pop("loss"), what, _REMEDY)
    parts = gradients.split([value.numel() for value in alone.values()])
    for part, (name, value) in zip(parts, alone.items(), strict=True):
        assert_close(part.view(value.shape), value, f"{what}, {name}", _REMEDY)


def _keeps_folds_apart(method: type[Method]) -> None:
    """Some steps of training in both kinds of stacks; other folds' bags change nothing."""
    bags = random_bags(method, TRAINING_SIZES[:4])
    weights = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]], dtype=torch.float64)
    changed = others_changed(bags, weights[0])
    kinds = (LoopedStack, FoldStack) if method.stackable else (LoopedStack,)
    with unless_fails(method, same_seed, weight_zero):
        for kind in kinds:
            states = [_fold_0(kind, method, batch, bags, weights) for batch in (changed, bags)]
            for name in states[1]:
                what = (
                    f"after {_STEPS} steps in a {kind.__name__}, features and labels of bags of "
                    f"another fold have changed {name}"
                )
                assert_close(states[0][name], states[1][name], what, APART)


def _folds(method: type[Method], *, training: bool) -> list[Method]:
    folds = []
    for k in range(2):
        with seeds.torch_seeded("conformance", "stack", k):
            folds.append(method(WIDTH, HIERARCHY).double().train(training))
    return folds


def _fold_0(
    kind: type[LoopedStack | FoldStack],
    method: type[Method],
    first: BagBatch,
    others: BagBatch,
    weights: Tensor,
) -> dict[str, Tensor]:
    """The state of fold 0 after some steps, of which the first is on a batch of its own."""
    identities = [("conformance", 0), ("conformance", 1)]
    assert isinstance(method.recipe, Recipe), "the check does not apply to methods without steps"
    stack = kind(_folds(method, training=True), method.recipe, identities)
    for number in range(_STEPS):
        stack.train([Step(others if number else first, weights, number)], number / _STEPS)
    if isinstance(stack, FoldStack):
        assert not stack.why_looped, f"folds cannot be computed as one: {stack.why_looped}. {APART}"
    return stack.state(0)
