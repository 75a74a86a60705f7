"""Trials of a study, as they are recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrialRecord:
    """One setting that was tried.

    Args:
        study: name of the study.
        label: how tables call the method.
        method: registered name.
        seed: training seed.
        fold: the fold that the study is about, None for a study over all folds.
        number: of the trial in its study, from 0.
        settings: what was tried, by name.
        job_key: key of the job that trained it.
        state: "complete", "pruned" or "failed".
        value: validation cross-entropy, None where there is none.
        curves: fold to validation loss by epoch.
        epochs: epochs that were spent.
        seconds: wall time that was spent.
        reason: why it was pruned or failed, "" for a complete one.
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
    reason: str
