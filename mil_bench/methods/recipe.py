"""How a method's authors train it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mil_bench.errors import UnknownNameError

OPTIMIZERS = ("adam", "adamw", "lookahead-radam")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Recipe:
    """Optimizer settings and budget.

    Args:
        learning_rate: step size.
        epochs: passes over the training bags.
        batch_size: bags per step.
        optimizer: one of ``OPTIMIZERS``.
        weight_decay: in the optimizer's own sense (L2 inside Adam, decoupled in AdamW).
        betas: decay rates of the moments.
        schedule: "constant", or "cosine" from ``learning_rate`` to ``final_learning_rate``, changed
            after every epoch.
        final_learning_rate: the learning rate at which a schedule ends.
        patience: a fold stops after this many epochs without a lower validation loss; None disables
            early stopping.

    Raises:
        UnknownNameError: there is no such optimizer or schedule.
    """

    learning_rate: float
    epochs: int
    batch_size: int = 1
    optimizer: str = "adam"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "constant"
    final_learning_rate: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        for kind, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, kind) not in known:
                raise UnknownNameError(kind, str(getattr(self, kind)), known)

    def learning_rate_at(self, progress: float) -> float:
        """Step size after a share of the training, in [0, 1]."""
        if self.schedule == "constant":
            return self.learning_rate
        fall = (1 + math.cos(math.pi * progress)) / 2
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * fall
