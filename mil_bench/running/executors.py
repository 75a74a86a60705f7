"""Where tasks run: named context managers that give a ``concurrent.futures.Executor``.

An executor is a function ``(workers: int) -> AbstractContextManager[Executor]``, registered in the
entry-point group ``mil_bench.executors`` and chosen by ``--on NAME``. It must be able to run tasks
that are pickled, and raise ``BrokenExecutor`` if a worker dies. One that needs an address takes it
as ``address``; one that queues tasks itself says by an attribute ``slots`` how many it wants.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from mil_bench import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS_TO_END = 10  # that a worker has after its last task


@contextlib.contextmanager
def local(workers: int) -> Iterator[Executor]:
    """Processes on this machine: a training that crashes or runs out of memory ends alone."""
    context = processes.WorkerContext()  # spawns: torch does not survive a fork with threads
    others, patience = set(multiprocessing.active_children()), _SECONDS_TO_END
    pool = ProcessPoolExecutor(workers, context, initializer=processes.start_worker)
    try:
        yield pool
    except BaseException:  # Ctrl-C: what is being trained is lost anyway
        patience = 0
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.join(patience)
            if process.is_alive():  # a method has left a thread behind, or does not end
                process.kill()
        pool.shutdown()


@contextlib.contextmanager
def inline(workers: int) -> Iterator[Executor]:  # noqa: ARG001 - the interface of executors
    """The main thread, so that a debugger stops inside a method; a crash ends the run."""
    yield _Inline()


class _Inline(Executor):
    """Calls at once."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        """A future that is done."""
        future: Future[Any] = Future()
        future.set_result(call(*args, **keywords))
        return future
