"""The trainings of a run that workers on other machines do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.cluster.bundles import bundles_of, frozen_tasks
from mil_bench.cluster.elsewhere import Elsewhere
from mil_bench.cluster.frozen import FrozenTasks, OpenTasks, freeze
from mil_bench.running.runner import failure_line, removed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.planning.plan import Job
    from mil_bench.planning.prepare import Prepared
    from mil_bench.running.listeners import Listener
    from mil_bench.running.result_store import ResultStore
    from mil_bench.running.setup import Setup


class FoldsElsewhere(Elsewhere):
    """The trainings of a plan that the result store lacks, done by workers on other machines.

    Args:
        prepared: the plan and its bags.
        store: where results go.
        setup: names the engine and its options.
        listeners: are told what happens.
    """

    def __init__(
        self, prepared: Prepared, store: ResultStore, setup: Setup, listeners: Sequence[Listener]
    ) -> None:
        super().__init__(prepared, setup)
        self._store, self._listeners = store, listeners
        self.failures: list[str] = []
        """What could not be trained and why, one line each."""
        stored = {job.key: store.done(job) for job in prepared.plan.jobs}
        self.stored = [item for item in prepared.plan.trainings if item[1] in stored[item[0].key]]
        self._stored = {(job.key, fold) for job, fold in self.stored}

    @property
    def trainings(self) -> list[tuple[Job, int]]:
        """Those that are to be trained or are stored: all of the plan."""
        return self._prepared.plan.trainings

    @property
    def is_complete(self) -> bool:
        """Whether everything is stored already."""
        return len(self.stored) == len(self._prepared.plan.trainings)

    def vanished(self) -> list[str]:
        """Folds that were stored before and are no longer there, one line each."""
        return removed(self._store, self.stored)

    def freeze(self, device: str) -> FrozenTasks:
        """The tasks of the plan in bundles."""
        plan = self._prepared.plan
        tasks = frozen_tasks(plan, device)
        bundles = bundles_of(plan, tasks, self._store, device, self._setup.cluster.bundle)
        return freeze(self._prepared, self._setup.folder, tasks, bundles)

    def open(self, path: Path) -> OpenTasks:
        """The tasks of a task file."""
        return OpenTasks.read(path, self._setup.folder)

    def tell(self, tasks: OpenTasks, task: int) -> None:
        """Tell listeners of folds that are stored."""
        job = tasks.job(task)
        for fold in tasks.folds(task):
            if (job.key, fold) not in self._stored:
                result = self._store.load_fold(job, fold)
                for listener in self._listeners:
                    listener.on_fold(job, result)

    def tell_failure(self, tasks: OpenTasks, task: int, reason: str) -> None:
        """Tell listeners of folds that have no result."""
        job, folds = tasks.job(task), tasks.folds(task)
        self.failures.append(failure_line(job, folds, reason))
        for listener in self._listeners:
            listener.on_failure(job, folds, reason)
