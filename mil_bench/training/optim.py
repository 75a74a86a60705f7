"""Optimizers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from mil_bench.training.lookahead import LookaheadRAdam

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mil_bench.methods import Recipe

_EPSILON = 1e-8  # torch's default


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
        parameters: what to train.
        lr: learning rate.
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
        self.param_groups: list[dict[str, Any]] = [{"lr": lr}]
        self._parameters = list(parameters)
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [torch.zeros((), device=p.device) for p in self._parameters]
        self._update = adamw if decoupled else adam
        self._betas, self._weight_decay = betas, weight_decay

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter that has a gradient."""
        used = [i for i, p in enumerate(self._parameters) if p.grad is not None]
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
            lr=self.param_groups[0]["lr"],
            weight_decay=self._weight_decay,
            eps=_EPSILON,
        )

    def zero_grad(self) -> None:
        """Drop the gradients."""
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
    "sgd": lambda m, r: SGD(m.parameters(), r.learning_rate, r.momentum, 0, r.weight_decay),
}
"""Functions that make an optimizer of a module's parameters, by the names that recipes use."""


def set_learning_rate(optimizer: Stepper, learning_rate: float) -> None:
    """Give all parameter groups this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
