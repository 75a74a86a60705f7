"""Trains what the result store lacks of a plan, and stores each fold as it comes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from mil_bench import durable
from mil_bench.devices import is_cpu
from mil_bench.evaluation.metrics import named_values
from mil_bench.evaluation.predictions import TrainedFold
from mil_bench.running.pool import TaskResult, train_all
from mil_bench.running.result_store import Failure, ResultStore
from mil_bench.running.task import TaskMaker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.planning.plan import Job
    from mil_bench.planning.prepare import Prepared
    from mil_bench.running.listeners import Listener
    from mil_bench.running.setup import Machine
    from mil_bench.running.task import Task


class MissingFolds:
    """The trainings of a plan that the result store lacks, as a source of tasks.

    Args:
        prepared: the plan and its bags.
        store: where results go.
        machine: what trains them.
        logs: folder for tracebacks.
        listeners: are told what happens.
    """

    is_waiting = False
    is_detached = False  # it returns when all is trained

    def __init__(
        self,
        prepared: Prepared,
        store: ResultStore,
        machine: Machine,
        logs: Path,
        listeners: Sequence[Listener],
    ) -> None:
        self._prepared, self._store, self._machine = prepared, store, machine
        self._logs, self._listeners = logs, listeners
        self.failures: list[str] = []
        """What could not be trained and why, one line each."""
        self.stored: list[tuple[Job, int]] = []
        self._saved: list[tuple[Job, int]] = []
        missing: list[tuple[Job, int]] = []
        for job, fold in prepared.plan.trainings:
            (self.stored if fold in store.done(job) else missing).append((job, fold))
        # Longest recipes first, so that no core waits for a late long one.
        self._missing = sorted(missing, key=lambda item: -item[0].recipe.get("epochs", 0))
        self._waiting: deque[tuple[Job, tuple[int, ...]]] = deque()
        self._maker: TaskMaker | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing is to be trained."""
        return not self._missing

    @property
    def trainings(self) -> list[tuple[Job, int]]:
        """Those that this process is to train or finds stored: all of the plan, or its shard's."""
        if self._machine.shard is None:
            return self._prepared.plan.trainings
        device, _ = self._machine.resolve(1)
        return [(job, fold) for job, folds in self._own_tasks(device) for fold in folds]

    def _own_tasks(self, device: str) -> list[tuple[Job, tuple[int, ...]]]:
        """The tasks of the plan, whether stored or not, that are this process's share."""
        trainings = self._prepared.plan.trainings
        part, parts = self._machine.shard or (1, 1)
        return tasks_of(trainings, trainings, device)[part - 1 :: parts]

    def train(self) -> None:
        """Train them all, or those of the shard."""
        if not self._missing:
            return
        device, workers = self._machine.resolve(len(self._missing))
        prepared = self._prepared
        plugins = prepared.request.plugins
        self._maker = TaskMaker(prepared.plan.splits, prepared.bags, device, plugins)
        trainings = prepared.plan.trainings
        tasks = tasks_of(self._missing, trainings, device)
        keys = {(job.key, folds) for job, folds in self._own_tasks(device)}
        self._waiting.extend(task for task in tasks if (task[0].key, task[1]) in keys)
        train_all(self, self._machine, workers, self._on_epoch)

    def next_task(self) -> Task | None:
        """The next folds."""
        if not self._waiting or self._maker is None:
            return None
        job, folds = self._waiting.popleft()
        return self._maker.task(job, folds)

    def receive(self, task: Task, result: TaskResult) -> None:
        """Store a fold, or note why there is none; a task that fails does not stop the others."""
        job = task.job
        if isinstance(result, Failure):
            failure = failure_line(job, task.numbers, result.reason)
            if result.traceback:
                failure += f"; traceback: {self._log(task, result.traceback)}"
            self.failures.append(failure)
            for listener in self._listeners:
                listener.on_failure(job, task.numbers, result.reason)
            return
        for fold in result:
            if (job, fold.fold) in self.stored:  # trained again together with missing ones
                continue
            assert isinstance(fold, TrainedFold)  # nothing is pruned without limits
            plan = self._prepared.plan
            values = named_values(fold.predictions, plan.hierarchy, plan.ordered)
            self._store.save_fold(job, fold, values)
            self._saved.append((job, fold.fold))
            for listener in self._listeners:
                listener.on_fold(job, fold)

    def vanished(self) -> list[str]:
        """Folds that were stored, now or earlier, and are no longer there, one line each."""
        return removed(self._store, [*self.stored, *self._saved])

    def _log(self, task: Task, traceback: str) -> Path:
        """Write a traceback to a file."""
        job, folds = task.job, "-".join(map(str, task.numbers))
        name = f"{job.method}-{job.key}-fold-{folds}.log"
        path = self._logs / self._prepared.plan.run_id / name
        durable.replace(path, traceback)
        return path

    def _on_epoch(self, event: Any) -> None:
        for listener in self._listeners:
            listener.on_epoch(event)


def failure_line(job: Job, folds: Sequence[int], reason: str) -> str:
    """What a run says of folds that gave no result."""
    numbers = ", ".join(map(str, folds))
    return f"{job.label} seed {job.seed} fold {numbers} failed: {reason}"


def removed(store: ResultStore, folds: Sequence[tuple[Job, int]]) -> list[str]:
    """The folds that are no longer stored, one line each."""
    return [
        f"{job.label} seed {job.seed} fold {fold}: its stored result was removed during the run"
        for job, fold in folds
        if fold not in store.done(job)
    ]


def tasks_of(
    missing: Sequence[tuple[Job, int]], trainings: Sequence[tuple[Job, int]], device: str
) -> list[tuple[Job, tuple[int, ...]]]:
    """What is to be trained, as tasks: a job and the folds that are trained together.

    On a CPU every fold is a task: folds of a looped stack share nothing but the reading, single
    ones use the cores evenly, and a killed run loses one fold per core. On a GPU all folds of a job
    are trained in one pass, and again all of them if some are missing: a stack's numbers depend, by
    rounding and dropout, on which folds are in it.

    Args:
        missing: jobs with the folds of which nothing is stored.
        trainings: all jobs with all their folds.
        device: "cpu" or "cuda".
    """
    if is_cpu(device):
        return [(job, (fold,)) for job, fold in missing]
    jobs = {id(job): job for job, _ in missing}
    return [
        (job, tuple(fold for other, fold in trainings if other is job)) for job in jobs.values()
    ]
