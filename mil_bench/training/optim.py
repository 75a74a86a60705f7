"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from mil_bench.methods import Recipe

OPTIMIZERS: Mapping[str, Callable[[Iterable[Tensor], Recipe], Optimizer]] = {
    "adam": lambda p, r: Adam(p, r.learning_rate, r.betas, weight_decay=r.weight_decay, fused=True),
    "adamw": lambda p, r: AdamW(p, r.learning_rate, r.betas, weight_decay=r.weight_decay, fused=True),
}
"""From trainable parameters and a recipe to an optimizer."""
