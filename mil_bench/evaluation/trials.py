"""Trials of tuning: one record per choice of settings that was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic needs the types
from dataclasses import dataclass
from typing import Any

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"


@dataclass(frozen=True)
class Trial:
    """A choice of settings and its validation loss; a trial knows nothing of test slides.

    Args:
        study: key of the study it belongs to.
        label: how tables call the method.
        method: registered name.
        seed: training seed.
        fold: the fold of the study, None for a study over all folds.
        number: of the trial in its study; 0 is the method's own recipe.
        settings: settings that differ from the method's own, by name.
        job_key: key of the job that was trained.
        state: "complete", "pruned" or "failed".
        value: what the study minimises: the lowest validation cross-entropy over epochs, as a mean
            over folds if there are several; None unless the trial is complete.
        curves: fold to its validation cross-entropy after each trained epoch.
        epochs: number of epochs trained, over all folds.
        seconds: training time, over all folds.
        reason: why it was pruned or failed, "" if it is complete.
    """

    study: str
    label: str
    method: str
    seed: int
    fold: int | None
    number: int
    settings: Mapping[str, Any]
    job_key: str
    state: str
    value: float | None
    curves: Mapping[int, Sequence[float]]
    epochs: int
    seconds: float
    reason: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether it may be chosen."""
        return self.state == COMPLETE

    @property
    def loss(self) -> float:
        """``value``, or infinity for a trial that is not complete."""
        return float("inf") if self.value is None else self.value


def best_of(records: Sequence[Trial]) -> Trial | None:
    """The complete trial with the lowest loss, the earliest of equals; None if none is complete."""
    complete = (record for record in records if record.is_complete)
    return min(complete, key=lambda record: (record.loss, record.number), default=None)
