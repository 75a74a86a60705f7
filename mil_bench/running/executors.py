"""Where tasks are trained: in a thread of this process, or in a pool of processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from mil_bench import processes

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Report = Callable[[Any], None]
_report: Report


class StoppedError(Exception):
    """A task was given up because the run was interrupted."""


@contextlib.contextmanager
def open_executor(workers: int, on_report: Report, isolated: bool = False) -> Iterator[Executor]:
    """An executor whose tasks can send small values to ``on_report`` through ``report``.

    Leaving the block through an exception gives up what is running at its next report. One worker
    is a thread of this process unless it is to be ``isolated``.
    """
    if workers == 1 and not isolated:
        stopping = threading.Event()
        connect(on_report, stopping)
        with _stopped_by_exceptions(ThreadPoolExecutor(1), stopping) as executor:
            yield executor
        return
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork with threads
    reports, stopping = context.Queue(), context.Event()
    listener = threading.Thread(target=_forward, args=(reports, on_report), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=(reports, stopping)
    )
    try:
        with _stopped_by_exceptions(pool, stopping) as executor:
            yield executor
    finally:
        reports.put(None)
        listener.join()


def report(value: Any) -> None:
    """Send a value from a task to the listener of the executor it runs in.

    Raises:
        StoppedError: the run was interrupted.
    """
    _report(value)


def connect(send: Report, stopping: Any) -> None:
    """Let this process's tasks report through ``send`` until the event ``stopping`` is set."""
    global _report

    def checked(value: Any) -> None:
        if stopping.is_set():
            raise StoppedError
        send(value)

    _report = checked


@contextlib.contextmanager
def _stopped_by_exceptions(executor: Executor, stopping: Any) -> Iterator[Executor]:
    try:
        yield executor
    except BaseException:
        stopping.set()
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        executor.shutdown()


def _forward(reports: Queue, on_report: Report) -> None:
    while (value := reports.get()) is not None:
        on_report(value)


def _start_worker(reports: Queue, stopping: Any) -> None:
    """Set up a worker: it leaves Ctrl-C to the parent, and never outlives it."""
    processes.start_worker()
    connect(reports.put, stopping)
