"""Tuning: every method gets the same number of trials, sampler seeds, epochs and pruning rule.

With "per-fold" each fold has a study of its own, which uses only the training and validation slides
of that fold. A study over all folds is not blind to test slides, because a slide tested in one fold
may be a training or validation slide in another.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mil_bench.evaluation.metrics import named_values
from mil_bench.evaluation.predictions import TrainedFold
from mil_bench.running.pool import TaskResult, train_all
from mil_bench.running.result_store import Failure, ResultStore
from mil_bench.running.task import TaskMaker
from mil_bench.tuning.studies import Study, StudyPlan
from mil_bench.tuning.trial_store import TrialStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from filelock import BaseFileLock

    from mil_bench.evaluation.trials import Trial
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.planning.prepare import Prepared
    from mil_bench.results import Results
    from mil_bench.running.listeners import Listener
    from mil_bench.running.setup import Machine
    from mil_bench.running.task import Task


def make_trials(
    prepared: Prepared,
    plans: Sequence[StudyPlan],
    trials: int,
    results: Results,
    machine: Machine,
    listeners: Sequence[Listener],
) -> None:
    """Make trials on this machine until every study has this number.

    Args:
        prepared: the plan with the methods' own settings.
        plans: the plans of the studies.
        trials: their number; studies that have more keep them.
        results: where folds and trials are stored.
        machine: workers, device and executor.
        listeners: called on every event.
    """
    device, workers = machine.resolve(len(plans))
    maker = TaskMaker(prepared.plan.splits, prepared.bags, device, prepared.request.plugins)
    tuner = Tuner(prepared.plan, plans, trials, maker, results, listeners)

    def on_epoch(event: object) -> None:
        for listener in listeners:
            listener.on_epoch(event)

    try:
        for listener in listeners:
            listener.on_tuning(plans, trials)
        train_all(tuner, machine, workers, on_epoch)
    finally:
        tuner.release()
        for listener in listeners:
            listener.on_end()


class Tuner:
    """Studies as a source of tasks: they go on in parallel, the trials of each one after another.

    Args:
        plan: the plan with the methods' own settings.
        studies: the plans of the studies.
        trials: number of trials per study; studies that have more keep them.
        maker: makes what is trained.
        results: where folds and trials are stored.
        listeners: are told of every trial.
    """

    def __init__(
        self,
        plan: RunPlan,
        studies: Sequence[StudyPlan],
        trials: int,
        maker: TaskMaker,
        results: Results,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._plan, self._count, self._maker = plan, trials, maker
        self._results, self._trials = ResultStore(results.runs), TrialStore(results.studies)
        self._listeners = listeners
        self._unclaimed, self._elsewhere = deque(studies), list[StudyPlan]()
        self._idle: deque[tuple[Study, BaseFileLock]] = deque()
        self._busy: dict[int, tuple[Study, BaseFileLock]] = {}
        self.made = 0
        """Number of trials that were finished here."""

    def release(self) -> None:
        """Release the studies that this process has claimed."""
        for _, lock in (*self._idle, *self._busy.values()):
            lock.release()

    @property
    def is_waiting(self) -> bool:
        """Whether other processes work on unfinished studies."""
        return bool(self._elsewhere)

    def next_task(self) -> Task | None:
        """The next training of a study that is not in training; None if there is none."""
        while (claimed := self._idle.popleft() if self._idle else self._claim()) is not None:
            study, lock = claimed
            training = self._missing_training(study)
            if training is None:
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
            plan = self._plan
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
                folder = plan.folder_in(self._trials)
                lock = self._trials.claim(folder)
                if lock is None and plan not in self._elsewhere:
                    self._elsewhere.append(plan)
                if lock is not None:
                    self._elsewhere = [other for other in self._elsewhere if other != plan]
                    return self._open(plan), lock
        return None

    def _open(self, plan: StudyPlan) -> Study:
        trials, folder = self._trials, plan.folder_in(self._trials)
        trials.describe(folder, plan.about)

        def finish(record: Trial) -> None:
            trials.save(folder, record)
            self.made += 1
            self._tell(record)

        records = trials.records(folder)
        for record in records:
            self._tell(record)
        return Study(plan, records, finish)

    def _tell(self, record: Trial) -> None:
        for listener in self._listeners:
            listener.on_trial(record)
