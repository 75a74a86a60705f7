"""Tracking during a run: a separate thread logs, so that no training waits for MLflow."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mil_bench.errors import StorageError, TrackingError
from mil_bench.running.listeners import Listener
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.result import RunResult
from mil_bench.tracking.run_log import RunLog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.report.tables import ResultTable
    from mil_bench.results import Results

_Task = Callable[[RunLog], object]


class MlflowTracker(Listener):
    """Logs a run to MLflow. If MLflow fails, the run says so once and continues without it.

    The queue holds the numbers of folds, not their values, which are read from the result store
    when they are logged. So the queue needs no bound, and a slow server delays only the end of the
    run.

    Args:
        results: folder of results.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._log: RunLog | None = None
        self._thread: threading.Thread | None = None

    def on_start(self, plan: RunPlan, done: int, total: int) -> None:  # noqa: ARG002 - interface
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
        """Log what is missing and the means over folds, end the runs, and wait for it."""
        if self._log is None:
            return
        self._add(RunLog.close)
        self._tasks.put(None)
        if self._thread is not None:
            self._thread.join()

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
        try:
            while (task := self._tasks.get()) is not None:
                task(log)
            sys.stderr.write(f"Logged to MLflow: {log.where}\n")
        except Exception as error:  # no error of MLflow may cost a training
            sys.stderr.write(
                f"MLflow failed: {_first_line(error)}\nThe run continues without it. To log what "
                f"is missing later: mil-bench runs track {log.run_id}\n"
            )


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
    try:
        log.open()
        missing = log.log_stored()
        if not log.is_current:
            folder = results.reports / run_id
            result.write(folder)
            log.log_report(folder, result.sentences, result.report_tables)
            log.close()
    except StorageError:
        raise
    except Exception as error:  # MLflow may raise anything
        raise TrackingError(
            f"MLflow failed: {_first_line(error)}. What is logged stays logged; the same command "
            "continues from there."
        ) from error
    return missing, sum(map(len, result.trained.values()))


def _first_line(error: Exception) -> str:
    """Type and first line of an error of MLflow, which may be long."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
