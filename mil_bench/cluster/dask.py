"""Dask: trainings as tasks of a cluster that Dask runs (Kubernetes, clouds, dask-jobqueue)."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import TYPE_CHECKING, Any

from mil_bench.errors import InputError
from mil_bench.running.result_store import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS_TO_CONNECT = 20
_ONE_AT_A_TIME = threading.Lock()
"""Of a worker's process: torch's generator and number of threads belong to the whole process."""


@contextlib.contextmanager
def dask(workers: int, address: str | None = None) -> Iterator[Executor]:  # noqa: ARG001 - interface
    """The workers of a Dask cluster; their number is the cluster's own matter.

    Args:
        workers: of this machine; not used.
        address: of the scheduler; None for the one that Dask is configured for, for instance by
            the variable ``DASK_SCHEDULER_ADDRESS``.

    Raises:
        InputError: distributed is not installed, or the scheduler cannot be reached.
    """
    try:
        import dask.config
        from distributed import Client
    except ImportError as error:
        problem = "--on dask needs the package distributed"
        remedy = "Install it: pip install 'mil-bench[dask]'"
        raise InputError("the request", [problem], remedy) from error
    address = address or dask.config.get("scheduler-address", None)
    if address is None:
        raise InputError(
            "the request",
            ["--on dask needs the address of a scheduler"],
            "Name it: --scheduler tcp://HOST:8786, or set DASK_SCHEDULER_ADDRESS.",
        )
    try:
        client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = "Check --scheduler, and that the scheduler runs and can be reached from here."
        problem = f"the scheduler at {address} does not answer: {error}"
        raise InputError("the request", [problem], remedy) from error
    with client:
        yield _OnCluster(client.get_executor(pure=False))


class _OnCluster(Executor):
    """Gives tasks to Dask, which tries a task again whose worker is lost.

    Args:
        pool: Dask's own executor.
    """

    slots = 256  # Dask queues them; adaptive clusters grow with the queue

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def submit(self, call: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        """A future of the result, which Dask may have computed more than once."""
        from distributed import KilledWorker

        result: Future[Any] = Future()

        def finish(future: Future[Any]) -> None:
            try:
                result.set_result(future.result())
            except KilledWorker as error:  # as the pool of this machine says it
                result.set_exception(BrokenExecutor(str(error)))
            except CancelledError:
                result.set_result(Failure("Dask lost the task: its client or scheduler ended"))
            except Exception as error:
                result.set_result(Failure(f"Dask: {type(error).__name__}: {error}"))

        self._pool.submit(_alone, call, *args, **keywords).add_done_callback(finish)
        return result


def _alone(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Call while no other task of this process is trained."""
    with _ONE_AT_A_TIME:
        return call(*args, **keywords)
