"""Tracking during a run: a separate thread logs, so that no training waits for MLflow."""

from __future__ import annotations

import math
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

from mil_bench.errors import StorageError, TrackingError
from mil_bench.running.listeners import Listener
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.result import RunResult
from mil_bench.tracking.libraries import quiet_libraries
from mil_bench.tracking.one_writer import Turn
from mil_bench.tracking.run_log import RunLog
from mil_bench.tracking.words import failure, track_again

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.report.tables import ResultTable
    from mil_bench.results import Results

_Task = Callable[[RunLog], object]
_Outcome = TypeVar("_Outcome")


LONGEST_END = 30.0  # seconds that tracking may take at the end of a run, whatever a server does
_UNNOTICED = 3.0  # seconds of them that pass without a word
_INTERRUPTED = 0.5  # seconds for which whoever interrupts a run is kept
_LONGEST_TURN = 5.0  # seconds to wait for another process that logs the same run
_LONGEST_SILENCE = 120.0  # seconds without an answer in a command that only tracks


class MlflowTracker(Listener):
    """Logs a run to MLflow. If MLflow fails, the run says so once and continues without it.

    The queue holds the numbers of folds, not their values, which are read from the result store
    when they are logged. So the queue needs no bound, and a slow server delays only the end of the
    run, by ``LONGEST_END`` at most. The thread is a daemon: what hangs in it does not keep the
    process alive.

    Args:
        results: folder of results.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._log: RunLog | None = None
        self._thread: threading.Thread | None = None
        self._turn: Turn | None = None
        self._latest_turn = math.inf
        self._voice = threading.Lock()

    def on_start(
        self,
        plan: RunPlan,
        trainings: Sequence[tuple[Job, int]],  # noqa: ARG002 - interface
        done: int,  # noqa: ARG002 - interface
    ) -> None:
        """Log the parent run, and what an earlier call did not log."""
        self._log = RunLog(self._results, plan)
        for task in (RunLog.open, RunLog.log_stored):
            self._tasks.put(task)

    def on_epoch(self, event: Any) -> None:  # noqa: ARG002 - interface
        """Begin to log.

        Not earlier: training has imported everything by now, so that its imports cannot run at the
        same time as those of MLflow.
        """
        self._begin()

    def on_fold(self, job: Job, result: TrainedFold) -> None:
        """Log a fold."""
        self._add(lambda log: log.log_fold(job, result.fold))

    def on_failure(self, job: Job, folds: tuple[int, ...], reason: str) -> None:
        """Log it with the method."""
        self._add(lambda log: log.log_failure(job, folds, reason))

    def on_report(
        self, folder: Path, sentences: Sequence[str], tables: Sequence[ResultTable]
    ) -> None:
        """Log the report."""
        self._add(lambda log: log.log_report(folder, sentences, tables))

    def on_end(self) -> None:
        """Log what is missing and the means over folds, end the runs, and wait for it, not long.

        Whoever interrupts a run is kept for a moment only, and told how to log the rest.
        """
        if self._log is None:
            return
        self._latest_turn = time.monotonic() + _LONGEST_TURN
        self._add(RunLog.close)
        self._tasks.put(None)
        if self._thread is None:
            return
        is_interrupted = isinstance(sys.exception(), KeyboardInterrupt)
        longest = _INTERRUPTED if is_interrupted else LONGEST_END
        self._thread.join(min(_UNNOTICED, longest))
        if self._thread.is_alive() and longest > _UNNOTICED:
            sys.stderr.write(f"Waiting for MLflow, at most {longest:.0f} seconds ...\n")
            self._thread.join(longest - _UNNOTICED)
        if self._thread.is_alive():
            self._log.stop()
            if self._turn is not None:
                self._turn.end()
            self._say(
                f"MLflow was not done {longest:g} seconds after the end of the run and is "
                f"not waited for any longer. {self._later(self._log)}"
            )

    def _add(self, task: _Task) -> None:
        self._tasks.put(task)
        self._begin()

    def _begin(self) -> None:
        if self._log is not None and self._thread is None:
            self._thread = threading.Thread(
                target=self._work, args=(self._log,), name="mlflow", daemon=True
            )
            self._thread.start()

    def _work(self, log: RunLog) -> None:
        """Do the tasks, one after another, until the end of the run or until MLflow fails."""
        turn = self._turn = Turn(log.lock_file)
        try:
            if not turn.wait(lambda: time.monotonic() > self._latest_turn):
                self._say(f"Another process logs this run to MLflow. {self._later(log)}")
                return
            with quiet_libraries():
                while (task := self._tasks.get()) is not None:
                    task(log)
            self._say(f"Logged to MLflow: {log.where}")
        except Exception as error:  # no error of MLflow may cost a training
            self._say(
                f"MLflow failed: {failure(error)}.\nThe run continues without it. "
                f"{self._later(log)}"
            )
        finally:
            turn.end()

    def _later(self, log: RunLog) -> str:
        """How to log what is missing."""
        command = track_again(self._results.folder, log.run_id)
        return f"To log what is missing later: {command}"

    def _say(self, words: str) -> None:
        """Say how it ended, once: the thread may end at the moment when it is abandoned."""
        if self._voice.acquire(blocking=False):
            sys.stderr.write(f"{words}\n")


def resync(results: Results, run_id: str) -> tuple[int, int]:
    """Log what MLflow lacks of a run, from the result store alone; trains nothing.

    Args:
        results: folder of results.
        run_id: name of the run.

    Returns:
        How many folds were missing and are logged now, and how many are stored.

    Raises:
        UnknownNameError: there is no such run.
        TrackingError: MLflow failed.
    """
    store = ResultStore(results.runs)
    plan = store.load_plan(run_id)
    result, log = RunResult.collect(store, plan), RunLog(results, plan)
    turn, end = Turn(log.lock_file), time.monotonic() + _LONGEST_TURN
    if not turn.wait(lambda: time.monotonic() > end):
        raise TrackingError(
            f"Another process logs {run_id} to MLflow at the moment. Repeat the command when it "
            "has ended."
        )
    try:
        missing = _watched(log, lambda: _log_stored(log))
        if not log.is_current:
            folder = results.reports / run_id
            result.write(folder)
            _watched(log, lambda: _log_end(log, folder, result))
    except StorageError:
        raise
    except Exception as error:  # MLflow may raise anything
        raise TrackingError(
            f"MLflow failed: {failure(error)}. What is logged stays logged; the same command "
            "continues from there."
        ) from error
    finally:
        turn.end()
    return missing, sum(map(len, result.trained.values()))


def _log_stored(log: RunLog) -> int:
    log.open()
    return log.log_stored()


def _log_end(log: RunLog, folder: Path, result: RunResult) -> None:
    log.log_report(folder, result.sentences, result.report_tables)
    log.close()


def _watched(log: RunLog, work: Callable[[], _Outcome]) -> _Outcome:
    """What ``work`` returns; it is done in a thread that is abandoned if MLflow does not answer."""
    outcome: Future[_Outcome] = Future()

    def do() -> None:
        try:
            with quiet_libraries():
                outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    log.last_step = time.monotonic()
    threading.Thread(target=do, name="mlflow", daemon=True).start()
    while not wait([outcome], timeout=0.5).done:
        if time.monotonic() - log.last_step > _LONGEST_SILENCE:
            log.stop()
            raise TrackingError(f"no answer for {_LONGEST_SILENCE:.0f} seconds")
    return outcome.result()
