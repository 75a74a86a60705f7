"""How settings are chosen, and which were: the part of tuning that a run's plan keeps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SELECTIONS: Mapping[str, str] = {
    "per-fold": "each fold keeps the trial that its own validation slides like best",
    "shared": "one setting for all folds, on whose validation slides all folds vote; a slide that one fold tests may "
    "validate or train another, so the choice is not blind to test slides",
    "fixed": "the authors' recipe, nothing is tuned",
}
"""Name to what it does, one clause."""


@dataclass(frozen=True)
class Chosen:
    """The trial that some folds of a method keep.

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
        select: a key of ``SELECTIONS`` other than "fixed".
        pruned: whether trials without prospect were given up.
        chosen: what was chosen.
    """

    trials: int
    select: str
    pruned: bool
    chosen: tuple[Chosen, ...]

    @property
    def sentence(self) -> str:
        """What a caption says."""
        each = "method, seed and fold" if self.select == "per-fold" else "method and seed"
        pruning = "trials without prospect given up by one rule" if self.pruned else "none given up"
        return (
            f"tuned, {self.trials} trial{'s' * (self.trials > 1)} for every {each}, the first of them the method's own "
            f"recipe, {pruning}; {SELECTIONS[self.select]}"
        )

    def to_json(self) -> dict[str, Any]:
        """A plain value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tuning:
        """The inverse of ``to_json``."""
        return cls(**{**value, "chosen": tuple(Chosen(**each) for each in value["chosen"])})
