"""A study: the trials of one method on one fold, or on all folds together, one after another.

A trial is an ordinary job: folds that the result store has are not trained again, and trained folds
are stored there like all others. Of a fold that is pruned only the trial's record remains.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mil_bench.evaluation.trials import COMPLETE, FAILED, PRUNED, Trial
from mil_bench.methods.recipe import OWN_LOSS, recipe_from_json
from mil_bench.methods.space import space_from_json, space_to_json
from mil_bench.planning.plan import Job
from mil_bench.running.result_store import Failure, PrunedFold
from mil_bench.tuning.pruning import Pruning, first_over

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.methods.space import Range
    from mil_bench.tuning.trial_store import TrialStore

_BY_EPOCHS = "its lowest validation loss was above the pruning limit after epoch {epoch}"
_BY_FOLDS = "worse than the best trial on the first {folds} folds (Wilcoxon signed-rank test)"


@dataclass(frozen=True)
class StudyPlan:
    """What a study tunes, on which folds and with which pruning rule.

    Args:
        base: the job of the method's own recipe, with the settings that the user has fixed.
        space: the tuned settings with their ranges.
        folds: the folds of the study.
        select: "per-fold" (a single fold) or "shared".
        pruning: the pruning rule, None to train every trial to its end.
    """

    base: Job
    space: Mapping[str, Range]
    folds: tuple[int, ...]
    select: str
    pruning: Pruning | None

    @property
    def fold(self) -> int | None:
        """The only fold, None for a study over all folds."""
        return self.folds[0] if self.select == "per-fold" else None

    @property
    def defaults(self) -> dict[str, Any]:
        """The method's own values of the tuned settings."""
        recipe = dataclasses.asdict(recipe_from_json(self.base.recipe))
        values = {**recipe, **self.base.params}
        return {name: values[name] for name in self.space}

    @property
    def about(self) -> dict[str, Any]:
        """Everything that decides the trials, as a value that JSON can hold."""
        return {
            "job": {name: value for name, value in self.base.to_json().items() if name != "label"},
            "space": space_to_json(self.space),
            "folds": list(self.folds),
            "select": self.select,
            "pruning": self.pruning and dataclasses.asdict(self.pruning),
        }

    @classmethod
    def from_about(cls, about: Mapping[str, Any], label: str) -> StudyPlan:
        """The plan of which ``about`` is given.

        Args:
            about: its description.
            label: of its row in tables, which the description leaves out.
        """
        pruning = about["pruning"]
        return cls(
            base=Job.from_json({**about["job"], "label": label}),
            space=space_from_json(about["space"]),
            folds=tuple(about["folds"]),
            select=about["select"],
            pruning=None if pruning is None else Pruning(**pruning),
        )

    @cached_property
    def key(self) -> str:
        """16 hex digits that name the study; they do not depend on the number of trials."""
        return hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:16]

    def folder_in(self, store: TrialStore) -> Path:
        """Where a store keeps the trials."""
        return store.folder(self.base.dataset, self.base.method, self.key)

    @property
    def sampler(self) -> tuple[str | int, ...]:
        """Identity for the sampler's seeds; the same for every method."""
        return ("tuning", self.base.dataset, self.base.seed, *self.folds)


@dataclass
class _Trial:
    """A trial in progress."""

    number: int
    settings: dict[str, Any]
    job: Job
    curves: dict[int, Sequence[float]] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0


class Study:
    """A study in progress.

    Args:
        plan: the plan of the study.
        records: the finished trials.
        finish: called with every new record.
    """

    def __init__(
        self,
        plan: StudyPlan,
        records: Sequence[Trial],
        finish: Callable[[Trial], None],
    ) -> None:
        self.plan, self.records = plan, list(records)
        self._finish = finish
        self._trial: _Trial | None = None

    def next_training(self, trials: int) -> tuple[Job, int] | None:
        """The next job and fold to train; None if ``trials`` trials are finished."""
        if self._trial is None:
            if len(self.records) >= trials:
                return None
            self._begin()
        assert self._trial is not None
        return self._trial.job, self.plan.folds[len(self._trial.curves)]

    def limits(self, fold: int) -> np.ndarray | None:
        """The limits of the pruning rule for the next trial; None without pruning."""
        if self.plan.pruning is None:
            return None
        earlier = [record.curves[fold] for record in self.records if record.is_complete]
        return self.plan.pruning.limits(earlier, self.plan.base.recipe["epochs"])

    def receive(self, result: TrainedFold | PrunedFold | Failure) -> None:
        """Add the result of the training that ``next_training`` gave."""
        trial = self._trial
        assert trial is not None
        fold = self.plan.folds[len(trial.curves)]
        if isinstance(result, Failure):
            trial.epochs += result.epochs
            trial.seconds += result.seconds
            self._end(FAILED, reason=result.reason)
            return
        curve = result.curves["val_loss"]
        limits = self.limits(fold)
        over = None if limits is None else first_over(curve, limits)
        # A fold stored by an earlier run was trained to its end; here it counts up to the epoch at
        # which the rule would have pruned it.
        trial.curves[fold] = curve if over is None else curve[: over + 1]
        trial.epochs += len(trial.curves[fold])
        trial.seconds += result.seconds * len(trial.curves[fold]) / len(curve)
        if over is not None:
            self._end(PRUNED, reason=_BY_EPOCHS.format(epoch=over + 1))
        elif len(trial.curves) == len(self.plan.folds):
            self._end(COMPLETE)
        elif self.plan.pruning and self._is_hopeless():
            self._end(PRUNED, reason=_BY_FOLDS.format(folds=len(trial.curves)))

    @property
    def _lowest(self) -> list[float]:
        assert self._trial is not None
        return [min(curve) for curve in self._trial.curves.values()]

    def _is_hopeless(self) -> bool:
        # Imported here: stored runs are listed and compared without Optuna.
        from mil_bench.tuning.proposals import is_hopeless

        return is_hopeless(self.records, self._lowest)

    def _begin(self) -> None:
        from mil_bench.tuning.proposals import suggest

        plan = self.plan
        settings = suggest(plan.space, plan.defaults, self.records, plan.sampler)
        self._trial = _Trial(len(self.records), settings, trial_job(plan, settings))

    def _end(self, state: str, reason: str = "") -> None:
        trial, base = self._trial, self.plan.base
        assert trial is not None
        record = Trial(
            study=self.plan.key,
            label=base.label,
            method=base.method,
            seed=base.seed,
            fold=self.plan.fold,
            number=trial.number,
            settings=trial.settings,
            job_key=trial.job.key,
            state=state,
            value=float(np.mean(self._lowest)) if state == COMPLETE else None,
            curves=trial.curves,
            epochs=trial.epochs,
            seconds=round(trial.seconds, 3),
            reason=reason,
        )
        self._trial = None
        self.records.append(record)
        self._finish(record)


def trial_job(plan: StudyPlan, settings: Mapping[str, Any]) -> Job:
    """The job of a trial; a method that refuses the settings fails when it is trained.

    Building the method here would draw random numbers that a training in another thread uses.
    """
    base = plan.base
    params = {
        **base.params,
        **{name: value for name, value in settings.items() if name in base.params},
    }
    recipe = {
        **base.recipe,  # without fields that have their default
        **{
            name: value
            for name, value in settings.items()
            if name in base.recipe or name not in base.params
        },
    }
    if recipe.get("loss") == OWN_LOSS:
        del recipe["loss"]  # a default, which no job stores
    return dataclasses.replace(base, params=params, recipe=recipe)
