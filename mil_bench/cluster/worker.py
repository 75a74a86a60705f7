"""A worker: trains frozen tasks on this machine and stores the results itself."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from filelock import SoftFileLease, Timeout

from mil_bench import durable
from mil_bench.evaluation.metrics import named_values
from mil_bench.evaluation.predictions import TrainedFold
from mil_bench.running.pool import TaskResult, train_all
from mil_bench.running.result_store import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.cluster.frozen import OpenTasks
    from mil_bench.running.pool import TaskSource
    from mil_bench.running.setup import Machine
    from mil_bench.running.task import Task, TaskMaker
    from mil_bench.tuning.tuner import Tuner

LEASE_SECONDS = 60.0  # after which the claim of a worker that is silent expires


class ClaimedTasks:
    """Tasks that this worker claims one by one, as a source of tasks.

    A claim keeps other workers from training the same task at the same time. Should it be lost, the
    first result that is stored counts.

    Args:
        tasks: the frozen tasks.
        positions: those that this worker may train.
        maker: makes what is trained.
    """

    def __init__(self, tasks: OpenTasks, positions: Sequence[int], maker: TaskMaker) -> None:
        self._tasks, self._maker = tasks, maker
        self._open = list(positions)
        self._claims: dict[int, SoftFileLease] = {}
        self._running: dict[str, int] = {}
        self.trained = self.failed = 0

    @property
    def is_waiting(self) -> bool:
        """Whether tasks are left that other workers have claimed."""
        return bool(self._open)

    def next_task(self) -> Task | None:
        """The next task that is neither stored nor failed nor claimed by another worker."""
        tasks = self._tasks
        for position in list(self._open):
            if tasks.is_finished(position):
                self._forget(position)
            elif self._claim(position):
                if tasks.is_finished(position):  # another worker has just finished it
                    self._forget(position)
                    continue
                self._open.remove(position)
                task = self._maker.task(tasks.job(position), tasks.folds(position))
                self._running[task.key] = position
                return task
        return None

    def receive(self, task: Task, result: TaskResult) -> None:
        """Store a result, or a record that says why there is none."""
        position = self._running.pop(task.key)
        if isinstance(result, Failure):
            self._note(position, result)
            self.failed += 1
        else:
            plan = self._tasks.plan
            for fold in result:
                assert isinstance(fold, TrainedFold)  # nothing is pruned without limits
                values = named_values(fold.predictions, plan.hierarchy, plan.ordered)
                self._tasks.store.save_fold(task.job, fold, values)
            self.trained += len(result)
        self._forget(position)

    def release(self) -> None:
        """Give up all claims."""
        for lease in self._claims.values():
            lease.release(force=True)

    def _claim(self, position: int) -> bool:
        """Whether the task is now this worker's.

        Raises:
            StorageError: the claim cannot be written, for instance on a full disk.
        """
        path = self._tasks.folder.claims / f"{self._tasks.key(position)}.claim"
        # The object is kept: it remembers since when another worker's lease was not refreshed.
        lease = self._claims.setdefault(
            position, SoftFileLease(path, lease_duration=LEASE_SECONDS, timeout=0)
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lease.acquire()
        except Timeout:
            return False
        except OSError as error:
            raise durable.cannot_write(path, error) from error
        return True

    def _forget(self, position: int) -> None:
        if position in self._open:
            self._open.remove(position)
        lease = self._claims.pop(position, None)
        if lease is not None and lease.is_locked:
            lease.release(force=True)

    def _note(self, position: int, failure: Failure) -> None:
        """Record a failure, with its traceback in a log."""
        record = {"reason": failure.reason, "log": ""}
        if failure.traceback:
            log = self._tasks.folder.failed / f"{self._tasks.key(position)}.log"
            durable.replace(log, failure.traceback)
            record["log"] = log.name
        durable.replace(self._tasks.failure(position), json.dumps(record))


class _Ending:
    """A source that can be told to give no further task."""

    def __init__(self, source: TaskSource) -> None:
        self._source = source
        self.is_ending = False

    @property
    def is_waiting(self) -> bool:
        return not self.is_ending and self._source.is_waiting

    def next_task(self) -> Task | None:
        return None if self.is_ending else self._source.next_task()

    def receive(self, task: Task, result: TaskResult) -> None:
        self._source.receive(task, result)


def work(source: ClaimedTasks | Tuner, machine: Machine, workers: int) -> None:
    """Train tasks until none is left; what fails costs only itself.

    On SIGUSR1, which schedulers send before the time limit, trainings are finished and none is
    begun. On SIGTERM trainings are stopped.

    Args:
        source: of the tasks; its claims are released at the end.
        machine: names the executor, and says how long a training may be silent.
        workers: number of tasks at the same time.
    """
    ending = _Ending(source)

    def end(number: int, frame: Any) -> None:  # noqa: ARG001 - as signal asks for
        ending.is_ending = True

    def stop(number: int, frame: Any) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    calls = {signal.SIGUSR1: end, signal.SIGTERM: stop}
    before = {number: signal.signal(number, call) for number, call in calls.items()}
    try:
        train_all(ending, machine, workers, lambda event: None)  # noqa: ARG005 - nobody watches
    finally:
        source.release()
        for number, call in before.items():
            signal.signal(number, call)
