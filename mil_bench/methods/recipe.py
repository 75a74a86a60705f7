"""How a method's authors train it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mil_bench.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OPTIMIZERS = ("adam", "adamw", "lookahead-radam")
SCHEDULES = ("constant", "cosine")
_LARGEST = 1_000_000  # of what is counted; larger ones are mistakes


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _LARGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "learning_rate": (
        lambda value: _is_number(value) and 0 < value < math.inf,
        "a finite number greater than 0",
    ),
    "epochs": (_is_count, f"a whole number from 1 to {_LARGEST:,}"),
    "batch_size": (_is_count, f"a whole number from 1 to {_LARGEST:,}"),
    "weight_decay": (
        lambda value: _is_number(value) and 0 <= value < math.inf,
        "a finite number from 0 on",
    ),
    "betas": (
        lambda value: len(value) == 2 and all(_is_number(b) and 0 <= b < 1 for b in value),
        "two numbers from 0 on and less than 1",
    ),
    "final_learning_rate": (
        lambda value: _is_number(value) and 0 <= value < math.inf,
        "a finite number from 0 on",
    ),
    "patience": (
        lambda value: value is None or _is_count(value),
        f"none, or a whole number from 1 to {_LARGEST:,}",
    ),
}


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
        InputError: a number is outside its range.
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
        problems = [
            f"'{name}={getattr(self, name)!r}': {name} is {words}"
            for name, (fits, words) in _RANGES.items()
            if not fits(getattr(self, name))
        ]
        if problems:
            raise InputError("recipe", problems, "Nothing was trained.")

    def learning_rate_at(self, progress: float) -> float:
        """Step size after a share of the training, in [0, 1]."""
        if self.schedule == "constant":
            return self.learning_rate
        fall = (1 + math.cos(math.pi * progress)) / 2
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * fall
