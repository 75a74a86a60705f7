"""Where tasks run: named context managers that give a ``concurrent.futures.Executor``.

An executor is a function ``(workers: int) -> AbstractContextManager[Executor]``, registered in the
entry-point group ``mil_bench.executors`` and chosen by ``--on NAME``. It must be able to run tasks
that are pickled, and raise ``BrokenExecutor`` if a worker dies.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING

from mil_bench import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor


@contextlib.contextmanager
def local(workers: int) -> Iterator[Executor]:
    """Processes on this machine: a training that crashes or runs out of memory ends alone."""
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork with threads
    pool = ProcessPoolExecutor(workers, context, initializer=processes.start_worker)
    with _closed(pool) as executor:
        yield executor


@contextlib.contextmanager
def inline(workers: int) -> Iterator[Executor]:  # noqa: ARG001 - the interface of executors
    """One thread of this process, so that a debugger stops inside a method; a crash ends the run."""
    with _closed(ThreadPoolExecutor(1)) as executor:
        yield executor


@contextlib.contextmanager
def _closed(executor: Executor) -> Iterator[Executor]:
    """Wait for what runs at the end of the block; after an exception, drop what has not begun."""
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        executor.shutdown()
