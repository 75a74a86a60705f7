"""How settings are chosen, and which were chosen: the part of tuning that a run's plan keeps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

SELECTIONS: Mapping[str, str] = {
    "per-fold": "each fold uses the trial with the best validation loss of that fold",
    "shared": "all folds use the trial with the best mean validation loss over folds; this choice "
    "is not blind to test slides, because a slide tested in one fold may be a training or "
    "validation slide in another",
}
"""Name of a way to choose to its description, one clause."""


@dataclass(frozen=True)
class Chosen:
    """The trial that some folds of a method use.

    Args:
        label: name of the row in tables.
        method: registered name.
        seed: training seed.
        fold: the fold, None for all folds.
        study: key of the study.
        number: number of the trial in the study; None if no trial is complete.
    """

    label: str
    method: str
    seed: int
    fold: int | None
    study: str
    number: int | None


@dataclass(frozen=True)
class Tuning:
    """A tuned run's budget, and the trials that were chosen.

    Args:
        trials: number of trials per method and seed and, with "per-fold", per fold.
        select: a key of ``SELECTIONS``.
        pruned: whether hopeless trials were pruned.
        chosen: the chosen trials.
    """

    trials: int
    select: str
    pruned: bool
    chosen: tuple[Chosen, ...]

    @property
    def sentence(self) -> str:
        """A clause for captions."""
        unit = "method, seed and fold" if self.select == "per-fold" else "method and seed"
        pruning = "pruned by the same rule for every method" if self.pruned else "without pruning"
        return (
            f"tuned by {plural(self.trials, 'trial')} per {unit} (the first is the method's own "
            f"recipe), {pruning}; {SELECTIONS[self.select]}"
        )

    def to_json(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        return dataclasses.asdict(self)
