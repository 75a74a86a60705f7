"""Optimizers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from mil_bench.training.lookahead import LookaheadRAdam

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mil_bench.methods import Recipe

_EPSILON = 1e-8  # torch's default


class Stepper(Protocol):
    """What a stack knows of an optimizer."""

    param_groups: list[dict]

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        ...

    def zero_grad(self) -> None:
        """Let the gradients go."""
        ...


class FusedAdam:
    """Torch's fused Adam or AdamW without what its optimizer class does around each step.

    Hooks, profiling and the sorting of parameters take longer there than the step of a small model
    (measured).

    Args:
        parameters: what to train.
        lr: step size.
        betas: decay rates of the moments.
        weight_decay: as an L2 term of the gradient, or decoupled.
        decoupled: AdamW.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        decoupled: bool = False,
    ) -> None:
        self.param_groups = [{"lr": lr}]
        self._parameters = list(parameters)
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [torch.zeros((), device=p.device) for p in self._parameters]
        self._move = adamw if decoupled else adam
        self._fixed = {
            "beta1": betas[0],
            "beta2": betas[1],
            "weight_decay": weight_decay,
            "eps": _EPSILON,
        }

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        columns = (self._parameters, self._first, self._second, self._steps)
        moved = [row for row in zip(*columns, strict=True) if row[0].grad is not None]
        parameters, first, second, steps = map(list, zip(*moved, strict=True))
        gradients = [p.grad for p in parameters]
        rate = self.param_groups[0]["lr"]
        self._move(
            parameters,
            gradients,
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=rate,
            **self._fixed,
        )

    def zero_grad(self) -> None:
        """Let the gradients go."""
        for parameter in self._parameters:
            parameter.grad = None


def _adam(module: nn.Module, recipe: Recipe) -> FusedAdam:
    return FusedAdam(module.parameters(), recipe.learning_rate, recipe.betas, recipe.weight_decay)


def _adamw(module: nn.Module, recipe: Recipe) -> FusedAdam:
    return FusedAdam(
        module.parameters(), recipe.learning_rate, recipe.betas, recipe.weight_decay, decoupled=True
    )


MAKERS: Mapping[str, Callable[[nn.Module, Recipe], Stepper]] = {
    "adam": _adam,
    "adamw": _adamw,
    "lookahead-radam": lambda m, r: LookaheadRAdam(m, r.learning_rate, r.betas, r.weight_decay),
}
"""From a module and a recipe to an optimizer of all its parameters, for every name a recipe may have."""


def set_learning_rate(optimizer: Stepper, learning_rate: float) -> None:
    """Give all parameter groups this step size."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
