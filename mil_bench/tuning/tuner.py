"""Tuning: every method gets the same number of trials, sampler seeds, epochs and pruning rule.

With "per-fold" each fold has a study of its own, which uses only the training and validation slides
of that fold. A study over all folds is not blind to test slides, because a slide tested in one fold
may be a training or validation slide in another.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections import deque
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.errors import InputError
from mil_bench.evaluation.metrics import named_values
from mil_bench.evaluation.predictions import TrainedFold
from mil_bench.evaluation.trials import Trial, best_of
from mil_bench.planning.choice import Chosen, Tuning
from mil_bench.planning.options import words_of
from mil_bench.running.pool import TaskResult, train_all
from mil_bench.running.result_store import Failure, ResultStore
from mil_bench.running.setup import Setup
from mil_bench.running.task import TaskMaker
from mil_bench.tuning.pruning import Pruning
from mil_bench.tuning.studies import Study, StudyPlan
from mil_bench.tuning.trial_store import TrialStore
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from filelock import BaseFileLock

    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.planning.prepare import Prepared
    from mil_bench.planning.request import RunRequest
    from mil_bench.results import Results
    from mil_bench.running.listeners import Listener
    from mil_bench.running.setup import Machine
    from mil_bench.running.task import Task


def studies_of(prepared: Prepared) -> list[StudyPlan]:
    """The studies of a request, method by method; settings that the user fixes are not tuned."""
    request, plan = prepared.request, prepared.plan
    rows = {row.label: row for row in request.rows}
    folds = range(len(plan.splits.folds))
    groups = [(k,) for k in folds] if request.select == "per-fold" else [tuple(folds)]
    pruning = Pruning() if request.pruning else None
    studies: dict[str, StudyPlan] = {}
    for job in plan.jobs:
        if job.label not in rows:
            continue
        fixed = rows[job.label].settings
        ranges = registry.methods.load(job.method).search_space
        space = {name: values for name, values in ranges.items() if name not in fixed}
        for group in groups:
            study = StudyPlan(job, space, group, request.select, pruning)
            studies.setdefault(study.key, study)
    return list(studies.values())


def tuned(
    prepared: Prepared, results: Results, machine: Machine, listeners: Sequence[Listener]
) -> Prepared:
    """A plan with chosen settings; if the request has ``tune``, missing trials are made first.

    Args:
        prepared: the plan with the methods' own settings.
        results: where folds and trials are stored.
        machine: workers, device and executor.
        listeners: called on every event.

    Raises:
        InputError: the request has ``tuned``, and no trials are stored, or not the same number for
            every study.
    """
    request, plans = prepared.request, studies_of(prepared)
    store = TrialStore(results.studies)
    if request.tune is None:
        setup = Setup(results=results.folder, data=prepared.bags.path.parent)
        trials = _trials_stored(plans, store, request, shlex.join(words_of(setup)))
    else:
        trials = request.tune
        Tuner(prepared, plans, results, machine, listeners).run(trials)
    records = {plan.key: store.records(_folder(plan, store))[:trials] for plan in plans}
    return dataclasses.replace(prepared, plan=_chosen_plan(prepared, trials, records))


def _folder(plan: StudyPlan, store: TrialStore) -> Path:
    return store.folder(plan.base.dataset, plan.base.method, plan.key)


def _trials_stored(
    plans: Sequence[StudyPlan], store: TrialStore, request: RunRequest, folders: str
) -> int:
    """The number of stored trials, which is the same for every study."""
    counts = {plan.key: len(store.records(_folder(plan, store))) for plan in plans}
    most, least = max(counts.values(), default=0), min(counts.values(), default=0)
    if most == least and most > 0:
        return most
    problems = []
    for plan in plans:
        if counts[plan.key] < max(most, 1):
            fold = "" if plan.fold is None else f" fold {plan.fold}"
            others = f", others have {most}" if most else ""
            problems.append(
                f"{plan.base.label} seed {plan.base.seed}{fold} has "
                f"{plural(counts[plan.key], 'trial')}{others}"
            )
    command = f"{request.tune_command(most or 20)} {folders}".rstrip()
    remedy = f"Every method needs the same budget. Make the missing trials with\n  {command}"
    raise InputError("tuned settings", problems, remedy)


def _chosen_plan(
    prepared: Prepared, trials: int, records: Mapping[str, Sequence[Trial]]
) -> RunPlan:
    """The plan of the chosen jobs; each is trained on the folds that use it."""
    base, request = prepared.plan, prepared.request
    everywhere = tuple(range(len(base.splits.folds)))
    chosen: list[Chosen] = []
    folds_of: dict[tuple[str, str], list[int]] = {}
    jobs: dict[tuple[str, str], Job] = {}
    failed: dict[str, list[str]] = {}
    plans = studies_of(prepared)
    for job in base.jobs:
        studies = [p for p in plans if dataclasses.replace(p.base, label=job.label) == job]
        if not studies:  # a yardstick
            jobs[job.label, job.key], folds_of[job.label, job.key] = job, list(everywhere)
        for plan in studies:
            best = best_of(records[plan.key])
            number = None if best is None else best.number
            chosen.append(Chosen(job.label, job.method, job.seed, plan.fold, plan.key, number))
            if best is None:
                reason = records[plan.key][-1].reason
                fold = "" if plan.fold is None else f" in fold {plan.fold}"
                failed.setdefault(job.label, []).append(
                    f"no trial is complete{fold} (last reason: {reason})"
                )
                continue
            winner = dataclasses.replace(trial_job(plan, best.settings), label=job.label)
            jobs[job.label, winner.key] = winner
            folds_of.setdefault((job.label, winner.key), []).extend(plan.folds)
    complete = {label for label, _ in jobs}
    reasons = {label: "; ".join(texts) for label, texts in failed.items()}
    return dataclasses.replace(
        base,
        jobs=tuple(jobs.values()),
        parts=tuple(tuple(sorted(folds_of[name])) for name in jobs),
        skipped={
            **base.skipped,
            **{label: text for label, text in reasons.items() if label not in complete},
        },
        remarks={
            **base.remarks,
            **{label: text for label, text in reasons.items() if label in complete},
        },
        tuning=Tuning(trials, request.select, request.pruning, tuple(chosen)),
    )


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
        **base.recipe,
        **{name: value for name, value in settings.items() if name in base.recipe},
    }
    return dataclasses.replace(base, params=params, recipe=recipe)


class Tuner:
    """Runs studies in parallel, and the trials of each study one after another.

    Args:
        prepared: the plan and its bags.
        plans: the plans of the studies.
        results: where folds and trials are stored.
        machine: workers, device and executor.
        listeners: called on every event.
    """

    def __init__(
        self,
        prepared: Prepared,
        plans: Sequence[StudyPlan],
        results: Results,
        machine: Machine,
        listeners: Sequence[Listener],
    ) -> None:
        self._prepared, self._plans = prepared, list(plans)
        self._results, self._trials = ResultStore(results.runs), TrialStore(results.studies)
        self._machine, self._listeners = machine, listeners
        self._unclaimed, self._elsewhere = deque(plans), list[StudyPlan]()
        self._idle: deque[tuple[Study, BaseFileLock]] = deque()
        self._busy: dict[int, tuple[Study, BaseFileLock]] = {}
        self._count = 0
        self._maker: TaskMaker | None = None

    def run(self, trials: int) -> None:
        """Make trials until every study has this number; studies that have more keep them."""
        self._count = trials
        device, workers = self._machine.resolve(len(self._plans))
        prepared = self._prepared
        plugins = prepared.request.plugins
        self._maker = TaskMaker(prepared.plan.splits, prepared.bags, device, plugins)
        try:
            for listener in self._listeners:
                listener.on_tuning(self._plans, trials)
            train_all(self, self._machine, workers, self._on_epoch)
        finally:
            for _, lock in (*self._idle, *self._busy.values()):  # if this call is interrupted
                lock.release()
            for listener in self._listeners:
                listener.on_end()

    @property
    def is_waiting(self) -> bool:
        """Whether other processes work on unfinished studies."""
        return bool(self._elsewhere)

    def next_task(self) -> Task | None:
        """The next training of a study that is not in training; None if there is none."""
        while (claimed := self._idle.popleft() if self._idle else self._claim()) is not None:
            study, lock = claimed
            training = self._missing_training(study)
            if training is None or self._maker is None:
                lock.release()
                continue
            job, fold = training
            task = self._maker.task(job, (fold,), (study.limits(fold),))
            self._busy[id(task)] = claimed
            return task
        return None

    def receive(self, task: Task, result: TaskResult) -> None:
        """Store a trained fold and pass the result to its study."""
        claimed = self._busy.pop(id(task))
        trained = result if isinstance(result, Failure) else result[0]
        if isinstance(trained, TrainedFold):
            plan = self._prepared.plan
            values = named_values(trained.predictions, plan.hierarchy, plan.ordered)
            self._results.save_fold(task.job, trained, values)
        claimed[0].receive(trained)
        self._idle.append(claimed)

    def _missing_training(self, study: Study) -> tuple[Job, int] | None:
        """The next training that is not stored; the study receives stored results at once."""
        store = self._results
        while (training := study.next_training(self._count)) is not None:
            job, fold = training
            if fold not in store.done(job):
                return training
            study.receive(store.load_fold(job, fold))
        return None

    def _claim(self) -> tuple[Study, BaseFileLock] | None:
        """A study that no other process works on, with its lock; None if there is none."""
        for source in (self._unclaimed, deque(self._elsewhere)):
            while source:
                plan = source.popleft()
                folder = _folder(plan, self._trials)
                lock = self._trials.claim(folder)
                if lock is None and plan not in self._elsewhere:
                    self._elsewhere.append(plan)
                if lock is not None:
                    self._elsewhere = [other for other in self._elsewhere if other != plan]
                    return self._open(plan), lock
        return None

    def _open(self, plan: StudyPlan) -> Study:
        trials, folder = self._trials, _folder(plan, self._trials)
        trials.describe(folder, plan.about)

        def finish(record: Trial) -> None:
            trials.save(folder, record)
            self._tell(record)

        records = trials.records(folder)
        for record in records:
            self._tell(record)
        return Study(plan, records, trial_job, finish)

    def _tell(self, record: Trial) -> None:
        for listener in self._listeners:
            listener.on_trial(record)

    def _on_epoch(self, event: Any) -> None:
        for listener in self._listeners:
            listener.on_epoch(event)
