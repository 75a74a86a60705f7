"""Keeps workers busy with tasks from a source, whatever happens to single tasks or processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from mil_bench import registry
from mil_bench.running.heartbeats import Heartbeats, Sender
from mil_bench.running.result_store import Failure, FoldResult, PrunedFold

if TYPE_CHECKING:
    from mil_bench.running.task import Task

_POLL = 1.0  # seconds between looks at what another process is doing
_DIED = "the process died, most likely out of memory; try --workers 1 or smaller bags"

TaskResult = Sequence[FoldResult | PrunedFold] | Failure
OpenExecutor = Callable[[int], AbstractContextManager[Executor]]


class TaskSource(Protocol):
    """Where tasks come from and results go to; always called from one thread."""

    def next_task(self) -> Task | None:
        """A task that can be started now; None if there is none at the moment."""

    def receive(self, task: Task, result: TaskResult) -> None:
        """Take the result of a task."""

    @property
    def is_waiting(self) -> bool:
        """Whether there may be tasks later although none is being trained here."""


def train_all(
    source: TaskSource, executor: str, workers: int, on_epoch: Callable[[Any], None]
) -> None:
    """Train everything a source offers, ``workers`` tasks at a time.

    A process that dies, usually for want of memory, breaks the whole pool: the tasks that it held
    are then trained one by one, each in an executor of its own, and the rest in a new pool.

    Args:
        source: of the tasks.
        executor: registered name.
        workers: number of tasks at the same time.
        on_epoch: is given an ``EpochDone`` after every epoch.
    """
    open_executor: OpenExecutor = registry.executors.load(executor)
    with Heartbeats(on_epoch) as heartbeats:
        while True:
            with open_executor(workers) as pool, _stopping(heartbeats):
                lost = _drain(source, pool, workers, heartbeats.sender)
            if not lost:
                return
            for task in lost:
                with open_executor(1) as pool, _stopping(heartbeats):
                    source.receive(task, _alone(pool, task, heartbeats.sender))


@contextmanager
def _stopping(heartbeats: Heartbeats) -> Iterator[None]:
    """Stop the trainings if the block raises, before the executor around it waits for them."""
    try:
        yield
    except BaseException:
        heartbeats.stop()
        raise


def _drain(source: TaskSource, pool: Executor, workers: int, sender: Sender) -> list[Task]:
    """Hand out tasks and take in results until there are none; the tasks that were lost with a dead process.

    One task more than there are workers is handed out, so that no worker waits while a result is
    being stored.
    """
    from mil_bench.running import worker  # brings torch

    running: dict[Future[TaskResult], Task] = {}
    while True:
        while len(running) <= workers and (task := source.next_task()) is not None:
            try:
                running[pool.submit(worker.attempt, task, sender)] = task
            except BrokenExecutor:
                return [*running.values(), task]
        if not running and not source.is_waiting:
            return []
        if not running:
            time.sleep(_POLL)
            continue
        # While another process holds what could be next, look again before long.
        done, _ = wait(running, _POLL if source.is_waiting else None, FIRST_COMPLETED)
        lost = []
        for future in [
            future for future in running if future in done
        ]:  # in the order of submission
            task = running.pop(future)
            if isinstance(future.exception(), BrokenExecutor):
                lost.append(task)
            else:
                source.receive(task, future.result())
        if lost:
            return [*lost, *running.values()]


def _alone(pool: Executor, task: Task, sender: Sender) -> TaskResult:
    from mil_bench.running import worker

    try:
        return pool.submit(worker.attempt, task, sender).result()
    except BrokenExecutor:
        return Failure(_DIED)
