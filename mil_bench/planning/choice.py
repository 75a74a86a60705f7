"""How settings are chosen, and which were: the part of tuning that a run's plan keeps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SELECTIONS: Mapping[str, str] = {
    "per-fold": "each fold uses the trial with the best validation loss of that fold",
    "shared": "all folds use the trial with the best mean validation loss over folds; a slide that is tested "
    "in one fold may be a training or validation slide of another, so the choice is not blind to test slides",
}
"""Name to what is chosen, one clause."""


@dataclass(frozen=True)
class Chosen:
    """The trial that some folds of a method use.

    Args:
        label: how tables call the method.
        method: registered name.
        seed: training seed.
        fold: the fold, None for all of them.
        study: key of the study.
        number: of the trial in the study; None if no trial came to its end.
    """

    label: str
    method: str
    seed: int
    fold: int | None
    study: str
    number: int | None


@dataclass(frozen=True)
class Tuning:
    """A tuned run's budget, and what became of it.

    Args:
        trials: for each method, seed and, with "per-fold", each fold.
        select: a key of ``SELECTIONS``.
        pruned: whether trials without prospect were pruned.
        chosen: what was chosen.
    """

    trials: int
    select: str
    pruned: bool
    chosen: tuple[Chosen, ...]

    @property
    def sentence(self) -> str:
        """What a caption says."""
        unit = "method, seed and fold" if self.select == "per-fold" else "method and seed"
        pruning = "pruned by the same rule" if self.pruned else "without pruning"
        return (
            f"tuned by {self.trials} trial{'s' * (self.trials > 1)} per {unit}, {pruning}, the first of "
            f"which is the method's own recipe; {SELECTIONS[self.select]}"
        )

    def to_json(self) -> dict[str, Any]:
        """A plain value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tuning:
        """The inverse of ``to_json``."""
        return cls(**{**value, "chosen": tuple(Chosen(**fields) for fields in value["chosen"])})
