"""A process that reads foreign files for this one, and that can be ended when a file has no end.

HDF5 loops for ever on some damaged files; a crafted file may crash the library that reads it.
Neither Ctrl-C nor a thread ends such a loop, since it holds Python's lock. So files are opened in a
process that lives from file to file. The system ends it when one file takes more seconds of
computing than any whole one does, and this process ends it when nothing comes for much longer, as
from a disk that does not answer.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import pickle
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from mil_bench import processes
from mil_bench.errors import MilBenchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_NAME = "mil-bench reading"
_LEAST_COMPUTING = 4  # seconds; a whole file of a few megabytes takes a hundredth of one
_BYTES_PER_SECOND_OF_COMPUTING = 20e6  # a twentieth of what gzip unpacks
_LEAST_WAITING = 120  # seconds
_BYTES_PER_SECOND_OF_WAITING = 1e6  # a slow network
_STARTING = threading.Lock()  # for the whole process: one at a time hides its script


class NoEndError(Exception):
    """The process was ended, or ended itself; the text says why, as the rest of a sentence."""


class ReadingProcess:
    """Calls functions in a process of its own, one after another.

    The process starts with the first call, and again after it was ended.

    Args:
        preloaded: modules that a new process has imported.
    """

    def __init__(self, *preloaded: str) -> None:
        self._preloaded = preloaded
        self._process: Any = None
        self._connection: Connection | None = None
        self._is_closed = False
        self._starting = threading.Lock()

    def call(self, work: Callable[[_Item], _Result], item: _Item, size: int) -> _Result:
        """The result of ``work(item)``; what it raises is raised here.

        Args:
            work: a function of a module.
            item: its argument, which can be pickled.
            size: bytes of the files that it reads; larger files get more time.

        Raises:
            NoEndError: the process had to be ended, or crashed; the next call has a new one.
            MilBenchError: the process was killed from outside.
        """
        computing = _LEAST_COMPUTING + size / _BYTES_PER_SECOND_OF_COMPUTING
        waiting = _LEAST_WAITING + size / _BYTES_PER_SECOND_OF_WAITING
        connection = self._connected()
        try:
            connection.send((work, item, computing))
            if not connection.poll(waiting):
                self._end()
                raise NoEndError(f"could not be read within {waiting:.0f} seconds")
            is_result, value = connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended(computing) from error
        if not is_result:
            raise value
        return value

    def close(self) -> None:
        """End the process, whatever it is doing; a call that waits for it fails."""
        with self._starting:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()

    def _connected(self) -> Connection:
        with self._starting:
            if self._is_closed:
                raise MilBenchError("Stopped.")
            if self._connection is None:
                kind = "spawn" if sys.platform == "win32" else "forkserver"
                # torch, which reads .pt files, does not survive a fork with threads: processes are
                # forked from a server without threads, which imports modules once for all of them.
                context: Any = multiprocessing.get_context(kind)
                if kind == "forkserver":
                    context.set_forkserver_preload([__name__, *self._preloaded])
                self._connection, theirs = context.Pipe()
                arguments = {"target": _serve, "args": (theirs,), "name": _NAME, "daemon": True}
                self._process = context.Process(**arguments)
                with _STARTING, processes.without_script():
                    self._process.start()
                theirs.close()
            return self._connection

    def _end(self) -> None:
        self._process.kill()
        self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _ended(self, computing: float) -> Exception:
        """Why the process ended without a result."""
        self._process.join(1)
        code = self._process.exitcode
        self._end()
        if self._is_closed:
            return MilBenchError("Stopped.")
        if code == -getattr(signal, "SIGXCPU", 0):
            return NoEndError(
                f"has no end for the library that reads it, which was stopped after "
                f"{computing:.0f} seconds of computing"
            )
        if code == -getattr(signal, "SIGKILL", 9):
            return MilBenchError(
                "A process that reads feature files was killed, as happens when memory runs out. "
                "Call again with fewer --workers; what is packed stays packed."
            )
        reason = f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                reason = signal.Signals(-code).name
        return NoEndError(f"ended the process that read it ({reason})")


def _serve(connection: Connection) -> None:
    processes.start_worker()
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the system would write one at the end
    while True:
        try:
            work, item, seconds = connection.recv()
        except EOFError:
            return
        _limit_computing(seconds)
        try:
            answer = True, work(item)
        except Exception as error:
            answer = False, _sendable(error)
        connection.send(answer)


def allow_computing(seconds: float) -> None:
    """Give the file that is being read more seconds of computing, as for a library's first import.

    Without effect in other processes.
    """
    if multiprocessing.current_process().name == _NAME:
        _limit_computing(seconds)


def _limit_computing(seconds: float) -> None:
    """Have the system end this process after so many more seconds of computing."""
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    limit = math.ceil(time.process_time() + seconds)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, most))


def _sendable(error: Exception) -> Exception:
    """An error that arrives as it is, or one with its text."""
    with contextlib.suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    if isinstance(error, MilBenchError):
        return MilBenchError(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")
