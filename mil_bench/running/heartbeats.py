"""Heartbeats: what a training says about its progress while it runs, and how it learns to stop.

A task gets a ``Sender``, a small value that can be pickled. In the process that trains, it connects
to the ``Heartbeats`` of the parent over a local socket, which works from threads, from processes of
any pool, and from nothing else: where the parent cannot be reached (another machine), a task trains
without heartbeats.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class StoppedError(Exception):
    """A training ended early because the run was interrupted."""


@dataclass(frozen=True)
class Sender:
    """Sends values from a task to its parent.

    Args:
        address: of the parent's socket.
        key: shared secret of the run; the parent takes values from nobody else.
    """

    address: Any
    key: bytes

    def __call__(self, value: Any) -> None:
        """Send a value.

        Raises:
            StoppedError: the run was interrupted, or the parent has ended.
        """
        connection = _connect(self.address, self.key)
        if connection is None:
            return
        try:
            connection.send(value)
            goes_on = connection.recv()
        except (OSError, EOFError) as error:
            raise StoppedError from error
        if not goes_on:
            raise StoppedError


@functools.lru_cache(maxsize=1)  # one connection per process and run
def _connect(address: Any, key: bytes) -> Connection | None:
    try:
        return Client(address, authkey=key)
    except OSError:
        return None


class Heartbeats:
    """The parent's side, a context manager.

    Args:
        receive: is given every value, in a thread per connection; called by one thread at a time.
    """

    def __init__(self, receive: Callable[[Any], None]) -> None:
        self._receive, self._lock = receive, threading.Lock()
        self._key = os.urandom(16)
        self._goes_on = True

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = Listener(authkey=self._key)
        self.sender = Sender(self._listener.address, self._key)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Listen no longer."""
        self.stop()
        self._listener.close()

    def stop(self) -> None:
        """Answer every further value with a request to stop."""
        self._goes_on = False

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except Exception:  # closed, or a stranger without the key
                if not self._goes_on:
                    return
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            try:
                while True:
                    value = connection.recv()
                    with self._lock, contextlib.suppress(Exception):  # no watcher ends a training
                        self._receive(value)
                    connection.send(self._goes_on)
            except (OSError, EOFError):
                return
