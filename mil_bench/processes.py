"""Worker processes that leave Ctrl-C to their parent, never outlive it, and import no script."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Worker(SpawnProcess):
    """A process that does not import the user's script.

    A worker needs nothing of it, and importing it would run the script again if it has no guard
    (``if __name__ == "__main__":``), and fail if it came from standard input.
    """

    def start(self) -> None:
        """Start it."""
        with without_script():
            super().start()


class WorkerContext(SpawnContext):
    """The context of ``multiprocessing`` that starts ``Worker`` processes."""

    Process = Worker


def start_worker() -> None:
    """Set up this process as a worker; call it first, from a pool's initializer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def without_script() -> Iterator[None]:
    """Hide where the main module comes from; ``multiprocessing`` tells it to a new process."""
    main = sys.modules["__main__"].__dict__
    hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        main.update(hidden)
