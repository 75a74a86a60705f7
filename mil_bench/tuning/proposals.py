"""Optuna: what to try next, whether to go on, what mattered, and a file that its dashboard reads.

A suggestion depends on the finished trials and on a seed made of what the trial is, on nothing
else: not on what this process did before, so a study that was killed goes on as if it had not been.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.pruners import WilcoxonPruner
from optuna.samplers import TPESampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from mil_bench import seeds
from mil_bench.evaluation.trials import COMPLETE, FAILED, PRUNED, Trial
from mil_bench.methods.space import Choice, Float, Int, Range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

logging.getLogger("optuna").setLevel(logging.WARNING)

_STATES = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}
_FEWEST_FOR_IMPORTANCE = 4


def suggest(
    space: Mapping[str, Range],
    defaults: Mapping[str, Any],
    records: Sequence[Trial],
    identity: tuple[Any, ...],
) -> dict[str, Any]:
    """Settings of the next trial: nothing for the first, which is the method's own recipe, then what TPE proposes.

    Args:
        space: setting to its range.
        defaults: setting to its own value.
        records: the finished trials.
        identity: of the study's sampler; the same for every method.
    """
    if not records:
        return {}
    sampler = TPESampler(seed=seeds.derive(*identity, len(records)) % 2**32)
    study = optuna.create_study(sampler=sampler)
    study.add_trials([_frozen(record, space, defaults) for record in records])
    return study.ask(distributions(space)).params


def is_hopeless(records: Sequence[Trial], values: Sequence[float]) -> bool:
    """Whether the folds trained so far say that a trial loses against the best one (Wilcoxon signed-rank test).

    Args:
        records: the finished trials.
        values: lowest validation loss of the current trial, fold by fold.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study = optuna.create_study(pruner=WilcoxonPruner())
    for record in records:
        if record.is_complete:
            lowest = {fold: min(curve) for fold, curve in record.curves.items()}
            study.add_trial(create_trial(value=record.value, intermediate_values=lowest))
    trial = study.ask()
    for fold, value in enumerate(values):
        trial.report(value, fold)
    return trial.should_prune()


def importances(
    space: Mapping[str, Range], defaults: Mapping[str, Any], records: Sequence[Trial]
) -> dict[str, float]:
    """Share of the complete trials' variance that each setting explains (fANOVA); empty for too few trials."""
    complete = [record for record in records if record.is_complete]
    if len(complete) < _FEWEST_FOR_IMPORTANCE or len({record.value for record in complete}) < 2:
        return {}
    study = optuna.create_study()
    study.add_trials([_frozen(record, space, defaults) for record in complete])
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in found.items()}


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """Ranges as Optuna has them."""
    return {name: _distribution(each) for name, each in space.items()}


def _distribution(each: Range) -> BaseDistribution:
    match each:
        case Float():
            return FloatDistribution(each.low, each.high, log=each.log)
        case Int():
            return IntDistribution(each.low, each.high)
        case Choice():
            return CategoricalDistribution(each.options)


def _frozen(record: Trial, space: Mapping[str, Range], defaults: Mapping[str, Any]) -> FrozenTrial:
    """A finished trial as Optuna has it; its steps are epochs, or folds where there are several."""
    several = record.fold is None
    curves = [] if several else next(iter(record.curves.values()), [])
    steps = (
        {fold: min(curve) for fold, curve in record.curves.items() if curve}
        if several
        else dict(enumerate(curves))
    )
    return create_trial(
        state=_STATES[record.state],
        value=record.value,
        params={name: record.settings.get(name, defaults[name]) for name in space},
        distributions=distributions(space),
        intermediate_values=steps,
        user_attrs={
            "job": record.job_key,
            "epochs": record.epochs,
            "seconds": record.seconds,
            "reason": record.reason,
        },
    )


class SharedFile:
    """A journal file of Optuna's with all studies, for its dashboard; several processes may write to it.

    It is a copy: studies resume from their own records, and one that is missing here is added when
    it goes on. If it cannot be written, that is said once.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Optuna's own locks outlive a killed process, for half a minute or, where the path is
        # relative, for ever; this one ends with its process. Its name differs from theirs: the
        # dashboard would remove what it takes for stale.
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._studies: dict[str, optuna.Study] = {}
        self._broken = False

    def add(
        self, record: Trial, space: Mapping[str, Range], defaults: Mapping[str, Any], dataset: str
    ) -> None:
        """Add a finished trial unless it is there; those before it must have been added."""
        if self._broken:
            return
        try:
            study = self._study(record, dataset)
            if len(study.get_trials(deepcopy=False)) <= record.number:
                study.add_trial(_frozen(record, space, defaults))
        except (
            Exception
        ) as error:  # whatever a copy for looking at throws, it must not cost a training
            self._broken = True
            print(
                f"{self._path} is left out from here on: {type(error).__name__}: {error}",
                file=sys.stderr,
            )

    def _study(self, record: Trial, dataset: str) -> optuna.Study:
        if record.study not in self._studies:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fold = "all folds" if record.fold is None else f"fold {record.fold}"
            self._studies[record.study] = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(self._path), self._lock)),
                study_name=f"{dataset} {record.method} seed {record.seed} {fold} ({record.study})",
                load_if_exists=True,
            )
        return self._studies[record.study]
