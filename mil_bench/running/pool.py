"""Keeps workers busy with tasks from a source, whatever happens to single tasks or processes."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from mil_bench import registry
from mil_bench.devices import GPU
from mil_bench.errors import TrainingError
from mil_bench.evaluation.predictions import TrainedFold
from mil_bench.running.heartbeats import Heartbeats
from mil_bench.running.result_store import Failure, PrunedFold
from mil_bench.running.task import Begun, EpochDone, Task

if TYPE_CHECKING:
    from mil_bench.running.setup import Machine

_POLL = 1.0  # seconds between looks at what another process is doing
_DIED = "the process died, most likely out of memory; try --workers 1 or smaller bags"
_NEVER_BEGAN = (
    "Worker processes end before a training begins; what they printed says why. Finished folds are "
    "stored. To train in this process instead: --on inline (from Python: on='inline')."
)
_SILENT = "no epoch ended within {minutes}; --patience-minutes allows for longer ones"

TaskResult = Sequence[TrainedFold | PrunedFold] | Failure
OpenExecutor = Callable[..., AbstractContextManager[Executor]]


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
    source: TaskSource, machine: Machine, workers: int, on_epoch: Callable[[EpochDone], None]
) -> None:
    """Train everything a source offers, ``workers`` tasks at a time.

    A process that dies, usually for want of memory, breaks the whole pool: the tasks that it held
    are then trained one by one, each in an executor of its own, and the rest in a new pool.

    Args:
        source: of the tasks.
        machine: names the executor, and says how long a training may be silent.
        workers: number of tasks at the same time.
        on_epoch: is called after every epoch.

    Raises:
        TrainingError: no worker process lives until a training begins.
    """
    from mil_bench.running import worker  # brings torch

    train = worker.train if machine.debug else worker.attempt
    open_executor: OpenExecutor = registry.executors.load(machine.executor)
    if machine.scheduler is not None:
        open_executor = partial(open_executor, address=machine.scheduler)
    watch = _Watch(on_epoch, machine.patience)
    with Heartbeats(watch.receive) as heartbeats:
        attempt = partial(train, on_epoch=heartbeats.sender)
        while True:
            with open_executor(workers) as pool, _stopping(heartbeats):
                slots = getattr(pool, "slots", workers)  # of executors that queue themselves
                lost = _drain(source, pool, slots, attempt, watch, machine)
            if not lost:
                return
            for task in lost:
                with open_executor(1) as pool, _stopping(heartbeats):
                    one = _Single(source, task)
                    lost_again = _drain(one, pool, 1, attempt, watch, machine)
                if lost_again and machine.executor == "local" and not watch.began(task):
                    raise TrainingError(_NEVER_BEGAN)
                if lost_again:
                    source.receive(task, Failure(_DIED))


@dataclass
class _Single:
    """One task of a source."""

    source: TaskSource
    task: Task | None
    is_waiting = False

    def next_task(self) -> Task | None:
        task, self.task = self.task, None
        return task

    def receive(self, task: Task, result: TaskResult) -> None:
        self.source.receive(task, result)


class _Watch:
    """Knows when each training was last heard of, and ends the process of one that is silent.

    Args:
        on_epoch: is told of every epoch.
        patience: minutes that a training may be silent, None for any number.
    """

    def __init__(self, on_epoch: Callable[[EpochDone], None], patience: float | None) -> None:
        self._on_epoch, self.patience = on_epoch, patience
        self._heard: dict[str, float] = {}
        self._process: dict[str, int] = {}

    def receive(self, event: Begun | EpochDone) -> None:
        """Take a heartbeat."""
        self._heard[event.task] = time.monotonic()
        if isinstance(event, Begun):
            self._process[event.task] = event.process
        else:
            self._on_epoch(event)

    def began(self, task: Task) -> bool:
        """Whether a process has begun to train the task."""
        return task.key in self._process

    def ended(self, task: Task) -> bool:
        """Whether the task's process was silent for too long and was ended just now."""
        heard = self._heard.get(task.key)
        if heard is None or self.patience is None:
            return False
        if self._process[task.key] == os.getpid():  # a thread of the run itself cannot be ended
            return False
        if time.monotonic() - heard < 60 * self.patience:
            return False
        with suppress(ProcessLookupError):
            os.kill(self._process[task.key], signal.SIGKILL)
        return True


@contextmanager
def _stopping(heartbeats: Heartbeats) -> Iterator[None]:
    """Stop the trainings if the block raises, before the executor around it waits for them."""
    try:
        yield
    except BaseException:
        heartbeats.stop()
        raise


def _drain(
    source: TaskSource,
    pool: Executor,
    workers: int,
    attempt: Callable[[Task], TaskResult],
    watch: _Watch,
    machine: Machine,
) -> list[Task]:
    """Hand out tasks and take in results until there are none; the tasks lost with a dead process.

    One task more than there are workers is handed out, so that no worker waits while a result is
    being stored.
    """
    running: dict[Future[TaskResult], Task] = {}
    device_of: dict[Future[TaskResult], str] = {}
    lost: list[Task] = []
    gpus = machine.gpus
    while True:
        while (
            not lost
            and len(running) <= workers
            and not any(future.done() for future in running)
            and (task := source.next_task()) is not None
        ):
            device = task.device
            if device == GPU and gpus:  # the one with the fewest tasks
                busy = Counter(device_of[future] for future in running)
                device = min(gpus, key=lambda gpu: busy[gpu])
            try:
                placed = replace(task, device=device, deterministic=machine.deterministic)
                future = pool.submit(attempt, placed)
            except BrokenExecutor:
                return [*running.values(), task]
            running[future], device_of[future] = task, device
        if not running and (lost or not source.is_waiting):
            return lost
        if not running:
            time.sleep(_POLL)
            continue
        finished, _ = wait(running, _POLL, FIRST_COMPLETED)
        for future in [future for future in running if future in finished]:  # as submitted
            task = running.pop(future)
            if isinstance(future.exception(), BrokenExecutor):
                lost.append(task)
            else:
                source.receive(task, future.result())
        for future, task in list(running.items()):
            if watch.ended(task):
                del running[future]
                minutes = f"{watch.patience:g} minutes"
                source.receive(task, Failure(_SILENT.format(minutes=minutes)))
