"""One process at a time logs a run: two would both create what each finds missing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PAUSE = 0.2  # seconds between two attempts


@contextlib.contextmanager
def one_writer(path: Path, is_over: Callable[[], bool]) -> Iterator[bool]:
    """Wait until no other process is in this block; the system ends the turn of a killed one.

    Where no lock can be had (a read-only folder, a file system without locks) nobody waits.

    Args:
        path: the file to lock.
        is_over: whether to wait no longer.

    Yields:
        Whether it is this process's turn.
    """
    lock = FileLock(path)
    has_turn = _waited(lock, path, is_over)
    try:
        yield has_turn
    finally:
        lock.release()


def _waited(lock: FileLock, path: Path, is_over: Callable[[], bool]) -> bool:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_PAUSE)
        except Timeout:
            if is_over():
                return False
        except (OSError, NotImplementedError):
            return True
        else:
            return True
