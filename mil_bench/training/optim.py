"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from mil_bench.methods import Recipe
from mil_bench.training.lookahead import LookaheadRAdam

MAKERS: Mapping[str, Callable[[nn.Module, Recipe], Optimizer]] = {
    "adam": lambda m, r: Adam(m.parameters(), r.learning_rate, r.betas, weight_decay=r.weight_decay, fused=True),
    "adamw": lambda m, r: AdamW(m.parameters(), r.learning_rate, r.betas, weight_decay=r.weight_decay, fused=True),
    "lookahead-radam": lambda m, r: LookaheadRAdam(m, r.learning_rate, r.betas, r.weight_decay),
}
"""From a module and a recipe to an optimizer of all its parameters, for every name a recipe may have."""


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give all parameter groups this step size."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
