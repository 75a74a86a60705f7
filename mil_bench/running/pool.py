"""Keep workers busy with tasks from a source, whatever happens to single tasks or processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import TYPE_CHECKING, Protocol

from mil_bench.running.executors import Report, open_executor
from mil_bench.running.result_store import Failure, FoldResult, PrunedFold

if TYPE_CHECKING:
    from mil_bench.running.worker import Task

_POLL = 1.0  # seconds between looks at what another process is doing
_DIED = "the process died, most likely out of memory; try --workers 1 or smaller bags"


TaskResult = Sequence[FoldResult | PrunedFold] | Failure


class TaskSource(Protocol):
    """Where tasks come from and outcomes go to; always called from one thread."""

    def next_task(self) -> Task | None:
        """A task that can be started now; None if there is none at the moment."""

    def receive(self, task: Task, outcome: TaskResult) -> None:
        """What became of a task."""

    @property
    def is_waiting(self) -> bool:
        """Whether there may be tasks later although none is being trained here."""


def train_all(source: TaskSource, workers: int, on_report: Report) -> None:
    """Train everything a source offers, ``workers`` tasks at a time.

    A process that dies, usually for want of memory, takes the whole pool with it: what was being
    trained is then trained again one by one, each in a process of its own, and the others go on in
    a new pool.
    """
    orphans: list[Task] = []
    while True:
        with open_executor(workers, on_report) as executor:
            orphans = _drain(source, executor, workers)
        if not orphans:
            return
        for task in orphans:
            with open_executor(1, on_report, isolated=True) as executor:
                source.receive(task, _alone(executor, task))


def _drain(source: TaskSource, executor: Executor, workers: int) -> list[Task]:
    """Hand out tasks and take in outcomes until there are none; the tasks that were lost with a dead process.

    One task more than there are workers is handed out, so that none waits while an outcome is being
    stored.
    """
    from mil_bench.running import worker  # brings torch

    running: dict[Future, Task] = {}
    while True:
        while len(running) <= workers and (task := source.next_task()) is not None:
            try:
                running[executor.submit(worker.attempt, task)] = task
            except BrokenExecutor:
                return [*running.values(), task]
        if not running and not source.is_waiting:
            return []
        if not running:
            time.sleep(_POLL)
            continue
        # Where another process holds what could be next, look again before long.
        done, _ = wait(running, _POLL if source.is_waiting else None, FIRST_COMPLETED)
        lost = []
        for future in [
            each for each in running if each in done
        ]:  # in the order in which they were handed out
            task = running.pop(future)
            if isinstance(future.exception(), BrokenExecutor):
                lost.append(task)
            else:
                source.receive(task, future.result())
        if lost:
            return [*lost, *running.values()]


def _alone(executor: Executor, task: Task) -> TaskResult:
    from mil_bench.running import worker

    try:
        return executor.submit(worker.attempt, task).result()
    except BrokenExecutor:
        return Failure(_DIED)
