"""Where tasks are trained: in this process, or in a pool of processes, behind ``concurrent.futures.Executor``."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing.queues import Queue
from typing import Any

Report = Callable[[Any], None]
_report: Report


class StoppedError(Exception):
    """A task was given up because the run was interrupted."""


class InProcessExecutor(Executor):
    """Runs every task at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Call ``fn`` and return its finished future."""
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextlib.contextmanager
def open_executor(workers: int, on_report: Report) -> Iterator[Executor]:
    """An executor whose tasks can send small values to ``on_report`` through ``report``.

    Leaving the block through an exception gives up what is running at its next report.
    """
    if workers == 1:
        _connect(on_report)
        yield InProcessExecutor()
        return
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork with threads
    reports, stopping = context.Queue(), context.Event()
    listener = threading.Thread(target=_forward, args=(reports, on_report), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(reports, stopping))
    try:
        yield pool
    except BaseException:
        stopping.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        pool.shutdown()
        reports.put(None)
        listener.join()


def report(value: Any) -> None:
    """Send a value from a task to the listener of the executor it runs in."""
    _report(value)


def _connect(send: Report) -> None:
    global _report
    _report = send


def _forward(reports: Queue, on_report: Report) -> None:
    while (value := reports.get()) is not None:
        on_report(value)


def _start_worker(reports: Queue, stopping: Any) -> None:
    """Set up a worker: it leaves Ctrl-C to the parent, and never outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def send(value: Any) -> None:
        if stopping.is_set():
            raise StoppedError
        reports.put(value)

    _connect(send)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
