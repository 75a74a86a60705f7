"""What was tried for a method: one record a trial of its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"


@dataclass(frozen=True)
class Trial:
    """A setting of a method, and what its validation slides said of it; knows nothing of test slides.

    Args:
        study: key of the study it belongs to.
        label: how tables call the method.
        method: registered name.
        seed: training seed.
        fold: the fold that the study is about, None for a study over all folds.
        number: of the trial in its study; 0 is the method's own recipe.
        settings: what differs from the method's own settings, by name.
        job_key: of the job that was trained.
        state: "complete", "pruned" or "failed".
        value: what the study minimises, the lowest validation cross-entropy, averaged over the
            folds where there are several; None unless the trial is complete.
        curves: fold to its validation cross-entropy after each epoch, as far as it came.
        epochs: trained, over all folds.
        seconds: of training, over all folds.
        reason: why it was pruned or failed, "" where it is complete.
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


def best_of(records: Sequence[Trial]) -> Trial | None:
    """The complete trial with the lowest value, the earliest of equals; None if none is complete."""
    return min(
        (r for r in records if r.is_complete), key=lambda r: (r.value, r.number), default=None
    )
