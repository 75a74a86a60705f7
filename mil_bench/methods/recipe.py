"""How a method's authors train it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Optimizer settings and budget.

    Args:
        learning_rate: step size.
        epochs: passes over the training bags.
        batch_size: bags a step.
        optimizer: a key of ``mil_bench.training.optim.OPTIMIZERS``.
        weight_decay: in the optimizer's own sense (L2 inside Adam, decoupled in AdamW).
        betas: decay rates of the moments.
        patience: epochs without a lower validation loss after which a fold stops; None never stops early.
    """

    learning_rate: float
    epochs: int
    batch_size: int = 1
    optimizer: str = "adam"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    patience: int | None = None
