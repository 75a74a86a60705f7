"""Tracking beside a run: a thread of its own logs, so that no training waits for MLflow."""

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
    from pathlib import Path

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.results import Results

_Task = Callable[[RunLog], object]


class MlflowTracker(Listener):
    """Logs a run to MLflow. If MLflow fails, the run says so once and goes on without it.

    What waits to be logged is which fold, not its figures: those are read from the result store
    when their turn comes. So the queue needs no bound, and a slow server holds up nothing but the
    end of the run.

    Args:
        results: folder of the results.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._log: RunLog | None = None
        self._thread: threading.Thread | None = None

    def on_start(self, plan: RunPlan, done: int, total: int) -> None:
        """Ask for the parent run, and for what an earlier call did not get to."""
        self._log = RunLog(self._results, plan)
        for task in (RunLog.open, RunLog.log_stored):
            self._tasks.put(task)

    def on_epoch(self, event: Any) -> None:
        """Begin to log.

        Not earlier: by now everything is imported that training needs, and no import of MLflow's
        meets it half way.
        """
        self._begin()

    def on_fold(self, job: Job, result: TrainedFold) -> None:
        """Log a fold."""
        self._tell(lambda log: log.log_fold(job, result.fold))
        self._begin()

    def on_failure(self, job: Job, folds: tuple[int, ...], reason: str) -> None:
        """Note it at the method."""
        self._tell(lambda log: log.log_failure(job, folds, reason))
        self._begin()

    def on_end(self, report: Path | None) -> None:
        """Log what is left, add means, tables and figures, and end the runs."""
        if self._log is None:
            return
        self._tell(lambda log: log.close(report))
        self._tasks.put(None)
        self._begin()
        assert self._thread is not None
        self._thread.join()

    def _tell(self, task: _Task) -> None:
        self._tasks.put(task)

    def _begin(self) -> None:
        if self._log is not None and self._thread is None:
            self._thread = threading.Thread(
                target=self._work, args=(self._log,), name="mlflow", daemon=True
            )
            self._thread.start()

    def _work(self, log: RunLog) -> None:
        """Do what is asked for until the end, or until MLflow fails."""
        try:
            while (task := self._tasks.get()) is not None:
                task(log)
            print(f"Logged to MLflow: {log.where}", file=sys.stderr)
        except Exception as error:  # whatever a tracker throws, it must not cost a training
            again = f"mil-bench track --resync {log.run_id}"
            print(
                f"MLflow is left out from here on: {_said(error)}\nThe run goes on; later, fill in with: {again}",
                file=sys.stderr,
            )


def resync(results: Results, run_id: str) -> tuple[int, int]:
    """Log what MLflow lacks of a run, from the result store alone; trains nothing.

    Args:
        results: folder of the results.
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
            log.close(result.write(results.reports / run_id))
    except StorageError:
        raise
    except Exception as error:  # a tracker may throw anything
        raise TrackingError(
            f"MLflow failed: {_said(error)}. What is logged already stays; the same command goes on from there."
        ) from error
    return missing, sum(map(len, result.trained.values()))


def _said(error: Exception) -> str:
    """The first line of what MLflow says, which may be long."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
