"""Optuna: the next settings, pruning by folds, importance of settings, the dashboard's file.

The next settings depend on the finished trials and on a seed made from the identity of the trial,
and on nothing else. A study that was killed therefore continues as if it had not been interrupted.
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
    """Settings of the next trial, proposed by TPE; none for the first, the method's own recipe.

    Args:
        space: setting to its range.
        defaults: setting to the method's own value.
        records: the finished trials.
        identity: identity of the study's sampler; the same for every method.

    Returns:
        Setting to value.
    """
    if not records:
        return {}
    sampler = TPESampler(seed=seeds.derive(*identity, len(records)) % 2**32)
    study = optuna.create_study(sampler=sampler)
    study.add_trials([_frozen(record, space, defaults) for record in records])
    return study.ask(distributions(space)).params


def is_hopeless(records: Sequence[Trial], values: Sequence[float]) -> bool:
    """Whether a trial is worse than the best one on the folds so far (Wilcoxon signed-rank test).

    Args:
        records: the finished trials.
        values: lowest validation loss of the current trial on each fold trained so far.
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
    """Share of the variance of complete trials that each setting explains (fANOVA).

    Args:
        space: setting to its range.
        defaults: setting to the method's own value.
        records: the trials.

    Returns:
        Setting to share; empty if there are too few trials.
    """
    complete = [record for record in records if record.is_complete]
    if len(complete) < _FEWEST_FOR_IMPORTANCE or len({record.value for record in complete}) < 2:
        return {}
    study = optuna.create_study()
    study.add_trials([_frozen(record, space, defaults) for record in complete])
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in shares.items()}


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """Ranges as distributions of Optuna."""
    return {name: _distribution(values) for name, values in space.items()}


def _distribution(values: Range) -> BaseDistribution:
    match values:
        case Float():
            return FloatDistribution(values.low, values.high, log=values.log)
        case Int():
            return IntDistribution(values.low, values.high)
        case Choice():
            return CategoricalDistribution(values.options)


def _frozen(record: Trial, space: Mapping[str, Range], defaults: Mapping[str, Any]) -> FrozenTrial:
    """A finished trial as a trial of Optuna; its steps are epochs, or folds for several folds."""
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
    """A journal file of Optuna with all studies, for its dashboard.

    Several processes may write to it. The file is a copy: studies resume from their own records,
    and a study that is missing in the file is added when it resumes. If the file cannot be written,
    one message says so and the trainings continue.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Optuna's own locks remain after a process is killed, for half a minute or, if the path is
        # relative, for ever; this lock ends with its process. Its name differs from that of
        # Optuna's locks because the dashboard removes locks that it considers stale.
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._studies: dict[str, optuna.Study] = {}
        self._broken = False

    def add(
        self, record: Trial, space: Mapping[str, Range], defaults: Mapping[str, Any], dataset: str
    ) -> None:
        """Add a finished trial unless the file has it; earlier ones must have been added before."""
        if self._broken:
            return
        try:
            study = self._study(record, dataset)
            if len(study.get_trials(deepcopy=False)) <= record.number:
                study.add_trial(_frozen(record, space, defaults))
        # Whatever goes wrong with a copy must not end the trainings.
        except Exception as error:
            self._broken = True
            sys.stderr.write(
                f"{self._path} is no longer written: {type(error).__name__}: {error}. "
                "Tuning continues; the next call that adds trials fills it in.\n"
            )

    def _study(self, record: Trial, dataset: str) -> optuna.Study:
        if record.study not in self._studies:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fold = "all folds" if record.fold is None else f"fold {record.fold}"
            # Optuna calls acquire() and release() of a lock and nothing else.
            backend = JournalFileBackend(str(self._path), self._lock)  # type: ignore[arg-type]
            self._studies[record.study] = optuna.create_study(
                storage=JournalStorage(backend),
                study_name=f"{dataset} {record.method} seed {record.seed} {fold} ({record.study})",
                load_if_exists=True,
            )
        return self._studies[record.study]
