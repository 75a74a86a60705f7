"""One process at a time logs a run: two would both create what each finds missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PAUSE = 0.2  # seconds between two attempts


class Turn:
    """The turn of this process to log a run; the system ends the turn of a process that is killed.

    Where no lock can be had (a read-only folder, a file system without locks) nobody waits.

    Args:
        path: the file to lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path, thread_local=False)  # a thread that hangs loses its turn

    def wait(self, is_over: Callable[[], bool]) -> bool:
        """Wait until no other process has its turn, or until ``is_over``; whether it began."""
        while True:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=_PAUSE)
            except Timeout:
                if is_over():
                    return False
            except (OSError, NotImplementedError):
                return True
            else:
                return True

    def end(self) -> None:
        """Let others begin; nothing happens if there is no turn."""
        self._lock.release()
