"""Optimizers by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from mil_bench.training.lookahead import LookaheadRAdam
from mil_bench.training.parameter_groups import parameters_by_rate, rate_factors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mil_bench.methods import Recipe

_EPSILON = 1e-8  # torch's default
_THRESHOLD, _SMALLEST_FALL = 1e-4, 1e-8  # of ReduceLROnPlateau, torch's defaults


class Stepper(Protocol):
    """What a stack uses of an optimizer."""

    param_groups: list[dict[str, Any]]

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        ...

    def zero_grad(self) -> None:
        """Drop the gradients."""
        ...


class FusedAdam:
    """Torch's fused Adam or AdamW without the work that its optimizer class adds to each step.

    Hooks, profiling and the sorting of parameters take longer than the step of a small model
    (measured).

    Args:
        groups: what to train, as torch's parameter groups; their learning rates may differ.
        lr: learning rate.
        betas: decay rates of the moments.
        weight_decay: as an L2 term of the gradient, or decoupled.
        decoupled: AdamW.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        decoupled: bool = False,
    ) -> None:
        self.param_groups = [{**group, "lr": lr} for group in groups]
        self._parameters: list[nn.Parameter] = [p for g in self.param_groups for p in g["params"]]
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [torch.zeros((), device=p.device) for p in self._parameters]
        self._update = adamw if decoupled else adam
        self._betas, self._weight_decay = betas, weight_decay

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter that has a gradient."""
        start = 0
        for group in self.param_groups:
            end = start + len(group["params"])
            self._move(range(start, end), group["lr"])
            start = end

    def _move(self, numbers: range, lr: float) -> None:
        used = [i for i in numbers if self._parameters[i].grad is not None]
        parameters: list[Tensor] = [self._parameters[i] for i in used]
        self._update(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [self._first[i] for i in used],
            [self._second[i] for i in used],
            [],
            [self._steps[i] for i in used],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=lr,
            weight_decay=self._weight_decay,
            eps=_EPSILON,
        )

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self._parameters:
            parameter.grad = None


def _adam(module: nn.Module, recipe: Recipe, decoupled: bool = False) -> FusedAdam:
    groups = parameters_by_rate(module, recipe)
    return FusedAdam(groups, recipe.learning_rate, recipe.betas, recipe.weight_decay, decoupled)


def _lookahead(module: nn.Module, recipe: Recipe) -> LookaheadRAdam:
    factors = rate_factors([name for name, _ in module.named_parameters()], recipe)
    return LookaheadRAdam(module, recipe.learning_rate, recipe.betas, recipe.weight_decay, factors)


def _sgd(module: nn.Module, recipe: Recipe) -> SGD:
    groups = parameters_by_rate(module, recipe)
    return SGD(groups, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)


MAKERS: Mapping[str, Callable[[nn.Module, Recipe], Stepper]] = {
    "adam": _adam,
    "adamw": lambda module, recipe: _adam(module, recipe, decoupled=True),
    "lookahead-radam": _lookahead,
    "sgd": _sgd,
}
"""Functions that make an optimizer of a module's parameters, by the names that recipes use."""


class Plateau:
    """A fold's learning rate by the rule of torch's ``ReduceLROnPlateau``.

    Args:
        recipe: its learning rates, ``step_factor`` and ``plateau_patience``.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._rate = recipe, recipe.learning_rate
        self._best, self._waited = math.inf, 0

    def after(self, val_loss: float) -> float:
        """What multiplies the recipe's learning rate after an epoch with this validation loss."""
        recipe = self._recipe
        if val_loss < self._best * (1 - _THRESHOLD):
            self._best, self._waited = val_loss, 0
        else:
            self._waited += 1
        if self._waited > recipe.plateau_patience:
            lower = max(self._rate * recipe.step_factor, recipe.final_learning_rate)
            if self._rate - lower > _SMALLEST_FALL:
                self._rate = lower
            self._waited = 0
        return self._rate / recipe.learning_rate


def set_learning_rate(optimizer: Stepper, learning_rate: float) -> None:
    """Give all parameter groups this learning rate, times the factor of each."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["factor"]
